"""
The packaged price list as a whole: what has no price, what is not a token, and what holds for all of it.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.calculate import cost, nanousd
from bedrock_guard.pricing.price_list import PriceList, UnitPrices
from bedrock_guard.pricing.rows import read_packaged

MILLION = 1_000_000


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList.packaged()


def per_million(found: UnitPrices, meter: str, *, band: int = 0) -> Decimal:
    return Decimal(found.bands[band].prices[meter]) / 10**10


# --- What has no price ---------------------------------------------------------------


@pytest.mark.parametrize(
    "model_id",
    [
        "amazon.nova-lite-v9:0",
        "amazon.nova-lite-v1:7",
        "my-nova-lite-clone-amazon.nova-lite-v1:0",
        "amazon.nova",
        "acme.model-v1:0",
        "index.models-v1:0",
        "274u1upxm897",
        "anthropic.claude-haiku-4-5@20251001",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/1arbu5hu2sjr",
        "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0/abcdefghijkl",
    ],
)
def test_what_only_resembles_a_model_has_no_price(prices: PriceList, model_id: str) -> None:
    """
    A table that matches by substring prices `nova-lite-v9` as v1, and nobody notices.
    """
    with pytest.raises(UnpricedModel):
        prices.find(parse_model_id(model_id), region="us-east-1")
    assert prices.limits(parse_model_id(model_id)) == ModelLimits()


def test_an_unpriced_model_says_what_and_where_and_what_to_do(prices: PriceList) -> None:
    """
    The text is all that a caller sees of it.
    """
    with pytest.raises(UnpricedModel) as refused:
        prices.find(parse_model_id("meta.llama9-70b"), region="eu-central-1", service_tier="flex")

    assert str(refused.value) == (
        "No price for 'meta.llama9-70b' in eu-central-1, tier flex (price list of 2026-11-21).\n"
        'Set on_unpriced = "allow" to let such calls pass without a price, or "upper_bound" to charge them '
        "at the dearest price of the list."
    )


@pytest.mark.parametrize(
    ("model_id", "usd"),
    [
        ("amazon.titan-text-lite-v1", "0.15"),
        ("amazon.titan-text-lite-v1:0:4k", "0.15"),
        ("cohere.command-text-v14:0:4k", "1"),
        ("amazon.nova-lite-v1", "0.06"),
    ],
)
def test_a_revision_may_be_left_out_on_either_side(prices: PriceList, model_id: str, usd: str) -> None:
    """
    The list has some models without the revision that Bedrock shows, and callers leave it out.
    """
    assert per_million(prices.find(parse_model_id(model_id), region="us-east-1"), "input_tokens") == Decimal(
        usd
    )


@pytest.mark.parametrize("model_id", ["amazon.titan-text-lite-v1:1", "amazon.nova-lite-v1:1"])
def test_another_revision_is_another_model(prices: PriceList, model_id: str) -> None:
    """
    Nobody knows what it costs: a new revision may have a new price.
    """
    with pytest.raises(UnpricedModel):
        prices.find(parse_model_id(model_id), region="us-east-1")


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), 3),
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))), 6),
    ],
)
def test_the_ends_of_time_have_a_price(prices: PriceList, at: datetime, usd: int) -> None:
    """
    In UTC these moments are not in the calendar.
    """
    sonnet = parse_model_id("anthropic.claude-3-5-sonnet-20241022-v2:0")

    assert per_million(prices.find(sonnet, region="us-east-1", at=at), "input_tokens") == usd


def test_a_used_meter_without_a_price_is_never_free(prices: PriceList) -> None:
    """
    An embedding has no output price; a reader that says $0 for a million of them is how limits fail.
    """
    titan = prices.find(parse_model_id("amazon.titan-embed-text-v2:0"), region="us-east-1")
    usage = {"input_tokens": MILLION, "output_tokens": MILLION}

    with pytest.raises(UnpricedModel, match=r"output_tokens of 'amazon.titan-embed-text-v2:0' in us-east-1"):
        cost(usage, titan)
    with pytest.raises(UnpricedModel, match="output_tokens"):
        nanousd(usage, titan)
    bounded = cost(usage, titan, dearest=prices.dearest())

    assert (bounded.usd, bounded.priced) == (Decimal("137.52"), "upper_bound")  # 0.02 + 137.50
    assert nanousd(usage, titan, dearest=prices.dearest()) == (137_520_000_000, "upper_bound")


def test_what_is_priced_by_the_dearest_alone_says_so(prices: PriceList) -> None:
    """
    Under `on_unpriced = "upper_bound"` there is no other price: the entry must not look like a list price.
    """
    dearest = prices.dearest()

    assert nanousd({"input_tokens": 2}, dearest, dearest=dearest) == (55_000, "upper_bound")
    assert cost({"input_tokens": 2}, dearest, dearest=dearest).priced == "upper_bound"


def test_a_meter_that_nothing_knows_has_no_price_at_all(prices: PriceList) -> None:
    """
    Not even a bound of last resort: there is nothing to bound it by.
    """
    found = prices.find(parse_model_id("amazon.nova-lite-v1:0"), region="us-east-1")

    with pytest.raises(UnpricedModel, match="holograms"):
        cost({"holograms": 1}, found, dearest=prices.dearest())


def test_nothing_used_costs_nothing(prices: PriceList) -> None:
    """
    Replies state zeros of meters that the model does not have.
    """
    titan = prices.find(parse_model_id("amazon.titan-embed-text-v2:0"), region="us-east-1")

    assert nanousd({"output_tokens": 0, "images": 0}, titan) == (0, "list")
    assert cost({"output_tokens": 0}, titan).charges == ()
    assert nanousd({"input_tokens": 5, "output_tokens": -5}, titan)[0] == 100


# --- Meters beside tokens ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "meter", "quantity", "usd"),
    [
        ("stability.sd3-5-large-v1:0", "images", 2, "0.16"),
        ("amazon.rerank-v1:0", "queries", 3, "0.003"),
        ("amazon.nova-reel-v1:0", "output_video_seconds", 6, "0.48"),
        ("amazon.nova-canvas-v1:0", "images_standard_1024", 1, "0.04"),
        ("amazon.nova-canvas-v1:0", "images_premium_2048", 1, "0.08"),
        ("amazon.nova-canvas-v1:0", "images", 1, "0.08"),
        ("us.twelvelabs.pegasus-1-2-v1:0", "input_video_seconds", 100, "0.049"),
        ("amazon.nova-sonic-v1:0", "input_audio_tokens", MILLION, "3.40"),
        ("amazon.titan-embed-image-v1", "input_images", 10, "0.0006"),
        ("amazon.nova-lite-v1:0", "guardrail_content_policy_units", 4, "0.0006"),
        ("amazon.nova-lite-v1:0", "guardrail_word_policy_units", 4, "0.00"),
        ("amazon.nova-lite-v1:0", "web_grounding_requests", 2, "0.06"),
    ],
)
def test_what_is_not_a_token_has_a_price(
    prices: PriceList, model_id: str, meter: str, quantity: int, usd: str
) -> None:
    """
    Images, seconds, queries and guardrail units are money that token counters do not see.
    """
    found = prices.find(parse_model_id(model_id), region="us-east-1")

    assert cost({meter: quantity}, found).usd == Decimal(usd)


def test_guardrail_units_cost_the_same_with_every_model_and_with_none(prices: PriceList) -> None:
    """
    A guardrail is billed beside the model, and ApplyGuardrail without one.
    """
    usage = {
        "guardrail_content_policy_units": 1,  # 0.00015
        "guardrail_topic_policy_units": 1,  # 0.00015
        "guardrail_sensitive_information_policy_units": 1,  # 0.0001
        "guardrail_contextual_grounding_policy_units": 1,  # 0.0001
        "guardrail_automated_reasoning_policy_units": 1,  # 0.00017
        "guardrail_content_policy_image_units": 1,  # 0.00075
        "guardrail_word_policy_units": 9,
        "guardrail_sensitive_information_policy_free_units": 9,
    }
    found = prices.find(parse_model_id("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), region="us-east-1")

    assert cost(usage, found).usd == cost(usage, prices.any_model()).usd == Decimal("0.00142")
    assert all(band.prices["guardrail_word_policy_units"] == 0 for band in found.bands)


def test_cached_tokens_without_a_row_cost_no_less_than_they_can(prices: PriceList) -> None:
    """
    No one may fill a cache for free because a table has a gap.
    """
    found = prices.find(parse_model_id("mistral.mistral-large-2407-v1:0"), region="us-east-1")

    assert per_million(found, "cache_read_input_tokens") == 2
    assert per_million(found, "cache_write_5m_input_tokens") == Decimal("2.5")
    assert per_million(found, "cache_write_1h_input_tokens") == 4
    assert found.derived == {
        "cache_read_input_tokens",
        "cache_write_5m_input_tokens",
        "cache_write_1h_input_tokens",
    }


# --- The whole list ------------------------------------------------------------------


def test_every_model_in_the_list_has_a_price(prices: PriceList) -> None:
    """
    An entry that cannot be found again by its own name would be refused in production.
    """
    models = list(prices.models())

    assert len(models) == len(set(models)) > 150
    for model in models:
        found = prices.find(parse_model_id(model), region="us-east-1")
        assert found.model == model
        assert found.bands[0].above_input_tokens == 0
        assert all(
            price > 0
            for band in found.bands
            for meter, price in band.prices.items()
            if "word_policy" not in meter and "free_units" not in meter
        )


def test_no_band_is_cheaper_than_the_one_below_and_no_priority_than_standard(prices: PriceList) -> None:
    """
    A bound looks at the band it could land in; were a higher one cheaper, it would not be a bound.
    """
    for model in prices.models():
        ref = parse_model_id(model)
        found = prices.find(ref, region="us-east-1")
        priority = prices.find(ref, region="us-east-1", service_tier="priority")
        for low, high in zip(found.bands, found.bands[1:], strict=False):
            assert low.above_input_tokens < high.above_input_tokens
            assert all(high.prices[meter] >= price for meter, price in low.prices.items()), model
        for meter, price in found.bands[0].prices.items():
            assert priority.bands[0].prices[meter] >= price, (model, meter)


def test_the_dearest_is_no_less_than_any_price_in_the_list(prices: PriceList) -> None:
    """
    It is what a meter without a price is charged at, after the money is spent.
    """
    dearest = prices.dearest().bands[0].prices

    assert Decimal(dearest["input_tokens"]) / 10**10 == Decimal("27.5")
    assert Decimal(dearest["output_tokens"]) / 10**10 == Decimal("137.5")
    for model in prices.models():
        for tier in ("default", "batch"):
            found = prices.find(parse_model_id(model), region="us-east-1", service_tier=tier)
            for band in found.bands:
                for meter in set(band.prices) - found.derived:
                    assert dearest[meter] >= band.prices[meter], (model, meter)


def test_limits_are_those_of_the_dearest_band(prices: PriceList) -> None:
    """
    A window of 200,000 would hide the band above it from every bound.
    """
    assert prices.limits(parse_model_id("us.anthropic.claude-opus-4-6-v1")) == ModelLimits(MILLION, 128_000)
    assert prices.limits(parse_model_id("anthropic.claude-sonnet-4-5-20250929-v1:0")) == ModelLimits(
        MILLION, 64_000
    )
    for model in prices.models():
        found = prices.find(parse_model_id(model), region="us-east-1")
        window = prices.limits(parse_model_id(model)).max_input_tokens
        assert window is None or window > found.bands[-1].above_input_tokens


def test_limits_of_embeddings_are_not_taken_for_those_of_a_request(prices: PriceList) -> None:
    """
    512 tokens is the most for one text; a request carries 96.
    """
    assert prices.limits(parse_model_id("cohere.embed-english-v3")) == ModelLimits()


def test_a_maker_is_read_when_it_is_first_asked_for() -> None:
    """
    Most programs use one or two makers; the others must not cost them a start.
    """
    read: list[str] = []
    prices = PriceList(lambda name: read.append(name) or read_packaged(name))  # type: ignore[func-returns-value]

    prices.find(parse_model_id("us.amazon.nova-lite-v1:0"), region="us-east-1")
    prices.find(parse_model_id("amazon.nova-pro-v1:0"), region="us-east-1")
    prices.dearest()

    assert read == ["index", "amazon"]


def test_the_same_question_gives_the_same_object(prices: PriceList) -> None:
    """
    It is asked on the hot path, before each call.
    """
    ref = parse_model_id("us.amazon.nova-lite-v1:0")

    assert prices.find(ref, region="us-east-1") is prices.find(ref, region="us-east-1")


def test_regions_and_ids_that_come_and_go_do_not_fill_memory() -> None:
    """
    Both are a caller's strings.
    """
    prices = PriceList.packaged()
    ref = parse_model_id("amazon.rerank-v1:0")

    for number in range(5000):
        prices.find(ref, region=f"us-east-{number}")
        prices.limits(parse_model_id(f"amazon.rerank-{number}"))

    assert len(prices._found) <= 4096
    assert len(prices._models) <= 4096


def test_the_list_says_how_old_it_is_and_where_it_is_from(prices: PriceList) -> None:
    """
    Every value names its sources, and the index when they were read.
    """
    index = read_packaged("index")

    assert prices.as_of == date.fromisoformat(index["as_of"])
    assert "bedrock_mantle" in index["left_out"]
    for maker in index["makers"]:
        for entry in read_packaged(maker)["models"].values():
            for row in entry["rows"]:
                source = row["source"]
                named = (
                    [source] * len(row["usd"]) if isinstance(source, str) else [source[m] for m in row["usd"]]
                )
                assert {part for each in named for part in each.split()} <= set(index["sources"])
