"""
The lock between processes.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from bedrock_guard.ledgers import file_lock


def load_for_windows(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """
    The module as Windows would import it, on an `msvcrt` that is made of `flock`.
    """
    fcntl = pytest.importorskip("fcntl")
    held: set[int] = set()

    def locking(descriptor: int, mode: int, _size: int) -> None:
        if mode == 1:
            if descriptor in held:
                raise PermissionError("locked, by itself")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.add(descriptor)
        else:
            if descriptor not in held:
                raise PermissionError("not locked")
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            held.remove(descriptor)

    msvcrt = types.ModuleType("msvcrt")
    msvcrt.locking, msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = locking, 1, 2
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("file_lock_for_windows", file_lock.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.undo()
    return module


@pytest.fixture(params=["native", "windows"])
def lock_type(request, monkeypatch: pytest.MonkeyPatch):
    module = file_lock if request.param == "native" else load_for_windows(monkeypatch)
    return module.FileLock


def test_one_holds_it_and_others_wait_only_so_long(tmp_path: Path, lock_type) -> None:
    """
    Two writers at once is what it is there to prevent; a wait without end is what it must not be.
    """
    first, second = lock_type(str(tmp_path / "x.lock")), lock_type(str(tmp_path / "x.lock"))

    assert first.acquire(timeout_s=0)
    assert first.acquire(timeout_s=0), "what is held is held"
    assert not second.acquire(timeout_s=0.01)
    first.release()
    assert second.acquire(timeout_s=0)
    assert not first.acquire(timeout_s=0)
    second.close()
    assert first.acquire(timeout_s=0), "a file that is closed is a lock that is free"
    first.close()


def test_to_release_what_is_not_held_is_nothing(tmp_path: Path, lock_type) -> None:
    """
    Whoever cleans up after a time-out need not know how far it came.
    """
    holder, other = lock_type(str(tmp_path / "x.lock")), lock_type(str(tmp_path / "x.lock"))
    holder.acquire(timeout_s=0)

    other.release()

    assert not other.acquire(timeout_s=0)
    holder.close()
    other.close()


def test_a_lock_that_comes_free_in_time_is_taken(tmp_path: Path, lock_type) -> None:
    """
    Most waits are microseconds; they must not end in an error.
    """
    first, second = lock_type(str(tmp_path / "x.lock")), lock_type(str(tmp_path / "x.lock"))
    first.acquire(timeout_s=0)
    timer = threading.Timer(0.01, first.release)
    timer.start()

    assert second.acquire(timeout_s=60)
    timer.join()
    first.close()
    second.close()


def test_who_had_a_turn_steps_aside_and_who_comes_rarely_does_not(tmp_path: Path, monkeypatch) -> None:
    """
    Writers that never pause share the file in turns; a quick change after each write costs half of it.
    """
    holder, heavy = (file_lock.FileLock(str(tmp_path / "x.lock")) for _ in range(2))
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        holder.release()

    def meet(*, idle_s: float = 0.0) -> None:
        """
        Ask for the lock while another has it, so long after giving it back.
        """
        heavy.release()
        now[0] += idle_s
        slept.clear()
        holder.acquire(timeout_s=0)
        assert heavy.acquire(timeout_s=10)

    monkeypatch.setattr(file_lock, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    meet()
    assert slept[0] <= file_lock.SLEEP_S[1], "who comes for the first time insists"
    now[0] += file_lock.TURN_S / 2
    meet()
    assert slept[0] <= file_lock.SLEEP_S[1], "a turn has room for many writes"
    now[0] += file_lock.TURN_S
    meet()
    assert slept[0] <= file_lock.SLEEP_S[1], "of a slow disk it is not enough"
    heavy._writes = file_lock.TURN_WRITES
    meet()
    assert slept[0] >= file_lock.ASIDE_S[0], "and then it is over"
    now[0] += file_lock.LONGEST_TURN_S + file_lock.FORGOTTEN_S + 1e-3
    meet()
    assert slept[0] <= file_lock.SLEEP_S[1], "what is long ago does not count"
    meet(idle_s=file_lock.LONGEST_TURN_S + 1e-3)
    assert slept[0] <= file_lock.SLEEP_S[1], "who did something else meanwhile is no heavy writer"
    holder.close()
    heavy.close()


def test_to_step_aside_does_not_outlast_the_wait(tmp_path: Path) -> None:
    """
    A deadline is a promise to the caller.
    """
    holder, heavy = (file_lock.FileLock(str(tmp_path / "x.lock")) for _ in range(2))
    heavy._turn_began = time.monotonic() - file_lock.LONGEST_TURN_S - 1e-3
    heavy._released = time.monotonic()
    holder.acquire(timeout_s=0)
    before = time.monotonic()

    assert not heavy.acquire(timeout_s=0.005)

    assert time.monotonic() - before < file_lock.ASIDE_S[0]
    holder.close()
    heavy.close()
