"""
Which balances a ledger in memory need not keep: those of windows that have long ended.

A ledger does not know when a window ends, only that one began after it. So that neither a
call that was opened just before midnight nor a clock that is set back finds a window empty
that was full, the newest two of each budget are kept, and whatever ended within the last hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Final

from bedrock_guard.domain.ledger import ROLLING_PART, LedgerKey

FEW: Final = 10_000
"""So many balances are not worth a look."""
KEPT_S: Final = 3600


def find_over(keys: Collection[LedgerKey], now: float) -> list[LedgerKey]:
    """
    Those of *keys* whose windows have ended so long ago that nobody asks for them, at *now*.
    """
    starts: dict[tuple[str, str], set[int]] = {}
    for budget, rule, _, start in keys:
        starts.setdefault((budget, rule), set()).add(start)
    before = {windows: _kept_from(each, now) for windows, each in starts.items()}
    # What rolls is the sum of several windows, all of which count.
    return [
        key
        for key in keys
        if key.window_start < before[key.budget, key.rule] and ROLLING_PART not in key.rule
    ]


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
