"""
One thread beside the calls: what is done later, and what is looked after.

It starts with the first work, is a daemon, and ends with the last keeper. Nothing
here knows what the work is.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

log = logging.getLogger("bedrock_guard")

_MOST_S: Final = 3600.0
_LEAST_S: Final = 0.01
_LEAVE_S: Final = 10.0


class Keeper(Protocol):
    """
    Who wants to be looked at from time to time.
    """

    def look(self) -> float:
        """
        Do what is due; the seconds until something will be. Called in the background thread.
        """
        ...

    def forget(self) -> None:
        """
        This process is a fork: what was looked after belongs to the parent.
        """
        ...


class Background:
    """
    The thread, its keepers, and the work it was given.

    `wake` and `soon` may be called from a finalizer, in whatever thread the collector runs,
    even inside one of them: a `SimpleQueue` is made for that.

    Attributes:
        is_leaving: Whether the interpreter is on its way out: nothing is done later any more.
    """

    def __init__(self, name: str = "bedrock_guard") -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.is_leaving = False
        self._ends_at: float | None = None

    def keep(self, keeper: Keeper) -> None:
        """
        Look after *keeper* for as long as somebody else holds it. Not for finalizers.
        """
        with self._lock:
            self._keepers.add(keeper)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self.wake()

    def is_here(self) -> bool:
        """
        Whether the caller is run by the thread itself.
        """
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """
        Look at every keeper now.
        """
        self._work.put(None)

    def soon(self, work: Callable[[], object]) -> None:
        """
        Run *work* in the thread, which is there while anybody is kept; without it, when
        somebody is, or at exit.
        """
        if self.is_leaving:
            _attempt(work)
        else:
            self._work.put(work)

    def leave(self) -> None:
        """
        Do now what is still to be done: the interpreter is on its way out.
        """
        done = threading.Event()
        self._work.put(done.set)
        try:
            if self._thread is not None and self._thread.is_alive():
                done.wait(_LEAVE_S)  # what it is at must be done before anybody closes a ledger
        finally:
            self.is_leaving = True
        while True:
            try:
                work = self._work.get_nowait()
            except Empty:
                return
            if work is not None:
                _attempt(work)

    def last_s(self, seconds: float) -> float:
        """
        What is left of *seconds*, for everybody together who has something to do at exit.
        """
        if self._ends_at is None:
            self._ends_at = time.monotonic() + seconds
        return max(0.0, self._ends_at - time.monotonic())

    def forget(self) -> None:
        """
        Begin anew in a fork, which has no thread and nothing of its own to look after.
        """
        keepers = list(self._keepers)  # no other thread is left that could change it
        self.__init__(self._name)  # type: ignore[misc]  # the locks may be in the hands of threads that are gone
        for keeper in keepers:
            keeper.forget()

    def _all(self) -> list[Keeper]:
        with self._lock:
            return list(self._keepers)

    def _run(self) -> None:
        looks_at = 0.0
        while True:
            now = time.monotonic()
            if now >= looks_at:
                keepers = self._all()
                if not keepers and self._may_end():
                    return
                waits = [_attempt(keeper.look) for keeper in keepers]
                del keepers
                looks_at = now + min([_MOST_S, *[_MOST_S if wait is None else wait for wait in waits]])
            try:
                work = self._work.get(timeout=max(_LEAST_S, looks_at - time.monotonic()))
            except Empty:
                continue
            if work is None:
                looks_at = 0.0
            else:
                _attempt(work)
                del work

    def _may_end(self) -> bool:
        with self._lock:
            if self._keepers or not self._work.empty():
                return False
            self._thread = None
            return True


def _attempt(work: Callable[[], float | object]) -> float | None:
    try:
        result = work()
    except Exception:  # the thread must live: others are waiting for it
        log.exception("Work in the background failed; it is looked at again.")
        return 1.0
    return result if isinstance(result, float) else None


BACKGROUND: Final = Background()
"""The one of this process, for what keeps the books right."""

COURIER: Final = Background("bedrock_guard alerts")
"""Another, for alerts: who hears them may take long, and no hold may wait for that to be renewed."""

# What is registered later runs earlier: this, before weakref's own handler, which comes with the first
# finalizer, writes what is not written, and closes ledgers.
weakref.finalize(BACKGROUND, int).detach()
atexit.register(BACKGROUND.leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BACKGROUND.forget)
    os.register_at_fork(after_in_child=COURIER.forget)
