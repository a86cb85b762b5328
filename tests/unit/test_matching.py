"""
Which budgets a call counts towards.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard import BudgetExceeded, Guard, scope
from bedrock_guard.budgets.matching import UNTAGGED, Matcher
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.globs import Globs, compile_match
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


def test_a_balance_is_that_of_the_window_whoever_asked_before() -> None:
    """
    Users come in any order, and a clock may be set back.
    """
    matcher = Matcher([Budget("user", "5 USD/day", per="user")], Settings())
    day = 86_400

    starts = [
        matcher.match({"user": f"{number}"}, now)[0].key.window_start
        for number, now in enumerate([NOW, NOW + day, NOW, NOW - day, NOW - day])
    ]

    midnight = int(NOW // day) * day
    assert starts == [midnight, midnight + day, midnight, midnight - day, midnight - day]


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


@pytest.mark.parametrize("soft", [{"on_exceed": "warn"}, {"mode": "shadow"}])
def test_a_budget_that_refuses_nobody_refuses_no_untagged_call(soft: dict[str, Any]) -> None:
    """
    To try one out beside those that hold must not break a call.
    """
    budgets = [Budget("all", "5 USD"), Budget("user", "5 USD", per="user", **soft)]
    matcher = Matcher(budgets, Settings(untagged="refuse"))

    assert [match.key.per for match in matcher.match({}, NOW)] == [(), (("user", UNTAGGED),)]


def test_two_budgets_of_one_name_are_refused() -> None:
    """
    They would share a balance under two limits.
    """
    with pytest.raises(ConfigurationError, match="'a'"):
        Matcher([Budget("a", "5 USD"), Budget("a", "6 USD")], Settings())


# --- what `match` means --------------------------------------------------------------

# match x value of the tag `team` (None: the call carries none) -> whether the call counts.
TABLE: list[tuple[Globs, str | None, bool]] = [
    ("search", "search", True),
    ("search", "searching", False),
    ("search", "Search", False),
    ("search", None, False),
    ("", None, True),
    ("", "search", False),
    ("*", "search", True),
    ("*", None, True),
    ("?*", "search", True),
    ("?*", None, False),
    ("ads*", "ads", True),
    ("ads*", "ads-eu", True),
    ("ads*", "my-ads", False),
    ("ads-??", "ads-eu", True),
    ("ads-??", "ads-emea", False),
    ("ads-[ab]", "ads-b", True),
    ("ads-[ab]", "ads-c", False),
    ("a.b", "axb", False),
    ("*line*", "two\nlines", True),
    ("!search", "search", False),
    ("!search", "ads", True),
    ("!search", None, True),
    ("!nightly*", "nightly-2", False),
    ("!nightly*", "daily", True),
    ("!*", "search", False),
    ("!*", None, False),
    ("!?*", None, True),
    ("!?*", "search", False),
    ("!!search", "!search", False),
    ("!!search", "search", True),
    (["search", "ads*"], "search", True),
    (["search", "ads*"], "ads-eu", True),
    (["search", "ads*"], "news", False),
    (["search", "ads*"], None, False),
    (["!search", "!ads*"], "news", True),
    (["!search", "!ads*"], "search", False),
    (["!search", "!ads*"], "ads-eu", False),
    (["!search", "!ads*"], None, True),
    (["ads*", "!ads-test"], "ads-eu", True),
    (["ads*", "!ads-test"], "ads-test", False),
    (["!ads-test", "ads*"], "ads-test", False),
    (["ads*", "!ads-test"], "news", False),
]


@pytest.mark.parametrize(("globs", "value", "counts"), TABLE)
def test_a_glob_counts_what_it_means(globs: Globs, value: str | None, counts: bool) -> None:
    """
    A call that a budget does not count is money without a limit.
    """
    tags = {} if value is None else {"team": value}

    assert compile_match(Budget("a", "5 USD", match={"team": globs}).match)(tags) is counts


def test_any_tag_may_be_matched_and_all_must() -> None:
    """
    Built-in tags are facts of the call, and others what the program says of it.
    """
    is_matched = compile_match(
        {"model": "anthropic.*", "region": ["eu-*", "!eu-west-3"], "workflow": "!nightly*"}
    )
    call = {"model": "anthropic.claude-x", "region": "eu-west-1"}

    assert is_matched(call)
    assert is_matched({**call, "workflow": "daily"})
    assert not is_matched({**call, "workflow": "nightly-2"})
    assert not is_matched({**call, "region": "eu-west-3"})
    assert not is_matched({**call, "model": "amazon.nova"})


def obvious(globs: list[str], value: str) -> bool:
    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(fits(pattern[1:], text[skipped:]) for skipped in range(len(text) + 1))
        return bool(text) and pattern[0] in ("?", text[0]) and fits(pattern[1:], text[1:])

    wanted = [glob for glob in globs if not glob.startswith("!")]
    unwanted = [glob[1:] for glob in globs if glob.startswith("!")]
    return (not wanted or any(fits(glob, value) for glob in wanted)) and not any(
        fits(glob, value) for glob in unwanted
    )


LETTERS = st.text(alphabet="ab.*?!", max_size=5)
ONE_TAG = st.lists(LETTERS.filter(lambda glob: glob != "!"), min_size=1, max_size=3)


@settings(deadline=None, max_examples=400)
@given(
    match=st.dictionaries(st.sampled_from("xyz"), ONE_TAG, max_size=3),
    tags=st.dictionaries(st.sampled_from("xyz"), st.text(alphabet="ab.!", max_size=4)),
)
def test_matching_is_as_a_slow_and_obvious_model_has_it(
    match: dict[str, list[str]], tags: dict[str, str]
) -> None:
    """
    Compiled, it must still be the same language.
    """
    wanted = all(obvious(globs, tags.get(tag, "")) for tag, globs in match.items())

    assert compile_match(Budget("a", "5 USD", match=match).match)(tags) is wanted


@pytest.mark.parametrize(
    ("globs", "says"),
    [
        (5, "match['team'] is 5; it is a glob or a list of globs"),
        (["a", 5], "is ['a', 5]; it is a glob or a list of globs"),
        ({"a": "b"}, "it is a glob or a list of globs"),
        ([], "is an empty list, which no call matches"),
        ("!", "'?*' is any value but none"),
        (["a", "!"], "'?*' is any value but none"),
    ],
)
def test_what_is_no_glob_is_refused(globs: object, says: str) -> None:
    """
    A match that matches nothing is a budget that is not there.
    """
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Budget("a", "5 USD", match={"team": globs})  # type: ignore[dict-item]


# --- limits of named values ----------------------------------------------------------


def limits_of(matcher: Matcher, *users: str) -> list[int]:
    return [matcher.match({"user": user} if user else {}, NOW)[0].limit for user in users]


@pytest.mark.parametrize(
    "budget",
    [
        Budget("user", per="user", limits={"alice": "50 USD/month", "": "1 USD/month", "*": "4 USD/month"}),
        Budget("user", "4 USD/month", per=["user"], limits={"alice": "50 USD/month", "": "1 USD/month"}),
    ],
)
def test_a_named_value_has_a_limit_of_its_own(budget: Budget) -> None:
    """
    One budget for all, with exceptions, instead of one for each.
    """
    matcher = Matcher([budget], Settings())

    assert limits_of(matcher, "alice", "bob", "") == [50 * 10**9, 4 * 10**9, 10**9]
    assert str(budget) == "user (4 USD/month; alice: 50 USD/month; untagged: 1 USD/month)"
    assert "alice" in repr(budget)


def test_a_changed_limit_of_a_named_value_keeps_its_balance() -> None:
    """
    Keys go by unit and period, which all limits of a budget share.
    """
    plain = Matcher([Budget("user", "4 USD/month", per="user")], Settings())
    named = Matcher([Budget("user", "4 USD/month", per="user", limits={"alice": "50 USD/month"})], Settings())

    assert plain.match({"user": "alice"}, NOW)[0].key == named.match({"user": "alice"}, NOW)[0].key


def test_many_limits_are_shown_as_a_few() -> None:
    """
    A thousand names would be no message.
    """
    budget = Budget("user", "4 USD", per="user", limits={f"u{n}": f"{n} USD" for n in range(1, 10)})

    assert str(budget) == "user (4 USD; u1: 1 USD; u2: 2 USD; u3: 3 USD; 6 more)"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, 'has neither limit nor limits["*"]'),
        ({"limits": {"alice": "5 USD"}, "per": "user"}, 'has neither limit nor limits["*"]'),
        ({"limit": "5 USD", "limits": {"*": "5 USD"}, "per": "user"}, 'has both limit and limits["*"]'),
        ({"limits": {"*": "5 USD"}}, "limits names values of one tag, and per names 0"),
        ({"limits": {"*": "5 USD"}, "per": ("team", "user")}, "and per names 2"),
        (
            {"limit": "5 USD/day", "limits": {"a": "5 USD/month"}, "per": "user"},
            "limits['a'] is '5 USD/month' and others are '5 USD/day'; limits of one budget have one unit",
        ),
        (
            {"limit": "5 USD/day", "limits": {"a": "5 requests/day"}, "per": "user"},
            "limits['a'] is '5 requests/day'",
        ),
        ({"limit": "5 USD", "limits": {"a*": "5 USD"}, "per": "user"}, "limits['a*'] is a glob"),
        ({"limit": "5 USD", "limits": {"a": "five"}, "per": "user"}, "'five' is not a limit"),
        ({"limit": "5 USD", "limits": ["a"], "per": "user"}, "limits is ['a']; it maps values"),
        ({"limit": "5 USD", "limits": {5: "5 USD"}, "per": "user"}, "it maps values of the per tag"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(arguments: dict[str, Any], says: str) -> None:
    """
    A limit that is not applied is none.
    """
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Budget("a", arguments.pop("limit", None), **arguments)


def test_a_tier_is_a_budget_that_matches_it() -> None:
    """
    What a value may spend can go by another tag of the call.
    """
    matcher = Matcher(
        [
            Budget("free", "1 USD/month", match={"tier": "!paid"}, per="user"),
            Budget("paid", "20 USD/month", match={"tier": "paid"}, per="user"),
        ],
        Settings(),
    )

    assert names(matcher, user="ann", tier="paid") == ["paid"]
    assert names(matcher, user="ann", tier="trial") == ["free"]
    assert names(matcher, user="ann") == ["free"]


def test_a_refusal_and_the_status_show_each_balances_own_limit() -> None:
    """
    A figure that is not the one that refused is worse than none.
    """
    clock = lambda: NOW  # noqa: E731
    budget = Budget("user", "0.000001 USD/month", per="user", limits={"alice": "0.5 USD/month"})
    with Guard(budgets=[budget], ledger="memory://", clock=clock) as my_guard:
        texts = {}
        for user, tokens in (("alice", 12_000), ("bob", 10)):
            with scope(user=user), pytest.raises(BudgetExceeded) as caught:
                for _ in range(100):
                    with my_guard.hold("Converse", asked(tokens), region="us-east-1") as hold:
                        hold.settle(REPLY)
            texts[user] = caught.value
        rows = {row.per[0][1]: row for row in my_guard.status()}

    assert str(texts["alice"]).startswith("user (0.50 USD/month) [user=alice]: ")
    assert str(texts["bob"]).startswith("user (0.000001 USD/month) [user=bob]: ")
    assert texts["alice"].limit == Decimal("0.5")
    assert texts["bob"].refusals[0].reason == "larger_than_limit"
    assert rows["alice"].limit == Decimal("0.5")
    assert rows["alice"].remaining == Decimal("0.5") - rows["alice"].spent


REPLY = {"usage": {"inputTokens": 10, "outputTokens": 1000, "totalTokens": 1010}, "stopReason": "end_turn"}


def asked(tokens: int) -> dict[str, Any]:
    return {
        "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": tokens},
    }
