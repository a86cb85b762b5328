"""
What only who reads a reply can see: that it says something, and that its counts say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations import OPERATIONS, Free, Operation, Reply

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
QUOTED = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "what INTERVENED means"}}
ESCAPED = {
    "type": "content_block_delta",
    "delta": {"type": "text_delta", "text": '{"amazon-bedrock-guardrailAction": "INTERVENED"}'},
}


def operation(name: str) -> Operation:
    found = OPERATIONS["bedrock-runtime", name]
    assert not isinstance(found, Free)
    return found


def call(name: str) -> Call:
    body = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}
    messages = [{"role": "user", "content": [{"text": "hello there"}]}]
    params = {"modelId": CLAUDE, "body": json.dumps(body)}
    if name.startswith("Converse"):
        params = {"modelId": CLAUDE, "messages": messages}
    return operation(name).read_call(params, region="us-east-1")


def read(name: str, reply: Reply) -> UsageReport | None:
    return operation(name).read_usage(reply, call(name))


def follow(name: str, events: list[Mapping[str, Any]]) -> UsageReport | None:
    reader = operation(name).open_stream_reader(call(name))
    for event in events:
        reader.feed(event, json.dumps(event, default=str).encode())
    return reader.report


def anomalies(report: UsageReport | None) -> tuple[str, ...]:
    assert report is not None
    return report.anomalies


# --- Converse -----------------------------------------------------------------------------------


def converse(content: list[Any], *, stop: str = "end_turn", **usage: int) -> UsageReport | None:
    parsed = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop,
        "usage": {"inputTokens": 5, "outputTokens": 0, **usage},
    }
    return read("Converse", Reply(parsed))


@pytest.mark.parametrize(
    "block",
    [
        {"text": "hi"},
        {"toolUse": {"toolUseId": "a", "name": "t", "input": {}}},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": b"?"}},
        {"citationsContent": {"content": [{"text": "hi"}], "citations": []}},
        {"SDK_UNKNOWN_MEMBER": {"name": "reasoningContent"}},
    ],
)
def test_whatever_a_model_writes_has_output_tokens(block: dict[str, Any]) -> None:
    """
    Reasoning is billed as output too, and may be all that there is.
    """
    assert anomalies(converse([block])) == ("no_output",)
    assert anomalies(converse([block], outputTokens=1)) == ()


@pytest.mark.parametrize(
    "content", [[], [{"text": ""}], [{"reasoningContent": {"reasoningText": {"text": ""}}}], ["odd"]]
)
def test_a_reply_that_says_nothing_may_have_no_tokens(content: list[Any]) -> None:
    """
    A stop sequence may come first.
    """
    assert anomalies(converse(content)) == ()


@pytest.mark.parametrize(
    "delta",
    [
        {"text": "x"},
        {"toolUse": {"input": "{"}},
        {"reasoningContent": {"text": "hm"}},
        {"reasoningContent": {"redactedContent": b"?"}},
        {"SDK_UNKNOWN_MEMBER": {"name": "reasoningContent"}},
    ],
)
def test_whatever_a_stream_carries_has_output_tokens(delta: dict[str, Any]) -> None:
    """
    As in a whole reply.
    """
    events = [
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": delta}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 0}}},
    ]

    assert anomalies(follow("ConverseStream", events)) == ("no_output",)


def test_whatever_was_answered_has_input_tokens() -> None:
    """
    Cached or not; a guardrail that intervenes answers without a model.
    """
    text = [{"text": "hi"}]
    nothing = {"inputTokens": 0, "outputTokens": 5}

    assert anomalies(converse(text, **nothing)) == ("no_input",)
    assert anomalies(converse(text, inputTokens=0)) == ("no_output", "no_input")
    assert anomalies(converse(text, **nothing, cacheReadInputTokens=7, cacheWriteInputTokens=0)) == ()
    assert anomalies(converse(text, **nothing, cacheReadInputTokens=0, cacheWriteInputTokens=7)) == ()
    assert anomalies(converse(text, stop="guardrail_intervened", **nothing)) == ()
    assert anomalies(converse([], **nothing)) == ()


def test_a_prompt_of_nothing_has_no_input_tokens() -> None:
    """
    Nothing was asked, and something answered.
    """
    empty = operation("Converse").read_call(
        {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": ""}]}]}, region="us-east-1"
    )
    parsed = {
        "output": {"message": {"content": [{"text": "hi"}]}},
        "usage": {"inputTokens": 0, "outputTokens": 5},
    }

    assert anomalies(operation("Converse").read_usage(Reply(parsed), empty)) == ()


def test_guardrail_units_below_zero_are_not_evened_out() -> None:
    """
    Each assessment is a count of its own.
    """
    units = [{"invocationMetrics": {"usage": {"wordPolicyUnits": n}}} for n in (9, -4)]
    parsed = {
        "usage": {"inputTokens": 5, "outputTokens": 5},
        "trace": {"guardrail": {"outputAssessments": {"id": units}}},
    }

    report = read("Converse", Reply(parsed))

    assert report is not None
    assert report.usage["guardrail_word_policy_units"] == -4
    assert report.believable == {"input_tokens": 5, "output_tokens": 5, "guardrail_word_policy_units": 9}


# --- InvokeModel --------------------------------------------------------------------------------


def headers(**counts: object) -> dict[str, str]:
    told = {"input": 10, "output": 50, "cache-read-input": 0, "cache-write-input": 0}
    told |= {name.replace("_", "-"): value for name, value in counts.items()}
    return {f"x-amzn-bedrock-{name}-token-count": str(value) for name, value in told.items()}


@pytest.mark.parametrize("counts", [{"output": 0}, {"output": -5}, {"input": 0}, {"input": "-5"}])
def test_headers_that_cannot_be_right_leave_it_to_the_body(counts: dict[str, Any]) -> None:
    """
    Whether the reply says anything, only its body tells.
    """
    assert read("InvokeModel", Reply({}, headers())) is not None
    assert read("InvokeModel", Reply({}, headers(**counts))) is None


def test_a_header_below_zero_is_told_whatever_the_body_says() -> None:
    """
    The two are merged, and the larger is the one that looks right.
    """
    body = json.dumps({"usage": {"input_tokens": 10, "output_tokens": 50}}).encode()

    report = operation("InvokeModel").read_body(body, Reply({}, headers(output=-5)), call("InvokeModel"))

    assert report is not None
    assert report.usage == {"input_tokens": 10, "output_tokens": -5}
    assert report.believable == {"input_tokens": 10, "output_tokens": 50}


@pytest.mark.parametrize(
    ("action", "expected"), [({}, ("no_output",)), ({"amazon-bedrock-guardrailAction": "INTERVENED"}, ())]
)
def test_a_body_that_only_quotes_a_guardrail_is_the_models(
    action: dict[str, str], expected: tuple[str, ...]
) -> None:
    """
    Any prompt could ask for that word.
    """
    text = 'INTERVENED, "amazon-bedrock-guardrailAction":"INTERVENED"'
    document = {
        "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 10, "output_tokens": 0},
        **action,
    }

    report = operation("InvokeModel").read_body(json.dumps(document).encode(), Reply({}), call("InvokeModel"))

    assert anomalies(report) == expected


def chunks(*documents: dict[str, Any]) -> UsageReport | None:
    name = "InvokeModelWithResponseStream"
    return follow(name, [{"chunk": {"bytes": json.dumps(document).encode()}} for document in documents])


START = {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}


def delta(output: int, stop: str | None = "end_turn") -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": output}}


def metrics(output: int, **more: Any) -> dict[str, Any]:
    counts = {"inputTokenCount": 10, "outputTokenCount": output}
    return {"type": "message_stop", "amazon-bedrock-invocationMetrics": counts, **more}


@pytest.mark.parametrize(
    "documents",
    [
        (START, TEXT, metrics(0)),
        (START, TEXT, delta(0), metrics(0)),
        (START, TEXT, delta(0)),
        (TEXT, metrics(0)),
        (START, QUOTED, metrics(0)),
        (START, ESCAPED, metrics(0)),
    ],
)
def test_the_first_token_of_a_stream_is_not_all_of_it(documents: tuple[Any, ...]) -> None:
    """
    Claude's first event counts one token before anything is written; the last word is what counts.
    """
    assert anomalies(chunks(*documents)) == ("no_output",)


@pytest.mark.parametrize(
    "documents",
    [
        (START, TEXT, delta(20), metrics(20)),
        (START, TEXT, delta(20)),
        (START, TEXT, metrics(1)),
        (START, metrics(0)),
        (START, TEXT, metrics(0, **{"amazon-bedrock-guardrailAction": "INTERVENED"})),
        (START, TEXT, delta(20), {"type": "message_stop", "amazon-bedrock-invocationMetrics": {}}),
    ],
)
def test_a_stream_that_counts_its_output_is_believed(documents: tuple[Any, ...]) -> None:
    """
    Whoever counts it.
    """
    assert anomalies(chunks(*documents)) == ()


@pytest.mark.parametrize(
    "documents", [(START, TEXT, delta(-5), metrics(-5)), (START, TEXT, delta(-5, None), metrics(5))]
)
def test_a_count_below_zero_in_any_chunk_is_told(documents: tuple[Any, ...]) -> None:
    """
    The token that the first event counts would hide it.
    """
    report = chunks(*documents)

    assert report is not None
    assert report.usage == {"input_tokens": 10, "output_tokens": -5}
    assert report.believable is not None
    assert report.believable["output_tokens"] >= 1
