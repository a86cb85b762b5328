"""
Until when the invocations of a Lambda function last that this process is in, and so how long it holds.

One that is killed at its time-out cannot settle. What it held would stay for all of `hold_s`, minutes
in which nobody can spend it; so nothing is held for longer than the invocation can last.

A process runs one invocation at a time, also where an environment runs several. So this is known to the
guard, not to a context variable, which the threads of a pool would not see. Where there are several all
the same (a test, a handler inside another), the last counts.
"""

from __future__ import annotations

import threading
from typing import Final

from bedrock_guard.domain.ledger import Clock

LATE_S: Final = 10.0
"""How much longer is held than the invocation lasts: hosts' clocks differ, and a settle may be on its way."""


class Invocations:
    """
    Those of one guard that are under way.

    Attributes:
        are_any: Whether there is one; without any, holds last as long as they usually do.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: list[float] = []
        self.are_any = False
        # None when there is none, and infinity when one of them cannot say.
        self._last_ends_at: float | None = None

    def begin(self, remaining_s: float | None) -> float:
        """
        One begins, which lasts *remaining_s* seconds at most; None where nobody knows.

        Returns what `end` wants to know of it.
        """
        ends_at = float("inf") if remaining_s is None else self._clock() + remaining_s
        with self._lock:
            self._ends.append(ends_at)
            self._last_ends_at = max(self._ends)
            self.are_any = True
        return ends_at

    def end(self, ends_at: float) -> bool:
        """
        One has ended; True when it was the only one.
        """
        with self._lock:
            self._ends.remove(ends_at)
            self._last_ends_at = max(self._ends, default=None)
            self.are_any = bool(self._ends)
            return not self._ends

    def hold_s(self, wanted_s: float) -> float:
        """
        For how many seconds to hold, where *wanted_s* is usual.
        """
        last_ends_at = self._last_ends_at
        if last_ends_at is None:
            return wanted_s
        return min(wanted_s, max(0.0, last_ends_at - self._clock()) + LATE_S)

    def left_s(self, wanted_s: float) -> float:
        """
        For how many seconds to wait, where *wanted_s* would be: no longer than an invocation can last.
        """
        last_ends_at = self._last_ends_at
        return wanted_s if last_ends_at is None else min(wanted_s, max(0.0, last_ends_at - self._clock()))

    def lead_s(self, wanted_s: float) -> float:
        """
        How many seconds before its end a hold is renewed: half of it; one that ends with the
        invocation, when that should be over.
        """
        if self._last_ends_at is None or self.hold_s(wanted_s) == wanted_s:
            return wanted_s / 2
        return min(wanted_s, LATE_S) / 2
