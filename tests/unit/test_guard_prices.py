"""
What a guard says a usage costs: whose region counts, and which guards price alike.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks import attach
from bedrock_guard.pricing.overlay import write_overlay

NOVA = "amazon.nova-lite-v1:0"
MILLION = {"input_tokens": 1_000_000}


@pytest.fixture
def guard() -> Guard:
    return Guard(budgets=[], ledger="memory://")


def test_an_arns_region_is_where_it_is_called(guard: Guard) -> None:
    """
    As for a call: GovCloud is dearer, and the region beside the ARN may be a default.
    """
    arn = f"arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/{NOVA}"

    at_home, there = (guard.price(NOVA, MILLION, region=region) for region in ("us-east-1", "us-gov-west-1"))
    assert at_home.nanousd < there.nanousd
    assert guard.price(arn, MILLION).nanousd == guard.price(arn, MILLION, region="us-east-1").nanousd
    assert guard.price(arn, MILLION).nanousd == there.nanousd


@pytest.mark.parametrize(
    "asked",
    [
        {"region": 5},
        {"region": ["us-east-1"]},
        {"region": None},
        {"region": ""},
        {"service_tier": ["flex"]},
        {"service_tier": None},
        {"latency": 5},
    ],
)
def test_what_is_no_word_is_told(guard: Guard, asked: dict[str, Any]) -> None:
    """
    At the door, and not as a TypeError from inside.
    """
    with pytest.raises(ConfigurationError):
        guard.price(NOVA, MILLION, **asked)


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
        datetime(2026, 11, 1, tzinfo=UTC),
    ],
)
def test_every_moment_has_a_price(guard: Guard, at: datetime) -> None:
    """
    The first and last day of the calendar are none in UTC.
    """
    assert guard.price(NOVA, MILLION, at=at).nanousd == 60_000_000


def test_guards_with_two_price_lists_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same budgets by other prices are another limit, so neither stands for the other.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    client = boto3.client("bedrock-runtime", region_name="us-east-1")

    def attach_one() -> int:
        Guard(budget="5 USD/day", ledger=url).attach(client)
        return len(attach.owners_of(client))

    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "prices.json"))
    assert [attach_one(), attach_one()] == [1, 1]
    row = {
        "where": ["us-east-1"],
        "usd": {"input_tokens": "0.1"},
        "source": "aws-price-list",
        "published": "2026-09-01",
    }
    write_overlay(tmp_path / "prices.json", {"as_of": "2026-09-01", "models": {NOVA: {"rows": [row]}}})
    assert [attach_one(), attach_one()] == [2, 2]
