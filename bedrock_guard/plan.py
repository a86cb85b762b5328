"""
A plan: what a call may come to, as numbers, and the balances that it counts towards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from bedrock_guard.budgets.matching import Match
from bedrock_guard.domain.budget import REQUESTS, USD, amount_of, in_api_units
from bedrock_guard.domain.call import USUAL_SIZE, Call
from bedrock_guard.domain.cost import PRICE_STEPS_PER_NANOUSD, PriceBasis, usd_from_nanousd
from bedrock_guard.domain.ledger import Line
from bedrock_guard.domain.usage import NOTHING, OUTPUT_TOKENS, Usage
from bedrock_guard.estimators.bound import tokens_of_text
from bedrock_guard.pricing.price_list import UnitPrices
from bedrock_guard.terms import Terms

# Every call makes a plan, and may have ten lines: `Plan()` and `Line()` take twice as long.
new_plan: Final[Callable[[type[Plan], tuple[Any, ...]], Plan]] = tuple.__new__
_new_line: Final[Callable[[type[Line], tuple[Any, ...]], Line]] = tuple.__new__


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    The most that a call can use and cost.

    Attributes:
        usage: Quantities by meter, each input token on the dearest meter it could land on.
        cost: In USD; None when the model has no price and `on_unpriced` is `"allow"`.
        lines: Budget name -> the amount held there, in the budget's unit.
    """

    usage: Usage
    cost: Decimal | None
    lines: Mapping[str, Decimal | int]


class Plan(NamedTuple):
    """
    What a call may come to, before anything is held.

    Attributes:
        at_s: When the call was made, seconds since 1970; prices go by it, `at` is the same as a datetime.
        alternatives: Ways the call's usage can fall; the bound is the worst of them in each unit.
        worst: The dearest of them.
        worst_prices: By which prices it is the dearest.
        nanousd: What that costs; None without a price.
        list_nanousd: The same at list price; None where the list has none.
        priced: Whether those are its own prices, or the dearest of the list.
    """

    call: Call
    at_s: float
    terms: Terms
    tags: Mapping[str, str]
    alternatives: tuple[Usage, ...]
    worst: Usage
    worst_prices: UnitPrices | None
    nanousd: int | None
    list_nanousd: int | None
    priced: PriceBasis
    matches: Sequence[Match]

    @property
    def at(self) -> datetime:
        """
        When the call was made, aware UTC.
        """
        return datetime.fromtimestamp(self.at_s, UTC)

    def lines(self) -> list[Line]:
        """
        What to hold, balance by balance.
        """
        money = self.nanousd or 0
        lines: list[Line] = []
        for match in self.matches:
            amount, unit = money, match.unit
            if unit == REQUESTS:
                amount = 1
            elif unit != USD:
                amount = 0
                for usage in self.alternatives:
                    amount = max(amount, amount_of(unit, nanousd=money, usage=usage))
            if match.special is None:
                lines.append(_new_line(Line, (match.key, match.limit, amount, "window", True, 0, 0)))
            else:
                lines.append(match.line(amount))
        return lines


def usual_plan(
    terms: Terms, call: Call, now: float, tags: Mapping[str, str], matches: Sequence[Match]
) -> Plan | None:
    """
    What `Planner.plan` makes of a call as most are, in one step; None of any other.

    Nothing but tokens is billed, and all of it at list price, in one band of prices and at one tier.
    """
    size, rates, room = call.size, terms.rates, terms.room
    if rates is None or room is None or size[6:] != USUAL_SIZE:
        return None
    tokens, output = tokens_of_text(size, room)
    tokens = min(tokens, room.window)
    if not output or tokens + output > terms.most_tokens:
        return None
    alternatives: list[Usage] = []
    worst, most, rest = NOTHING, -1, output * rates[OUTPUT_TOKENS]
    for meter in room.cached[size.writes_cache]:
        usage = {meter: tokens, OUTPUT_TOKENS: output}
        money = -(-(tokens * rates[meter] + rest) // PRICE_STEPS_PER_NANOUSD)
        if money > most:
            worst, most = usage, money
        alternatives.append(usage)
    prices, ways = terms.prices, tuple(alternatives)
    return new_plan(Plan, (call, now, terms, tags, ways, worst, prices, most, most, "list", matches))


def as_estimate(plan: Plan) -> Estimate:
    """
    A plan as the API shows it.
    """
    lines = zip(plan.matches, plan.lines(), strict=True)
    return Estimate(
        plan.worst,
        None if plan.nanousd is None else usd_from_nanousd(plan.nanousd),
        {match.budget.name: in_api_units(line.amount, match.unit) for match, line in lines},
    )
