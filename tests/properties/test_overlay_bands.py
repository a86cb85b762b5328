"""
A synced price of one meter, in any model that has a band: it merges, and a long request costs no less.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.meters import ANY_MODEL, METERS
from bedrock_guard.pricing.overlay import parse_content
from bedrock_guard.pricing.places import places_of_region
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.rows import read_packaged, show_price

TIERS = ("default", "batch", "flex", "priority", "ultrafast")
SCOPES = {"global": ("global@us-east-1",), "regional": places_of_region("us-east-1")}
OWN_METERS = sorted(set(METERS) - ANY_MODEL)
read = functools.cache(read_packaged)
PACKAGED = PriceList(read)


def ref(model: str, geography: str) -> ModelRef:
    return ModelRef(model, "foundation-model", model, model.partition(".")[0], geography)


def thresholds(model: str) -> set[int]:
    known = PACKAGED.model_prices(ref(model, "us"))
    return {row.above_input_tokens for row in known.rows} if known else set()


BANDED = {model: sorted(found) for model in PACKAGED.models() if len(found := thresholds(model)) > 1}


def row(meter: str, steps: int, scope: str, tier: str, above: int) -> dict[str, Any]:
    return {
        "where": list(SCOPES[scope]),
        "usd": {meter: show_price(steps)},
        "service_tier": tier,
        "above_input_tokens": above,
        "effective_from": "2026-09-01",
        "published": "2026-09-01",
        "source": "aws-price-list",
    }


def laid(model: str, *rows: Mapping[str, Any]) -> PriceList:
    content = {"as_of": "2026-09-01", "models": {model: {"rows": list(rows)}}, "any_model": {"rows": []}}
    overlay = parse_content(Path("prices.json"), content)
    return PriceList(read, lambda: overlay)


def assert_never_below_the_base_band(prices: PriceList, model: str) -> None:
    for geography in ("global", "us", "in-region"):
        for tier in TIERS:
            for latency in ("standard", "optimized"):
                if tier == "ultrafast" and not any(
                    each.variant == tier for each in prices.model_prices(ref(model, "us")).rows
                ):
                    continue
                found = prices.find(
                    ref(model, geography), region="us-east-1", service_tier=tier, latency=latency
                )
                for lower, upper in zip(found.bands, found.bands[1:], strict=False):
                    for meter, price in lower.prices.items():
                        assert upper.prices[meter] >= price, (geography, tier, latency, meter)


@given(
    st.sampled_from(sorted(BANDED)).flatmap(
        lambda model: st.tuples(
            st.just(model),
            st.lists(
                st.builds(
                    row,
                    st.sampled_from(OWN_METERS),
                    st.integers(1, 10**13),
                    st.sampled_from(sorted(SCOPES)),
                    st.sampled_from(["default", "batch", "flex", "priority"]),
                    st.sampled_from(BANDED[model]),
                ),
                min_size=1,
                max_size=4,
            ),
        )
    )
)
@settings(deadline=None)
def test_a_long_request_costs_no_less_whatever_was_synced(drawn: tuple[str, list[dict[str, Any]]]) -> None:
    """
    A list may know one band of two, or a meter that the packaged list has in neither.
    """
    model, rows = drawn

    assert_never_below_the_base_band(laid(model, *rows), model)


def test_every_meter_of_every_model_with_a_band_can_be_synced_alone() -> None:
    """
    One row that cannot be laid over the packaged prices would stop every call of its model.
    """
    date_of_list = date(2026, 9, 1)
    assert len(BANDED) >= 10
    for model in BANDED:
        for meter in OWN_METERS:
            for scope, where in SCOPES.items():
                for tier in ("default", "flex"):
                    prices = laid(model, row(meter, 3 * 10**10, scope, tier, 0))

                    geography = "global" if scope == "global" else "us"
                    found = prices.find(ref(model, geography), region="us-east-1", service_tier=tier)

                    assert found.bands[0].prices[meter] == 3 * 10**10, (model, meter, where)
                    assert all(meter in band.prices for band in found.bands)
                    assert prices.as_of_model(ref(model, geography)) >= date_of_list
