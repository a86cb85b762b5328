"""
The grammar of limits and budgets.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from bedrock_guard.domain.budget import Budget, Period, amount_of, in_api_units, parse_budget, parse_limit
from bedrock_guard.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "amount", "unit", "period"),
    [
        ("5 USD/day", 5_000_000_000, "USD", Period("day")),
        ("$5/day", 5_000_000_000, "USD", Period("day")),
        ("$0.05", 50_000_000, "USD", Period()),
        ("250 USD/month", 250_000_000_000, "USD", Period("month")),
        ("20 USD", 20_000_000_000, "USD", Period()),
        ("1,000 USD/quarter", 1_000_000_000_000, "USD", Period("quarter")),
        ("100 requests/minute", 100, "requests", Period("minute")),
        ("50M uncached_input_tokens/day", 50_000_000, "uncached_input_tokens", Period("day")),
        ("1.5K output_tokens/week", 1_500, "output_tokens", Period("week")),
        ("5 USD/6 hours", 5_000_000_000, "USD", Period("hour", 6)),
        ("0 USD/year", 0, "USD", Period("year")),
    ],
)
def test_a_limit_is_one_string(text: str, amount: int, unit: str, period: Period) -> None:
    """
    The README's strings are what people will write first.
    """
    limit = parse_limit(text)

    assert (limit.amount, limit.unit, limit.period) == (amount, unit, period)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "USD 5",
        "-5 USD",
        "5 EUR/day",
        "5 USD/days",
        "5 USD/2 weeks",
        "5 USD/0 days",
        "5 USD/fortnight",
        "5 USD/rolling second",
        "5 USD/rolling month",
        "5 USD/rolling",
        "$5 tokens",
        "1.5 tokens",
        "five USD",
        "5 USD / day / month",
        "nan USD",
        "99999999999 USD",
    ],
)
def test_a_limit_that_cannot_be_understood_is_quoted(text: str) -> None:
    """
    A limit that is read wrong is worse than none: the error shows what was written, and the grammar.
    """
    with pytest.raises(ConfigurationError) as caught:
        parse_limit(text)

    assert repr(text) in str(caught.value)


def test_a_changed_limit_keeps_its_rule_and_a_changed_unit_does_not() -> None:
    """
    Balances go by the rule: raising a limit must not forget what was spent.
    """
    assert parse_limit("5 USD/day").rule("UTC") == parse_limit("9 USD/day").rule("UTC") == "USD/day@UTC"
    assert parse_limit("5 tokens/day").rule("UTC") != parse_limit("5 USD/day").rule("UTC")
    assert parse_limit("5 USD/day").rule("Asia/Tokyo") == "USD/day@Asia/Tokyo"
    assert parse_limit("5 USD").rule("Asia/Tokyo") == "USD"


def test_a_budget_may_be_named_in_its_string() -> None:
    """
    Programs that share a ledger and give no name share one balance; a name is how they part.
    """
    assert parse_budget("5 USD/day").name == "default"
    assert str(parse_budget("search: 250 USD/day")) == "search (250 USD/day)"


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 200, "é"])
def test_a_budget_needs_a_name_that_can_be_a_key(name: str) -> None:
    """
    Names go into ledger keys, logs and file names of every backend.
    """
    with pytest.raises(ConfigurationError, match="not a budget's name"):
        Budget(name, "5 USD")


def test_a_budget_takes_one_tag_or_several() -> None:
    """
    `per="user"` and `per=("team", "user")` are both in the README.
    """
    assert Budget("a", "5 USD", per="user").per == ("user",)
    assert Budget("a", "5 USD", per=["team", "user"]).per == ("team", "user")
    with pytest.raises(ConfigurationError, match="twice"):
        Budget("a", "5 USD", per=("user", "user"))


def test_each_unit_adds_up_its_own_meters() -> None:
    """
    The incident was uncached input; a limit on it must not count what the cache served.
    """
    usage = {
        "input_tokens": 1,
        "cache_read_input_tokens": 10,
        "cache_write_5m_input_tokens": 100,
        "cache_write_1h_input_tokens": 1_000,
        "output_tokens": 10_000,
        "images": 100_000,
    }

    counted = {
        unit: amount_of(unit, nanousd=7, usage=usage)
        for unit in (
            "USD",
            "requests",
            "tokens",
            "total_input_tokens",
            "uncached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
        )
    }

    assert counted == {
        "USD": 7,
        "requests": 1,
        "tokens": 11_111,
        "total_input_tokens": 1_111,
        "uncached_input_tokens": 1,
        "cache_write_tokens": 1_100,
        "output_tokens": 10_000,
    }


def test_money_is_exact_at_the_edge_of_the_api() -> None:
    """
    A float anywhere would make the books disagree in the ninth digit.
    """
    assert in_api_units(1, "USD") == Decimal("0.000000001")
    assert str(in_api_units(5_000_000_000, "USD")) == "5.00"
    assert in_api_units(5, "requests") == 5
