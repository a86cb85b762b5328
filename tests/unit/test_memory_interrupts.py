"""
Ctrl-C inside the ledger in memory: at each point where Python looks for one, in turn.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final

import pytest

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.errors import ReservationClosed
from bedrock_guard.ledgers import books, memory, memory_sums
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import DAY, TEAM, open_entry

_FILES: Final = (memory.__file__, memory_sums.__file__, books.__file__)
# CPython looks for signals when a call has returned, a function begins, or a loop goes round, as part of
# that instruction. A tracer can raise before the next one only: which must have the same handlers.
_CHECKS: Final = ("CALL", "RESUME", "JUMP_BACKWARD")
_MOST: Final = 400

ONE, OTHER = DAY, TEAM
LINES: Final = (Line(ONE, 1_000, 60), Line(OTHER, 1_000, 60))
"""Two balances of which a call holds 60 each; it costs 40."""


class Interrupted:
    """
    Run *work*, and raise `KeyboardInterrupt` at the point *nth* of those where a signal can strike.
    """

    def __init__(self, work: Callable[[], object], nth: int) -> None:
        self.has_struck = False
        self._left = nth
        self._at: dict[FrameType, int] = {}
        before = sys.gettrace()  # who measures coverage goes on afterwards
        sys.settrace(self._trace)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before, now = self._at.get(frame), frame.f_lasti
            self._at[frame] = now
            names, handlers = read_code(frame.f_code)
            is_look = before is not None and names[before].startswith(_CHECKS)
            if is_look and handlers.get(before) == handlers.get(now):
                self._left -= 1
                if self._left < 0 and not self.has_struck:
                    self.has_struck = True
                    raise KeyboardInterrupt
        return self._trace


@cache
def read_code(code: CodeType) -> tuple[dict[int, str], dict[int | None, int]]:
    """
    By offset: an instruction's name, and where its exceptions are handled.
    """
    names = {each.offset: each.opname for each in dis.get_instructions(code)}
    handlers: dict[int | None, int] = {}
    for each in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        handlers |= {offset: each.target for offset in names if each.start <= offset < each.end}
    return names, handlers


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


def points(interrupt: Callable[[int], Interrupted]) -> int:
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

    def interrupt(nth: int) -> Interrupted:
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

    def interrupt(nth: int) -> Interrupted:
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

    def interrupt(nth: int) -> Interrupted:
        ledger = MemoryLedger(clock=lambda: 0.0)
        refusal = open_entry("refusal").changed(outcome="refused")
        ledger.record(refusal)
        struck = Interrupted(lambda: ledger.record(refusal), nth)

        def look() -> None:
            assert [entry.count for entry in ledger.entries(EntryFilter())[0]] in ([1], [2])

        in_a_thread(look)
        return struck

    assert points(interrupt) > 3
