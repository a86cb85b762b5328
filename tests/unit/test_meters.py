"""
What AWS bills for: every meter that the price list knows has a name and a unit here.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from bedrock_guard import Guard
from bedrock_guard.meters import ANY_MODEL, FREE, METERS
from bedrock_guard.pricing import facts, generate, usage_types
from bedrock_guard.pricing.rows import INDEX, read_packaged


def test_a_meter_is_known_by_its_own_name() -> None:
    """
    The table is a literal, and a slip in it would price one thing as another.
    """
    assert {name: meter.name for name, meter in METERS.items()} == {name: name for name in METERS}
    assert FREE < ANY_MODEL < set(METERS)


def test_every_meter_of_the_price_list_is_a_meter() -> None:
    """
    A price that nobody can ask for, or set a price of their own for, is none.
    """
    index = read_packaged(INDEX)
    listed = {
        meter
        for maker in index["makers"]
        for model in read_packaged(maker)["models"].values()
        for row in model["rows"]
        for meter in row["usd"]
    }

    assert listed <= set(METERS) - ANY_MODEL
    assert set(index["any_model"]["usd"]) == ANY_MODEL
    assert set(index["dearest"]) <= set(METERS)


def test_every_meter_that_is_read_anywhere_is_a_meter() -> None:
    """
    From facts, and from AWS's price list.
    """
    read = {*facts.METERS.values(), *generate.ANY_MODEL.values(), *usage_types._GUARDRAILS.values()}

    assert read | {each.meter for each in usage_types._METERS} <= set(METERS)


@pytest.mark.parametrize(
    ("model_id", "meter", "quantity", "usd"),
    [
        ("amazon.nova-canvas-v1:0", "images", 1, "0.08"),
        ("amazon.nova-reel-v1:0", "output_video_seconds", 6, "0.48"),
        ("cohere.rerank-v3-5:0", "queries", 1, "0.002"),
        ("amazon.nova-sonic-v1:0", "input_audio_tokens", 1_000_000, "3.4"),
        ("amazon.nova-lite-v1:0", "web_grounding_requests", 1, "0.03"),
        ("amazon.nova-lite-v1:0", "guardrail_checks_content_filter_units", 1_000, "0.07"),
    ],
)
def test_what_is_no_text_can_be_priced_and_have_a_price_of_ones_own(
    model_id: str, meter: str, quantity: int, usd: str
) -> None:
    """
    As the packaged list has them, and by a line of `[prices]`.
    """
    with Guard(budgets=[], ledger="memory://") as guard:
        assert guard.price(model_id, {meter: quantity}).usd == Decimal(usd)
    with Guard(budgets=[], ledger="memory://", prices={"*": {meter: "0.5 USD/1K"}}) as guard:
        assert guard.price(model_id, {meter: quantity}).usd == Decimal(quantity) / 2000
