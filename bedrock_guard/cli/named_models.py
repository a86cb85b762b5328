"""
The models that settings name, and whether they have a price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from bedrock_guard.config.load import Resolved
from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.globs import NOT, compile_globs, is_literal
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.own_prices import OwnPrices
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_views import explain_own

Match: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""Tag -> globs, of a budget or a breaker."""

_MODEL_TAGS = ("model", "model_id")


def find_unpriced(resolved: Resolved) -> tuple[list[str], list[str]]:
    """
    A line for each model that is named and has no price, and for each name that no call can have.
    """
    prices, own = PriceList.installed(), OwnPrices(resolved.settings.prices)
    known = sorted(prices.models())
    unpriced = [
        f"{place}: no price for {model.model_id!r}. Name one under [prices]; bedrock-guard prices list."
        for place, model in _named(resolved)
        if not _has_price(prices, own, model)
    ]
    unmatched = []
    for place, match in _matches(resolved):
        for glob in _each(match, "model"):
            base = parse_model_id(glob).model
            if is_literal(glob) and base not in (None, glob):
                unmatched.append(
                    f"{place}.match.model: {glob!r} is the model {base!r} to this tag; "
                    "the tag model_id has the id as the call gives it."
                )
            elif not is_literal(glob) and not any(map(compile_globs(glob.removeprefix(NOT)), known)):
                unmatched.append(f"{place}.match.model: no model with a price fits {glob!r}.")
    return unpriced, unmatched


def _named(resolved: Resolved) -> Iterator[tuple[str, ModelRef]]:
    aliases = resolved.settings.models
    for alias, model in aliases.items():
        yield f"models.{alias!r}", parse_model_id(model)
    for place, match in _matches(resolved):
        for tag in _MODEL_TAGS:
            for glob in _each(match, tag):
                if is_literal(glob) and glob not in aliases:
                    yield f"{place}.match.{tag}", parse_model_id(glob)


def _matches(resolved: Resolved) -> Iterator[tuple[str, Match]]:
    for budget in resolved.budgets:
        yield f"budgets.{budget.name}", budget.match
    for breaker in resolved.breakers:
        yield f"breakers.{breaker.name}", breaker.match


def _each(match: Match, tag: str) -> tuple[str, ...]:
    globs = match.get(tag, ())
    return (globs,) if isinstance(globs, str) else globs


def _has_price(prices: PriceList, own: OwnPrices, model: ModelRef) -> bool:
    try:
        explain_own(prices, own, model, region=None, service_tier="default", latency="standard", at=None)
    except UnpricedModel:
        return False
    return True
