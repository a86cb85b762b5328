"""
Whether a new price list can be believed: how far prices moved, and how they relate.

AWS has cut prices and will again; but a price that is too low lets money through,
so a large move waits until someone says that it is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.usage import CACHE_READ, INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.pricing.listed_rows import Key, Value
from bedrock_guard.pricing.places import GLOBAL, places_of_region
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_views import find_at
from bedrock_guard.pricing.rows import show_price

Change: TypeAlias = Literal["new", "changed", "unchanged"]


class Price(NamedTuple):
    """
    A price in force, and whether it is only a bound.
    """

    steps: int
    is_derived: bool


class Move(NamedTuple):
    """
    What became of one price.

    Attributes:
        before: In steps of 1e-16 USD; None where the list had no price of its own.
    """

    change: Change
    key: Key
    before: int | None
    after: int
    rate_code: str


def find_moves(prices: Mapping[Key, Value], before: PriceList) -> tuple[list[Move], list[str]]:
    """
    What each price was, and which of them moved too far to be believed unseen.
    """
    moves: list[Move] = []
    held: list[str] = []
    for key, value in sorted(prices.items(), key=lambda item: str(item[0])):
        known = [price for place in key.where if (price := price_at(before, key, place)) is not None]
        own = [price.steps for price in known if not price.is_derived]
        was = max(own, default=None)
        same = all(steps == value.steps for steps in own)
        change: Change = "new" if was is None else "unchanged" if same else "changed"
        moves.append(Move(change, key, was, value.steps, value.rate_code))
        held += _too_far(key, value.steps, own, [price.steps for price in known if price.is_derived])
    return moves, held


def find_contradictions(moves: Iterable[Move], before: PriceList, after: PriceList) -> Iterator[str]:
    """
    Relations that nearly always hold, held before, and would not any more.
    """
    moved = (move.key for move in moves if move.change != "unchanged" and move.key.model is not None)
    groups = {key._replace(meter=INPUT_TOKENS, scope="regional"): None for key in moved}
    for key in groups:
        was = set(_broken(key, before))
        yield from (line for line in _broken(key, after) if line not in was)


def price_at(prices: PriceList, key: Key, place: str, meter: str | None = None) -> Price | None:
    """
    What *prices* has for a key at one of its places; None where it has no such meter or band.
    """
    if key.model is None:
        steps = prices.any_model(key.region).bands[0].prices.get(key.meter)
        return None if steps is None else Price(steps, is_derived=False)
    found = find_at(prices, key.model, place, key.variant)
    meter = meter or key.meter
    bands = () if found is None else found.bands
    band = next((band for band in bands if band.above_input_tokens == key.above_input_tokens), None)
    if found is None or band is None or meter not in band.prices:
        return None
    return Price(band.prices[meter], meter in found.derived)


def _too_far(key: Key, after: int, own: list[int], bounds: list[int]) -> Iterator[str]:
    dearest, cheapest = max(own, default=0), min([*own, *bounds], default=0)
    if dearest and after * 5 < dearest * 4:
        yield f"{key}: falls by more than 20 %, from {show_price(dearest)} to {show_price(after)} USD"
    if cheapest and after > cheapest * 2:
        yield f"{key}: more than doubles, from {show_price(cheapest)} to {show_price(after)} USD"


def _broken(key: Key, prices: PriceList) -> Iterator[str]:
    for place in (*places_of_region(key.region), f"{GLOBAL}@{key.region}"):
        taken = price_at(prices, key, place)
        given = price_at(prices, key, place, OUTPUT_TOKENS)
        cached = price_at(prices, key, place, CACHE_READ)
        name = f"{key.model} {key.variant} above {key.above_input_tokens}, {place}"
        if taken and given and given.steps < taken.steps:
            yield f"{name}: output is cheaper than input"
        if taken and cached and cached.steps > taken.steps:
            yield f"{name}: cached input is dearer than input"
    model = key.model or ""
    known = prices.model_prices(ModelRef(model, "foundation-model", model, model.partition(".")[0]))
    # A model without a global profile has a bound for one, which is the dearest of all.
    is_worldwide = known is not None and any(place.startswith(GLOBAL) for place in known.places)
    for meter in (INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ) if is_worldwide else ():
        home = price_at(prices, key, key.region, meter)
        worldwide = price_at(prices, key, f"{GLOBAL}@{key.region}", meter)
        if home and worldwide and home.steps < worldwide.steps:
            yield f"{key.model} {key.variant}, {key.region}: global is dearer than regional, {meter}"
