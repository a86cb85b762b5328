"""
The short way of a usual call from its reply to its entry: what the long way finds, wherever it is taken.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.calls.charging import closed_entry, usual_entry
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.price_rule import PriceRule
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import ALL_INPUT_METERS, ROUTED_REQUESTS, Untold, UsageReport
from bedrock_guard.open_call import OpenCall, open_entry
from bedrock_guard.operations import Reply
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.price_list import PriceList

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
NOW = 1_790_000_000.0


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """
    Three of four as usual: a call of which one thing is odd takes the long way, whatever else is so.
    """
    return st.sampled_from([usual, usual, usual, odd]).flatmap(lambda chosen: chosen)


# --- A reply of Converse, as its usage ----------------------------------------------------------

COUNTS = st.sampled_from([0, 1, 7, 7, 7, -1, 7.0, 7.5, True, False, "7", "", None])
TOKEN_FIELDS = ["inputTokens", "outputTokens"]
USAGES = mostly(
    st.dictionaries(st.sampled_from(TOKEN_FIELDS), st.sampled_from([0, 5, 7, 9])).map(
        lambda usage: {"inputTokens": 7, "outputTokens": 7, **usage}
    ),
    st.dictionaries(st.sampled_from([*TOKEN_FIELDS, "totalTokens"]), COUNTS)
    | st.fixed_dictionaries(dict.fromkeys(TOKEN_FIELDS, COUNTS)),
)
CACHE_FIELDS = [
    "cacheReadInputTokens",
    "cacheReadInputTokenCount",
    "cacheWriteInputTokens",
    "cacheWriteInputTokenCount",
]
DETAILS = {"cacheDetails": [{"ttl": "1h", "inputTokens": 7}]}
CACHED = (
    st.sampled_from([{}, DETAILS])
    | st.just({"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0})
    | st.dictionaries(st.sampled_from(CACHE_FIELDS), COUNTS)
)
RAW = st.none() | CACHED | st.fixed_dictionaries(dict.fromkeys(CACHE_FIELDS, st.sampled_from([0, 0, 0, 7])))
RARE: dict[str, Any] = {
    "serviceTier": {"type": "priority"},
    "performanceConfig": {"latency": "optimized"},
    "trace": {"promptRouter": {"invokedModelId": NOVA}},
}
SEARCHED = {"message": {"content": [{"text": "word"}, {"toolUse": {"name": "nova_grounding"}}]}}
REQUESTS = [
    {},
    {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}},
    {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
]


@cache
def call_of(model: str, number: int = 0, tier: str | None = None, latency: str | None = None) -> Call:
    params = {
        "modelId": model,
        "messages": [{"role": "user", "content": [{"text": "word " * 200}]}],
        "inferenceConfig": {"maxTokens": 400},
        **({"serviceTier": {"type": tier}} if tier else {}),
        **({"performanceConfig": {"latency": latency}} if latency else {}),
        **REQUESTS[number],
    }
    return CONVERSE.read_call(params, region="us-east-1")


PLAIN = {"inputTokens": 7, "outputTokens": 7}
UNUSED = {"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}


@example(PLAIN, {"cacheReadInputTokenCount": 7}, None, {}, {}, 0)
@example(PLAIN, {"cacheReadInputTokens": 7}, None, {}, {}, 0)
@example(PLAIN, UNUSED, {**UNUSED, "cacheReadInputTokenCount": 7}, {}, {}, 0)
@example(PLAIN, {}, None, {}, {}, 1)
@example(PLAIN, {}, {}, {}, {}, 2)
@settings(max_examples=400)
@given(
    USAGES,
    CACHED,
    RAW,
    st.sampled_from([{}, {}, DETAILS]),
    mostly(st.just({}), st.dictionaries(st.sampled_from(sorted(RARE)), st.just(None))),
    mostly(st.just(0), st.sampled_from([1, 2])),
)
def test_the_usage_of_a_reply_is_the_same_either_way(
    usage: dict[str, Any],
    cached: dict[str, Any],
    raw: dict[str, Any] | None,
    details: dict[str, Any],
    rare: dict[str, None],
    number: int,
) -> None:
    """
    Whatever the caller's botocore dropped of it, or another tool put there.
    """
    parts = {"output": SEARCHED, **{name: RARE[name] for name in rare}}
    document = {"usage": {**usage, **(raw or {}), **details}, **parts}
    content = None if raw is None else json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    reply = Reply({"usage": {**usage, **cached}, **parts}, {}, content)
    call = call_of(NOVA, number)

    assert CONVERSE.read_usage(reply, call) == CONVERSE.read_body(content or b"", reply, call)


# --- A report, as the entry of its call ---------------------------------------------------------

PLANNERS = {
    name: Planner(
        settings=settings, matcher=Matcher((), settings), prices=PriceList.packaged(), tags={"team": "a"}
    )
    for name, settings in {
        "refuse": Settings(),
        "dearest": Settings(on_unpriced="upper_bound"),
        "none": Settings(on_unpriced="allow"),
        "own": Settings(prices=(PriceRule("*", "output_tokens", "price", 3),)),
        "release": Settings(on_lost_reply="release"),
    }.items()
}

METERS = [*ALL_INPUT_METERS, "output_tokens", "guardrail_content_policy_units", "images", ROUTED_REQUESTS]
QUANTITIES = st.integers(0, 400) | st.integers(-1, 1000) | st.sampled_from([150_000, 250_000, 10**9])
TOKENS = st.fixed_dictionaries({"input_tokens": QUANTITIES, "output_tokens": QUANTITIES})
MOST = st.fixed_dictionaries(
    {"input_tokens": st.sampled_from([400, 10**6, 10**9]), "output_tokens": st.just(400)}
)
USUAL = st.fixed_dictionaries({"input_tokens": st.integers(0, 400), "output_tokens": st.integers(0, 400)})
REPORTED = mostly(USUAL, TOKENS) | st.dictionaries(st.sampled_from(METERS), QUANTITIES, max_size=4)
ANSWERED = Attempt("answered", 200)
ATTEMPTS = mostly(
    st.just((ANSWERED,)),
    st.lists(
        st.sampled_from(
            [ANSWERED, Attempt("lost", 500, "InternalServerException"), Attempt("rejected", 429)]
        ),
        max_size=3,
    ).map(tuple),
)
# Not by `builds`, which makes up every field of a named tuple that it is not given: none would be usual.
REPORTS = mostly(
    USUAL.map(UsageReport) | REPORTED.map(UsageReport),
    st.tuples(
        REPORTED,
        st.sampled_from([None, "default", "priority"]),
        st.sampled_from([None, "standard", "optimized"]),
        st.sampled_from([(), ("no_output",)]),
        st.sampled_from([None, NOVA]),
        st.none() | st.just({"input_tokens": 3}),
        st.none() | st.just(Untold({"input_tokens": 3}, is_estimate=True)),
    ).map(lambda fields: UsageReport(*fields)),
)
LISTED = mostly(
    st.sampled_from([(NOVA, None, None), (CLAUDE, None, None)]),
    st.sampled_from([(CLAUDE, "priority", None), (NOVA, None, "optimized")]),
)
PRICED = mostly(
    st.tuples(st.sampled_from(["refuse", "dearest", "none", "release"]), LISTED),
    st.tuples(st.just("own"), LISTED)
    | st.tuples(st.sampled_from(["dearest", "none"]), st.just(("acme.unknown-v1:0", None, None))),
)
WORST = mostly(st.none() | MOST, st.dictionaries(st.sampled_from(METERS), st.integers(1, 10**6), min_size=1))


def test_the_entry_of_a_call_is_the_same_either_way() -> None:
    """
    Whatever was held, by whatever prices, and whatever AWS said; enough of it goes the short way to tell.
    """
    taken: list[Entry] = []

    @settings(max_examples=400)
    @given(PRICED, WORST, ATTEMPTS, mostly(REPORTS, st.none()), st.sampled_from([NOW + 1.2345, NOW - 5.0]))
    def compare(
        priced: tuple[str, tuple[str, str | None, str | None]],
        worst: dict[str, int] | None,
        attempts: tuple[Attempt, ...],
        report: UsageReport | None,
        now: float,
    ) -> None:
        by, (model, *rest) = priced
        planner = PLANNERS[by]
        opened = opened_by(planner, call_of(model, 0, *rest), worst)
        quick = usual_entry(opened, attempts, report, now)
        if quick is not None:
            taken.append(quick)
            assert quick == closed_entry(planner, opened, attempts, report, learned=None, now=now)

    compare()

    assert len(taken) > 9


@pytest.mark.parametrize("model", [CLAUDE, NOVA])
def test_the_short_way_is_taken_by_usual_calls(model: str) -> None:
    """
    Else the two above would compare nothing.
    """
    usage = {"input_tokens": 210, "output_tokens": 90}
    opened = opened_by(PLANNERS["refuse"], call_of(model), None)

    entry = usual_entry(opened, (ANSWERED,), UsageReport(usage), NOW + 2)

    assert entry is not None
    assert (entry.outcome, entry.usage, entry.duration_ms) == ("answered", usage, 2000)


LITTLE = UsageReport({"input_tokens": 9, "output_tokens": 9})
MUCH = {"input_tokens": 10**9, "output_tokens": 400}
UNUSUAL: dict[str, tuple[str, dict[str, int] | None, UsageReport | None, Attempt]] = {
    "no report": ("refuse", None, None, ANSWERED),
    "lost": ("refuse", None, LITTLE, Attempt("lost", 500)),
    "of another tier": ("refuse", None, LITTLE._replace(service_tier="priority"), ANSWERED),
    "below zero": ("refuse", None, UsageReport({"input_tokens": -1, "output_tokens": 9}), ANSWERED),
    "output above": ("refuse", None, UsageReport({"output_tokens": 401}), ANSWERED),
    "input above": ("refuse", None, UsageReport({"input_tokens": 10**6}), ANSWERED),
    "a long context": ("refuse", MUCH, UsageReport({"input_tokens": 200_001}), ANSWERED),
    "no price": ("refuse", None, UsageReport({"images": 1}), ANSWERED),
    "own prices": ("own", None, LITTLE, ANSWERED),
    "a fee beside": ("refuse", {**MUCH, ROUTED_REQUESTS: 1}, LITTLE, ANSWERED),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_others_go_the_long_way(case: str) -> None:
    """
    The short way decides nothing.
    """
    by, worst, report, attempt = UNUSUAL[case]
    opened = opened_by(PLANNERS[by], call_of(CLAUDE), worst)

    assert usual_entry(opened, (attempt,), report, NOW) is None


def test_more_than_anybody_uses_goes_the_long_way() -> None:
    """
    However much was held.
    """
    opened = opened_by(PLANNERS["refuse"], call_of(NOVA), MUCH)

    assert usual_entry(opened, (ANSWERED,), UsageReport({"input_tokens": 10**9}), NOW) is None


def test_what_costs_the_dearest_of_the_list_goes_the_long_way() -> None:
    """
    Its entry says so, and so may a log.
    """
    opened = opened_by(PLANNERS["dearest"], call_of("acme.unknown-v1:0"), None)

    assert usual_entry(opened, (ANSWERED,), LITTLE, NOW) is None


def opened_by(planner: Planner, call: Call, worst: dict[str, int] | None) -> OpenCall:
    plan = planner.plan(call, NOW)
    if worst is not None:
        plan = plan._replace(worst=worst)
    return OpenCall(plan, open_entry("id", NOW, plan), ())
