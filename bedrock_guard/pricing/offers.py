"""
What a model costs at one place, and the dearest of several.

Where the list has no row there is a bound, marked as derived: the ratios here
are those of every row that could be measured, or above them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final, NamedTuple

from bedrock_guard.domain.usage import CACHE_READ, CACHE_WRITE_1H, CACHE_WRITE_5M, INPUT_TOKENS
from bedrock_guard.pricing.rows import OPTIMIZED, STANDARD, ModelPrices, Row


class Ratio(NamedTuple):
    """
    An exact fraction; prices are multiplied by it and rounded up.
    """

    over: int
    under: int = 1

    def of(self, price: int) -> int:
        """
        *price* times this, rounded up to a whole step.
        """
        return -(-price * self.over // self.under)


# What a meter costs in a variant that the list has no row for, in terms of its standard price.
VARIANTS: Final[dict[str, Ratio]] = {
    STANDARD: Ratio(1),
    "batch": Ratio(1),
    "flex": Ratio(1),
    # Prepaid; what overflows is charged at standard rates.
    "reserved": Ratio(1),
    "priority": Ratio(7, 4),
    OPTIMIZED: Ratio(5, 4),
}
_LATENCIES: Final = ("standard", OPTIMIZED)
# What cached tokens cost where the list does not say, in terms of uncached ones.
CACHES: Final[dict[str, Ratio]] = {
    CACHE_READ: Ratio(1),
    CACHE_WRITE_5M: Ratio(5, 4),
    CACHE_WRITE_1H: Ratio(2),
}
# AWS GovCloud (US) over the commercial regions, for models that the list has no GovCloud row of.
US_GOV: Final = Ratio(6, 5)


@dataclass(frozen=True, slots=True)
class Offer:
    """
    Bands of prices: above so many input tokens -> meter -> steps of 1e-16 USD.
    """

    bands: dict[int, dict[str, int]]
    derived: frozenset[str]

    def at(self, above_input_tokens: int) -> dict[str, int]:
        """
        The band that a call just above *above_input_tokens* is in.
        """
        return self.bands[max(above for above in self.bands if above <= above_input_tokens)]


def read_offer(model: ModelPrices, place: str, *, service_tier: str, latency: str, day: date) -> Offer | None:
    """
    What *model* costs at *place* on *day*; None where the list has no standard price
    there, or does not know the tier or latency.

    Optimized latency without a row is standard: AWS falls back to it and charges it.
    """
    standard = model.find(place, STANDARD, day)
    if not standard or latency not in _LATENCIES:
        return None
    offers = []
    for variant in _variants(service_tier, latency):
        rows = model.find(place, variant, day)
        if not rows and variant == OPTIMIZED:
            continue
        if not rows and variant not in VARIANTS:
            return None
        offers.append(_complete(_merge(standard, rows, VARIANTS.get(variant, Ratio(1)))))
    return dearest(offers or [_complete(_merge(standard, standard, Ratio(1)))])


def dearest(offers: Sequence[Offer]) -> Offer:
    """
    The dearest price of every meter in every band; derived where the offers differ.
    """
    if len(offers) == 1:
        return offers[0]
    derived = {meter for offer in offers for meter in offer.derived}
    bands: dict[int, dict[str, int]] = {}
    for above in sorted({above for offer in offers for above in offer.bands}):
        choices = [offer.at(above) for offer in offers]
        band = bands[above] = {}
        for meter in {meter: None for prices in choices for meter in prices}:
            prices = {prices[meter] for prices in choices if meter in prices}
            band[meter] = max(prices)
            if len(prices) > 1:
                derived.add(meter)
    return Offer(bands, frozenset(derived))


def times(offer: Offer, ratio: Ratio) -> Offer:
    """
    *offer* with every price multiplied; all of it derived.
    """
    bands = {
        above: {meter: ratio.of(price) for meter, price in prices.items()}
        for above, prices in offer.bands.items()
    }
    return Offer(bands, frozenset(meter for prices in bands.values() for meter in prices))


def _variants(service_tier: str, latency: str) -> Iterable[str]:
    """
    Which rows could price the call; none stands for the standard ones.
    """
    if service_tier != STANDARD:
        yield service_tier
    if latency == OPTIMIZED:
        yield OPTIMIZED


def _merge(standard: Sequence[Row], rows: Sequence[Row], ratio: Ratio) -> Offer:
    own = {row.above_input_tokens: row.prices for row in rows}
    derived = {meter for row in rows for meter in row.derived}
    bands: dict[int, dict[str, int]] = {}
    for row in standard:
        prices = dict(own.get(row.above_input_tokens, {}))
        for meter, price in row.prices.items():
            if meter not in prices:
                prices[meter] = ratio.of(price)
                derived.add(meter)
        bands[row.above_input_tokens] = prices
    return Offer(dict(sorted(bands.items())), frozenset(derived))


def _complete(offer: Offer) -> Offer:
    # Once more at the end: a cache price may be told in one band, and worked out in another.
    return _level(_fill_caches(_level(offer)))


def _level(offer: Offer) -> Offer:
    """
    A long request never costs less than a short one, though a list may know one band of two.

    A meter that is missing from a band is as much above its price in the band below as input is.
    """
    derived = set(offer.derived)
    bands = list(offer.bands.values())
    for below, prices in pairwise(bands):
        ratio = _input_ratio(below, prices)
        for meter, price in below.items():
            least = price if meter in prices else ratio.of(price)
            if prices.get(meter, -1) < least:
                prices[meter] = least
                derived.add(meter)
    return Offer(offer.bands, frozenset(derived))


def _input_ratio(below: Mapping[str, int], above: Mapping[str, int]) -> Ratio:
    lower, higher = below.get(INPUT_TOKENS), above.get(INPUT_TOKENS)
    return Ratio(higher, lower) if lower and higher and higher > lower else Ratio(1)


def _fill_caches(offer: Offer) -> Offer:
    derived = set(offer.derived)
    for prices in offer.bands.values():
        price = prices.get(INPUT_TOKENS)
        for meter, ratio in CACHES.items():
            if price is not None and meter not in prices:
                prices[meter] = ratio.of(price)
                derived.add(meter)
    return Offer(offer.bands, frozenset(derived))
