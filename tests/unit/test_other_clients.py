"""
What clients other than botocore hand over, read as if botocore had.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations.contract import Operation, Reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM
from bedrock_guard.operations.other_clients import read_events, read_headers, read_params, read_reply

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
GPT = "openai.gpt-oss-120b-1:0"

WORDS = st.sampled_from(
    [
        "usage",
        "metadata",
        "chunk",
        "bytes",
        "body",
        "message",
        "delta",
        "trace",
        "guardrail",
        "serviceTier",
        "inputTokens",
        "outputTokens",
        "input_tokens",
        "output_tokens",
        "cache_creation",
        "amazon-bedrock-invocationMetrics",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def call_of(operation: Operation, model: str) -> Call:
    return operation.read_call({"modelId": model, "messages": [], "body": "{}"}, region="us-east-1")


def read_stream(operation: Operation, model: str, reply: Any) -> UsageReport | None:
    reader = operation.open_stream_reader(call_of(operation, model), Reply({}))
    for event in read_events(operation, reply):
        reader.feed(event, b"")
    return reader.report


@given(reply=JSON | st.binary(max_size=20))
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_nothing_that_json_can_say_raises(reply: Any, model: str) -> None:
    """
    The request was answered and paid for, whatever came back.
    """
    for operation in (CONVERSE, INVOKE_MODEL):
        read_reply(operation, reply, {}, call_of(operation, model))
    for operation in (CONVERSE_STREAM, INVOKE_MODEL_WITH_RESPONSE_STREAM):
        read_stream(operation, model, reply)


def test_an_sdks_reply_object_as_a_document_is_the_body() -> None:
    """
    `message.model_dump()` has dates, nulls and maps of its own kinds beside the usage.
    """
    document = {
        "content": [{"type": "text", "text": "hi"}],
        "created": object(),
        ("no", "name"): 1,
        "usage": MappingProxyType(
            {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": None, "extra": object()}
        ),
    }

    report = read_reply(INVOKE_MODEL, document, {}, call_of(INVOKE_MODEL, CLAUDE))

    assert report is not None
    assert report.usage == {"input_tokens": 10, "output_tokens": 5}


def test_an_openai_completion_is_read_by_its_dialect() -> None:
    """
    The OpenAI SDK talks to the same models that InvokeModel does.
    """
    document = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}

    report = read_reply(INVOKE_MODEL, document, {}, call_of(INVOKE_MODEL, GPT))

    assert report is not None
    assert report.usage == {"input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    "as_event", [dict, MappingProxyType, json.dumps, lambda event: json.dumps(event).encode()]
)
def test_a_makers_own_events_add_up(as_event: Any) -> None:
    """
    An SDK may drop what AWS adds to the last chunk; the maker's own counts remain.
    """
    events = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]

    report = read_stream(INVOKE_MODEL_WITH_RESPONSE_STREAM, CLAUDE, map(as_event, events))

    assert report is not None
    assert report.usage == {"input_tokens": 10, "output_tokens": 5}


def test_a_tier_that_served_is_read_from_documents_and_headers() -> None:
    """
    It decides the price.
    """
    usage = {"usage": {"inputTokens": 10, "outputTokens": 5}, "serviceTier": {"type": "flex"}}
    converse = read_reply(CONVERSE, json.dumps(usage), {}, call_of(CONVERSE, CLAUDE))
    body = b'{"usage": {"input_tokens": 10, "output_tokens": 5}}'
    headers = read_headers({b"X-Amzn-Bedrock-Service-Tier": b"flex"})
    invoked = read_reply(INVOKE_MODEL, body, headers, call_of(INVOKE_MODEL, CLAUDE))
    parsed = read_reply(
        INVOKE_MODEL, {"body": body, "serviceTier": "flex"}, {}, call_of(INVOKE_MODEL, CLAUDE)
    )

    assert [report and report.service_tier for report in (converse, invoked, parsed)] == ["flex"] * 3


def test_a_reply_that_is_too_deep_states_nothing() -> None:
    """
    A recursion error in the guard would lose the end of a call.
    """
    deep: dict[str, Any] = {"usage": {"inputTokens": 10, "outputTokens": 5}}
    for _ in range(100_000):
        deep = {"more": deep}

    assert read_reply(CONVERSE, deep, {}, call_of(CONVERSE, CLAUDE)) is None
    assert read_reply(CONVERSE, b'{"more":' * 100_000, {}, call_of(CONVERSE, CLAUDE)) is None


def test_a_body_that_is_an_object_is_sized_as_it_is_sent() -> None:
    """
    What JSON lacks is no reason to hold for less.
    """
    body = MappingProxyType({"max_tokens": 7, "messages": [{"role": "user", "content": "hi"}]})

    call = INVOKE_MODEL.read_call(read_params({"modelId": CLAUDE, "body": body}), region="us-east-1")

    assert (call.size.output_limit, call.size.has_unseen) == (7, False)
    with pytest.raises(TypeError):
        read_params({"modelId": CLAUDE, "body": {"messages": [object()]}})
