"""
What only the ledger in memory promises; the rest is in the contract.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from bedrock_guard.domain.ledger import EntryFilter, Reservation, Settled
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import (
    SetClock,
    answered,
    books,
    hold,
    ids,
    open_entry,
    reserve,
    settle,
    together,
)


def test_it_keeps_the_newest_entries_and_every_open_call() -> None:
    """
    A worker that runs for months must not grow with every call.
    """
    ledger = MemoryLedger.open("memory://?keep_entries=2", clock=SetClock())
    slow = hold(ledger, "slow", 10)
    for number in range(5):
        settle(ledger, hold(ledger, f"{number}", 10), 1)
    ledger.record(open_entry("refused", outcome="refused"))

    assert ids(ledger) == ["refused", "4"]
    assert books(ledger) == (5, 10), "balances forget nothing"
    assert ledger.settle(slow, {}, answered("slow")) == Settled("settled")


def test_the_same_url_twice_is_two_ledgers() -> None:
    """
    Tests that run side by side must not share a budget by accident.
    """
    first, second = (MemoryLedger.open("memory://", clock=SetClock()) for _ in range(2))
    hold(first, "one", 60)

    assert books(second) == (0, 0)
    assert second.entries(EntryFilter()) == ([], None)


class SlowLimit(int):
    """
    A limit that lets other threads in while an amount is compared with it.
    """

    def __lt__(self, other: int) -> bool:
        time.sleep(0.001)
        return int.__lt__(self, other)


def test_no_thread_comes_between_the_check_and_the_hold() -> None:
    """
    Threads rarely meet there by chance, and in production they do.
    """
    ledger = MemoryLedger.open("memory://", clock=SetClock())

    answers = together(lambda n: reserve(ledger, f"{n}", 60, limit=SlowLimit(100)), threads=8, times=8)

    assert [type(answer) for answer in answers].count(Reservation) == 1
    assert books(ledger) == (0, 60)


def test_a_call_from_inside_itself_is_an_error_and_no_dead_lock() -> None:
    """
    A stream that is collected while the ledger works may try to settle there and then.
    """
    clock = SetClock()
    ledger = MemoryLedger.open("memory://", clock=clock)
    reservation = hold(ledger, "one", 60)
    ledger._clock = lambda: settle(ledger, reservation, 40)  # called while the ledger holds its lock

    with pytest.raises(LedgerUnavailable, match="called from inside itself"):
        ledger.extend(reservation, hold_s=1)
    ledger._clock = clock
    assert settle(ledger, reservation, 40) == Settled("settled")
    assert books(ledger) == (40, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_a_thread_is_inside_finds_the_lock_free() -> None:
    """
    The thread is not in the child, and would never let go of it there.
    """
    ledger = MemoryLedger.open("memory://", clock=SetClock())
    is_inside, may_leave = threading.Event(), threading.Event()

    def work() -> None:
        with ledger._lock:
            is_inside.set()
            may_leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    is_inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # rather than for ever
        settle(ledger, hold(ledger, "one", 60), 40)
        os._exit(7)
    may_leave.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
