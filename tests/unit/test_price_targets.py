"""
What the price list promises: the incident's bill to the cent, and to be small.
"""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from fractions import Fraction

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.pricing.calculate import cost, nanousd
from bedrock_guard.pricing.price_list import PriceList

# A public post of 2026-04-28: a coding agent whose prompt cache failed.
INCIDENT = {
    "input_tokens": 6_470_000_000,
    "cache_read_input_tokens": 1_670_000_000,
    "cache_write_5m_input_tokens": 101_000_000,
    "output_tokens": 25_000_000,
}


def test_the_incident_comes_to_its_bill() -> None:
    """
    6,470 x 5.50 + 1,670 x 0.55 + 101 x 6.875 + 25 x 27.50; a list with the global price says 9 % less.
    """
    prices = PriceList.packaged()
    charged = {
        prefix: cost(INCIDENT, prices.find(parse_model_id(f"{prefix}{model}"), region="us-east-1"))
        for model in ("anthropic.claude-opus-4-6-v1",)
        for prefix in ("us.", "", "global.")
    }

    assert charged["us."].usd == charged[""].usd == Decimal("37885.375")
    assert [line.usd for line in charged["us."].charges] == [
        Decimal("35585.00"),
        Decimal("918.50"),
        Decimal("694.375"),
        Decimal("687.50"),
    ]
    # Exactly 1/1.1 of it: 34,441.25
    assert charged["global."].usd == Decimal("34441.25")
    assert Fraction(charged["global."].nanousd) == Fraction(charged["us."].nanousd) * 10 / 11
    assert {each.priced for each in charged.values()} == {"list"}
    assert nanousd(INCIDENT, prices.find(parse_model_id("us.anthropic.claude-opus-4-6-v1"), region=None)) == (
        37_885_375_000_000,
        "list",
    )


@pytest.mark.parametrize(
    ("model_id", "asked", "usage", "usd"),
    [
        # What both public lists lack, or have wrong.
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", {}, {"input_tokens": 10**6}, "6"),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", {}, {"cache_read_input_tokens": 10**6}, "0.60"),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", {}, {"cache_write_5m_input_tokens": 10**6}, "7.50"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", {}, {"output_tokens": 10**6}, "30"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", {}, {"cache_read_input_tokens": 10**6}, "0.60"),
        ("us.amazon.nova-pro-v1:0", {"latency": "optimized"}, {"input_tokens": 10**6}, "1.00"),
        ("us.amazon.nova-pro-v1:0", {"latency": "optimized"}, {"output_tokens": 10**6}, "4.00"),
        (
            "us.anthropic.claude-3-5-haiku-20241022-v1:0",
            {"latency": "optimized"},
            {"input_tokens": 10**6, "output_tokens": 10**6},
            "6.00",
        ),
        ("amazon.nova-reel-v1:0", {}, {"output_video_seconds": 6}, "0.48"),
        ("cohere.rerank-v3-5:0", {}, {"queries": 3}, "0.006"),
        ("amazon.titan-embed-text-v2:0", {}, {"input_tokens": 10**6}, "0.02"),
        ("amazon.titan-embed-image-v1", {}, {"input_images": 10}, "0.0006"),
        ("twelvelabs.marengo-embed-2-7-v1:0", {}, {"input_video_seconds": 10}, "0.007"),
    ],
)
def test_what_public_lists_lack_is_there(
    model_id: str, asked: dict[str, str], usage: dict[str, int], usd: str
) -> None:
    """
    Each is billed by AWS, and at $0, at half or not at all by a list that is copied.
    """
    found = PriceList.packaged().find(parse_model_id(model_id), region="us-east-1", **asked)

    assert cost(usage, found).usd == Decimal(usd)


def test_the_whole_list_is_small_in_memory() -> None:
    """
    5 MB, all makers read and a price of every model looked up; most programs use one or two.
    """
    tracemalloc.start()
    try:
        prices = PriceList.packaged()
        for model in list(prices.models()):
            prices.find(parse_model_id(model), region="us-east-1")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held <= 5 * 2**20, f"{held / 2**20:.2f} MB"
