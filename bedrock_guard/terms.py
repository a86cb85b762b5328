"""
The terms on which calls of a model are made: what their plans have alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bedrock_guard.budgets.matching import Match
from bedrock_guard.domain.call import ROUTER, Call, ModelRef
from bedrock_guard.domain.cost import PriceBasis
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    CACHE_READ,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
    total_input,
)
from bedrock_guard.estimators.bound import Room
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.price_list import UnitPrices

_LIST: Final[PriceBasis] = "list"


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What calls have alike that ask for one model, in one way: found once, and not for each.

    Attributes:
        since, until: When they hold, seconds since 1970.
        room: What the model takes and gives at most; None where a flat price says what a call costs.
        prices: What its meters cost; None without a price.
        dearer: By which prices a bound may come to most: those, and of a tier that may be full the default's.
        fallback: What a meter costs that has no price; None where such a call is refused.
        tags: Of a call that has none but the guard's.
        matches: The balances of such a call; None where they were not looked for.
        has_own_prices: Whether the account's own prices may be among them.
        rates: List prices of one unit of every meter that a usual call can use, in steps of 1e-16 USD, for
            calls of at most *most_tokens*; None where other prices may hold, too.
        blank: An entry, as far as it is the same for all.
    """

    since: float
    until: float
    room: Room | None
    prices: UnitPrices | None
    dearer: tuple[UnitPrices, ...]
    fallback: UnitPrices | None
    tags: dict[str, str]
    matches: Sequence[Match] | None
    has_own_prices: bool
    rates: Mapping[str, int] | None
    most_tokens: int
    blank: Entry


def find_rates(
    model: ModelRef, room: Room | None, dearer: Sequence[UnitPrices]
) -> tuple[Mapping[str, int] | None, int]:
    """
    The `rates` of terms without prices of the account's own, and for how many tokens they hold.
    """
    if room is None or len(dearer) != 1 or model.kind == ROUTER:
        return None, 0
    first, *others = dearer[0].bands
    meters = {OUTPUT_TOKENS}.union(*room.cached.values())
    if not meters <= first.prices.keys():
        return None, 0
    return first.prices, others[0].above_input_tokens if others else sys.maxsize


def find_worst(
    terms: Terms, alternatives: Sequence[Usage]
) -> tuple[Usage, UnitPrices | None, int | None, PriceBasis]:
    """
    The dearest of *alternatives*, by which prices it is that, what it costs, and whether at its own prices.

    Raises:
        UnpricedModel: A meter has no price, and such calls are refused.
    """
    worst, worst_prices, most, priced = alternatives[0], terms.prices, -1, _LIST
    if worst_prices is None:
        return worst, None, None, _LIST
    for each in terms.dearer:
        # No list price is so that a read costs more; one of the account's own may be.
        for usage in _with_dear_reads(alternatives, each) if terms.has_own_prices else alternatives:
            money, basis = nanousd(usage, each, dearest=terms.fallback)
            if money > most:
                worst, worst_prices, most, priced = usage, each, money, basis
    return worst, worst_prices, most, priced


def blank_entry(call: Call, *, has_own_prices: bool) -> Entry:
    """
    The entry of a call as it is open, as far as it is the same for all of its model, tier and place.
    """
    model = call.model
    return Entry.opened(
        {
            "id": "",
            "at_s": 0.0,
            "operation": call.operation,
            "model_id": model.model_id,
            "model": model.model,
            "family": call.family,
            "region": call.region,
            "service_tier": call.service_tier,
            "latency": call.latency,
            "tags": {},
            "basis": "estimated",
            "has_own_prices": has_own_prices,
        }
    )


def _with_dear_reads(alternatives: Sequence[Usage], prices: UnitPrices) -> Sequence[Usage]:
    """
    *alternatives*, and one more where reading a prompt from a cache costs more than sending it.
    """
    for band in prices.bands:
        if band.prices.get(CACHE_READ, 0) > band.prices.get(INPUT_TOKENS, 0):
            first = alternatives[0]
            rest = {meter: most for meter, most in first.items() if meter not in ALL_INPUT_METERS}
            return [*alternatives, {CACHE_READ: total_input(first), **rest}]
    return alternatives
