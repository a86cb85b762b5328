"""
What a line meets among the balances of a ledger in memory, and what it leaves there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from bedrock_guard.domain.ledger import RATE_SUFFIX, LedgerKey, Line, RefusedLine
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers import lines as line_kinds

Sums: TypeAlias = tuple[int, int, int]
"""What a balance has spent, what is pending, and how many calls hold that."""

Balances: TypeAlias = Mapping[LedgerKey, Sums]

NOTHING: Final[Sums] = (0, 0, 0)

FULL_AT: Final = -1
"""The window of a rate's other balance: when its bucket is full, in nanoseconds since 1970."""


def unfit(balances: Balances, line: Line, now: float) -> RefusedLine | None:
    """
    The balance that *line* met, if it does not fit.

    Raises:
        LedgerUnavailable: It would be larger than a ledger counts.
    """
    spent, pending, calls = balances.get(line.key, NOTHING)
    used = spent + pending + line.amount
    if used > books.MAX_AMOUNT and (line.limit is None or not line.enforce or line.kind == "rate"):
        raise books.uncountable(line.key, used)
    if line.limit is None:
        return None
    if line.kind == "rate":
        after_ns, free_at_s = taken(balances, line, now)
        return None if free_at_s is None else line_kinds.refused_rate(line, after_ns, free_at_s, now)
    if line.kind == "rolling":
        return line_kinds.refused_rolling(line, _sub_windows(balances, line))
    return RefusedLine(line, spent, pending, calls) if used > line.limit else None


def taken(balances: Balances, line: Line, now: float) -> tuple[int, float | None]:
    """
    When the bucket of a rate *line* is full once its amount is taken, and when it may be: None for now.
    """
    full_at_ns = balances.get(full_at_key(line.key), NOTHING)[0]
    return line_kinds.taken(line, full_at_ns, line_kinds.nanoseconds(now))


def given_back(balances: Balances, line: Line, held: int, spent: int, *, age_s: float) -> int:
    """
    When that bucket is full once what was *held* of it, *age_s* ago, is known to be *spent*.
    """
    full_at_ns = balances.get(full_at_key(line.key), NOTHING)[0]
    return full_at_ns + line_kinds.given_back_ns(line, held, spent, age_ns=line_kinds.nanoseconds(age_s))


def full_at_s(balances: Balances, key: LedgerKey) -> float | None:
    """
    When the bucket of a rate is full, in seconds since 1970; None where *key* is no rate's.
    """
    if not key.rule.endswith(RATE_SUFFIX):
        return None
    return balances.get(full_at_key(key), NOTHING)[0] / 10**9


def full_at_key(key: LedgerKey) -> LedgerKey:
    """
    Under which that moment is kept.
    """
    return key._replace(window_start=FULL_AT)


def _sub_windows(balances: Balances, line: Line) -> dict[int, Sums]:
    """
    What counts for a rolling line: one more than its own, for a clock that was set back.
    """
    budget, rule, per, start = line.key
    step = line_kinds.sub_window_s(line)
    found = {}
    for each in range(line_kinds.counts_since(line), start + 2 * step, step):
        sums = balances.get(LedgerKey(budget, rule, per, each))
        if sums is not None:
            found[each] = sums
    return found
