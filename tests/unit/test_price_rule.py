"""
Prices of one's own: what a line says, and what it comes to.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.config.load import resolve
from bedrock_guard.domain.call import ModelRef
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.price_rule import WHOLE, PriceRule, parse_price_rule
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import ANY_MODEL
from bedrock_guard.pricing.own_prices import OwnPrices
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.unit_prices import UnitPrices

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROVISIONED = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
LIST = PriceList.packaged()


def rule(text: str, *, models: str = "*", meter: str = "input_tokens") -> PriceRule:
    return parse_price_rule(models, meter, text, unit="token")


def listed(model_id: str = SONNET, **place: Any) -> UnitPrices:
    return LIST.find(parse_model_id(model_id), **{"region": "us-east-1", **place})


def apply(rules: list[PriceRule], model_id: str = SONNET, **place: Any) -> UnitPrices | None:
    own = OwnPrices(rules)
    return own.apply(parse_model_id(model_id), listed(model_id, **place), listed(model_id))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("2.70 USD/1M", "price", 27_000_000_000),
        ("$2.70/1M", "price", 27_000_000_000),
        ("$2.70 / 1M", "price", 27_000_000_000),
        ("0.0027 USD/1K", "price", 27_000_000_000),
        ("0.0000027 USD", "price", 27_000_000_000),
        ("0.0000027 USD/1", "price", 27_000_000_000),
        ("-12 %", "share", 880_000),
        ("-12%", "share", 880_000),
        ("-12.5 %", "share", 875_000),
        ("-0.0001 %", "share", 999_999),
        ("+5 %", "share", 1_050_000),
        ("free", "free", 0),
    ],
)
def test_a_line_says_an_amount_a_share_or_free(text: str, kind: str, value: int) -> None:
    """
    As people write prices; by digits, never as a float.
    """
    assert rule(text)[2:] == (kind, value)


@pytest.mark.parametrize(
    "text",
    ["", "2.70", "-2.70 USD/1M", "0 USD", "$0/1M", "-100 %", "-120 %", "12 %", "2,70 USD/1M", "2.70 EUR/1M",
     "nan USD", "1e3 USD", "2.70 USD/1B", "2.70 USD", "0.00000000000000001 USD", "0.0000000000000001 USD/1K", "Free"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    """
    A discount without its sign, a token for 2.70 USD: slips that would cost or hide a fortune.
    """
    with pytest.raises(ConfigurationError):
        rule(text)


def test_every_meter_takes_no_amount() -> None:
    """
    One amount for input, output and images alike is no price.
    """
    with pytest.raises(ConfigurationError, match="every meter"):
        rule("2.70 USD/1M", meter="*")


def test_a_share_is_taken_of_every_meter_in_every_band() -> None:
    """
    As a private discount reads: so much off everything.
    """
    found = apply([rule("-12 %", meter="*")])

    assert found is not None
    for band, own in zip(listed().bands, found.bands, strict=True):
        assert own.above_input_tokens == band.above_input_tokens
        for meter, price in band.prices.items():
            assert own.prices[meter] == (price if meter in ANY_MODEL else -(-price * 88 // 100))


def test_every_meter_is_every_meter_of_the_models_own() -> None:
    """
    Committed throughput makes tokens free; AWS bills guardrails and routing beside it.
    """
    shared = listed().bands[0].prices
    found = apply([rule("free", meter="*")])
    named = apply([rule("-50 %", meter="prompt_router_requests"), rule("free", models="us.*", meter="*")])

    assert found is not None
    assert named is not None
    assert found.bands[0].prices["input_tokens"] == 0
    assert {meter: found.bands[0].prices[meter] for meter in ANY_MODEL} == {
        meter: shared[meter] for meter in ANY_MODEL
    }
    assert named.bands[0].prices["prompt_router_requests"] == 10**13 // 2


def test_an_unlisted_model_keeps_the_list_price_of_what_every_model_costs() -> None:
    """
    Else a routed or guarded call would be refused for want of a fee that is known.
    """
    model, beside = parse_model_id(PROVISIONED), LIST.any_model("us-east-1")
    found = OwnPrices([rule("free", meter="*"), rule("-50 %", meter="guardrail_topic_policy_units")]).apply(
        model, None, None, beside=beside
    )

    assert found is not None
    prices = found.bands[0].prices
    assert (prices["input_tokens"], prices["images"]) == (0, 0)
    assert prices["prompt_router_requests"] == 10**13
    assert prices["guardrail_topic_policy_units"] == 75 * 10**10
    nothing = OwnPrices([rule("free", meter="guardrail_topic_policy_units")])
    assert nothing.apply(model, None, None, beside=beside) is None


def test_what_is_behind_an_id_is_part_of_what_is_remembered() -> None:
    """
    A prompt router answers with several models under one id.
    """
    own = OwnPrices([rule("1 USD/1M", models="acme.*"), rule("2 USD/1M", models="other.*")])
    router = ModelRef("arn:router", "prompt-router")
    found = [own.apply(router._replace(model=model), None, None) for model in ("acme.one", "other.one")]

    assert [each and each.bands[0].prices["input_tokens"] for each in found] == [10**10, 2 * 10**10]


def test_an_amount_is_of_the_default_tier_and_keeps_the_lists_ratios_elsewhere() -> None:
    """
    Else a private offer would make the priority tier as cheap as the default one.
    """
    rules = [rule("1.65 USD/1M")]  # half the list price of 3.30
    plain = apply(rules)
    priority = apply(rules, service_tier="priority")

    assert plain is not None
    assert priority is not None
    assert plain.bands[0].prices["input_tokens"] == 16_500_000_000
    assert plain.bands[0].prices["output_tokens"] == listed().bands[0].prices["output_tokens"]
    assert plain.bands[1].prices["input_tokens"] == listed().bands[1].prices["input_tokens"] // 2
    half = listed(service_tier="priority").bands[0].prices["input_tokens"]
    assert priority.bands[0].prices["input_tokens"] == -(-half // 2)


def test_the_last_table_that_fits_counts_and_a_meters_own_line_is_stronger() -> None:
    """
    In the order of the file, as its reader expects.
    """
    rules = [
        rule("-50 %", meter="*"),
        rule("-10 %", models="anthropic.*", meter="*"),
        rule("-20 %", models="anthropic.*", meter="output_tokens"),
        rule("-30 %", models="us.anthropic.claude-sonnet-4-5*", meter="cache_read_input_tokens"),
        rule("free", models="amazon.*", meter="*"),
    ]
    found = apply(rules)
    prices = listed().bands[0].prices

    assert found is not None
    own = found.bands[0].prices
    assert own["input_tokens"] == prices["input_tokens"] * 9 // 10
    assert own["output_tokens"] == prices["output_tokens"] * 8 // 10
    assert own["cache_read_input_tokens"] == prices["cache_read_input_tokens"] * 7 // 10


def test_what_the_list_lacks_can_be_declared() -> None:
    """
    Provisioned throughput is paid by the hour: nothing for one call more.
    """
    model = parse_model_id(PROVISIONED)
    free = OwnPrices([rule("free", models="arn:aws:bedrock:*:provisioned-model/*", meter="*")])
    amounts = OwnPrices([rule("1 USD/1M"), rule("5 USD/1M", meter="output_tokens")])

    found = free.apply(model, None, None)
    assert found is not None
    assert set(found.bands[0].prices.values()) == {0}
    found = amounts.apply(model, None, None)
    assert found is not None
    assert dict(found.bands[0].prices) == {"input_tokens": 10_000_000_000, "output_tokens": 50_000_000_000}
    assert OwnPrices([rule("-10 %", meter="*")]).apply(model, None, None) is None
    assert OwnPrices([]).apply(model, None, None) is None


@given(st.integers(1, 10**12), st.integers(1, 1_999_999))
def test_a_share_is_exact_and_rounded_up_to_a_step(price: int, share: int) -> None:
    """
    Never below: the rounding is a hundred-millionth of a nano-dollar.
    """
    base = UnitPrices(
        "m", "us", None, "default", "standard", (listed().bands[0].__class__(0, {"input_tokens": price}),)
    )
    own = OwnPrices([PriceRule("*", "*", "share", share)])
    found = own.apply(parse_model_id(SONNET), base, base)

    assert found is not None
    exact = Fraction(price * share, WHOLE)
    assert exact <= found.bands[0].prices["input_tokens"] < exact + 1


# --- in the settings file ---------------------------------------------------------------------


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "bedrock-guard.toml"
    path.write_text('budget = "5 USD"\n' + text)
    return resolve(settings=path).settings


def test_a_file_keeps_the_order_of_its_tables(tmp_path: Path) -> None:
    """
    The last that fits counts, so order is meaning.
    """
    settings = read(
        tmp_path,
        '[prices."b*"]\n"*" = "-1 %"\n[prices."a*"]\ninput_tokens = "1 USD/1M"\noutput_tokens = "free"\n',
    )

    assert [(each.models, each.meter) for each in settings.prices] == [
        ("b*", "*"),
        ("a*", "input_tokens"),
        ("a*", "output_tokens"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[prices."a*"]\ninput_token = "1 USD/1M"',
            r"prices\.'a\*'\.input_token: 'input_token' is no meter; did you mean",
        ),
        ('[prices."a*"]\ninput_tokens = "cheap"', r"prices\.'a\*'\.input_tokens: 'cheap' is no price"),
        ('[prices."a*"]\ninput_tokens = 3', "prices"),
        ('[prices]\ninput_tokens = "1 USD/1M"', "prices"),
        (f'[models]\n"{PROVISIONED}" = "sonnet"', "is no model id"),
        (f'[models]\n"{SONNET}" = "{SONNET}"', "only opaque ids"),
        ("max_price_age_days = 0", "max_price_age_days"),
        ('max_price_age_days = "9"', "max_price_age_days"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """
    What a file says of money must not be guessed at.
    """
    with pytest.raises(ConfigurationError, match=told):
        read(tmp_path, text)
