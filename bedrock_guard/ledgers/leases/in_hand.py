"""
What one process has in hand of its slices, and the one lock: integers, and no network.

What a step changes is worked out first, noted in one assignment, and then written, as in a ledger in memory:
where an interrupt strikes after the note, who comes next writes it again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, LedgerKey
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.leases.purses import NOTHING, Call, Change, Purse, Sums
from bedrock_guard.ledgers.leases.slices import Others

# Ended calls that are remembered, for an end that comes twice.
KEEP_ENDED: Final = 10_000


class InHand:
    """
    A purse for each key, and the calls that hold some of it.

    Attributes:
        notes: What no segment has yet, the oldest first: the fields of a `Note` of each.
        strangers: Balances that were charged, and nothing of them was ever leased.
        soft: Of balances that are over their limits, which not every line enforces: what others use.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._purses: dict[LedgerKey, Purse] = {}
        # Those that the last call found by its keys: the next one has the same, most of the time.
        self._usual: Sequence[Purse] = ()
        self._open: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()
        self._noted: tuple[Change, str, Call] | None = None
        self._sequence = time.time_ns()
        self._is_closed = False
        self.notes: list[tuple[int, float, Entry | None]] = []
        self.soft: dict[LedgerKey, Others] = {}
        self.strangers: set[LedgerKey] = set()

    def sums(self, key: LedgerKey) -> Sums:
        """
        What is spent and pending of a slice.
        """
        purse = self._purses.get(key)
        return NOTHING if purse is None else purse.sums

    def granted(self, key: LedgerKey) -> int:
        """
        How much of a slice may be spent.
        """
        purse = self._purses.get(key)
        return 0 if purse is None else purse.spendable

    def grant(self, key: LedgerKey, granted: int, reported: int) -> None:
        """
        As `Purse.grant`.
        """
        with self.turn(is_last=True):
            self.catch_up()
            self.purse(key).grant(granted, reported)

    def give_up(self, key: LedgerKey, keep: int = 0) -> tuple[int, int]:
        """
        As `Purse.give_up`.
        """
        with self.turn(is_last=True):
            self.catch_up()
            return self.purse(key).give_up(keep)

    def forget(self, key: LedgerKey) -> bool:
        """
        Know nothing of a slice any more, if no call holds any of it and all is spent; whether that is so.
        """
        with self.turn(is_last=True):
            self.catch_up()
            purse = self.purse(key)
            if purse.sums != (purse.spendable, 0):
                return False
            if any(purse in call.purses for call in self._open.values()):
                return False
            self._usual = ()  # first: it must have none that is not found by its key
            del self._purses[key]
            self.soft.pop(key, None)
            return True

    def drop_notes(self, count: int) -> None:
        """
        The oldest *count* notes are looked after by the caller from now on.
        """
        with self.turn(is_last=True):
            self.catch_up()
            del self.notes[:count]

    def begin_anew(self) -> None:
        """
        In a fork: what is spent and held is the parent's.
        """
        self.__init__(self._clock)  # type: ignore[misc]

    def close(self) -> None:
        """
        Refuse what comes later; what is there may be given back and written still.
        """
        self._is_closed = True

    def turn(self, *, is_last: bool = False) -> AbstractContextManager[bool]:
        """
        The lock, while calls may begin and end; *is_last* for what is done when they may not any more.

        Whoever has it begins with `catch_up`.
        """
        if self._is_closed and not is_last:
            raise LedgerUnavailable("The ledger is closed.")
        # Not for a finalizer that runs in the very thread that holds it, half-way through a sum.
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable("The ledger was called from inside itself; try again later.")
        return self._lock

    # Inside the lock

    def catch_up(self) -> None:
        """
        Write what an interrupt left. First of all in each turn, for who waited for the lock may have it from
        the very thread that was interrupted, and another note would take the place of that one.
        """
        if self._noted is not None:
            self._write(*self._noted)

    def purse(self, key: LedgerKey) -> Purse:
        """
        The slice of *key*, which is empty if there was none.
        """
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = Purse(key)
        return purse

    def _write(self, change: Change, id_: str, call: Call) -> None:
        self._noted = change, id_, call
        for purse, sums in zip(*change):  # noqa: B905 - as long as each other, by how they are made
            purse.sums = sums
        if call.state == "pending":
            self._open[id_] = call
        else:
            self._open.pop(id_, None)
            self._ended[id_] = call
            if len(self._ended) > KEEP_ENDED:
                self._ended.popitem(last=False)
        self._noted = None
