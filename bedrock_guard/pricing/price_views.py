"""
A price list to be looked at: where each price is from, and how two lists differ.

Nothing here is on a call's way; a call asks `PriceList.find`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NamedTuple

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.price_rule import PriceRule
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.meters import ANY_MODEL
from bedrock_guard.pricing.own_prices import OwnPrices, rule_of
from bedrock_guard.pricing.places import IN_REGION, find_places, split_place
from bedrock_guard.pricing.price_list import PriceList, day_of
from bedrock_guard.pricing.rows import DERIVED, OPTIMIZED, STANDARD, ModelPrices, Origin
from bedrock_guard.pricing.unit_prices import UnitPrices

# The most that one of a price's sources can be trusted for; best first.
_GRADES: Final = ("AWS-row", "AWS-page", "run", "3p", "inferred")
_WORKED_OUT: Final = Origin("packaged", DERIVED)
_OWN: Final = Origin("own", "settings")


@dataclass(frozen=True, slots=True)
class PricedMeter:
    """
    One meter's price, and where it is from.

    Attributes:
        unit_price: In steps of 1e-16 USD.
        is_bound: Whether it is not a row of the list but worked out from one, and not below it.
        grade: What its best source can be trusted for.
    """

    meter: str
    above_input_tokens: int
    unit_price: int
    is_bound: bool
    origin: Origin
    grade: str


class Difference(NamedTuple):
    """
    A price that two lists do not agree on; None where one has no price of its own.
    """

    model: str
    place: str
    variant: str
    above_input_tokens: int
    meter: str
    before: int | None
    after: int | None


class _Listed(NamedTuple):
    steps: int | None
    own: int | None


_NONE: Final = _Listed(None, None)


def explain(
    prices: PriceList,
    model: ModelRef,
    *,
    region: str | None,
    service_tier: str = STANDARD,
    latency: str = "standard",
    at: datetime | None = None,
) -> tuple[UnitPrices, list[PricedMeter]]:
    """
    What `PriceList.find` gives, meter by meter, with the row behind each.

    Raises:
        UnpricedModel: As `PriceList.find`.
    """
    found = prices.find(model, region=region, service_tier=service_tier, latency=latency, at=at)
    known, beside = prices.model_prices(model), prices.any_model_prices()
    assert known is not None  # else there was no price  # noqa: S101
    day = date.max if at is None else day_of(at)
    region = region or model.region
    asked = {service_tier, OPTIMIZED if latency == OPTIMIZED else service_tier}
    places = find_places(known.places, model.geography, region)
    everywhere = find_places(beside.places, IN_REGION, region)
    standard = _origins(known, places, (STANDARD,), day)
    own = _origins(known, places, asked, day)
    # What costs the same with every model is told once, after the model's own.
    shared = _origins(beside, everywhere, (STANDARD,), day)
    shown: list[PricedMeter] = []
    last: list[PricedMeter] = []
    for band in found.bands:
        above = band.above_input_tokens
        for meter, steps in sorted(band.prices.items()):
            as_standard = standard if meter not in found.derived else {}
            beside_it = shared.get((0, meter, steps))
            origin = own.get((above, meter, steps)) or beside_it or as_standard.get((above, meter, steps))
            origin = origin or _WORKED_OUT
            is_bound = meter in found.derived or origin.source.startswith(DERIVED)
            grade = grade_of(prices, origin.source)
            if not above or beside_it is None:
                told = PricedMeter(meter, above, steps, is_bound, origin, grade)
                (shown if beside_it is None else last).append(told)
    return found, shown + last


def explain_own(
    prices: PriceList,
    own: OwnPrices,
    model: ModelRef,
    *,
    region: str | None,
    service_tier: str = STANDARD,
    latency: str = "standard",
    at: datetime | None = None,
) -> tuple[UnitPrices, list[PricedMeter]]:
    """
    The same as this account pays it: what its own rules price has the layer `"own"`.

    Raises:
        UnpricedModel: Neither the list nor the account has a price.
    """
    region = region or model.region
    listed = standard = None
    told: list[PricedMeter] = []
    try:
        listed, told = explain(
            prices, model, region=region, service_tier=service_tier, latency=latency, at=at
        )
        standard = prices.find(model, region=region, at=at)
    except UnpricedModel:
        if not own.rules_for(model):
            raise
    found = own.apply(model, listed, standard, beside=prices.any_model(region))
    if found is None:
        raise UnpricedModel(f"No price for {model.model_id!r} in {region or 'any region'}.")
    known = {(each.above_input_tokens, each.meter): each for each in told}
    if listed is None:
        shared = prices.any_model_prices()
        known = {
            (0, meter): PricedMeter(meter, 0, steps, is_bound=False, origin=origin, grade=grade)
            for (_, meter, steps), origin in _origins(
                shared, find_places(shared.places, IN_REGION, region), (STANDARD,), date.max
            ).items()
            for grade in (grade_of(prices, origin.source),)
        }
    paid = _as_paid(found, known, own.rules_for(model))
    return found, sorted(paid, key=lambda each: each.meter in ANY_MODEL)


def _as_paid(
    found: UnitPrices, known: Mapping[tuple[int, str], PricedMeter], rules: Mapping[str, PriceRule]
) -> Iterator[PricedMeter]:
    for band in found.bands:
        above = band.above_input_tokens
        own = {meter for meter in band.prices if rule_of(rules, meter) is not None}
        for meter in sorted(band.prices):
            if meter in own and not (above and meter in ANY_MODEL):
                is_bound = meter in found.derived
                yield PricedMeter(meter, above, band.prices[meter], is_bound, _OWN, "own")
            elif (above, meter) in known:
                yield known[above, meter]


def grade_of(prices: PriceList, source: str) -> str:
    """
    The best grade among the sources that a price names; "none" where none has one.
    """
    grades = {prices.grades.get(name, "none") for name in source.split()}
    return next((grade for grade in _GRADES if grade in grades), "none")


def find_at(
    prices: PriceList, model: str, place: str, variant: str, at: datetime | None = None
) -> UnitPrices | None:
    """
    What a model costs at one place of the list; None where it has no price.
    """
    geography, region = split_place(place)
    ref = ModelRef(model, "foundation-model", model, model.partition(".")[0], geography)
    is_optimized = variant == OPTIMIZED
    try:
        return prices.find(
            ref,
            region=region,
            service_tier=STANDARD if is_optimized else variant,
            latency=OPTIMIZED if is_optimized else "standard",
            at=at,
        )
    except UnpricedModel:
        return None


def find_differences(before: PriceList, after: PriceList) -> Iterator[Difference]:
    """
    Every price that differs between two lists, at the places that either has.
    """
    for model in sorted({*before.models(), *after.models()}):
        ref = ModelRef(model, "foundation-model", model, model.partition(".")[0])
        known = [prices.model_prices(ref) for prices in (before, after)]
        if known[0] == known[1]:
            continue
        rows = [() if each is None else each.rows for each in known]
        for place in sorted({place for each in rows for row in each for place in row.where}):
            one_place, other_place = ([row for row in each if place in row.where] for each in rows)
            # The rest of a place's prices are those of other places, which are told there.
            if one_place == other_place:
                continue
            for variant in dict.fromkeys(row.variant for row in (*one_place, *other_place)):
                was, now = (_prices_at(prices, model, place, variant) for prices in (before, after))
                for above, meter in sorted({*was, *now}):
                    one, other = was.get((above, meter), _NONE), now.get((above, meter), _NONE)
                    # A bound that turned out to be the price is no news.
                    if one.steps != other.steps and (one.own, other.own) != (None, None):
                        yield Difference(model, place, variant, above, meter, one.own, other.own)


def _origins(
    known: ModelPrices, places: Iterable[str], variants: Iterable[str], day: date
) -> dict[tuple[int, str, int], Origin]:
    return {
        (row.above_input_tokens, meter, steps): row.origins[meter]
        for place in places
        for variant in variants
        for row in known.find(place, variant, day)
        for meter, steps in row.prices.items()
    }


def _prices_at(prices: PriceList, model: str, place: str, variant: str) -> dict[tuple[int, str], _Listed]:
    found = find_at(prices, model, place, variant)
    if found is None:
        return {}
    beside = prices.any_model().bands[0].prices
    return {
        (band.above_input_tokens, meter): _Listed(steps, None if meter in found.derived else steps)
        for band in found.bands
        for meter, steps in band.prices.items()
        if meter not in beside
    }
