"""
What a reply counts, in whatever words, as usage by meter.

    body, headers, chunks  --read_counts-->  counts  --merge-->  counts  --usage_of-->  usage

Counts carry names that are no meters: some reports do not split what meters keep
apart (all cache writes, and a prompt with its cached part), and some contradict themselves.
A count below zero is kept beside the others, under the name of its meter with a minus before
it, so that no sum or comparison hides it; among the others it is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from bedrock_guard.families.limits import at

Counts: TypeAlias = Mapping[str, int]
CountTable: TypeAlias = tuple[tuple[tuple[str, ...], Mapping[str, str]], ...]
"""The path to a structure, and which counts its fields are. A list of structures is their sum."""

CACHE_WRITE: Final = "cache_write_input_tokens"
PROMPT: Final = "prompt_tokens"
CONTRADICTIONS: Final = "contradictions"
NEGATIVES: Final = "negatives"

# The last chunk of every InvokeModel stream carries these, in AWS's words.
INVOCATION_METRICS: Final = "amazon-bedrock-invocationMetrics"
METRICS_TABLE: Final[CountTable] = (
    (
        (INVOCATION_METRICS,),
        {
            "inputTokenCount": INPUT_TOKENS,
            "outputTokenCount": OUTPUT_TOKENS,
            "cacheReadInputTokenCount": CACHE_READ,
            "cacheWriteInputTokenCount": CACHE_WRITE,
        },
    ),
)

_NO_METERS: Final = frozenset([CACHE_WRITE, CONTRADICTIONS, NEGATIVES])
_METERS_OF: Final[dict[str, str]] = {CACHE_WRITE: CACHE_WRITE_5M, PROMPT: INPUT_TOKENS}
_CACHE_NAMES: Final = frozenset([CACHE_READ, CACHE_WRITE, CACHE_WRITE_5M, CACHE_WRITE_1H])

# Digits: beyond any count, below what `int()` refuses.
_LONGEST_COUNT: Final = 18

# OpenAI models sell one life only, of 30 minutes, at their one price for writes.
_LIVES: Final[dict[str, str]] = {"5m": CACHE_WRITE_5M, "30m": CACHE_WRITE_5M, "1h": CACHE_WRITE_1H}


def read_counts(document: object, table: CountTable) -> dict[str, int]:
    """
    The counts that a document states; of one that it states twice, the larger.

    What is not a count (a fraction, a word) is not reported; one below zero is noted, for it says
    that the report cannot be believed.
    """
    counts: dict[str, int] = {}
    for path, names in table:
        structure = at(document, path) if path else document
        if structure is None:
            continue
        if isinstance(structure, dict):
            _read(structure, names, counts)
        elif isinstance(structure, list):
            _read_sum(structure, names, counts)
        elif isinstance(structure, Mapping):  # headers
            _read(structure, names, counts)
    prompt = counts.pop(PROMPT, None)
    if prompt is not None:
        uncached = prompt - _cached(counts)
        if uncached < 0:  # it should include the cached ones
            uncached = prompt
            counts[CONTRADICTIONS] = 1
        counts[INPUT_TOKENS] = max(uncached, counts.get(INPUT_TOKENS, uncached))
    return counts


def read_lives(details: object) -> dict[str, int]:
    """
    Cache writes by how long they live, from Converse's `cacheDetails`; an unknown life is the longest.
    """
    counts: dict[str, int] = {}
    for detail in details if isinstance(details, list) else ():
        quantity = count(at(detail, ("inputTokens",)))
        if quantity is not None:
            add_count(counts, _LIVES.get(str(detail.get("ttl")), CACHE_WRITE_1H), quantity)
    return counts


def add_count(counts: dict[str, int], name: str, quantity: int) -> None:
    """
    Add *quantity* to the count of that name; one below zero is noted instead.
    """
    if quantity < 0:
        quantity = _note_negative(counts, name, quantity)
    counts[name] = counts.get(name, 0) + quantity


def merge(reports: Iterable[Counts]) -> Counts:
    """
    Several reports of one call as one: where they disagree, the larger count.
    """
    merged: Counts = {}
    for report in reports:
        if not merged:
            merged = report
        elif report:
            merged = larger(_apart(merged, report), _apart(report, merged))
    return merged


def usage_of(counts: Counts, *, generates: bool, marks_1h: bool) -> Usage | None:
    """
    The usage that counts amount to; None where they leave input or output untold.

    Cache writes whose life nobody told are charged at the dearer one if there
    is a sign that it was used. What was below zero counts as nothing here: see `with_negatives`.
    """
    if INPUT_TOKENS not in counts or (generates and OUTPUT_TOKENS not in counts):
        return None
    usage = {name: quantity for name, quantity in counts.items() if quantity > 0 and name not in _NO_METERS}
    writes = counts.get(CACHE_WRITE)
    if writes:
        untold = writes - counts.get(CACHE_WRITE_5M, 0) - counts.get(CACHE_WRITE_1H, 0)
        if untold > 0:
            has_details = CACHE_WRITE_5M in counts or CACHE_WRITE_1H in counts
            life = CACHE_WRITE_1H if marks_1h or has_details else CACHE_WRITE_5M
            usage[life] = usage.get(life, 0) + untold
    return usage


def with_negatives(usage: Usage, counts: Counts) -> Usage:
    """
    *usage* as it was reported: counts below zero in the place of what else is told of their meters.
    """
    below = {name[1:]: quantity for name, quantity in counts.items() if quantity < 0}
    return {**usage, **below}


def _apart(report: Counts, other: Counts) -> Counts:
    # A plain input count that equals the other's input and cache together is the same
    # prompt told as one sum: both would count the cached part twice.
    if _tells_cache(report) or not _tells_cache(other) or INPUT_TOKENS not in other:
        return report
    if report.get(INPUT_TOKENS) != other[INPUT_TOKENS] + _cached(other):
        return report
    return {name: quantity for name, quantity in report.items() if name != INPUT_TOKENS}


def _tells_cache(counts: Counts) -> bool:
    return not _CACHE_NAMES.isdisjoint(counts)


def _cached(counts: Counts) -> int:
    by_life = counts.get(CACHE_WRITE_5M, 0) + counts.get(CACHE_WRITE_1H, 0)
    return counts.get(CACHE_READ, 0) + max(counts.get(CACHE_WRITE, 0), by_life)


def _read(structure: Mapping[str, Any], names: Mapping[str, str], counts: dict[str, int]) -> None:
    for field, value in structure.items():
        name = names.get(field)
        if name is not None:
            quantity = value if type(value) is int else count(value)  # every reply comes by
            if quantity is not None:
                if quantity < 0:
                    quantity = _note_negative(counts, name, quantity)
                known = counts.get(name)
                if known is None:
                    counts[name] = quantity
                elif quantity != known:
                    counts[name] = max(quantity, known)
                    counts[CONTRADICTIONS] = 1


def _read_sum(structures: list[Any], names: Mapping[str, str], counts: dict[str, int]) -> None:
    """
    As `_read`, of a list: the sum of its structures is one count.
    """
    sums: dict[str, int] = {}
    for structure in structures:
        for field, name in names.items():
            quantity = count(at(structure, (field,)))
            if quantity is not None and quantity < 0:
                quantity = _note_negative(counts, name, quantity)
            if quantity is not None:
                sums[field] = sums.get(field, 0) + quantity
    _read(sums, names, counts)


def _note_negative(counts: dict[str, int], name: str, quantity: int) -> int:
    below = f"-{_METERS_OF.get(name, name)}"
    counts[below] = min(quantity, counts.get(below, 0))
    counts[NEGATIVES] = 1
    return 0


def count(value: object) -> int | None:
    """
    A count as JSON or a header writes it, below zero too, or None where it is none.
    """
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and len(value) <= _LONGEST_COUNT:
        return int(value) if value.isdecimal() or (value[:1] == "-" and value[1:].isdecimal()) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None
