"""
One price list over another: the packaged prices of a model, and those of an overlay.

What the overlay has at a place is laid over what the packaged list would charge
there, meter by meter and day by day. What it lacks stays as packaged: an overlay
without an output price must not make output unpriced. Where it knows one band of
two, `offers` sees to it that a long request costs no less than a short one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise, product
from typing import NamedTuple

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.pricing.offers import US_GOV, VARIANTS, Ratio
from bedrock_guard.pricing.places import find_places, is_us_gov, split_place
from bedrock_guard.pricing.rows import OPTIMIZED, STANDARD, ModelPrices, Origin, Row


class _Price(NamedTuple):
    steps: int
    is_derived: bool
    origin: Origin


def merge(model: str, packaged: ModelPrices | None, overlay: Sequence[Row]) -> ModelPrices:
    """
    *packaged* with the rows of an overlay laid over it, from the day on which each takes effect.
    """
    below = packaged or ModelPrices(model, ModelLimits(), ())
    places = sorted({place for row in overlay for place in row.where})
    kept = (
        replace(row, where=where)
        for row in below.rows
        if (where := tuple(place for place in row.where if place not in places))
    )
    laid = (row for place in places for row in _Place(place, below, overlay).rows())
    return ModelPrices(model, below.limits, (*kept, *laid))


class _Place:
    """
    The two layers of a model at one place.
    """

    def __init__(self, place: str, below: ModelPrices, overlay: Sequence[Row]) -> None:
        geography, region = split_place(place)
        places = find_places(below.places, geography, region) if below.rows else ()
        self._place = place
        self._over = [row for row in overlay if place in row.where]
        self._below = [[row for row in below.rows if each in row.where] for each in places]
        self._is_dearer = is_us_gov(place) and not any(is_us_gov(each) for each in places)

    def rows(self) -> Iterator[Row]:
        every = [row for rows in (*self._below, self._over) for row in rows]
        starts = {row.effective_from for row in every} | {row.effective_to for row in every}
        days = [date.min, *sorted(day for day in starts if day is not None), date.max]
        bands = sorted({row.above_input_tokens for row in every})
        for variant, above in product(dict.fromkeys(row.variant for row in every), bands):
            for start, end in pairwise(days):
                prices = self._on(start, variant, above)
                if prices:
                    yield Row(
                        where=(self._place,),
                        variant=variant,
                        above_input_tokens=above,
                        effective_from=None if start == date.min else start,
                        effective_to=None if end == date.max else end,
                        prices={meter: price.steps for meter, price in prices.items()},
                        derived=frozenset(meter for meter, price in prices.items() if price.is_derived),
                        origins={meter: price.origin for meter, price in prices.items()},
                    )

    def _on(self, day: date, variant: str, above: int) -> dict[str, _Price]:
        prices = self._packaged_on(day, variant, above)
        for row in self._over:
            if (row.variant, row.above_input_tokens) == (variant, above) and row.holds_on(day):
                for meter, price in _prices(row).items():
                    if not _is_newer(prices.get(meter), price):
                        prices[meter] = price
        return prices

    def _packaged_on(self, day: date, variant: str, above: int) -> dict[str, _Price]:
        own = [_held(rows, day, variant, above) for rows in self._below]
        # A meter that one place has in this tier, and another only as standard, is the dearer of them.
        bounds = [_bounds(rows, day, variant, above) for rows in self._below]
        every = [{**bound, **held} for bound, held in zip(bounds, own, strict=True)]
        prices = {
            meter: _dearest([each[meter] for each in every if meter in each])
            for meter in {meter: None for held in own for meter in held}
        }
        if self._is_dearer:
            return {
                meter: price._replace(steps=US_GOV.of(price.steps), is_derived=True)
                for meter, price in prices.items()
            }
        return prices


def _dearest(prices: Sequence[_Price]) -> _Price:
    """
    The dearest; a bound where they differ.
    """
    dearest = max(prices, key=lambda price: price.steps)
    is_chosen = any(price.steps != dearest.steps for price in prices)
    return dearest._replace(is_derived=dearest.is_derived or is_chosen)


def _bounds(rows: Sequence[Row], day: date, variant: str, above: int) -> dict[str, _Price]:
    """
    What a tier costs at a place that has no row of it: as `offers` works it out.
    """
    if variant == STANDARD or variant not in VARIANTS:
        return {}
    is_fallback = variant == OPTIMIZED and not any(row.variant == OPTIMIZED for row in rows)
    ratio = Ratio(1) if is_fallback else VARIANTS[variant]
    return {
        meter: price._replace(steps=ratio.of(price.steps), is_derived=True)
        for meter, price in _held(rows, day, STANDARD, above).items()
    }


def _held(rows: Sequence[Row], day: date, variant: str, above: int) -> dict[str, _Price]:
    return {
        meter: price
        for row in rows
        if (row.variant, row.above_input_tokens) == (variant, above) and row.holds_on(day)
        for meter, price in _prices(row).items()
    }


def _prices(row: Row) -> dict[str, _Price]:
    return {
        meter: _Price(steps, meter in row.derived, row.origins[meter]) for meter, steps in row.prices.items()
    }


def _is_newer(below: _Price | None, over: _Price) -> bool:
    """
    Whether the packaged price began after the overlay's list was published.
    """
    start = below.origin.effective_from if below is not None else None
    return start is not None and over.origin.published is not None and start > over.origin.published
