"""
A lock between processes: a file beside the ledger, freed by the kernel when its holder dies.

SQLite has a lock of its own, but waits for it in sleeps of up to 100 ms: under
load some process takes it for seconds while others starve. Here they take turns:

    waits    asks again after a short, random sleep, until it gets in
    turn     for some milliseconds it may come back as often as it gets in
    aside    then, when it meets another, it leaves the field for a while

A turn of many transactions is what makes it quick: each change of processes costs
cold caches, the processor's and SQLite's. Only who has wanted the lock for most of its
turn steps aside; who writes now and then waits for those before it. The wait has an
end, which a blocking `flock` would not have: it never gives up on a holder that is
stopped. The books do not depend on this lock, only waits do.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from typing import Final

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _give(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with suppress(OSError):  # it is not held
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


# Figures for eight processes that write without a pause; more of them only wait longer.
SLEEP_S: Final = (100e-6, 300e-6)
# A turn has time for many writes; where the disk is slow it is longer, or nobody would be writing for long.
TURN_S: Final = 12e-3
TURN_WRITES: Final = 48
LONGEST_TURN_S: Final = 30e-3
# Time for the turns of seven others.
ASIDE_S: Final = (80e-3, 100e-3)
# The share of its turn for which a heavy writer did something else than to write, or to wait for that.
MOST_IDLE: Final = 0.5
# Who has not been waiting since is no heavy writer any more.
FORGOTTEN_S: Final = 50e-3


class FileLock:
    """
    Held by one process at a time; threads of one process need a lock of their own.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._is_held = False
        self._turn_began = float("-inf")
        self._writes = 0
        # In this turn, neither holding it nor waiting for it; and since when so.
        self._idle_s = 0.0
        self._released = 0.0

    def acquire(self, *, timeout_s: float) -> bool:
        """
        Whether the lock is ours, within *timeout_s*; one that is held is ours already.
        """
        now = time.monotonic()
        self._idle_s += now - self._released
        if self._try():
            return True
        deadline = now + timeout_s
        turn_s = TURN_S if self._writes >= TURN_WRITES else LONGEST_TURN_S
        over_s = now - self._turn_began - turn_s
        if 0 <= over_s < FORGOTTEN_S and self._idle_s <= MOST_IDLE * (now - self._turn_began):
            _sleep(ASIDE_S, timeout_s)
        while not self._try():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            _sleep(SLEEP_S, left_s)
        if over_s >= 0:
            self._turn_began, self._writes, self._idle_s = time.monotonic(), 0, 0.0
        return True

    def release(self) -> None:
        """
        Let the next one in; nothing happens if it is not ours.
        """
        self._released = time.monotonic()
        # Also where an interrupt came between taking it and noting that.
        self._is_held = False
        if self._descriptor >= 0:
            _give(self._descriptor)

    def close(self) -> None:
        """
        Give the file back, and the lock if it is held; it may be closed twice.
        """
        # The lock first: a descriptor that an interrupt leaves open then holds nothing.
        self.release()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _try(self) -> bool:
        if self._is_held:
            return True
        try:
            _take(self._descriptor)
        except OSError:  # EWOULDBLOCK from flock, EACCES from msvcrt
            return False
        self._is_held = True
        self._writes += 1
        return True


def _sleep(between_s: tuple[float, float], most_s: float) -> None:
    # Random, so that waiters do not ask in step; it hides nothing.
    time.sleep(max(0.0, min(random.uniform(*between_s), most_s)))  # noqa: S311
