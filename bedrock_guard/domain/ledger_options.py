"""
What a ledger may do beside what every one does: each is asked for by `isinstance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry, Reservation


@runtime_checkable
class DropsEntries(Protocol):
    """
    A ledger whose entries are dropped by whoever sweeps; others forget by themselves, or never.
    """

    def drop_entries(self, *, before: float, limit: int = 1000) -> int:
        """
        Forget at most *limit* entries of calls that were opened, and whose holds ended, before then, and of
        those that were recorded and `over_at_s` before.

        Balances and open reservations stay. Returns how many were dropped.
        """
        ...


@runtime_checkable
class KeepsEntries(Protocol):
    """
    A ledger whose store deletes by itself: what ends is told then how long it is kept.
    """

    def keep_entries(self, seconds: float | None) -> None:
        """
        Keep what ends from now on for *seconds*, None for ever; of several wishes the longest holds.
        """
        ...


@runtime_checkable
class ReportsLater(Protocol):
    """
    A ledger that writes what has ended a little later, and with it what is spent.
    """

    def flush(self) -> None:
        """
        Write now all that has ended.

        Raises:
            LedgerUnavailable: Not all of it is written; it is tried again.
        """
        ...

    def tell_reported(self, tell: Callable[[Iterable[LedgerKey]], None]) -> None:
        """
        Have *tell*, a method, called in some thread with the balances that others see changed from now on.

        It is held weakly.
        """
        ...


@runtime_checkable
class AnswersAtOnce(Protocol):
    """
    A ledger that may wait, and need not for most calls: what comes from an event loop is tried so first.
    """

    def reserve_at_once(
        self,
        lines: Sequence[Line],
        *,
        entry: Entry,
        hold_s: float,
        on_expiry: OnExpiry,
        controls: int | None = None,
    ) -> Reservation | None:
        """
        Hold every line as `Ledger.reserve` does; None, and nothing is held, where that would have to wait,
        or would not hold them.
        """
        ...

    def ends_at_once(self, reservation: Reservation) -> bool:
        """
        Whether neither `settle` nor `release` of it waits.
        """
        ...
