"""
Calls that wait for room in a budget, in the order in which they came.

    with queue.join(keys, until=...) as place:
        while place.wait():
            ...try again...

Of those that wait for the same balance only the first tries; the others keep their places. What is given
back in another process is not seen here, so the first tries from time to time in any case.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Final, Self

from bedrock_guard.domain.ledger import LedgerKey

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 0.5


class Queue:
    """
    Who waits, in this process.

    Attributes:
        is_any: Whether anybody does.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self.is_any = False
        self.places: list[Place] = []
        # Entered itself, not by way of its condition: an interrupt in between would leave it locked for good.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    def _leave_to_parent(self) -> None:
        # A fork has none of the threads that wait, and may have a lock that one of them held.
        if self._process != os.getpid():
            self._begin()

    def is_waited_for(self, keys: Iterable[LedgerKey]) -> bool:
        """
        Whether somebody waits for room in one of these balances, in whatever window.
        """
        self._leave_to_parent()
        balances, now = {key[:3] for key in keys}, monotonic()
        return any(
            not balances.isdisjoint(place.balances) and not place.is_over(now) for place in self.places.copy()
        )

    def join(self, keys: Iterable[LedgerKey], *, until: float) -> Place:
        """
        A place behind all others, for room in *keys*; *until* when, by the monotonic clock.
        """
        self._leave_to_parent()
        return Place(self, keys, until)

    def wake(self) -> None:
        """
        Money was given back, or nobody waits for the answer of one that is waiting.
        """
        self._leave_to_parent()
        with self.lock:
            for place in self.places:
                place.is_woken = True
            self.changed.notify_all()


class Place:
    """
    One call's place, held while its block lasts.

    Attributes:
        balances: What it waits for: the keys, whatever their windows.
        is_woken: Whether it is to try before its time.
    """

    def __init__(self, queue: Queue, keys: Iterable[LedgerKey], until: float) -> None:
        self.balances = frozenset(key[:3] for key in keys)
        self.is_woken = False
        self._queue = queue
        self._until = until
        self._wait_s = _FIRST_WAIT_S

    def __enter__(self) -> Self:
        with self._queue.lock:
            self._queue.places.append(self)
            self._queue.is_any = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        queue = self._queue
        with queue.lock:
            queue.places = [place for place in queue.places if place is not self]  # a fork has none
            queue.is_any = bool(queue.places)
        queue.wake()  # who is behind may be the first now

    def wait(self) -> bool:
        """
        Wait until it is time to try; False once the time is over.
        """
        tries_at = monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        with self._queue.lock:
            while True:
                now = monotonic()
                if now >= self._until:
                    return False
                if self._is_first(now) and (self.is_woken or now >= tries_at):
                    self.is_woken = False
                    return True
                self._queue.changed.wait(min(self._until, max(tries_at, now + _FIRST_WAIT_S)) - now)

    def is_over(self, now: float) -> bool:
        """
        Whether its time is over. It holds up nobody then: an interrupt may have kept it from being left.
        """
        return now >= self._until

    def _is_first(self, now: float) -> bool:
        for place in self._queue.places:
            if place is self:
                return True
            if not place.is_over(now) and not self.balances.isdisjoint(place.balances):
                return False
        return True
