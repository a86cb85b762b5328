"""
What a call costs: bands, tiers, dates and places, with figures worked out by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.calculate import cost, nanousd
from bedrock_guard.pricing.price_list import PriceList, UnitPrices

INCIDENT = {
    "input_tokens": 6_470_000_000,
    "cache_read_input_tokens": 1_670_000_000,
    "cache_write_5m_input_tokens": 101_000_000,
    "output_tokens": 25_000_000,
}
MILLION = 1_000_000


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList.packaged()


def per_million(found: UnitPrices, meter: str, *, band: int = 0) -> Decimal:
    return Decimal(found.bands[band].prices[meter]) / 10**10


# --- What a call costs ---------------------------------------------------------------


def test_the_incident_costs_what_its_tokens_cost(prices: PriceList) -> None:
    """
    The $37,901 bill that a guard would have stopped: 35,585.00 + 918.50 + 694.375 + 687.50.
    """
    found = prices.find(parse_model_id("us.anthropic.claude-opus-4-6-v1"), region="us-east-1")

    charged = cost(INCIDENT, found)

    assert charged.usd == Decimal("37885.375")
    assert charged.priced == "list"
    assert [charge.usd for charge in charged.charges] == [
        Decimal("35585.00"),
        Decimal("918.50"),
        Decimal("694.375"),
        Decimal("687.50"),
    ]


def test_the_incident_through_the_global_profile_is_a_tenth_of_its_price_less(prices: PriceList) -> None:
    """
    Geo profiles cost 1.1 of global ones: 32,350 + 835 + 631.25 + 625 = 37,885.375 / 1.1.
    """
    found = prices.find(parse_model_id("global.anthropic.claude-opus-4-6-v1"), region="us-east-1")

    assert cost(INCIDENT, found).usd == Decimal("34441.25") == Decimal("37885.375") / Decimal("1.1")


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "ap-northeast-1", None, ""])
def test_a_bare_id_costs_what_its_geography_costs(prices: PriceList, region: str | None) -> None:
    """
    Tables that give bare ids the global price would under-report the incident by 9.1 %.
    """
    found = prices.find(parse_model_id("anthropic.claude-opus-4-6-v1"), region=region)

    assert cost(INCIDENT, found).usd == Decimal("37885.375")


def test_one_token_is_rounded_up_to_a_nano_dollar(prices: PriceList) -> None:
    """
    Nova Micro reads its cache at $0.00875 a million: 8.75 nano-dollars a token, never 8.
    """
    found = prices.find(parse_model_id("us.amazon.nova-micro-v1:0"), region="us-east-1")

    assert nanousd({"cache_read_input_tokens": 1}, found) == (9, "list")
    assert nanousd({"cache_read_input_tokens": 4}, found) == (35, "list")


def test_the_sum_is_rounded_once_not_each_line(prices: PriceList) -> None:
    """
    Two lines of fractions that add up to a whole number: rounding each would charge one too many.
    """
    found = prices.find(parse_model_id("us.amazon.nova-micro-v1:0"), region="us-east-1")

    # 3 x 8.75 + 1 x 1.25 x 35 (a 5m write, derived) = 26.25 + 43.75 = 70, not 27 + 44.
    assert nanousd({"cache_read_input_tokens": 3, "cache_write_5m_input_tokens": 1}, found) == (70, "list")


# --- Bands, tiers, latency, dates ----------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"input_tokens": 200_000, "output_tokens": 1000}, "0.6765"),  # 0.2 x 3.30 + 0.001 x 16.50
        ({"input_tokens": 200_001, "output_tokens": 1000}, "1.3447566"),  # 0.200001 x 6.60 + 0.001 x 24.75
        # 150,000 x 6.60 + 50,001 x 0.66, both a million
        ({"input_tokens": 150_000, "cache_read_input_tokens": 50_001}, "1.02300066"),
        ({"input_tokens": 150_000, "output_tokens": 90_000}, "1.98"),  # output is no input: 0.495 + 1.485
    ],
)
def test_long_context_prices_the_whole_call(prices: PriceList, usage: dict[str, int], usd: str) -> None:
    """
    Above 200,000 tokens sent, cached ones included, every token costs more, the first as well.
    """
    found = prices.find(parse_model_id("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), region="us-east-1")

    assert cost(usage, found).usd == Decimal(usd)
    assert nanousd(usage, found)[0] == Decimal(usd) * 10**9


@pytest.mark.parametrize(
    ("service_tier", "usd"),
    [("default", "0.8"), ("flex", "0.4"), ("batch", "0.4"), ("priority", "1.4"), ("reserved", "0.8")],
)
def test_a_service_tier_has_its_own_price(prices: PriceList, service_tier: str, usd: str) -> None:
    """
    Priority costs 1.75 of standard; who ignores it under-counts by 43 %.
    """
    found = prices.find(
        parse_model_id("us.amazon.nova-pro-v1:0"), region="us-east-1", service_tier=service_tier
    )

    assert per_million(found, "input_tokens") == Decimal(usd)
    assert found.service_tier == service_tier


def test_a_tier_without_a_row_costs_no_less_than_it_can(prices: PriceList) -> None:
    """
    Opus has neither flex nor priority rows: flex is charged in full, priority at 1.75.
    """
    opus = parse_model_id("us.anthropic.claude-opus-4-6-v1")

    flex = prices.find(opus, region="us-east-1", service_tier="flex")
    priority = prices.find(opus, region="us-east-1", service_tier="priority")

    assert per_million(flex, "input_tokens") == Decimal("5.5")
    assert per_million(priority, "input_tokens") == Decimal("9.625")
    assert per_million(priority, "cache_write_5m_input_tokens") == Decimal("12.03125")
    assert "input_tokens" in priority.derived


def test_a_tier_that_nobody_knows_has_no_price(prices: PriceList) -> None:
    """
    A tier of tomorrow may cost six times as much, as `ultrafast` does.
    """
    opus, astra = parse_model_id("us.anthropic.claude-opus-4-6-v1"), parse_model_id("us.openai.gpt-6-astra")

    with pytest.raises(UnpricedModel, match="tier ultrafast"):
        prices.find(opus, region="us-east-1", service_tier="ultrafast")
    found = prices.find(astra, region="us-east-1", service_tier="ultrafast")

    assert per_million(found, "output_tokens") == 330


def test_optimized_latency_has_its_own_price_where_there_is_one(prices: PriceList) -> None:
    """
    Nova Pro costs 1.00 and 4.00 then; a model without the option falls back to standard, at standard price.
    """
    pro, lite = parse_model_id("us.amazon.nova-pro-v1:0"), parse_model_id("us.amazon.nova-lite-v1:0")

    fast = prices.find(pro, region="us-east-2", latency="optimized")
    same = prices.find(lite, region="us-east-2", latency="optimized")

    assert (per_million(fast, "input_tokens"), per_million(fast, "output_tokens")) == (1, 4)
    assert per_million(same, "input_tokens") == Decimal("0.06")


def test_llama_that_is_served_optimized_is_not_charged_as_standard(prices: PriceList) -> None:
    """
    AWS serves it, and no source states the price: both prices known are 1.25 of standard.
    """
    llama = parse_model_id("us.meta.llama3-1-70b-instruct-v1:0")

    found = prices.find(llama, region="us-east-2", latency="optimized")

    assert per_million(found, "output_tokens") == Decimal("0.9")
    assert "output_tokens" in found.derived


def test_a_latency_that_nobody_knows_has_no_price(prices: PriceList) -> None:
    """
    As a tier of tomorrow.
    """
    with pytest.raises(UnpricedModel, match="latency instant"):
        prices.find(parse_model_id("us.amazon.nova-pro-v1:0"), region="us-east-2", latency="instant")


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        (datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC), "18"),  # 3 + 15
        (datetime(2025, 12, 1, tzinfo=UTC), "36"),  # 6 + 30
        (datetime(2019, 1, 1, tzinfo=UTC), "18"),
        (datetime.fromisoformat("2025-11-30T20:00:00-05:00"), "36"),  # 01:00 UTC of 1 December
        (None, "36"),
    ],
)
def test_a_call_costs_what_it_cost_on_its_day(prices: PriceList, at: datetime | None, usd: str) -> None:
    """
    Claude 3.5 Sonnet doubled on 2025-12-01; both libraries that know it still say 3 and 15.
    """
    found = prices.find(
        parse_model_id("us.anthropic.claude-3-5-sonnet-20241022-v2:0"), region="us-east-1", at=at
    )

    assert cost({"input_tokens": MILLION, "output_tokens": MILLION}, found).usd == Decimal(usd)


def test_a_price_before_a_change_keeps_the_bands_of_today(prices: PriceList) -> None:
    """
    The old prices are known without their long-context band: twice the input price, as now.
    """
    at = datetime(2026, 8, 20, tzinfo=UTC)

    found = prices.find(parse_model_id("us.openai.gpt-5.6-sol"), region="us-east-1", at=at)

    assert [band.above_input_tokens for band in found.bands] == [0, 272_000]
    assert (per_million(found, "input_tokens"), per_million(found, "input_tokens", band=1)) == (
        Decimal("5.5"),
        11,
    )


# --- Regions and geographies ---------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "usd"),
    [
        ("us-east-1", "2.65"),
        ("us-west-2", "2.65"),
        ("eu-west-2", "3.45"),
        ("sa-east-1", "4.45"),
        ("me-central-1", "4.45"),  # not in the list: as the dearest that is
        (None, "4.45"),
        ("", "4.45"),
        ("us-gov-west-1", "2.65"),
    ],
)
def test_a_region_has_its_own_price(prices: PriceList, region: str | None, usd: str) -> None:
    """
    Llama 3 70B costs 68 % more in São Paulo; where nothing is known, the dearest is assumed.
    """
    found = prices.find(parse_model_id("meta.llama3-70b-instruct-v1:0"), region=region)

    assert per_million(found, "input_tokens") == Decimal(usd)


def test_a_bare_id_abroad_costs_no_less_than_the_geography_around_it(prices: PriceList) -> None:
    """
    The price of Nova Lite without a region is that of the US; in Europe it costs 30 % more.
    """
    lite = parse_model_id("amazon.nova-lite-v1:0")

    assert per_million(prices.find(lite, region="us-east-1"), "input_tokens") == Decimal("0.06")
    assert per_million(prices.find(lite, region="eu-west-1"), "input_tokens") == Decimal("0.078")
    assert per_million(prices.find(lite, region="ap-southeast-2"), "input_tokens") == Decimal("0.063")
    assert per_million(prices.find(lite, region="me-central-1"), "input_tokens") == Decimal("0.078")


def test_the_region_of_an_arn_counts_where_the_caller_knows_none(prices: PriceList) -> None:
    """
    An ARN says where it is.
    """
    arn = parse_model_id("arn:aws:bedrock:eu-west-2::foundation-model/meta.llama3-70b-instruct-v1:0")

    assert per_million(prices.find(arn, region=None), "input_tokens") == Decimal("3.45")


def test_an_unknown_geography_costs_as_much_as_the_dearest(prices: PriceList) -> None:
    """
    A new prefix works on the day that AWS opens it, and is not under-charged.
    """
    found = prices.find(parse_model_id("ca.anthropic.claude-sonnet-5"), region="ca-central-1")

    assert per_million(found, "input_tokens") == Decimal("2.4")  # as us-gov; us is 2.2, global 2.0
    assert "input_tokens" in found.derived


def test_govcloud_without_a_row_costs_a_fifth_more(prices: PriceList) -> None:
    """
    Every GovCloud row of a newer model is 1.2 of its commercial one.
    """
    found = prices.find(parse_model_id("anthropic.claude-3-haiku-20240307-v1:0"), region="us-gov-west-1")

    assert per_million(found, "input_tokens") == Decimal("0.3")  # 1.2 x 0.25


@pytest.mark.parametrize("region", ["cn-north-1", "eusc-de-east-1"])
def test_regions_that_bill_in_other_money_have_no_price(prices: PriceList, region: str) -> None:
    """
    A price in yuan or euros read as dollars would be a wrong limit.
    """
    with pytest.raises(UnpricedModel):
        prices.find(parse_model_id("amazon.nova-lite-v1:0"), region=region)
