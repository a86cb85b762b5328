"""
Who is told of calls as they happen, where they happen: in the caller's thread and context.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from bedrock_guard.domain.entry import Entry


class Counts(Protocol):
    """
    Who is told how one call ended.
    """

    def count(self, entry: Entry) -> None:
        """
        Take the call that ended as *entry*. May be called by a finalizer, and raises nothing of its own.
        """
        ...


class Shares(Protocol):
    """
    Who knows how much of budgets is used.
    """

    def shares(self) -> Iterable[tuple[str, float]]:
        """
        The name of each budget that keeps one balance, and the share of its limit that is spent.

        Raises:
            LedgerUnavailable: The balances cannot be read.
        """
        ...


@runtime_checkable
class Watcher(Protocol):
    """
    Who is told of each call of a guard. None of its methods raises.
    """

    def begin(self, entry: Entry) -> Counts:
        """
        A call is about to be made, as *entry* has it; returns who is to be told of its end.
        """
        ...

    def refuse(self, entry: Entry) -> None:
        """
        A call was refused, as *entry*.
        """
        ...

    def follow(self, shares: Shares) -> None:
        """
        Tell how much of budgets is used, for as long as somebody else holds *shares*.
        """
        ...
