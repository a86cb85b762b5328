"""
Which thresholds a balance has reached.
"""

from __future__ import annotations

from typing import Any

import pytest

from bedrock_guard import Budget
from bedrock_guard.budgets.alerting import balance_alert, day_alert, day_key, reached
from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.domain.alert import alert_id
from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError


@pytest.mark.parametrize(
    ("limit", "alerts", "spent", "expected"),
    [
        ("100 requests/day", (0.07,), 6, []),
        ("100 requests/day", (0.07,), 7, [0.07]),  # 0.07 * 100 is 7.000000000000001 in floats
        ("100 requests/day", (0.29,), 29, [0.29]),
        ("3 requests/day", (0.5,), 1, []),
        ("3 requests/day", (0.5,), 2, [0.5]),
        ("10 requests/day", (0.5, 0.8, 1.0), 10, [0.5, 0.8, 1.0]),
        ("10 requests/day", (1.0, 1.2), 12, [1.0, 1.2]),
        ("5 USD/day", (0.8,), 3_999_999_999, []),
        ("5 USD/day", (0.8,), 4_000_000_000, [0.8]),
        ("0 USD/day", (0.5,), 0, []),
        ("0 USD/day", (0.5,), 1, [0.5]),
        ("9000000000 USD", (1.0,), 8_999_999_999_999_999_999, []),
    ],
)
def test_a_share_is_reached_to_the_unit(
    limit: str, alerts: tuple[float, ...], spent: int, expected: list[float]
) -> None:
    """
    Neither a nano-dollar early nor a call late, at any size.
    """
    matcher = Matcher([Budget("all", limit, alerts=alerts)], Settings())
    (match,) = matcher.match({}, 1_795_305_600.0)

    assert list(reached(match, spent)) == expected


def test_a_balance_that_was_swept_is_found_again_by_its_key() -> None:
    """
    A sweep knows keys only; what is another guard's is for that to tell.
    """
    matcher = Matcher([Budget("all", "5 USD/day", per="user")], Settings())
    (match,) = matcher.match({"user": "ann"}, 1_795_305_600.0)

    assert matcher.find(match.key) == match
    assert matcher.find(match.key._replace(budget="other")) is None
    assert matcher.find(match.key._replace(rule="USD/month@UTC")) is None
    old = LedgerKey("all", "USD/day@UTC", (), match.window.start - 86_400)
    found = matcher.find(old)
    assert found is not None
    assert (found.window.start, found.window.end) == (match.window.start - 86_400, match.window.start)


def test_a_tag_writes_no_line_of_a_log_and_no_book() -> None:
    """
    Whose balance it is an end user may have named.
    """
    matcher = Matcher([Budget("all", "5 USD/day", per="user")], Settings())
    (match,) = matcher.match({"user": "eve\nCRITICAL \u202ellik\x1b[2J" + 1_000_000 * "x"}, 1_795_305_600.0)
    zone = matcher.zone
    alert = balance_alert("threshold", 0.5, match, spent=1, what="50 %", at_s=1_795_305_600.0, zone=zone)

    assert alert.text.startswith("all (5 USD/day) [user=eve CRITICAL  llik [2Jxxx")
    assert len(alert.to_json()) < 2000
    assert alert.id == alert_id("threshold", 0.5, match.key), "of the whole value"
    long = day_alert("ledger", day_key("ledger", (), 0), text=f"a\n{5000 * 'b'}", at_s=0)
    assert (len(long.text), long.text[:3]) == (1000, "a b")


@pytest.mark.parametrize("alerts", [(0,), (-0.5,), (80,), ("0.5",), (True,), (float("nan"),), 0.5, "0.5"])
def test_a_share_that_cannot_be_meant_is_refused(alerts: Any) -> None:
    """
    80 would be 80 times the limit, and 0 is reached by nothing at all.
    """
    with pytest.raises(ConfigurationError, match=r"Budget 'all': alerts is .*shares of the limit"):
        Budget("all", "5 USD/day", alerts=alerts)


def test_shares_are_sorted_and_each_is_there_once() -> None:
    """
    Two budgets that say the same are equal.
    """
    assert Budget("all", "5 USD/day", alerts=[1, 0.5, 0.5]).alerts == (0.5, 1.0)
    assert Budget("all", "5 USD/day").alerts == (0.5, 0.8, 1.0)
