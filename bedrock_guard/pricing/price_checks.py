"""
What is odd about a price list: its age, what it lacks, and prices that contradict each other.

Each finding is worth a look; none is wrong for sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
)
from bedrock_guard.pricing.freshness import age_warning
from bedrock_guard.pricing.places import CALLED_FROM, GLOBAL, IN_REGION, is_region, is_us_gov
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.rows import STANDARD, ModelPrices, Row

FindingKind: TypeAlias = Literal["age", "gap", "contradiction"]


class Finding(NamedTuple):
    """
    One thing to look at.
    """

    kind: FindingKind
    text: str


def check_prices(prices: PriceList, today: date) -> Iterator[Finding]:
    """
    Everything that is odd about *prices* as they are on *today*.
    """
    age = age_warning(prices.as_of, today)
    if age is not None:
        days = (today - prices.as_of).days
        yield Finding("age", f"The price list of {prices.as_of} is {age}: {days} days. Sync or upgrade.")
    for model in prices.models():
        ref = ModelRef(model, "foundation-model", model, model.partition(".")[0])
        known = prices.model_prices(ref)
        if known is not None:
            rows = [row for row in known.rows if row.holds_on(today)]
            yield from (Finding("gap", text) for text in _gaps(prices, known, rows))
            yield from (Finding("contradiction", text) for text in _contradictions(known, rows))


def _gaps(prices: PriceList, known: ModelPrices, rows: list[Row]) -> Iterator[str]:
    if not any(row.variant == STANDARD for row in rows):
        yield f"{known.model}: has no standard price"
    for row in rows:
        is_base = row.variant == STANDARD and not row.above_input_tokens
        generates = known.limits.max_output_tokens is not None and INPUT_TOKENS in row.prices
        if is_base and generates and OUTPUT_TOKENS not in row.prices:
            yield f"{known.model} {', '.join(row.where)}: has an input price and no output price"
        unnamed = {name for origin in row.origins.values() for name in origin.source.split()}
        for name in sorted(unnamed - set(prices.grades)):
            yield f"{known.model} {', '.join(row.where)}: source {name!r} has no grade"


def _contradictions(known: ModelPrices, rows: list[Row]) -> Iterator[str]:
    lowest = {(place, row.variant): row for row in rows for place in row.where if not row.above_input_tokens}
    for row in rows:
        name = f"{known.model} {', '.join(row.where)} {row.variant} above {row.above_input_tokens}"
        taken = row.prices.get(INPUT_TOKENS)
        if taken is not None:
            if row.prices.get(OUTPUT_TOKENS, taken) < taken:
                yield f"{name}: output is cheaper than input"
            if row.prices.get(CACHE_READ, taken) > taken:
                yield f"{name}: cached input is dearer than input"
            if any(row.prices.get(meter, taken) < taken for meter in (CACHE_WRITE_5M, CACHE_WRITE_1H)):
                yield f"{name}: writing to the cache is cheaper than input"
        homes = list(_homes(row, lowest))
        for meter, steps in row.prices.items():
            if any(home.prices.get(meter, steps) < steps for home in homes):
                yield f"{name}: {meter} is dearer globally than in the region"


def _homes(row: Row, lowest: Mapping[tuple[str, str], Row]) -> Iterator[Row]:
    """
    What the global prices in *row* are not to be dearer than: those of the region that the profile is
    called from, else those of any region, else those of each geography.
    """
    places = [] if row.above_input_tokens else [place for place in row.where if place.startswith(GLOBAL)]
    geographies = [
        place
        for place, variant in lowest
        if variant == row.variant
        and not (is_region(place) or is_us_gov(place) or CALLED_FROM in place or place == GLOBAL)
    ]
    for place in places:
        region = place.partition(CALLED_FROM)[2]
        sure = next(
            (lowest[key] for each in (region, IN_REGION) if (key := (each, row.variant)) in lowest), None
        )
        yield from [sure] if sure is not None else (lowest[each, row.variant] for each in geographies)
