"""
Usage x unit prices -> cost: integers only, rounded up once.

The whole call is priced in one band, by all tokens sent, cached or not. A meter
that was used and has no price is never free: it raises, or is charged at a
dearest price that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Mapping

from bedrock_guard.domain.cost import PRICE_STEPS_PER_NANOUSD, Charge, Cost, PriceBasis, round_up
from bedrock_guard.domain.usage import Usage, total_input
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.unit_prices import UnitPrices


def nanousd(usage: Usage, prices: UnitPrices, *, dearest: UnitPrices | None = None) -> tuple[int, PriceBasis]:
    """
    What *usage* costs, and whether at its own prices: `cost` without its lines.

    Raises:
        UnpricedModel: As `cost`.
    """
    bands = prices.bands
    rates = bands[0].prices
    if len(bands) > 1 and sum(usage.values()) > bands[1].above_input_tokens:
        rates = rates_for(usage, prices)
    steps = 0
    try:
        for meter, quantity in usage.items():
            if quantity > 0:
                steps += quantity * rates[meter]
    except KeyError:
        bounded = cost(usage, prices, dearest=dearest)
        return bounded.nanousd, bounded.priced
    return -(-steps // PRICE_STEPS_PER_NANOUSD), "upper_bound" if prices is dearest else "list"


def cost(usage: Usage, prices: UnitPrices, *, dearest: UnitPrices | None = None) -> Cost:
    """
    What *usage* costs, line by line; a meter of which nothing was used has none.

    It says `"upper_bound"` where *dearest* was needed, or is all there is.

    Raises:
        UnpricedModel: A used meter has no price, not in *dearest* either.
    """
    rates = rates_for(usage, prices)
    bounds = {} if dearest is None else rates_for(usage, dearest)
    charges: list[Charge] = []
    steps = 0
    priced: PriceBasis = "upper_bound" if prices is dearest else "list"
    for meter, quantity in usage.items():
        if quantity <= 0:
            continue
        rate = rates.get(meter)
        if rate is None:
            rate, priced = _bound(meter, bounds, prices), "upper_bound"
        charges.append(Charge(meter, quantity, rate))
        steps += quantity * rate
    return Cost(round_up(steps), tuple(charges), priced)


def rates_for(usage: Usage, prices: UnitPrices) -> Mapping[str, int]:
    """
    The price of one unit of each meter, in the band that the whole of *usage* is priced in.
    """
    bands = prices.bands
    # All quantities together are quicker to add than the input meters, and not less.
    if len(bands) == 1 or sum(usage.values()) <= bands[1].above_input_tokens:
        return bands[0].prices
    tokens = total_input(usage)
    return next(
        band for band in reversed(bands) if tokens > band.above_input_tokens or band is bands[0]
    ).prices


def _bound(meter: str, bounds: Mapping[str, int], prices: UnitPrices) -> int:
    rate = bounds.get(meter)
    if rate is None:
        raise UnpricedModel(
            f"No price for {meter} of {prices.model!r} in {prices.region or 'any region'}, "
            f"tier {prices.service_tier}. Name one under [prices], or set on_unpriced."
        )
    return rate
