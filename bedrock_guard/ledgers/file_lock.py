"""
A lock between processes: a file beside the ledger, freed by the kernel when its holder dies.

SQLite has a lock of its own, but waits for it in sleeps of up to 100 ms: under
load some process takes it for seconds while others starve. Here every waiter
asks again after a short, random sleep, so each has the same chance, and the wait
has an end: a blocking `flock` would queue, and never give up on a holder that is
stopped. The books do not depend on this lock, only the length of the wait does.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Final

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _give(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


SLEEP_S: Final = (100e-6, 300e-6)


class FileLock:
    """
    Held by one process at a time; threads of one process need a lock of their own.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._is_held = False

    def acquire(self, *, timeout_s: float) -> bool:
        """
        Whether the lock is ours, within *timeout_s*; one that is held is ours already.
        """
        if self._try():
            return True
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            time.sleep(random.uniform(*SLEEP_S))  # noqa: S311 - spreads waiters, hides nothing
            if self._try():
                return True
        return False

    def release(self) -> None:
        """
        Let the next one in; nothing happens if it is not ours.
        """
        if self._is_held:
            self._is_held = False
            _give(self._descriptor)

    def close(self) -> None:
        """
        Give the file back, and the lock if it is held.
        """
        os.close(self._descriptor)

    def _try(self) -> bool:
        if self._is_held:
            return True
        try:
            _take(self._descriptor)
        except OSError:  # EWOULDBLOCK from flock, EACCES from msvcrt
            return False
        self._is_held = True
        return True
