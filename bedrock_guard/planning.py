"""
What a call may come to: its bound, what that costs, and the budgets it counts towards.

Nothing is held here, and nothing is sent.
"""

from __future__ import annotations

import logging
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.verdict import Output
from bedrock_guard.context import Scope, current_scope
from bedrock_guard.domain.call import USUAL_CALL, Call, ModelRef
from bedrock_guard.domain.cost import PriceBasis
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.served import as_served
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
    UsageReport,
    total_input,
)
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.estimators.bound import bound, room_of
from bedrock_guard.meters.guardrail_bounds import units_beside
from bedrock_guard.operations.flat import check_flat_keys
from bedrock_guard.plan import Plan, usual_plan
from bedrock_guard.pricing import freshness
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.flat_prices import ONE_CALL, read_flat_prices
from bedrock_guard.pricing.own_prices import OwnPrices
from bedrock_guard.pricing.price_list import PriceList, UnitPrices
from bedrock_guard.spending import cost_of_parts, list_cost_of_parts, with_spent
from bedrock_guard.terms import Terms, blank_entry, find_rates, find_worst

log = logging.getLogger("bedrock_guard")

# Model ids are a caller's strings: without an end the memory of warnings would have none.
_MOST_TOLD: Final = 1000
# Prices age by the day: once a minute a model's are looked at, as a call of it comes by.
_LOOK_EVERY_S: Final = 60.0
_DAY_S: Final = 86_400.0


