"""
What a lease is, and how much of a balance is asked for. Pure functions.

    granted   what the table counts as used for this process, since its lease began
    reported  what of that the table counts as spent
    spent     what this process has spent of it: reported <= spent <= granted, but for overruns

Why it is safe: the table's `used` grows only by grants, each under the condition that it stays within the
limit; a grant is spent only once it is known to be there, and what is given back is not spendable before it
is sent. So `spent + pending` of all processes is at most the sum of what is granted, which is at most
`used`. No clock is part of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bedrock_guard.domain.ledger import Balance, LedgerKey, Line, RefusedLine
from bedrock_guard.ledgers.dynamodb.lines import is_rolling
from bedrock_guard.ledgers.leases.purses import NEVER_LEASED, Purse, Sums
from bedrock_guard.ledgers.lines import is_rate

# Of what is free, a process takes at most this share: the others must find something, too.
SHARE: Final = 2
# So often a slice doubles, at most.
MOST_DOUBLINGS: Final = 16
# Slices double while one is used up so soon, in seconds.
HURRY_S: Final = 5.0


class Lease(NamedTuple):
    """
    What the table holds of a slice, by its last answer.

    Attributes:
        owner: The process, or what it was called before it was taken for dead.
        version: How often it was changed; 0 when it is not there.
    """

    owner: str
    version: int = 0
    granted: int = 0
    reported: int = 0

    @property
    def outstanding(self) -> int:
        """
        What the table counts as leased.
        """
        return self.granted - self.reported


class Others(NamedTuple):
    """
    What is known of a balance beside the own slice.

    Attributes:
        used: What others have spent, hold or lease.
        spent: What of that is spent.
        holders: How many processes lease, this one included where it does.
        at: When it was read, monotonic seconds.
    """

    used: int
    spent: int
    holders: int
    at: float


class Want(NamedTuple):
    """
    A line that a slice has no room for, and how much more of it would do.
    """

    line: Line
    missing: int


class Slice:
    """
    What one process knows of its lease of one balance.

    Attributes:
        others: None while the balance was never looked at.
        is_new: The balance is not in the table yet.
        in_doubt: A request on it was lost, and may yet arrive.
        doublings: How often the last asks have doubled.
        asked_at: When it was asked for last, monotonic seconds.
        refused_until: Until when nobody need ask again, monotonic seconds.
        refused_s: How long that was.
        idle_since: Since when nothing has changed; and what it was then.
    """

    __slots__ = (
        "asked_at",
        "doublings",
        "idle_since",
        "idle_sums",
        "in_doubt",
        "is_new",
        "lease",
        "others",
        "refused_s",
        "refused_until",
    )

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.others: Others | None = None
        self.is_new = False
        self.in_doubt = False
        self.doublings = -1
        self.asked_at = 0.0
        self.refused_until = 0.0
        self.refused_s = 0.0
        self.idle_since = 0.0
        self.idle_sums: object = None


def doublings(slice_: Slice, now: float) -> int:
    """
    How often the next ask doubles: once more, if the last slice did not last; once less for each time that it
    lasted twice as long as it had to.
    """
    lasted = int((now - slice_.asked_at) / HURRY_S)
    more = 1 if lasted < 1 else 1 - lasted.bit_length()
    return 0 if slice_.doublings < 0 else max(0, min(slice_.doublings + more, MOST_DOUBLINGS))


def kept(slice_: Slice, free: int, *, used: int, now: float) -> int:
    """
    How much of what is *free* a process keeps that has *used* so much since it reported: half, once a slice
    has outlasted the hurry that it was made for, and no less than the next reports will tell of.
    """
    if now - slice_.asked_at <= HURRY_S:
        return max(0, free)
    return max(0, min(free, max(free // 2, 2 * used)))


def size(missing: int, amount: int, *, times: int, free: int | None, holders: int) -> int:
    """
    How much to ask for: at least what is *missing* for a call of *amount*, doubled *times*.

    *free* is what the balance has left; None when nobody knows, or it has no limit. Of what is left no
    process takes more than a fair share, so that slices shrink as a budget ends.
    """
    wanted = amount << times
    if free is not None:
        wanted = min(wanted, max(0, free) // (SHARE * max(1, holders)))
    return max(missing, wanted)


def with_own(balance: Balance, own: Slice, sums: Sums, granted: int) -> Balance:
    """
    *balance*, as the table has it, with what this process has spent and holds of its *own* slice since.
    """
    spent, pending = sums
    free = max(0, granted - spent - pending)
    return Balance(
        balance.key,
        balance.spent + spent - own.lease.reported,
        balance.pending + pending,
        None,
        max(0, balance.leased - own.lease.outstanding + free),
    )


def want(line: Line, purse: Purse) -> Want | None:
    """
    How much of *line* its *purse* has no room for; None where it has.
    """
    spent, pending = purse.sums
    used = spent + pending + line.amount
    missing = used - purse.spendable
    is_above = line.enforce and line.limit is not None and used > line.limit
    if purse.granted == NEVER_LEASED or missing > 0 or is_above:
        return Want(line, max(0, missing))
    return None


def is_special(key: LedgerKey) -> bool:
    """
    Whether the balance of *key* is never leased.
    """
    return is_rolling(key) or is_rate(key)


def has_special(keys: Iterable[LedgerKey]) -> bool:
    """
    Whether one of them is such a key.
    """
    return any(is_special(key) for key in keys)


def refused_line(line: Line, others: Others, sums: Sums) -> RefusedLine | None:
    """
    *line*, if it does not fit beside what *others* use and this process has spent and holds.
    """
    spent, pending = sums
    if line.limit is None or others.used + spent + pending + line.amount <= line.limit:
        return None
    return RefusedLine(line, others.spent + spent, others.used - others.spent + pending)
