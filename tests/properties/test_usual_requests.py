"""
The short way of a usual request to its call: what the long way finds, wherever it is taken.
"""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.operations.converse_requests import read_request, read_usual_request

MODELS = [
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "amazon.nova-lite-v1:0",
    "amazon.titan-embed-text-v2:0",
    "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:prompt/ABC",
    "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1",
    "nobody's",
    "",
    7,
    None,
]


class Words(str):
    """
    Text, as some tools mark what came from a user.
    """

    __slots__ = ()


def mostly(usual: Any, *odd: Any) -> st.SearchStrategy[Any]:
    """
    *usual* nine of ten times.
    """
    return st.sampled_from([usual] * (9 * len(odd)) + list(odd))


TEXTS = mostly("word", "", "wört", "ﷺ", "\ud800", Words("word"), b"word", 7, None, ["word"])
ROLES = mostly("user", "assistant", "", "ü", Words("user"), b"user", 7, None)
BLOCKS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"text": TEXTS}),
    st.fixed_dictionaries({"text": TEXTS}),
    st.fixed_dictionaries({"text": TEXTS}),
    st.fixed_dictionaries({"text": TEXTS}, optional={"cachePoint": st.just({"type": "default"})}),
    st.sampled_from(
        [
            {"cachePoint": {"type": "default", "ttl": "1h"}},
            {"image": {"format": "png", "source": {"bytes": b"x"}}},
            {"toolUse": {"name": "f", "input": {"text": "word"}}},
            UserDict({"text": "word"}),
            {},
            "text",
            None,
        ]
    ),
)
CONTENTS = st.one_of(
    st.lists(st.fixed_dictionaries({"text": st.just("word")}), max_size=3),
    st.lists(BLOCKS, max_size=3),
    st.lists(BLOCKS, max_size=2).map(tuple),
    st.sampled_from([None, "word", {"text": "word"}, {}, 7]),
)
MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": CONTENTS}),
    st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}),
    st.fixed_dictionaries({"role": ROLES}, optional={"content": CONTENTS, "name": st.just("ann")}),
    st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}).map(UserDict),
    st.sampled_from([None, "user", {}]),
)
CONFIGS = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"maxTokens": mostly(400, 0, -1, 1 << 62, 4.5, "400", None), "topP": st.just(1)}
    ),
    st.booleans().map(lambda limit: {"maxTokens": limit}),
    st.sampled_from([None, "maxTokens", 7, {"maxTokens": 400}, UserDict({"maxTokens": 400})]),
)
RARE: dict[str, Any] = {
    "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]},
    "serviceTier": {"type": "priority"},
    "requestMetadata": {"user": "ann"},
    "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
    "additionalModelRequestFields": {"max_tokens": 7},
    "newParameter": {"text": "word"},
}
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "modelId": st.sampled_from(MODELS[:2]) | st.sampled_from(MODELS),
        "messages": st.one_of(
            st.lists(MESSAGES, max_size=3),
            st.lists(MESSAGES, max_size=3),
            st.lists(MESSAGES, max_size=2).map(tuple),
            st.sampled_from([None, "word", {}, {"role": "user"}]),
        ),
        "system": CONTENTS,
        "inferenceConfig": CONFIGS,
    },
).flatmap(
    lambda usual: st.sampled_from([{}] * 20 + [{name: value} for name, value in RARE.items()]).map(
        lambda rare: {**usual, **rare}
    )
)


@settings(max_examples=2000)
@given(REQUESTS)
def test_a_request_is_read_the_same_either_way(params: dict[str, Any]) -> None:
    """
    Whatever shape it has, for not every client validates what it sends.
    """
    short = read_usual_request("Converse", params, "us-east-1")

    assert short is None or short == read_request("Converse", params, "us-east-1", None)


@pytest.mark.parametrize("number", [1, 30])
@pytest.mark.parametrize("system", [None, [{"text": "You are kind."}]])
@pytest.mark.parametrize("config", [None, {}, {"maxTokens": 400, "temperature": 0.5}])
def test_the_short_way_is_taken(number: int, system: Any, config: Any) -> None:
    params: dict[str, Any] = {
        "modelId": MODELS[0],
        "messages": [{"role": "user", "content": [{"text": "word"}, {"text": "word"}]}] * number,
        **({} if system is None else {"system": system}),
        **({} if config is None else {"inferenceConfig": config}),
    }

    assert read_usual_request("Converse", params, "us-east-1") is not None
