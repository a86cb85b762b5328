"""
What becomes of calls while the ledger is gone.

    Outage      for a second after it was asked in vain, nobody else waits for it
    StandIn     `on_ledger_error = "allow"`: calls are held in a book of this process instead, up to
                `allow_up_to`, and settled there at what they cost
    book        the ledger is back: each of these calls is written into it, once

The book is a ledger in memory with one budget: what is let through is bounded as exactly as
everything else is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from time import monotonic
from typing import Final, NamedTuple

from bedrock_guard.budgets.matching import Match, Matcher
from bedrock_guard.budgets.verdict import describe, write
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.control import ControlsChanged
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, Line, Refusal, Reservation
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.ledgers.books import merge
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.open_call import OpenCall

log = logging.getLogger("bedrock_guard")

NAME: Final = "allow_up_to"
ALLOWED_BY: Final = "on_ledger_error"
"""What the entry of a call says that was let through."""

# How long nobody asks a ledger that has kept somebody waiting in vain.
_TURNED_AWAY_S: Final = 1.0
# One that fails sooner may be asked by everybody.
SLOW_S: Final = 0.25


class Outage:
    """
    Whether the ledger is gone, as far as the calls of one guard have seen.

    Attributes:
        is_on: Whether it could not take the last call that asked.
    """

    __slots__ = ("_asked_at", "_why", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self._asked_at = 0.0
        self._why = ""

    def check(self) -> None:
        """
        Let one call a second ask the ledger again.

        Raises:
            LedgerUnavailable: It was asked a moment ago, and kept somebody waiting in vain.
        """
        now = monotonic()
        if now < self._asked_at:
            raise LedgerUnavailable(
                f"{self._why} That was a moment ago; it is asked again within {_TURNED_AWAY_S:g} s."
            )
        if self._asked_at:
            self._asked_at = now + _TURNED_AWAY_S  # who asks now may wait; the others need not wait with it

    def begin(self, error: LedgerUnavailable, *, is_slow: bool) -> None:
        """
        The ledger was asked, and failed; *is_slow* when others should not wait for the same.
        """
        self._why = str(error)
        self._asked_at = monotonic() + _TURNED_AWAY_S if is_slow else 0.0
        if not self.is_on:
            self.is_on = True
            # As text: a log that keeps its records would keep the error's frames, and with them a stream.
            log.warning("The ledger could not take a call: %s", self._why)

    def end(self) -> None:
        """
        The ledger was asked, and answered.
        """
        self.is_on = False
        self._asked_at = 0.0
        log.warning("The ledger takes calls again.")


class _Held(NamedTuple):
    """
    What is held here of a call.

    Attributes:
        covered_nanousd: What the ledger holds of the same call.
    """

    match: Match
    covered_nanousd: int


class StandIn:
    """
    What one guard may spend, in this process, while nobody can say whether there is room.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        limit = settings.allow_up_to
        budgets = () if settings.on_ledger_error == "refuse" or limit is None else (Budget(NAME, limit),)
        self._matcher = Matcher(budgets, settings)
        self._begin()

    def hold(self, opened: OpenCall, error: LedgerUnavailable, *, hold_s: float) -> Reservation:
        """
        Hold the whole of *opened* here, as the ledger raised *error*.

        Returns what the ledger would have held.

        Raises:
            LedgerUnavailable: That, as nothing is let through, or no room is left.
        """
        lines = tuple(opened.plan.lines())
        self._hold(opened, opened.plan.nanousd, error, covered_nanousd=0, hold_s=hold_s, is_retry=False)
        return Reservation(opened.entry.id, lines, self._clock() + hold_s)

    def extend(
        self,
        opened: OpenCall,
        lines: Sequence[Line],
        nanousd: int | None,
        error: LedgerUnavailable | None,
        *,
        is_retry: bool,
    ) -> Reservation:
        """
        Hold *nanousd* more here, which the ledger would have held as *lines*.

        Raises:
            LedgerUnavailable: *error*, as nothing is let through, or no room is left.
        """
        covered = (opened.plan.nanousd or 0) + opened.retried_nanousd
        why = error or LedgerUnavailable("The call was let through while the ledger was gone.")
        self._hold(opened, nanousd, why, covered_nanousd=covered, hold_s=opened.hold_s, is_retry=is_retry)
        return opened.reservation._replace(lines=merge((*opened.reservation.lines, *lines)))

    def holds(self, opened: OpenCall) -> bool:
        """
        Whether the ledger does not know all that *opened* may cost.
        """
        return opened.entry.id in self._held

    def settle(self, entry: Entry) -> None:
        """
        Spend what *entry* came to, beyond what the ledger holds of it.

        May be called by a finalizer.
        """
        self._ended[entry.id] = entry
        self._settle_ended()

    def _begin(self) -> None:
        self._process = os.getpid()
        # Only balances matter here: entries are the ledger's.
        self._book = MemoryLedger(clock=self._clock, keep_entries=0)
        self._held: dict[str, _Held] = {}
        self._ended: dict[str, Entry] = {}

    def _hold(
        self,
        opened: OpenCall,
        nanousd: int | None,
        error: LedgerUnavailable,
        *,
        covered_nanousd: int,
        hold_s: float,
        is_retry: bool,
    ) -> None:
        if self._process != os.getpid():  # a fork has `allow_up_to` to itself
            self._begin()
        self._settle_ended()
        now = self._clock()
        matches = self._matcher.match({}, now)
        if not matches:
            raise error
        if nanousd is None:
            raise LedgerUnavailable(
                f"{error} Calls are let through up to {matches[0].budget}, but this one has no price.",
                error.outcome,
            ) from error
        known = self._held.get(opened.entry.id)
        match = matches[0] if known is None else known.match
        line = match.line(nanousd)
        answer = (
            self._begin_holding(opened, _Held(match, covered_nanousd), line, hold_s=hold_s)
            if known is None
            else self._book.extend(Reservation(opened.entry.id, (), now), [line])
        )
        if isinstance(answer, Refusal):
            figures = describe([(match, answer.lines[0])])
            text = write(figures, now=now, zone=self._matcher.zone, output=None, is_retry=is_retry)
            raise LedgerUnavailable(
                f"{error} Calls are let through meanwhile, but this one does not fit:\n{text}", error.outcome
            ) from error

    def _begin_holding(
        self, opened: OpenCall, held: _Held, line: Line, *, hold_s: float
    ) -> Reservation | Refusal | ControlsChanged:
        entry = opened.entry
        # Noted first: whoever is interrupted after this finds a call that its end settles here.
        opened.entry = entry.changed(allowed_by=ALLOWED_BY)
        self._held[entry.id] = held
        try:
            answer = self._book.reserve([line], entry=entry, hold_s=hold_s, on_expiry="charge")
        except LedgerUnavailable:
            self._forget(opened, entry)
            raise
        if isinstance(answer, Refusal):
            self._forget(opened, entry)
        return answer

    def _forget(self, opened: OpenCall, entry: Entry) -> None:
        self._held.pop(entry.id, None)
        opened.entry = entry

    def _settle_ended(self) -> None:
        for id_, entry in list(self._ended.items()):
            held = self._held.get(id_)
            if held is not None:
                amount = max(0, (entry.cost_nanousd or 0) - held.covered_nanousd)
                try:
                    self._book.settle(Reservation(id_, (), entry.at_s), {held.match.key: amount}, entry)
                except LedgerUnavailable:  # the collector came while this very thread was in the book
                    return
                except ReservationClosed:  # by another thread, or before an interrupt
                    pass
                self._held.pop(id_, None)
            self._ended.pop(id_, None)


