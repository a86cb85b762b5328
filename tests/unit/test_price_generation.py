"""
How the packaged price list comes from facts, and what one fact tells about another.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from made_facts import fact, facts

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.domain.cost import Charge
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.pricing.calculate import cost
from bedrock_guard.pricing.generate import generate
from bedrock_guard.pricing.price_list import PriceList


def read_generated(made: dict[str, Any]) -> PriceList:
    files, _ = generate(made)
    return PriceList(lambda name: json.loads(files[name]))


def usd(made: dict[str, Any], model_id: str, meter: str, *, band: int = 0, **asked: Any) -> Decimal:
    """
    A generated price in USD per million.
    """
    found = read_generated(made).find(parse_model_id(model_id), **{"region": "us-east-1", **asked})
    return Decimal(found.bands[band].prices[meter]) / 10**10


def test_what_is_generated_prices_what_the_facts_say() -> None:
    """
    From a fact to a charge, with nothing of ours in between but arithmetic.
    """
    prices = read_generated(facts(input="0.000002", output="0.000006", input_above_10k="0.000004"))
    found = prices.find(parse_model_id("acme.one"), region="us-east-1")

    assert cost({"input_tokens": 10_000, "output_tokens": 1}, found).usd == Decimal("0.020006")
    assert cost({"input_tokens": 10_001}, found).charges == (Charge("input_tokens", 10_001, 4 * 10**10),)


def test_derived_prices_are_rounded_up_to_a_whole_step() -> None:
    """
    1.25 of the finest step there is has to become 2 of them: a bound is not below.
    """
    prices = read_generated(facts(input="0.0000000000000001"))
    found = prices.find(parse_model_id("acme.one"), region="us-east-1")

    assert found.bands[0].prices["cache_write_5m_input_tokens"] == 2


def test_a_place_has_the_long_context_band_that_another_has() -> None:
    """
    A band that a source forgot for one place would halve the price of the largest calls there.
    """
    made = facts(
        {
            "acme.one": fact("acme.one", {"input": "0.000002", "output": "0.000006"}, max_input_tokens=9000),
            "eu.acme.one": fact(
                "acme.one",
                {"input": "0.000003", "input_above_10k": "0.000006", "output": "0.000009"},
                scope="geo:eu",
            ),
        }
    )

    assert usd(made, "acme.one", "input_tokens", band=1) == 4  # 6 x 2 / 3
    assert usd(made, "eu.acme.one", "input_tokens", band=1) == 6
    assert read_generated(made).limits(parse_model_id("acme.one")) == ModelLimits(1_000_000)


def test_a_region_has_the_meters_that_others_have_in_proportion() -> None:
    """
    Caches in a dearer region cost more, not the full price of uncached tokens.
    """
    made = facts(input="0.000002", output="0.000006", cache_read="0.0000002", input_above_10k="0.000004")
    made["in_region_overrides"] = {
        "eu-west-1": {"acme.one": {"usd": {"input": "0.000003"}, "source": "litellm==1"}}
    }

    assert usd(made, "acme.one", "cache_read_input_tokens", region="eu-west-1") == Decimal("0.3")
    assert usd(made, "acme.one", "output_tokens", region="eu-west-1") == 9
    assert usd(made, "acme.one", "input_tokens", region="eu-west-1", band=1) == 6


def test_a_govcloud_region_is_completed_from_its_geography() -> None:
    """
    GovCloud has prices of its own; those of its profile are nearer than anyone's.
    """
    made = facts(
        {
            "acme.one": fact("acme.one", {"input": "0.000002", "cache_read": "0.0000002"}),
            "us-gov.acme.one": fact(
                "acme.one", {"input": "0.000004", "cache_read": "0.000001"}, scope="geo:us-gov"
            ),
        }
    )
    made["in_region_overrides"] = {
        "us-gov-west-1": {"acme.one": {"usd": {"input": "0.000004"}, "source": "litellm==1"}}
    }

    assert usd(made, "acme.one", "cache_read_input_tokens", region="us-gov-west-1") == 1


def test_a_region_at_the_common_price_has_the_other_tiers_too() -> None:
    """
    A row that only repeats the price must not hide the cheaper tiers beside it; a dearer one does.
    """
    made = facts(input="0.000002", input_flex="0.000001")
    made["in_region_overrides"] = {
        "us-west-2": {"acme.one": {"usd": {"input": "0.000002"}, "source": "litellm==1"}},
        "eu-west-1": {"acme.one": {"usd": {"input": "0.000003"}, "source": "litellm==1"}},
    }

    assert usd(made, "acme.one", "input_tokens", region="us-west-2", service_tier="flex") == 1
    assert usd(made, "acme.one", "input_tokens", region="eu-west-1", service_tier="flex") == 3


def test_prices_of_before_are_kept_beside_those_of_today() -> None:
    """
    A call of last year is priced at last year's price, however often the list is made anew.
    """
    history = [
        {"from": None, "usd": {"input": "0.000001"}},
        {"from": "2026-01-01", "usd": {"input": "0.000002"}, "source": "litellm==1"},
        {"from": "2026-06-01", "usd": {"input": "0.000004"}},
    ]
    now = {"input": "0.000004", "output": "0.000008", "input_above_10k": "0.000012"}
    made = facts({"acme.one": fact("acme.one", now, price_history=history)})
    rows = json.loads(generate(made)[0]["acme"])["models"]["acme.one"]["rows"]

    assert [
        (row.get("effective_from"), row.get("effective_to"), row["usd"]["input_tokens"])
        for row in rows
        if "above_input_tokens" not in row
    ] == [
        (None, "2026-01-01", "0.000001"),
        ("2026-01-01", "2026-06-01", "0.000002"),
        ("2026-06-01", None, "0.000004"),
    ]
    assert [row["usd"]["input_tokens"] for row in rows if "above_input_tokens" in row] == [
        "0.000003",  # 12 x 1 / 4
        "0.000006",
        "0.000012",
    ]


def test_optimized_latency_costs_more_where_standard_does() -> None:
    """
    The one price that is known is of the US.
    """
    made = facts(
        {
            "acme.one": fact("acme.one", {"input": "0.000002"}),
            "us.acme.one": fact("acme.one", {"input": "0.000002"}, scope="geo:us"),
            "eu.acme.one": fact("acme.one", {"input": "0.000003"}, scope="geo:eu"),
        }
    )
    made["extra_units"]["acme.one#latency-optimized"] = {
        "usd": {"input": "0.000004"},
        "sources": ["litellm==1"],
    }

    assert usd(made, "us.acme.one", "input_tokens", latency="optimized") == 4
    assert usd(made, "eu.acme.one", "input_tokens", latency="optimized") == 6


def test_a_model_known_to_be_optimized_is_priced_as_such() -> None:
    """
    Without a price in any source, a quarter above standard, as the two that have one.
    """
    llama = "meta.llama3-1-70b-instruct-v1:0"
    made = facts({llama: fact(llama, {"input": "0.000002"})})

    assert usd(made, llama, "input_tokens", latency="optimized") == Decimal("2.5")
    assert usd(made, llama, "input_tokens") == 2


def test_an_image_of_unknown_size_costs_what_the_largest_does() -> None:
    """
    One source has a flat price for all sizes, below that of the largest.
    """
    made = facts(
        {
            "acme.one": fact("acme.one", {"output_cost_per_image": "0.06"}, mode="image_generation"),
            "us.acme.one": fact("acme.one", {"output_cost_per_image": "0.06"}, scope="geo:us"),
        }
    )
    sizes = {"per_image_standard_1024": "0.04", "per_image_premium_2048": "0.08"}
    made["extra_units"]["acme.one"] = {"usd": sizes, "sources": ["litellm==1"]}

    for model_id in ("acme.one", "us.acme.one"):
        assert usd(made, model_id, "images") == 80_000
        assert usd(made, model_id, "images_standard_1024") == 40_000


def test_two_names_of_one_model_have_the_prices_of_both() -> None:
    """
    The sources disagree on how Kimi K2 Thinking is spelt, and each knows half of its regions.
    """
    one, other = "moonshot.kimi-k2-thinking", "moonshotai.kimi-k2-thinking"
    made = facts({one: fact(one, {"input": "0.000001"}, max_output_tokens=9)})
    made["in_region_overrides"] = {
        "eu-west-1": {other: {"usd": {"input": "0.000002"}, "source": "litellm==1"}}
    }

    for model_id in (one, other):
        assert usd(made, model_id, "input_tokens") == 1
        assert usd(made, model_id, "input_tokens", region="eu-west-1") == 2
        assert read_generated(made).limits(parse_model_id(model_id)).max_output_tokens == 9


def test_of_two_prices_for_one_guardrail_unit_the_dearer_counts() -> None:
    """
    Where the sources differed and AWS could be asked, the higher was right in every case.
    """
    made = facts(input="1")
    made["guardrails_per_text_unit"] = {
        "usd": {"contentPolicyUnits": "0.0001"},
        "source": "litellm==1",
        "aws_measured_2026_10_06": {"Guardrail-ContentPolicyUnitsConsumed": "0.00015"},
    }

    assert read_generated(made).any_model().bands[0].prices["guardrail_content_policy_units"] == 15 * 10**11
