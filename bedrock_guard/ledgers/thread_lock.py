"""
A lock between threads that no interrupt can lose.

Ctrl-C is an exception that comes between any two steps of a program: after a lock
was taken and before that is noted, or in the very `finally` that would have let go
of it. So this lock knows its holder by itself: whoever leaves need not know how far
it came, and may leave twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TypeVar

T = TypeVar("T")


class ThreadLock:
    """
    Held by one thread at a time, and never twice by the same one.
    """

    def __init__(self) -> None:
        # Not for entering again: only such a lock refuses to be released by who does not hold it.
        self._lock = threading.RLock()
        self._inside: int | None = None

    @property
    def is_ours(self) -> bool:
        """
        Whether this very thread is inside, be it in a finalizer or a signal handler that came by.
        """
        return self._inside == get_ident()

    def hold(self, work: Callable[[], T], *, clean: Callable[[], None], timeout_s: float) -> T:
        """
        What *work* returns, alone; before the next one comes in, *clean* is called, and perhaps again.

        Raises:
            TimeoutError: The lock was not free within *timeout_s*.
        """
        is_over = False
        try:
            try:
                if not self.enter(timeout_s=timeout_s):
                    raise TimeoutError
                return work()
            finally:
                self._leave_clean(clean)
                is_over = True
        finally:
            if not is_over:  # an interrupt came in between
                self._leave_clean(clean)

    def enter(self, *, timeout_s: float) -> bool:
        """
        Whether the lock is ours, within *timeout_s*; whoever is inside must not ask.
        """
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        self._inside = get_ident()
        return True

    def leave(self) -> None:
        """
        Let the next one in; nothing happens if it is not ours.
        """
        if self._inside == get_ident():
            self._inside = None
            self._lock.release()
            return
        # An interrupt may have come before it was noted, or since; else it is another's, or nobody's.
        with suppress(RuntimeError):
            self._lock.release()

    def _leave_clean(self, clean: Callable[[], None]) -> None:
        if self._inside == get_ident():
            clean()
        self.leave()
