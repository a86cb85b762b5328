"""
One request, bounded and priced as a guard would before it is sent, and put beside budgets of which nothing
is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import Output
from bedrock_guard.domain.budget import in_api_units
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.cost import Cost
from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.domain.usage import Usage
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.holding import read_given
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.open_call import open_entry
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.calculate import cost
from bedrock_guard.pricing.price_views import PricedMeter, explain_own

_HOLD_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """
    One balance that the request counts towards.

    Attributes:
        budget: The budget's name.
        per: The tag values of the balance, sorted.
        limit: As it is written: `"5 USD/day"`.
        unit: `"USD"`, or what is counted.
        amount: What the request holds of it; USD as `Decimal`, counts as `int`.
        most: The most that the balance holds; of a rate, its burst.
        fits: Whether there is room for it while nothing is spent.
        enforced: False for a soft limit, and in a shadow: it refuses nothing.
    """

    budget: str
    per: tuple[tuple[str, str], ...]
    limit: str
    unit: str
    amount: Decimal | int
    most: Decimal | int
    fits: bool
    enforced: bool


@dataclass(frozen=True, slots=True)
class RequestEstimate:
    """
    The most that a request can use and cost.

    Attributes:
        usage: By meter: of the ways it can fall, the dearest.
        cost: With a line for each meter; None without a price, where `on_unpriced` is `"allow"`.
        prices: Of each meter that is used and has a price, where that is from.
        output: What a smaller limit on output would save; None where there is none.
        fits: A line for each budget that it counts towards.
    """

    call: Call
    usage: Usage
    cost: Cost | None
    prices: Mapping[str, PricedMeter]
    output: Output | None
    fits: tuple[Fit, ...]


def estimate_request(
    planner: Planner, operation: str, params: Mapping[str, Any], *, region: str, now: float
) -> RequestEstimate:
    """
    The most that a call of *operation* with *params* can use and cost.

    Raises:
        ConfigurationError: The operation is not a billed one, or no model is named.
        UnpricedModel: The model has no price.
    """
    _, call = read_given(planner, operation, params, region)
    plan = planner.plan(call, now)
    prices = plan.worst_prices
    money = None if prices is None else cost(plan.worst, prices, dearest=planner.prices.dearest())
    return RequestEstimate(
        plan.call,
        plan.worst,
        money,
        {} if money is None else _origins(planner, plan, money),
        planner.output(plan),
        tuple(_fits(planner, plan, now)),
    )


def _origins(planner: Planner, plan: Plan, money: Cost) -> dict[str, PricedMeter]:
    """
    Where the prices of *money* are from; of the dearest of the list nothing is told.
    """
    call, prices = plan.call, plan.worst_prices
    assert prices is not None  # else there is no money  # noqa: S101
    try:
        _, told = explain_own(
            planner.prices,
            planner.own,
            planner.resolve(call.model) or call.model,
            region=call.region,
            service_tier=prices.service_tier,
            latency=prices.latency,
            at=plan.at,
        )
    except UnpricedModel:
        return {}
    known = {(each.meter, each.unit_price): each for each in told}
    found = {charge.meter: known.get((charge.meter, charge.unit_price)) for charge in money.charges}
    return {meter: each for meter, each in found.items() if each is not None}


def _fits(planner: Planner, plan: Plan, now: float) -> Iterable[Fit]:
    for match, line in zip(plan.matches, plan.lines(), strict=True):
        yield Fit(
            match.budget.name,
            match.key.per,
            str(match.budget.limit_of(match.key.per)),
            match.unit,
            in_api_units(line.amount, match.unit),
            in_api_units(match.limit, match.unit),
            _has_room(plan, match, line, now),
            planner.matcher.enforces(match.budget),
        )


def _has_room(plan: Plan, match: Match, line: Line, now: float) -> bool:
    # By the ledger's own rule, of windows, rolling ones and rates alike.
    ledger = MemoryLedger(clock=lambda: now)
    answer = ledger.reserve(
        [line._replace(enforce=True)],
        entry=open_entry(match.budget.name, now, plan),
        hold_s=_HOLD_S,
        on_expiry="release",
    )
    return isinstance(answer, Reservation)
