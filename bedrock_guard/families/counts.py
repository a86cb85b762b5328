"""
What a reply counts, in whatever words, as usage by meter.

    body, headers, chunks  --read_counts-->  counts  --merge-->  counts  --usage_of-->  usage

Counts carry two names that are no meters, because some reports do not split
what meters keep apart: all cache writes, and a prompt with its cached part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
    larger,
)

Counts: TypeAlias = Mapping[str, int]
CountPath: TypeAlias = tuple[str, ...]
CountTable: TypeAlias = tuple[tuple[CountPath, str], ...]
"""Where a count is, and which it is. `"*"` in a path is every item of a list, summed."""

CACHE_WRITE: Final = "cache_write_input_tokens"
PROMPT: Final = "prompt_tokens"

# The last chunk of every InvokeModel stream carries these, in AWS's words.
INVOCATION_METRICS: Final = "amazon-bedrock-invocationMetrics"
METRICS_TABLE: Final[CountTable] = (
    ((INVOCATION_METRICS, "inputTokenCount"), INPUT_TOKENS),
    ((INVOCATION_METRICS, "outputTokenCount"), OUTPUT_TOKENS),
    ((INVOCATION_METRICS, "cacheReadInputTokenCount"), CACHE_READ),
    ((INVOCATION_METRICS, "cacheWriteInputTokenCount"), CACHE_WRITE),
)

# Digits: beyond any count, below what `int()` refuses.
_LONGEST_COUNT: Final = 18

# OpenAI models sell one life only, of 30 minutes, at their one price for writes.
_LIVES: Final[dict[str, str]] = {"5m": CACHE_WRITE_5M, "30m": CACHE_WRITE_5M, "1h": CACHE_WRITE_1H}


def read_counts(document: object, table: CountTable) -> dict[str, int]:
    """
    The counts that a document states; of one that it states twice, the larger.

    What is not a count (negative, a fraction, a word) is not reported.
    """
    counts: dict[str, int] = {}
    for path, name in table:
        quantity = _read(document, path)
        if quantity is not None and quantity >= counts.get(name, 0):
            counts[name] = quantity
    prompt = counts.pop(PROMPT, None)
    if prompt is not None:
        counts[INPUT_TOKENS] = max(prompt - _cached(counts), counts.get(INPUT_TOKENS, 0))
    return counts


def read_lives(details: object) -> dict[str, int]:
    """
    Cache writes by how long they live, from Converse's `cacheDetails`; an unknown life is the longest.
    """
    counts: dict[str, int] = {}
    for detail in details if isinstance(details, list) else ():
        quantity = _read(detail, ("inputTokens",))
        if quantity is not None:
            name = _LIVES.get(str(detail.get("ttl")), CACHE_WRITE_1H)
            counts[name] = counts.get(name, 0) + quantity
    return counts


def merge(reports: Iterable[Counts]) -> dict[str, int]:
    """
    Several reports of one call as one: where they disagree, the larger count.
    """
    merged: dict[str, int] = {}
    for report in reports:
        merged = larger(_apart(merged, report), _apart(report, merged))
    return merged


def usage_of(counts: Counts, *, generates: bool, marks_1h: bool) -> Usage | None:
    """
    The usage that counts amount to; None where they leave input or output untold.

    Cache writes whose life nobody told are charged at the dearer one if there
    is a sign that it was used.
    """
    if INPUT_TOKENS not in counts or (generates and OUTPUT_TOKENS not in counts):
        return None
    usage = {name: quantity for name, quantity in counts.items() if name != CACHE_WRITE}
    told = counts.get(CACHE_WRITE_5M, 0) + counts.get(CACHE_WRITE_1H, 0)
    untold = counts.get(CACHE_WRITE, 0) - told
    if untold > 0:
        has_details = CACHE_WRITE_5M in counts or CACHE_WRITE_1H in counts
        life = CACHE_WRITE_1H if marks_1h or has_details else CACHE_WRITE_5M
        usage[life] = usage.get(life, 0) + untold
    return {meter: quantity for meter, quantity in usage.items() if quantity}


def _apart(report: Counts, other: Counts) -> Counts:
    # A plain input count that equals the other's input and cache together is the same
    # prompt told as one sum: both would count the cached part twice.
    if _tells_cache(report) or not _tells_cache(other) or INPUT_TOKENS not in other:
        return report
    if report.get(INPUT_TOKENS) != other[INPUT_TOKENS] + _cached(other):
        return report
    return {name: quantity for name, quantity in report.items() if name != INPUT_TOKENS}


def _tells_cache(counts: Counts) -> bool:
    return any(name in counts for name in (CACHE_READ, CACHE_WRITE, CACHE_WRITE_5M, CACHE_WRITE_1H))


def _cached(counts: Counts) -> int:
    by_life = counts.get(CACHE_WRITE_5M, 0) + counts.get(CACHE_WRITE_1H, 0)
    return counts.get(CACHE_READ, 0) + max(counts.get(CACHE_WRITE, 0), by_life)


def _read(document: Any, path: Sequence[str]) -> int | None:
    for depth, key in enumerate(path):
        if key == "*" and isinstance(document, list):
            parts = [_read(item, path[depth + 1 :]) for item in document]
            told = [part for part in parts if part is not None]
            return sum(told) if told else None
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return count(document)


def count(value: object) -> int | None:
    """
    A count as JSON or a header writes it, or None where it is none.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST_COUNT:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None

