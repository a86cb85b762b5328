"""
What a call may come to: its bound, what that costs, and the budgets it counts towards.

Nothing is held here, and nothing is sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from bedrock_guard.budgets.matching import Match, Matcher
from bedrock_guard.budgets.verdict import Output
from bedrock_guard.context import current_scope
from bedrock_guard.domain.budget import USD, amount_of, in_api_units
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.cost import PriceBasis, usd_from_nanousd
from bedrock_guard.domain.ledger import Line
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import OUTPUT_TOKENS, Usage, UsageReport
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.estimators.bound import bound
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.price_list import PriceList, UnitPrices


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


_LIST: Final[PriceBasis] = "list"


class Plan(NamedTuple):
    """
    What a call may come to, before anything is held.

    Attributes:
        at: When the call was made; prices go by it.
        alternatives: Ways the call's usage can fall; the bound is the worst of them in each unit.
        worst: The dearest of them.
        worst_prices: By which prices it is the dearest.
        nanousd: What that costs; None without a price.
        priced: Whether those are its own prices, or the dearest of the list.
    """

    call: Call
    at: datetime
    tags: Mapping[str, str]
    prices: UnitPrices | None
    alternatives: tuple[Usage, ...]
    worst: Usage
    worst_prices: UnitPrices | None
    nanousd: int | None
    priced: PriceBasis
    matches: Sequence[Match]

    def lines(self) -> list[Line]:
        """
        What to hold, balance by balance.
        """
        money = self.nanousd or 0
        return [
            Line(
                match.key,
                match.limit,
                money
                if match.unit == USD
                else max([amount_of(match.unit, nanousd=money, usage=usage) for usage in self.alternatives]),
            )
            for match in self.matches
        ]


class Planner:
    """
    Knows a guard's settings, budgets, prices and tags, and makes plans of calls.
    """

    def __init__(
        self, *, settings: Settings, matcher: Matcher, prices: PriceList, tags: Mapping[str, str]
    ) -> None:
        self.settings = settings
        self.matcher = matcher
        self.prices = prices
        self._tags = dict(tags)

    def plan(self, call: Call, now: float) -> Plan:
        """
        Bound *call*, price the bound, and find its budgets; holds nothing.
        """
        at = datetime.fromtimestamp(now, UTC)
        limits = self.prices.limits(call.model)
        alternatives = bound(call, limits)
        prices = self._find_prices(call, call.service_tier, call.latency, at)
        worst, worst_prices, money, priced = self._worst(call, alternatives, prices, at)
        tags = self._all_tags(call)
        matches = self.matcher.match(tags, now)
        return Plan(call, at, tags, prices, alternatives, worst, worst_prices, money, priced, matches)

    def cost(self, plan: Plan, report: UsageReport) -> tuple[int | None, PriceBasis]:
        """
        The cost of what AWS reported, at the tier that served. It never raises: the money is spent.

        What has no price is charged at the dearest of the list; what not even that
        knows, at the estimate.
        """
        call, prices, dearest = plan.call, plan.prices, self.prices.dearest()
        if prices is None:
            return None, "list"
        try:
            tier, latency = report.service_tier or call.service_tier, report.latency or call.latency
            if tier != call.service_tier or latency != call.latency:
                prices = self._served_prices(plan, tier, latency)
            return nanousd(report.usage, prices, dearest=dearest)
        except UnpricedModel:
            return plan.nanousd, "upper_bound"

    def output(self, plan: Plan) -> Output | None:
        """
        The part of a plan that a smaller `maxTokens` would shrink; None when there is none.
        """
        prices, tokens = plan.worst_prices, plan.worst.get(OUTPUT_TOKENS, 0)
        if prices is None or plan.nanousd is None or not tokens:
            return None
        total, candidates, dearest = plan.nanousd, plan.call.size.candidates, self.prices.dearest()

        def cost_with(limit: int) -> int:
            return nanousd({**plan.worst, OUTPUT_TOKENS: limit * candidates}, prices, dearest=dearest)[0]

        def fitting(room: int) -> int:
            return bisect_right(range(tokens // candidates + 1), room, key=cost_with) - 1

        is_callers = plan.call.size.output_limit is not None
        return Output(tokens // candidates, candidates, is_callers, total - cost_with(0), fitting)

    def _all_tags(self, call: Call) -> dict[str, str]:
        # An end user's metadata must not choose the budget: what is nearer the program wins.
        return {
            **call.request_tags,
            **self._tags,
            **current_scope().tags,
            "model": call.model.model or call.model.model_id,
            "model_id": call.model.model_id,
            "family": call.family,
            "region": call.region,
            "operation": call.operation,
            "service_tier": call.service_tier,
        }

    def _served_prices(self, plan: Plan, service_tier: str, latency: str) -> UnitPrices:
        call = plan.call
        try:
            return self.prices.find(
                call.model, region=call.region, service_tier=service_tier, latency=latency, at=plan.at
            )
        except UnpricedModel:
            return self.prices.dearest()

    def _find_prices(self, call: Call, service_tier: str, latency: str, at: datetime) -> UnitPrices | None:
        try:
            return self.prices.find(
                call.model, region=call.region, service_tier=service_tier, latency=latency, at=at
            )
        except UnpricedModel:
            if self.settings.on_unpriced == "allow":
                return None
            if self.settings.on_unpriced == "upper_bound":
                return self.prices.dearest()
            raise

    def _worst(
        self, call: Call, alternatives: Sequence[Usage], prices: UnitPrices | None, at: datetime
    ) -> tuple[Usage, UnitPrices | None, int | None, PriceBasis]:
        if prices is None:
            return alternatives[0], None, None, "list"
        # A tier that is full is served, and billed, at the default one.
        dearer = [prices]
        if call.service_tier != "default" or call.latency != "standard":
            dearer.append(self._find_prices(call, "default", "standard", at) or prices)
        fallback = None if self.settings.on_unpriced == "refuse" else self.prices.dearest()
        worst, worst_prices, most, priced = alternatives[0], prices, -1, _LIST
        for usage in alternatives:
            for each in dearer:
                money, basis = nanousd(usage, each, dearest=fallback)
                if money > most:
                    worst, worst_prices, most, priced = usage, each, money, basis
        return worst, worst_prices, most, priced


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
