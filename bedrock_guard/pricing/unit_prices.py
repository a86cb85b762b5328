"""
What one call's meters cost, all choices made: the nouns that `calculate` works on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class PriceBand:
    """
    The prices of a whole call that sends more than *above_input_tokens* tokens.

    Attributes:
        prices: Meter -> price of one unit, in steps of 1e-16 USD. What is free is
            there, at 0; what is absent has no price.
    """

    above_input_tokens: int
    prices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """
    What a model's meters cost at one place, tier and date.

    Attributes:
        model: The base id that the list knows it by.
        geography, region, service_tier, latency: As they were asked for.
        bands: Ascending; the first is above 0.
        derived: Meters whose price is not a row of the list but a bound that was
            worked out from one, and is not below it.
    """

    model: str
    geography: str
    region: str | None
    service_tier: str
    latency: str
    bands: tuple[PriceBand, ...]
    derived: frozenset[str] = frozenset()

    def in_band_of(self, input_tokens: int) -> UnitPrices:
        """
        These, with the prices of a request of *input_tokens* for all: several are priced one by one, whatever
        they come to together.
        """
        band = next(
            band
            for band in reversed(self.bands)
            if input_tokens > band.above_input_tokens or band is self.bands[0]
        )
        return replace(self, bands=(PriceBand(0, band.prices),))
