"""
Who waits for the lock of slices while the thread that has it is interrupted: finds a step that is half written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pytest
from interrupts import Interrupted

from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers.leases import in_hand, local, purses
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.purses import Call
from bedrock_guard.testing.ledger_calls import DAY, NOW, TEAM, SetClock, answered, open_entry

from .test_memory_interrupts import in_a_thread

KEYS: Final = (DAY, TEAM)
_FILES: Final = tuple(module.__file__ for module in (local, in_hand, purses))
_MOST: Final = 200


class Waited:
    """
    The lock of *local*, for which one waits as long as another thread does *work*, interrupted at its point *nth*.
    """

    def __init__(self, local: Local, work: Callable[[], object], nth: int) -> None:
        self._lock = local._lock
        self._work: Callable[[], object] | None = work
        self._nth = nth
        self.has_struck = False
        local._lock = self  # type: ignore[assignment]

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def __enter__(self) -> object:
        work, self._work = self._work, None
        if work is not None:
            in_a_thread(partial(self._interrupt, work))
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    def _interrupt(self, work: Callable[[], object]) -> None:
        self.has_struck = Interrupted(work, self._nth, files=_FILES).has_struck


def hold(local: Local, id_: str, *keys: LedgerKey) -> Call | None:
    lines = tuple(Line(key, 1000, 20) for key in keys)
    return local.hold(open_entry(id_), lines, NOW + 60, "charge", [])


def settle(local: Local, id_: str) -> object:
    return local.end(id_, "settled", dict.fromkeys(KEYS, 5), answered(id_))


HELD_BY_THE_OTHER: Final[dict[str, Callable[[Local], object]]] = {
    "hold": lambda local: hold(local, "other", *KEYS),
    "settle": lambda local: settle(local, "open"),
    "release": lambda local: local.end("open", "released", {}, None),
}

STEPS: Final[dict[str, Callable[[Local], object]]] = {
    "hold as usual": lambda local: hold(local, "mine", *KEYS),
    "hold": lambda local: hold(local, "mine", TEAM, DAY),
    "hold more": lambda local: local.hold_more("mine too", (Line(TEAM, 1000, 20),), None, []),
    "hold less": lambda local: local.hold_less("mine too", (Line(TEAM, 1000, 7),)),
    "settle as usual": lambda local: settle(local, "mine too"),
    "settle": lambda local: local.end("mine too", "settled", {TEAM: 3}, answered("mine too")),
    "expire": lambda local: local.expire(NOW + 90, 9, is_elsewhere=lambda _: False),
    "undo": lambda local: local.undo("mine too"),
    "hand over": lambda local: local.hand_over("mine too"),
    "remember": lambda local: local.remember(open_entry("refused")),
    "give up": lambda local: local.give_up(TEAM),
}


@pytest.mark.parametrize("other", HELD_BY_THE_OTHER)
@pytest.mark.parametrize("step", STEPS)
def test_what_was_interrupted_meanwhile_is_whole_or_nothing(step: str, other: str) -> None:
    """
    At every point of it: each slice holds and has spent what its calls say, and has no less than that.
    """

    def interrupt(nth: int) -> bool:
        local = Local(SetClock())
        for key in KEYS:
            local.grant(key, 200, 0)
        for id_ in ("open", "mine too"):
            assert hold(local, id_, *KEYS) is not None
        lock = Waited(local, partial(HELD_BY_THE_OTHER[other], local), nth)
        STEPS[step](local)
        local.find("")  # whoever comes next
        check(local)
        return lock.has_struck

    assert next(nth for nth in range(_MOST) if not interrupt(nth)) > 3


def test_a_slice_that_is_being_held_from_is_not_forgotten() -> None:
    """
    Even nothing of it: what the call comes to would go where nobody looks.
    """

    def interrupt(nth: int) -> bool:
        local = Local(SetClock())
        for key in KEYS:
            local.grant(key, 20, 0)
        hold(local, "first", *KEYS)
        local.end("first", "settled", dict.fromkeys(KEYS, 20), answered("first"))
        lines = tuple(Line(key, 1000, 0) for key in KEYS)
        work = partial(local.hold, open_entry("other"), lines, NOW + 60, "charge", [])
        lock = Waited(local, work, nth)
        assert local.forget(TEAM) == (local.find("other") is None)
        return lock.has_struck

    assert next(nth for nth in range(_MOST) if not interrupt(nth)) > 3


def check(local: Local) -> None:
    assert local._noted is None
    for key in KEYS:
        held = sum(line.amount for call in local._open.values() for line in call.lines if line.key == key)
        booked = sum(
            amount
            for call in local._ended.values()
            for line, amount in zip(call.lines, call.booked, strict=False)
            if line.key == key
        )
        assert local.sums(key) == (booked, held)
        assert local.granted(key) >= booked + held
