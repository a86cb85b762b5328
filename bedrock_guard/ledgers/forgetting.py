"""
Which balances a ledger in memory need not keep: those that no call can count in any more.

    window     the newest two of each budget, and what ended within the last hour, are kept
    rolling    what is older than the span by an hour is not looked at
    rate       a bucket that has been full for an hour is as one that was never used

A ledger does not know when a window ends, only that one began after it. The hour is for calls that
were opened just before midnight, and for clocks that are set back.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from bedrock_guard.domain.ledger import SUB_WINDOWS, LedgerKey
from bedrock_guard.ledgers.lines import is_rate, nanoseconds, span_of
from bedrock_guard.ledgers.memory_sums import FULL_AT, NOTHING, Balances, Sums, full_at_key

FEW: Final = 10_000
"""So many balances are not worth a look."""
KEPT_S: Final = 3600


def find_over(balances: Balances, now: float) -> list[LedgerKey]:
    """
    Keys of those of *balances* that nobody asks for, at *now*; of a rate, the one that is not its moment's.
    """
    starts: dict[tuple[str, str], set[int]] = {}
    for budget, rule, _, start in balances:
        starts.setdefault((budget, rule), set()).add(start)
    before = {
        (budget, rule): _rolls_from(rule, now) or _kept_from(each, now)
        for (budget, rule), each in starts.items()
    }
    full_before_ns = nanoseconds(now - KEPT_S)
    return [
        key
        for key in balances
        if key.window_start < before[key.budget, key.rule]
        or (is_rate(key) and key.window_start != FULL_AT and _is_full(balances, key, full_before_ns))
    ]


def forget(balances: dict[LedgerKey, Sums], key: LedgerKey, now: float) -> None:
    """
    Take *key*, which was over, out of *balances*, unless it is in use again.
    """
    if balances.get(key, NOTHING)[2]:  # a call holds some of it
        return
    if is_rate(key):
        if not _is_full(balances, key, nanoseconds(now - KEPT_S)):
            return
        balances.pop(full_at_key(key), None)
    balances.pop(key, None)


def _is_full(balances: Balances, rate: LedgerKey, since_ns: int) -> bool:
    return balances.get(full_at_key(rate), NOTHING)[0] <= since_ns


def _rolls_from(rule: str, now: float) -> int | None:
    """
    Since when sub-windows of *rule* are kept; None where it does not roll.
    """
    span_s = span_of(rule)
    return None if span_s is None else int(now) - KEPT_S - span_s - span_s // SUB_WINDOWS


def _kept_from(starts: Iterable[int], now: float) -> int:
    """
    The start of the oldest window to keep: a window ends at the latest where the one seen after it starts.
    """
    newest = sorted(starts, reverse=True)
    kept = newest[1] if len(newest) > 1 else newest[0]
    for after, start in pairwise(newest[1:]):
        if after <= now - KEPT_S:
            break
        kept = start
    return kept