_LIST: Final[PriceBasis] = "list"


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
        self.own = OwnPrices(settings.prices)
        check_flat_keys(settings.flat_prices)
        self._flat = read_flat_prices(settings.flat_prices)
        self._aliases = {alias: parse_model_id(model) for alias, model in settings.models.items()}
        self._tags = dict(tags)
        self._told: set[str] = set()
        self.age_watch = freshness.Watch()
        self._known: dict[tuple[Any, ...], Terms] = {}
        self._has_own = not self.own.is_empty

    def plan(self, call: Call, now: float) -> Plan:
        """
        Bound *call*, price the bound, and find its budgets; holds nothing.

        Of a routed call, the dearest of its routes, and no less in any unit than each of them.
        """
        scope = current_scope()
        if call[7:] == USUAL_CALL:
            terms = self._known.get(call[:4] + call[5:7])
            if terms is not None and terms.since <= now < terms.until:
                tags, matches = terms.tags.copy(), terms.matches  # its own, for its entry has them
                if matches is None or scope.tags:
                    tags.update(scope.tags)
                    matches = self.matcher.look(tags, now).matches
                plan = usual_plan(terms, call, now, tags, matches)
                if plan is not None:
                    return plan
        return self._plan(call, now, scope)

    def _plan(self, call: Call, now: float, scope: Scope) -> Plan:
        """
        The same, of any call.
        """
        if call.routes:
            return self._plan_routes(call.routes, now)
        is_tagged = bool(scope.tags or call.request_tags or call.principal)
        key = call[:4] + call[5:7] + ((call.flat_key,) if call.flat_key else ())
        known = self._known.get(key) if call.batch is None else None
        if known is None or not known.since <= now < known.until:
            known = self._find_terms(call, now, key, is_tagged=is_tagged)
        terms, tags, matches = known, dict(known.tags), known.matches
        alternatives = (ONE_CALL,) if terms.room is None else bound(call, terms.room)
        worst, worst_prices, money, priced = find_worst(terms, alternatives)
        if is_tagged or matches is None:
            tags = self._all_tags(call, terms, scope) if is_tagged else tags
            matches = self.matcher.look(tags, now).matches
        listed = money
        if terms.has_own_prices:
            listed = self._list_cost(call, worst, datetime.fromtimestamp(now, UTC))
        plan = Plan(call, now, terms, tags, alternatives, worst, worst_prices, money, listed, priced, matches)
        return plan if call.spent is None else with_spent(self, plan, call.spent)

    def _plan_routes(self, routes: Sequence[Call], now: float) -> Plan:
        plans = [self.plan(route, now) for route in routes]
        dearest = max(plans, key=lambda plan: sys.maxsize if plan.nanousd is None else plan.nanousd)
        return dearest._replace(alternatives=tuple(each for plan in plans for each in plan.alternatives))

    def counts(self, call: Call) -> bool:
        """
        Whether the request tells what *call* can use, or a flat price is set for it.
        """
        return call.has_bound or call.flat_key in self._flat

    def _flat_price(self, call: Call) -> UnitPrices | None:
        # What is known of a batch is better than what it was said to cost at most.
        is_known = call.batch is not None and call.batch.is_read
        return None if is_known else self._flat.get(call.flat_key)

    def resolve(self, model: ModelRef) -> ModelRef | None:
        """
        *model* with what `models` says is behind it; None where it says nothing.
        """
        named = self._aliases.get(model.model_id) if model.model is None else None
        if named is None:
            return None
        return model._replace(model=named.model, maker=named.maker, geography=named.geography)

    def cost(self, plan: Plan, report: UsageReport) -> tuple[int | None, PriceBasis]:
        """
        The cost of what AWS reported, at the tier that served. It never raises: the money is spent.

        What has no price is charged at the dearest of the list; what not even that
        knows, at the estimate.
        """
        prices = plan.terms.prices
        money: int | None
        if prices is None:
            return None, "list"
        try:
            if report.parts:
                return cost_of_parts(self, plan, report)
            if report.service_tier is not None or report.latency is not None or report.model_id is not None:
                served = as_served(plan.call, report)
                if served is not plan.call:
                    prices = self.served_prices(served, plan.at)
            money, priced = nanousd(report.usage, prices, dearest=self.prices.dearest())
        except UnpricedModel:
            money, priced = plan.nanousd, "upper_bound"
        if priced == "upper_bound":
            self._tell_unpriced(plan.call.model.model_id, report.usage)
        return money, priced

    def _tell_unpriced(self, model_id: str, usage: Usage) -> None:
        if model_id in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add(model_id)
        log.warning(
            "%s reported a meter without a price (%s): it is charged at the dearest of the list, now "
            "and in calls that follow.",
            model_id,
            ", ".join(usage),
        )

    def list_cost(self, plan: Plan, usage: Usage, report: UsageReport | None) -> int | None:
        """
        What *usage* costs at list price, at the tier that *report* says served; None where the list has none.
        """
        if report is not None and report.parts:
            return list_cost_of_parts(self, plan, report)
        return self._list_cost(plan.call if report is None else as_served(plan.call, report), usage, plan.at)

    def output(self, plan: Plan) -> Output | None:
        """
        The part of a plan that a smaller `maxTokens` would shrink; None when there is none.
        """
        prices, tokens = plan.worst_prices, plan.worst.get(OUTPUT_TOKENS, 0)
        # Models behind an agent or a knowledge base have no limit of the caller's, nor has a summary.
        if not tokens or plan.call.flat_key or plan.call.times > 1:
            return None
        total, candidates, dearest = plan.nanousd or 0, plan.call.size.candidates, self.prices.dearest()

        def cost_with(limit: int) -> int:
            if prices is None:  # it is let through without: what counts tokens still shrinks
                return 0
            usage = {**plan.worst, OUTPUT_TOKENS: limit * candidates}
            if plan.call.size.has_guardrail:  # it looks at the answer, too
                usage |= units_beside(
                    plan.call.size, {INPUT_TOKENS: total_input(plan.worst), OUTPUT_TOKENS: limit * candidates}
                )
            return nanousd(usage, prices, dearest=dearest)[0]

        def fitting(room: int) -> int:
            return bisect_right(range(tokens // candidates + 1), room, key=cost_with) - 1

        is_callers = plan.call.size.output_limit is not None
        clamp, least = self.settings.clamp, self.settings.min_output_tokens
        return Output(
            tokens // candidates, candidates, is_callers, total - cost_with(0), fitting, clamp, least
        )

    def _find_terms(self, call: Call, now: float, key: tuple[Any, ...], *, is_tagged: bool) -> Terms:
        """
        The terms of *call*, which are those of all with the same *key* until a price may be another one, or a
        window ends; without its balances where it *is_tagged*, for that is its own.
        """
        at = datetime.fromtimestamp(now, UTC)
        self._check_age(call.model, at)
        flat = self._flat_price(call) if call.flat_key else None
        prices = flat or self._find_prices(call, call.service_tier, call.latency, at)
        tags = {
            **self._tags,
            "model": call.model.model or call.model.model_id,
            "model_id": call.model.model_id,
            "family": call.family,
            "region": call.region,
            "operation": call.operation,
            "service_tier": call.service_tier,
        }
        began, room = now - now % _DAY_S, None
        if flat is None:
            room = room_of(call.model, self.prices.limits(call.model))
        dearer = () if prices is None else self._dearer(call, prices, at)
        fallback = None if self.settings.on_unpriced == "refuse" else self.prices.dearest()
        has_list_price = not self._has_own and prices is not fallback
        rates, most_tokens = find_rates(call.model, room, dearer) if has_list_price else (None, 0)
        found = None if is_tagged else self.matcher.look(tags, now)
        terms = Terms(
            began if found is None else max(began, found.since),
            min(began + _DAY_S, now + _LOOK_EVERY_S, inf if found is None else found.until),
            room,
            prices,
            dearer,
            fallback,
            tags,
            None if found is None else found.matches,
            self._has_own,
            rates,
            most_tokens,
            blank_entry(call, has_own_prices=self._has_own),
        )
        if call.batch is None:
            if len(self._known) >= _MOST_TOLD:
                self._known.clear()
            self._known[key] = terms
        return terms

    def _dearer(self, call: Call, prices: UnitPrices, at: datetime) -> tuple[UnitPrices, ...]:
        # A tier that is full is served, and billed, at the default one; a batch is asked for by itself.
        if call.batch is None and (call.service_tier != "default" or call.latency != "standard"):
            return prices, self._find_prices(call, "default", "standard", at) or prices
        return (prices,)

    def _all_tags(self, call: Call, terms: Terms, scope: Scope) -> dict[str, str]:
        # An end user's metadata must not choose the budget: what is nearer the program wins.
        tags = {**call.request_tags, **terms.tags, **scope.tags}
        if call.principal or "principal" in call.request_tags:
            tags.pop("principal", None)
            if call.principal and self.settings.principal == "lookup":
                tags["principal"] = call.principal
        return tags

    def tags_to_aws(self) -> Mapping[str, str]:
        """
        The tags that the program sets for a call made here and now, and that Bedrock is to be sent.
        """
        wanted = self.settings.tags_to_aws
        if not wanted:
            return {}
        tags = {**self._tags, **current_scope().tags}
        return tags if isinstance(wanted, bool) else {name: tags[name] for name in wanted if name in tags}

    def find_prices(
        self,
        model: ModelRef,
        *,
        region: str,
        service_tier: str = "default",
        latency: str = "standard",
        at: datetime | None = None,
    ) -> UnitPrices:
        """
        What this account pays for *model*: its own prices, else those of the list.

        Raises:
            UnpricedModel: Neither knows one.
        """
        if model.model is None:
            model = self.resolve(model) or model
        own, find = self.own, self.prices.find
        if not self._has_own:
            return find(model, region=region, service_tier=service_tier, latency=latency, at=at)
        listed = standard = refusal = None
        try:
            listed = standard = find(model, region=region, service_tier=service_tier, latency=latency, at=at)
            if (service_tier, latency) != ("default", "standard"):
                standard = find(model, region=region, at=at)
        except UnpricedModel as error:
            refusal = error
        found = own.apply(model, listed, standard, beside=self.prices.any_model(region))
        if found is None:
            raise refusal or UnpricedModel(f"No price for {model.model_id!r}.")
        return found

    def _check_age(self, model: ModelRef, at: datetime) -> None:
        today = at.date()
        as_of, most_days = self.prices.as_of_model(model), self.settings.max_price_age_days
        self.age_watch.look(model.model_id, as_of, today)
        if most_days is not None and (today - as_of).days > most_days:
            raise UnpricedModel(
                f"The prices of {model.model_id!r} are of {as_of}, {(today - as_of).days} days old, and "
                f"max_price_age_days is {most_days}. Run `bedrock-guard prices sync`, or install a newer "
                "bedrock-guard."
            )

    def served_prices(self, served: Call, at: datetime) -> UnitPrices:
        """
        What *served* costs; where nobody knows, the dearest of the list.
        """
        try:
            return self.find_prices(
                served.model,
                region=served.region,
                service_tier=served.service_tier,
                latency=served.latency,
                at=at,
            )
        except UnpricedModel:
            return self.prices.dearest()

    def _find_prices(self, call: Call, service_tier: str, latency: str, at: datetime) -> UnitPrices | None:
        try:
            find = self.find_prices if self._has_own or call.model.model is None else self.prices.find
            found = find(call.model, region=call.region, service_tier=service_tier, latency=latency, at=at)
            return found if call.batch is None else found.in_band_of(call.batch.largest_input_tokens)
        except UnpricedModel:
            if self.settings.on_unpriced == "allow":
                return None
            if self.settings.on_unpriced == "upper_bound":
                return self.prices.dearest()
            raise

    def _list_cost(self, call: Call, usage: Usage, at: datetime) -> int | None:
        try:
            prices = self.prices.find(
                call.model, region=call.region, service_tier=call.service_tier, latency=call.latency, at=at
            )
            if call.batch is not None:
                prices = prices.in_band_of(call.batch.largest_input_tokens)
            return nanousd(usage, prices, dearest=self.prices.dearest())[0]
        except UnpricedModel:
            return None
