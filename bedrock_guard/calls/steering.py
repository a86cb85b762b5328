"""
What a guard does by the stops and top-ups of its ledger.

A stop refuses whatever would hold money: a new call, and more for a call that is under
way (a retry after a lost reply, a request that was changed on its way). What is held
already may finish, and is charged as ever. A shadow refuses none of these, and tells
of calls that would not have begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bedrock_guard.budgets.refusing import record_stopped, record_would_refuse
from bedrock_guard.budgets.steering import Steering, stopped
from bedrock_guard.domain.control import Control, Controls, RefreshesControls, Stop, TopUp, as_mapping
from bedrock_guard.domain.entry import Entry, Outcome
from bedrock_guard.domain.entry_id import new_entry_id
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey, Line
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.plan import Plan


class Helm:
    """
    The version of the controls that one guard decides by.

    Attributes:
        known: As it was last read; another is put in its place, so that one look at it is of one version.
    """

    def __init__(self, ledger: Ledger, clock: Clock, settings: Settings) -> None:
        self._ledger = ledger
        self._clock = clock
        self._is_shadow = settings.mode == "shadow"
        self.known = Steering(Controls())
        self._copy = ledger if isinstance(ledger, RefreshesControls) else None
        if self._copy is not None:
            self._copy.refresh_controls(settings.control_refresh_s)

    def read(self) -> Steering:
        """
        What the ledger keeps now.

        Raises:
            LedgerUnavailable: It cannot be read.
        """
        controls, steering = self._ledger.controls(), self.known
        if controls.version != steering.version:
            steering = self.known = Steering(controls)
        return steering  # not what another thread, which has read it before, puts in its place

    def read_anew(self) -> Steering:
        """
        As `read`, and no copy that is seconds old.

        Raises:
            LedgerUnavailable: It cannot be read.
        """
        if self._copy is not None:
            self._copy.forget_controls()
        return self.read()

    def catch_up(self, decided: Steering) -> None:
        """
        The ledger keeps another version than that by which was *decided*: read it.

        Raises:
            LedgerUnavailable: It cannot be read, or is the same, and would be for ever.
        """
        if self.read().version == decided.version:
            raise LedgerUnavailable(
                f"The ledger says that its stops and top-ups have changed, and gives the same version, "
                f"{decided.version}."
            )

    def admit(
        self, plan: Plan, entry: Entry, lines: Sequence[Line], *, is_gone: bool = False
    ) -> tuple[Steering, list[Line]]:
        """
        *lines* of a call with the limits that hold now, and the version by which that was decided;
        *is_gone* when there is no ledger to be asked.

        Raises:
            Stopped: Nothing.
        """
        steering, now = self.known, self._clock()
        stop = None if self._is_shadow else steering.find_stop(plan.tags, now)
        if stop is not None and not is_gone:
            with suppress(LedgerUnavailable):  # then what was known last holds
                steering = self.read()  # it may have been resumed
                stop = steering.find_stop(plan.tags, now)
        if stop is not None:
            if not is_gone:
                record_stopped(self._ledger, entry, stop)
            raise stopped(stop, entry, now=now)
        return steering, steering.top_up(lines, now)

    def stops(self, plan: Plan) -> bool:
        """
        Whether a call of *plan* is stopped, as far as is known; nobody has asked for it, so no entry says so.

        Raises:
            LedgerUnavailable: The ledger cannot say whether it was resumed.
        """
        return self.known.is_active and self.read().find_stop(plan.tags, self._clock()) is not None

    def stop_of(self, plan: Plan, *, is_gone: bool) -> Stop | None:
        """
        The stop that a call under way meets by now.
        """
        if not is_gone:
            with suppress(LedgerUnavailable):  # then what was known last holds
                self.read()
        return self.known.find_stop(plan.tags, self._clock())

    def topped_up(self, key: LedgerKey, now: float) -> int:
        """
        By how much the limit of a balance is topped up, as far as is known.
        """
        return self.known.topped_up(key, now)

    def tell(self, plan: Plan, entry: Entry) -> None:
        """
        Leave an entry for a call of a shadow, which has begun, if it would have been stopped.
        """
        stop = self.known.find_stop(plan.tags, self._clock())
        if stop is not None:
            record_would_refuse(self._ledger, entry, reason="stopped", stop=stop)

    def more(self, plan: Plan, entry: Entry, lines: Sequence[Line], *, is_gone: bool) -> list[Line]:
        """
        *lines* of a call that is under way with the limits that hold now.

        Raises:
            Stopped: Nothing.
        """
        if not is_gone:
            with suppress(LedgerUnavailable):
                self.read()
        return self.admit(plan, entry, lines, is_gone=is_gone)[1]


def write_control(
    ledger: Ledger,
    control: Control,
    outcome: Outcome,
    *,
    now: float,
    by: str | None = None,
    entry_id: str | None = None,
) -> None:
    """
    Put *control* into the record of *ledger*, with the journal's entry that says who and why.

    *by* is who does it, where that is another than who made the control. The same *entry_id* again changes
    nothing.

    Raises:
        LedgerUnavailable: It is not written, or nobody knows.
    """
    entry = blank_entry(
        entry_id or new_entry_id(now),
        now,
        outcome=outcome,
        budget=control.budget if isinstance(control, TopUp) else None,
        control={**as_mapping(control), "by": by or control.by},
    )
    ledger.write_control(control, entry)


def blank_entry(entry_id: str, now: float, **values: Any) -> Entry:
    """
    An entry that is no call's, with *values*.
    """
    return Entry(
        id=entry_id,
        at_s=now,
        operation="",
        model_id="",
        model=None,
        family="",
        region="",
        service_tier="",
        latency="",
        tags={},
        **values,
    )