def expired(opened: OpenCall, error: ReservationClosed) -> LedgerUnavailable:
    """
    What to raise when more is wanted for a call whose hold has run out.
    """
    return LedgerUnavailable(
        f"The hold of call {opened.entry.id} expired while it was under way (was this process "
        f"suspended?), and nothing more can be held for it. {error}"
    )


def book(ledger: Ledger, opened: OpenCall, entry: Entry) -> None:
    """
    Write a call that was let through into *ledger*, which has said that it does not know it.

    What it may have heard of the call under the same id is taken up, however late it comes.

    Raises:
        LedgerUnavailable: It is not written, or nobody knows; the same again is safe.
        ReservationClosed: It ended there, differently.
    """
    amounts = {} if entry.outcome == "not_sent" else opened.amounts(entry)
    lines = [match.line(amounts.get(match.key, 0))._replace(limit=None) for match in opened.plan.matches]
    # Should this process die now, whoever sweeps charges what it did cost.
    as_open = entry.changed(outcome="pending", estimated_cost_nanousd=entry.cost_nanousd)
    held = ledger.reserve(lines, entry=as_open, hold_s=opened.hold_s, on_expiry="charge")
    reservation = held if isinstance(held, Reservation) else opened.reservation
    if entry.outcome == "not_sent":
        ledger.release(reservation, entry)
    else:
        ledger.settle(reservation, amounts, entry)
