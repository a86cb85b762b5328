"""
Which budgets a call counts towards.
"""

from __future__ import annotations

import pytest

from bedrock_guard.budgets.matching import UNTAGGED, Matcher
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError

NOW = 1_800_000_000.0


def names(matcher: Matcher, **tags: str) -> list[str]:
    return [match.budget.name for match in matcher.match(tags, NOW)]


def test_a_budget_counts_the_calls_whose_every_glob_matches() -> None:
    """
    A hierarchy is plain budgets that must all admit.
    """
    matcher = Matcher(
        [
            Budget("all", "5 USD"),
            Budget("claude", "5 USD", match={"model": "anthropic.*"}),
            Budget("team", "5 USD", match={"model": "anthropic.*", "team": "search"}),
        ],
        Settings(),
    )

    assert names(matcher, model="amazon.nova-lite-v1:0") == ["all"]
    assert names(matcher, model="anthropic.claude-x", team="ads") == ["all", "claude"]
    assert names(matcher, model="anthropic.claude-x", team="search") == ["all", "claude", "team"]


def test_per_keeps_one_balance_for_each_value() -> None:
    """
    One user's spending must not refuse another's call.
    """
    matcher = Matcher([Budget("user", "5 USD", per=("user", "team"))], Settings())

    keys = [matcher.match({"user": user, "team": "a"}, NOW)[0].key.per for user in ("ann", "bob")]

    assert keys == [(("team", "a"), ("user", "ann")), (("team", "a"), ("user", "bob"))]


def test_an_untagged_call_is_never_outside_the_budget() -> None:
    """
    Leaving a tag away must not be a way round the limit.
    """
    matcher = Matcher([Budget("user", "5 USD", per="user")], Settings())

    assert matcher.match({}, NOW)[0].key.per == (("user", UNTAGGED),)


def test_an_untagged_call_can_be_refused() -> None:
    """
    Some would rather know than share.
    """
    matcher = Matcher([Budget("user", "5 USD", per="user")], Settings(untagged="refuse"))

    with pytest.raises(ConfigurationError, match=r"scope\(\*\*\{'user'"):
        matcher.match({}, NOW)


def test_two_budgets_of_one_name_are_refused() -> None:
    """
    They would share a balance under two limits.
    """
    with pytest.raises(ConfigurationError, match="'a'"):
        Matcher([Budget("a", "5 USD"), Budget("a", "6 USD")], Settings())
