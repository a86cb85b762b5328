"""
An account's own prices, over those of the list.

Of the tables that fit a model the last counts, meter by meter; in one table a meter's
own line is stronger than `"*"`, which is every meter of the model's own: what costs the
same with every model (guardrails, searches, routing) is named or stays at list price.

An amount is the price at the default tier, standard
latency and the lowest band; elsewhere the list's own ratio to that holds, so that a
private offer for Sonnet does not make its priority tier cheaper than it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.price_rule import EVERY_METER, WHOLE, PriceRule
from bedrock_guard.meters import ANY_MODEL, METERS
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

_MOST_CACHED: Final = 4096


class OwnPrices:
    """
    The rules of one guard.
    """

    def __init__(self, rules: Sequence[PriceRule]) -> None:
        self._rules = tuple(rules)
        # By identity: the list gives the same object for the same question. It is kept, so that its
        # place is not taken by another.
        self._found: dict[tuple[str, str | None, int], tuple[UnitPrices | None, UnitPrices | None]] = {}

    @property
    def is_empty(self) -> bool:
        """
        Whether list prices hold.
        """
        return not self._rules

    def apply(
        self,
        model: ModelRef,
        listed: UnitPrices | None,
        standard: UnitPrices | None,
        *,
        beside: UnitPrices | None = None,
    ) -> UnitPrices | None:
        """
        *listed*, or what the list lacks, as this account pays it; None where nobody knows a price.

        *standard* is the list's price at the default tier and standard latency; *beside* is
        `PriceList.any_model`, for a model that is not in the list.
        """
        priced = listed or beside
        key = model.model_id, model.model, id(priced)
        known = self._found.get(key)
        if known is None:
            if len(self._found) >= _MOST_CACHED:
                self._found.clear()
            known = self._found[key] = priced, self._applied(model, listed, standard, beside)
        return known[1]

    def rules_for(self, model: ModelRef) -> Mapping[str, PriceRule]:
        """
        The rule of each meter, and of `"*"` for the model's others.
        """
        found: dict[str, PriceRule] = {}
        tables: dict[str, list[PriceRule]] = {}
        for rule in self._rules:
            if rule.fits(model):
                tables.setdefault(rule.models, []).append(rule)
        for table in tables.values():
            if any(rule.meter == EVERY_METER for rule in table):
                found = {meter: rule for meter, rule in found.items() if meter in ANY_MODEL}
            found |= {rule.meter: rule for rule in table}
        return found

    def _applied(
        self,
        model: ModelRef,
        listed: UnitPrices | None,
        standard: UnitPrices | None,
        beside: UnitPrices | None,
    ) -> UnitPrices | None:
        rules = self.rules_for(model)
        if not rules:
            return listed
        if listed is None:
            prices = _without_list(rules)
            if not prices:
                return None
            shared = {} if beside is None else beside.bands[0].prices
            prices |= _with_list(_of_any_model(rules), shared, shared)
            band = PriceBand(0, prices)
            return UnitPrices(model.model or model.model_id, model.geography, None, "any", "any", (band,))
        base = (standard or listed).bands[0].prices
        bands = tuple(
            PriceBand(band.above_input_tokens, _with_list(rules, band.prices, base)) for band in listed.bands
        )
        return UnitPrices(
            listed.model,
            listed.geography,
            listed.region,
            listed.service_tier,
            listed.latency,
            bands,
            listed.derived,
        )


def rule_of(rules: Mapping[str, PriceRule], meter: str) -> PriceRule | None:
    """
    The rule that prices *meter*, of those that `rules_for` found.
    """
    return rules.get(meter) or (None if meter in ANY_MODEL else rules.get(EVERY_METER))


def _with_list(
    rules: Mapping[str, PriceRule], listed: Mapping[str, int], base: Mapping[str, int]
) -> dict[str, int]:
    prices = dict(listed)
    for meter in {**listed, **{name: 0 for name in rules if name != EVERY_METER}}:
        rule = rule_of(rules, meter)
        here = listed.get(meter)
        if rule is None:
            continue
        if rule.kind == "free":
            prices[meter] = 0
        elif rule.kind == "price":
            whole = base.get(meter)
            prices[meter] = -(-rule.value * here // whole) if here and whole else rule.value
        elif here is not None:
            prices[meter] = -(-here * rule.value // WHOLE)
    return prices


def _of_any_model(rules: Mapping[str, PriceRule]) -> dict[str, PriceRule]:
    return {meter: rule for meter, rule in rules.items() if meter in ANY_MODEL}


def _without_list(rules: Mapping[str, PriceRule]) -> dict[str, int]:
    """
    What is told of a model that the list does not have; nothing, where none of its own meters is.
    """
    rules = {meter: rule for meter, rule in rules.items() if meter not in ANY_MODEL}
    prices = {meter: rule.value for meter, rule in rules.items() if rule.kind == "price"}
    prices |= {meter: 0 for meter, rule in rules.items() if rule.kind == "free" and meter != EVERY_METER}
    everything = rules.get(EVERY_METER)
    if everything is not None and everything.kind == "free":
        return {**dict.fromkeys((meter for meter in METERS if meter not in ANY_MODEL), 0), **prices}
    return prices
