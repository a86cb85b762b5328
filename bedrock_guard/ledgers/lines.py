"""
What roll and rate lines come to, for every ledger alike.

A rolling line counts its sub-window and those before it, back to one that is
still partly inside the span: too much at the old end, never too little. Each is
a balance of its own, so ends are booked where the money was held.

A rate is kept as one moment, *full at*: when all that was taken is refilled. To
take is to move it on; time alone refills. What is given back refills only what
time has not: a bucket that was full meanwhile would otherwise give it twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from bedrock_guard.domain.budget import SECONDS
from bedrock_guard.domain.ledger import RATE_SUFFIX, SUB_WINDOWS, LedgerKey, Line, RefusedLine

_NS: Final = 10**9
_ROLLING: Final = re.compile(rf"/rolling (?:(\d+) )?({'|'.join(SECONDS)})s?$")
# Three years: as much later a bucket can be full at most, so that its moment stays a number of 64 bits.
_FURTHEST_NS: Final = 10**17


def is_rate(key: LedgerKey) -> bool:
    """
    Whether the key is that of a bucket.
    """
    return key.rule.endswith(RATE_SUFFIX)


def span_of(rule: str) -> int | None:
    """
    How long before a sub-window others count too, by the rule of its key; None for what does not roll.
    """
    found = _ROLLING.search(rule)
    return int(found[1] or 1) * SECONDS[found[2]] if found else None


def nanoseconds(at_s: float) -> int:
    """
    A moment in whole nanoseconds since 1970.
    """
    return int(at_s * _NS)


def sub_window_s(line: Line) -> int:
    """
    How long a sub-window of a rolling line is.
    """
    return line.span_s // SUB_WINDOWS


def counts_since(line: Line) -> int:
    """
    The start of the oldest sub-window that counts for a rolling line.
    """
    return line.key.window_start - line.span_s


def rolls_free_at(line: Line, used: Mapping[int, int]) -> float | None:
    """
    When a rolling *line* fits, as sub-windows leave (their starts, and what is *used* in them); None: never.
    """
    limit = line.limit or 0
    left = sum(used.values()) + line.amount
    for start in sorted(used):
        left -= used[start]
        if left <= limit:
            return float(start + line.span_s + sub_window_s(line))
    return None


def take_ns(line: Line, amount: int) -> int:
    """
    How long *amount* of a rate takes to be refilled.
    """
    return min(amount * line.span_s * _NS // line.refill, _FURTHEST_NS)


def taken(line: Line, full_at_ns: int, now_ns: int) -> tuple[int, float | None]:
    """
    When the bucket of a rate *line* is full once its amount is taken, and when it may be: None for now.

    What is larger than the burst may never be: infinity.
    """
    after_ns = max(full_at_ns, now_ns) + take_ns(line, line.amount)
    if line.limit is None:
        return min(after_ns, now_ns + _FURTHEST_NS), None
    free_ns = after_ns - take_ns(line, line.limit)
    is_over = free_ns > now_ns or line.amount > line.limit
    free_at = (float("inf") if line.amount > line.limit else free_ns / _NS) if is_over else None
    return min(after_ns, now_ns + _FURTHEST_NS), free_at


def given_back_ns(line: Line, held: int, spent: int, *, age_ns: int) -> int:
    """
    How much sooner (below 0) or later a bucket is full, as *spent* of what was *held* turns out to be true.
    """
    change_ns = take_ns(line, spent) - take_ns(line, held)
    return change_ns if change_ns >= 0 else -max(0, -change_ns - max(0, age_ns))


def level(line: Line, full_at_ns: int, now_ns: int) -> int:
    """
    How much is taken from a rate, rounded up.
    """
    return -(-max(0, full_at_ns - now_ns) * line.refill // (line.span_s * _NS))


def refused_rate(line: Line, after_ns: int, free_at_s: float, now: float) -> RefusedLine:
    """
    A rate that has no room before *free_at_s*, and would be full at *after_ns* if it had.
    """
    now_ns = nanoseconds(now)
    used = level(line, after_ns - take_ns(line, line.amount), now_ns)
    return RefusedLine(line, used, 0, None, None if free_at_s == float("inf") else free_at_s)


def refused_rolling(line: Line, found: Mapping[int, Sequence[int]]) -> RefusedLine | None:
    """
    A rolling *line*, if it does not fit beside what is *found*: starts of sub-windows, and what is spent
    and pending in them, and how many calls hold that.
    """
    spent, pending = (sum(sums[index] for sums in found.values()) for index in (0, 1))
    if line.limit is None or spent + pending + line.amount <= line.limit:
        return None
    calls = sum(sums[2] for sums in found.values()) if all(len(sums) > 2 for sums in found.values()) else None
    used = {start: sums[0] + sums[1] for start, sums in found.items()}
    return RefusedLine(line, spent, pending, calls, rolls_free_at(line, used))


def with_kinds(stored: tuple[Line, ...], known: Sequence[Line]) -> tuple[Line, ...]:
    """
    *stored* lines, of which only key, limit and amount are kept, as their holder knows them.
    """
    kinds = {line.key: line for line in known if line.kind != "window"}
    if not kinds:
        return stored
    return tuple(
        kinds[line.key]._replace(limit=line.limit, amount=line.amount) if line.key in kinds else line
        for line in stored
    )
