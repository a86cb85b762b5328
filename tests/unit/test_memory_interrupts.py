"""
Ctrl-C inside the ledger in memory: at each point where Python looks for one, in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import interrupts
import pytest

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.errors import ReservationClosed
from bedrock_guard.ledgers import books, memory, memory_sums
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import DAY, TEAM, open_entry

_FILES: Final = (memory.__file__, memory_sums.__file__, books.__file__)
_MOST: Final = 400

Interrupted = partial(interrupts.Interrupted, files=_FILES)

ONE, OTHER = DAY, TEAM
LINES: Final = (Line(ONE, 1_000, 60), Line(OTHER, 1_000, 60))
"""Two balances of which a call holds 60 each; it costs 40."""


def in_a_thread(work: Callable[[], object]) -> None:
    """
    Run *work* in another thread: a lock that was lost would let it wait for ever.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the ledger is locked for ever"
    if errors:
        raise errors[0]


def reserve(ledger: MemoryLedger) -> Reservation:
    answer = ledger.reserve(LINES, entry=open_entry("call"), hold_s=60.0, on_expiry="charge")
    assert isinstance(answer, Reservation)
    return answer


def settle(ledger: MemoryLedger, reservation: Reservation) -> None:
    entry = open_entry("call").changed(outcome="answered", cost_nanousd=40)
    ledger.settle(reservation, {ONE: 40, OTHER: 40}, entry)


def release(ledger: MemoryLedger, reservation: Reservation) -> None:
    ledger.release(reservation, open_entry("call").changed(outcome="not_sent", cost_nanousd=0))


def extend(ledger: MemoryLedger, reservation: Reservation) -> None:
    ledger.extend(reservation, LINES)


def sweep(ledger: MemoryLedger, _: Reservation) -> None:
    ledger.sweep(now=100.0)


STEPS: Final[dict[str, tuple[Callable[[MemoryLedger, Reservation], None], int]]] = {
    "settle": (settle, 40),
    "release": (release, 0),
    "extend": (extend, 40),
    "sweep": (sweep, 40),
}
"""A step that is interrupted, and what the call has cost when it has ended after it."""


def points(interrupt: Callable[[int], interrupts.Interrupted]) -> int:
    """
    Interrupt at every point in turn; how many there were.
    """
    for nth in range(_MOST):
        if not interrupt(nth).has_struck:
            return nth
    raise AssertionError("it never ends")


def check(ledger: MemoryLedger, spent: int) -> None:
    def look() -> None:
        assert [(each.spent, each.pending) for each in ledger.balances([ONE, OTHER])] == [(spent, 0)] * 2
        assert len(ledger.entries(EntryFilter())[0]) == 1
        assert ledger.sweep(now=1e9).charged == 0
        assert isinstance(ledger._balances.get(ONE, (0, 0, 0))[2], int)
        assert ledger._balances.get(ONE, (0, 0, 0))[2] == 0

    in_a_thread(look)


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_step_is_done_or_not_done_and_can_be_done_again(step: str) -> None:
    """
    Whole, at the latest when somebody else comes by.
    """
    work, spent = STEPS[step]

    def interrupt(nth: int) -> interrupts.Interrupted:
        ledger = MemoryLedger(clock=lambda: 0.0)
        reservation = reserve(ledger)
        struck = Interrupted(lambda: work(ledger, reservation), nth)

        def end() -> None:
            if step == "release":
                release(ledger, reservation)
            else:
                settle(ledger, reservation)

        in_a_thread(end)
        check(ledger, spent)
        return struck

    assert points(interrupt) > 10


@pytest.mark.parametrize("is_ended", [True, False])
def test_an_interrupted_reserve_holds_all_or_nothing(is_ended: bool) -> None:
    """
    Whoever is interrupted releases what may be held; a hold that is left to itself expires.
    """

    def interrupt(nth: int) -> interrupts.Interrupted:
        ledger = MemoryLedger(clock=lambda: 0.0)
        struck = Interrupted(lambda: reserve(ledger), nth)

        def look() -> None:
            first, second = ledger.balances([ONE, OTHER])
            assert first.pending == second.pending
            assert first.pending in (0, 60)
            if is_ended:
                try:
                    ledger.release(Reservation("call", (), 0.0))
                except ReservationClosed:
                    assert first.pending == 0
            else:
                assert ledger.sweep(now=1e9).charged == (first.pending == 60)
            assert {each.pending for each in ledger.balances()} <= {0}

        in_a_thread(look)
        return struck

    assert points(interrupt) > 10


def test_an_interrupted_record_counts_once_or_not_at_all() -> None:
    """
    A refusal is kept beside the one before, or it is not.
    """

    def interrupt(nth: int) -> interrupts.Interrupted:
        ledger = MemoryLedger(clock=lambda: 0.0)
        refusal = open_entry("refusal").changed(outcome="refused")
        ledger.record(refusal)
        struck = Interrupted(lambda: ledger.record(refusal), nth)

        def look() -> None:
            assert [entry.count for entry in ledger.entries(EntryFilter())[0]] in ([1], [2])

        in_a_thread(look)
        return struck

    assert points(interrupt) > 3
