"""
Places in a queue: first come, first served, and nobody is kept who wants to leave.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from time import monotonic

import pytest

from bedrock_guard.calls import waiting
from bedrock_guard.calls.waiting import Queue
from bedrock_guard.domain.ledger import LedgerKey

ONE = LedgerKey("one", "USD/day@UTC", (), 0)
ONE_TOMORROW = ONE._replace(window_start=86_400)
OTHER = LedgerKey("other", "USD", (), 0)
LONG = 3_600.0


def test_only_the_first_of_a_balance_tries() -> None:
    """
    Whoever came later would take what the first waits for.
    """
    queue = Queue()
    with ExitStack() as stack:
        first = stack.enter_context(queue.join([ONE], until=monotonic() + LONG))
        second = stack.enter_context(queue.join([OTHER, ONE_TOMORROW], until=monotonic() + 0.2))
        queue.wake()

        assert first.wait()
        assert not second.wait()  # its time is over: the first is still there


def test_who_waits_for_something_else_is_not_in_the_way() -> None:
    """
    One user's budget must not hold up another's.
    """
    queue = Queue()
    with queue.join([ONE], until=monotonic() + LONG), queue.join([OTHER], until=monotonic() + LONG) as other:
        queue.wake()

        assert other.wait()


def test_who_leaves_lets_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At once: nobody has to wait for a timer.
    """
    monkeypatch.setattr(waiting, "_FIRST_WAIT_S", LONG)
    queue, served = Queue(), []
    gone = threading.Event()

    def wait(name: str) -> None:
        with queue.join([ONE], until=monotonic() + LONG) as place:
            joined.set()
            if place.wait():
                served.append(name)
                gone.wait(20)

    threads = []
    for name in "abc":
        joined = threading.Event()
        threads.append(threading.Thread(target=wait, args=(name,), daemon=True))
        threads[-1].start()
        assert joined.wait(20)
    queue.wake()
    gone.set()
    for thread in threads:
        thread.join(20)

    assert served == ["a", "b", "c"]
    assert not queue.is_any


def test_the_first_tries_from_time_to_time_unasked() -> None:
    """
    Another process's calls end without a word.
    """
    with Queue().join([ONE], until=monotonic() + LONG) as place:
        assert place.wait()
        assert place.wait()


def test_the_queue_knows_whose_room_is_waited_for() -> None:
    """
    Also in the next window: a place outlives it.
    """
    queue = Queue()
    assert not queue.is_waited_for([ONE])
    with queue.join([ONE], until=monotonic() + LONG):
        assert queue.is_any
        assert queue.is_waited_for([OTHER, ONE_TOMORROW])
        assert not queue.is_waited_for([OTHER])
    assert not queue.is_any


def test_an_interrupt_leaves_no_place_behind() -> None:
    """
    A place of the dead would hold up all who come after.
    """
    queue = Queue()

    with pytest.raises(KeyboardInterrupt), queue.join([ONE], until=monotonic() + LONG):
        raise KeyboardInterrupt

    assert not queue.is_any
    assert not queue.is_waited_for([ONE])


def test_a_place_that_nobody_could_leave_is_in_the_way_only_while_it_lasts() -> None:
    """
    An interrupt may come just when it is taken, before anybody is there to leave it.
    """
    queue = Queue()
    queue.join([ONE], until=monotonic() - 1).__enter__()

    assert not queue.is_waited_for([ONE])
    with queue.join([ONE], until=monotonic() + LONG) as place:
        assert place.wait()


def test_a_fork_waits_behind_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The threads that wait are its parent's, and so may be the lock.
    """
    queue = Queue()
    with queue.join([ONE], until=monotonic() + LONG), monkeypatch.context() as forked, queue.changed:
        forked.setattr(waiting.os, "getpid", lambda: -1)
        done = threading.Thread(target=queue.wake, daemon=True)
        done.start()
        done.join(20)

        assert not done.is_alive()
        assert not queue.is_any
        assert not queue.is_waited_for([ONE])
