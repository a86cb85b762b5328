"""
The thread beside the calls.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from bedrock_guard.background import Background


class Kept:
    """
    A keeper that counts how often it is looked at.
    """

    def __init__(self, *, wait_s: float = 3600.0, error: Exception | None = None) -> None:
        self.looked = threading.Semaphore(0)
        self.has_forgotten = False
        self._wait_s = wait_s
        self._error = error

    def look(self) -> float:
        self.looked.release()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._wait_s

    def forget(self) -> None:
        self.has_forgotten = True


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made._keepers.clear()
    made.wake()
    if made._thread is not None:
        made._thread.join(30)


def test_a_keeper_is_looked_at_when_it_comes_when_woken_and_when_its_time_is_over(
    background: Background,
) -> None:
    """
    Three reasons, one thread.
    """
    kept = Kept(wait_s=0.02)
    background.keep(kept)
    for _ in range(5):
        assert kept.looked.acquire(timeout=30)

    sleeper = Kept()
    background.keep(sleeper)
    assert sleeper.looked.acquire(timeout=30)
    background.wake()
    assert sleeper.looked.acquire(timeout=30)


def test_work_is_done_in_the_thread(background: Background) -> None:
    """
    For those who may not wait: finalizers.
    """
    kept = Kept()
    names: list[str] = []
    done = threading.Event()
    background.keep(kept)

    background.soon(lambda: (names.append(threading.current_thread().name), done.set()))

    assert done.wait(30)
    assert names == ["bedrock_guard"]


def test_an_error_does_not_end_the_thread(background: Background, caplog: pytest.LogCaptureFixture) -> None:
    """
    Others wait for it.
    """
    kept = Kept(wait_s=0.02, error=ValueError("a bug"))
    background.keep(kept)
    for _ in range(3):
        assert kept.looked.acquire(timeout=30)
    done = threading.Event()
    background.soon(lambda: 1 / 0)
    background.soon(done.set)

    assert done.wait(30)
    assert "a bug" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_thread_ends_with_its_last_keeper_and_comes_back(background: Background) -> None:
    """
    A program that has done with its guards has no thread of ours.
    """
    kept = Kept()
    background.keep(kept)
    assert kept.looked.acquire(timeout=30)
    thread = background._thread
    assert thread is not None
    del kept
    gc.collect()
    background.wake()
    thread.join(30)
    assert not thread.is_alive()

    another = Kept()
    background.keep(another)
    assert another.looked.acquire(timeout=30)


def test_a_fork_reaches_every_keeper(background: Background) -> None:
    """
    None of them has a thread there, nor calls of its own.
    """
    kept, other = Kept(), Kept()
    background.keep(kept)
    background.keep(other)

    background.forget()

    assert kept.has_forgotten
    assert other.has_forgotten
    assert not background._keepers


def test_what_nobody_was_there_to_do_is_done_at_exit(background: Background) -> None:
    """
    A finalizer may come when there is no thread, and cannot start one.
    """
    done: list[str] = []
    background.soon(lambda: 1 / 0)
    background.soon(lambda: done.append("before"))
    assert not done

    background.leave()
    background.soon(lambda: done.append("after"))

    assert done == ["before", "after"]


def test_at_exit_what_the_thread_is_at_is_waited_for(background: Background) -> None:
    """
    Ledgers are closed next.
    """
    began, may_end = threading.Event(), threading.Event()
    done: list[str] = []
    kept = Kept()
    background.keep(kept)

    def work() -> None:
        began.set()
        may_end.wait(30)
        done.append(threading.current_thread().name)

    background.soon(work)
    assert began.wait(30)
    threading.Timer(0.05, may_end.set).start()
    background.leave()

    assert done == ["bedrock_guard"]
