"""
What one process has in hand of its slices, and the calls that hold some of it.

A call is found by its id, and its purses by the call: a key is looked up once, when it is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry
from bedrock_guard.ledgers import books

NEVER_LEASED: Final = -1

Sums: TypeAlias = tuple[int, int]
"""What is spent and pending of a slice."""

NOTHING: Final[Sums] = (0, 0)


class Purse:
    """
    One slice, as it is spent.

    Attributes:
        granted: How much of it may be spent; `NEVER_LEASED` where it was charged and never asked for.
        sums: What is spent and pending of it. Another tuple with each change.
    """

    __slots__ = ("granted", "key", "sums")

    def __init__(self, key: LedgerKey) -> None:
        self.key = key
        self.granted = NEVER_LEASED
        self.sums: Sums = NOTHING

    @property
    def spendable(self) -> int:
        """
        How much is granted.
        """
        return max(0, self.granted)

    @property
    def is_stranger(self) -> bool:
        """
        Whether it was charged, and nothing is leased of it as far as is known here.
        """
        return self.granted == NEVER_LEASED and self.sums != NOTHING

    def go_on(self, reported: int) -> None:
        """
        What is spent comes to what was *reported* before the slice was forgotten.
        """
        spent, pending = self.sums
        self.sums = spent + reported, pending

    def grant(self, granted: int, reported: int) -> None:
        """
        From now on *granted* may be spent; of what is *reported* of a slice that is new here, nothing.
        """
        if self.granted == NEVER_LEASED:
            spent, pending = self.sums  # what nobody had expected, so far
            self.sums = max(spent, reported), pending
        self.granted = granted

    def give_up(self, keep: int) -> tuple[int, int]:
        """
        Spend no more than *keep* of what is free: what is spent, and what is granted then.

        What is pending stays granted; so does what has overrun, until it is booked.
        """
        spent, pending = self.sums
        self.granted = granted = min(self.spendable, spent + pending + keep)
        return spent, granted


class Call(NamedTuple):
    """
    One reservation, or the id of a recorded entry, which has no lines.

    Attributes:
        purses: Of an open call: what each of its lines is held in.
    """

    sequence: int
    state: books.State
    entry: Entry | None
    lines: tuple[Line, ...] = ()
    purses: Sequence[Purse] = ()
    booked: books.Booked = ()
    expires_at_s: float = 0.0
    on_expiry: OnExpiry = "charge"


# Each call makes two of them, and `Call()` takes twice as long.
new_call: Final[Callable[[type[Call], tuple[Any, ...]], Call]] = tuple.__new__

Change: TypeAlias = tuple[Sequence[Purse], Sequence[Sums]]
"""What a step makes of purses: whole sums, so that what is written twice is as good as once."""

NO_CHANGE: Final[Change] = ((), ())


def ended(call: Call, booked: books.Booked) -> Change:
    """
    The purses of an open *call*, with what is *booked* in place of what it holds.
    """
    sums = []
    for purse, line, amount in zip(call.purses, call.lines, booked):  # noqa: B905 - more may be booked
        spent, pending = purse.sums
        sums.append((spent + amount, pending - line.amount))
    return call.purses, sums
