"""
The short way to the plan of a usual call: what the long way finds, wherever it is taken.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.context import current_scope, scope
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.call import ROUTER, Call
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.price_rule import PriceRule
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.plan import Plan, usual_plan
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.price_list import PriceList

MODELS = [
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",  # two bands of prices
    "anthropic.claude-opus-4-6-v1",
    "amazon.nova-lite-v1:0",
    "openai.gpt-6-sol",  # caches by itself
    "amazon.titan-embed-text-v2:0",
    "anthropic.claude-77-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1",
]
BUDGETS = [
    Budget("all", "5 USD/day"),
    Budget("user", "1M tokens/hour", per="user"),
    Budget("free", "9 USD", match={"user": "a*"}),
]
PLANNERS = {
    name: Planner(
        settings=settings, matcher=Matcher(BUDGETS, settings), prices=PriceList.packaged(), tags={"team": "a"}
    )
    for name, settings in {
        "dearest": Settings(on_unpriced="upper_bound"),
        "none": Settings(on_unpriced="allow"),
        "refuse": Settings(),
        "own": Settings(prices=(PriceRule("*", "input_tokens", "price", 3),)),
    }.items()
}
NOW = 1_790_000_000.0

BLOCKS: list[dict[str, Any]] = [
    {"text": "word " * 200},
    {"text": "ﷺ" * 50},
    {"text": "x" * 900_000},
    {"cachePoint": {"type": "default"}},
    {"cachePoint": {"type": "default", "ttl": "1h"}},
    {"image": {"format": "png", "source": {"bytes": b"x"}}},
    {"video": {"format": "mp4", "source": {"bytes": b"x"}}},
]
RARE: dict[str, Any] = {
    "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]},
    "serviceTier": {"type": "priority"},
    "performanceConfig": {"latency": "optimized"},
    "requestMetadata": {"user": "ann", "principal": "x"},
    "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
    "additionalModelRequestFields": {"anthropic_beta": ["context-1m-2025-08-07"]},
}


@st.composite
def calls(draw: st.DrawFn) -> Call:
    content = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4))
    params: dict[str, Any] = {
        "modelId": draw(st.sampled_from(MODELS)),
        "messages": [{"role": "user", "content": content}],
        **{name: RARE[name] for name in draw(st.lists(st.sampled_from(sorted(RARE)), max_size=1))},
    }
    limit = draw(st.sampled_from([None, 0, 1, 400, 10**7]))
    if limit is not None:
        params["inferenceConfig"] = {"maxTokens": limit}
    model = parse_model_id(params["modelId"])
    if draw(st.integers(0, 9)) == 0:  # one of a router's
        model = model._replace(kind=ROUTER)
    call = CONVERSE.read_call(params, region=draw(st.sampled_from(["us-east-1", "eu-west-1"])), model=model)
    return call.counted(7) if draw(st.integers(0, 9)) == 0 else call


@examples(max_examples=500)
@given(
    calls(),
    st.sampled_from(sorted(PLANNERS)),
    st.sampled_from([None, "ann", "ben"]),
    st.sampled_from([0.0, 59.0, 61.0]),
)
def test_a_plan_is_the_same_either_way(call: Call, name: str, user: str | None, later_s: float) -> None:
    planner = PLANNERS[name]
    with scope(**({} if user is None else {"user": user})):
        short = answer(planner.plan, call, NOW + later_s)
        short = answer(planner.plan, call, NOW + later_s)  # now its terms are known

        assert short == answer(planner._plan, call, NOW + later_s, current_scope())


DAY_S = 86_400
STEPS = [0, 1, 59, 61, 1800, 3600, DAY_S - 1, DAY_S, 3 * DAY_S, -30, -3600, -DAY_S]


@examples(max_examples=200)
@given(
    st.sampled_from(["refuse", "own"]),
    st.lists(st.tuples(calls(), st.sampled_from([None, "ann"]), st.sampled_from(STEPS)), max_size=6),
)
def test_what_is_remembered_is_what_would_be_found(
    name: str, made: list[tuple[Call, str | None, int]]
) -> None:
    """
    Whatever was planned before, on whatever day, and wherever the clock has gone since.
    """
    old = PLANNERS[name]
    planner = Planner(
        settings=old.settings, matcher=Matcher(BUDGETS, old.settings), prices=old.prices, tags={}
    )
    now = NOW
    for call, user, step_s in made:
        now += step_s
        new = Planner(
            settings=old.settings, matcher=Matcher(BUDGETS, old.settings), prices=old.prices, tags={}
        )
        with scope(**({} if user is None else {"user": user})):
            remembered, found = answer(planner.plan, call, now), answer(new.plan, call, now)

        assert without_terms(remembered) == without_terms(found)


def test_each_call_has_tags_of_its_own() -> None:
    """
    What somebody does to those of one is not done to the next.
    """
    planner = PLANNERS["refuse"]
    call = CONVERSE.read_call({"modelId": MODELS[0], "messages": []}, region="us-east-1")
    for _ in range(3):
        tags = planner.plan(call, NOW).tags
        assert "mood" not in tags
        assert isinstance(tags, dict)
        tags["mood"] = "odd"


def test_the_short_way_is_taken() -> None:
    """
    Else the test above would compare the long way with itself.
    """
    planner = PLANNERS["refuse"]
    for content in (BLOCKS[:1], [BLOCKS[0], BLOCKS[3]]):
        params = {"modelId": MODELS[0], "messages": [{"role": "user", "content": content}]}
        call = CONVERSE.read_call(params, region="us-east-1")
        plan = planner.plan(call, NOW)

        assert usual_plan(plan.terms, call, NOW, plan.tags, plan.matches) == plan


def without_terms(answered: Plan | str) -> object:
    return answered if isinstance(answered, str) else answered._replace(terms=None)  # type: ignore[arg-type]


def answer(plan: Any, *arguments: Any) -> Plan | str:
    try:
        found: Plan = plan(*arguments)
    except UnpricedModel as error:
        return str(error)
    return found
