"""
Converse and ConverseStream: what replies and events state of usage.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations import Reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
GPT = "openai.gpt-6-sol"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEFGHIJ"


def converse(**params: Any) -> Call:
    return CONVERSE.read_call({"modelId": CLAUDE, **params}, region="us-east-1")


# --- Converse: the reply --------------------------------------------------------------------

TOKENS = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}
WRITES = {**TOKENS, "cacheReadInputTokens": 7, "cacheReadInputTokenCount": 7, "cacheWriteInputTokens": 11}


def test_usage_tier_and_latency_are_as_served() -> None:
    """
    A priority request may be served, and charged, as default.
    """
    parsed = {
        "usage": TOKENS,
        "serviceTier": {"type": "default"},
        "performanceConfig": {"latency": "standard"},
    }

    report = CONVERSE.read_usage(Reply(parsed), converse())

    assert report == UsageReport({"input_tokens": 3, "output_tokens": 5}, "default", "standard")


@pytest.mark.parametrize(
    ("details", "marks", "writes"),
    [
        (None, {}, {"cache_write_5m_input_tokens": 11}),
        (None, {"ttl": "1h"}, {"cache_write_1h_input_tokens": 11}),
        ([{"ttl": "1h", "inputTokens": 11}], {}, {"cache_write_1h_input_tokens": 11}),
        (
            [{"ttl": "5m", "inputTokens": 1}, {"ttl": "1h", "inputTokens": 4}],
            {},
            {"cache_write_5m_input_tokens": 1, "cache_write_1h_input_tokens": 10},
        ),
    ],
)
@pytest.mark.parametrize("is_old_botocore", [False, True])
def test_cache_writes_are_split_by_life(
    details: list[dict[str, Any]] | None, marks: dict[str, str], writes: dict[str, int], is_old_botocore: bool
) -> None:
    """
    Older botocore drops the split from what it parses; the raw JSON has it.
    """
    usage = {**WRITES, **({"cacheDetails": details} if details else {})}
    call = converse(system=[{"cachePoint": {"type": "default", **marks}}])
    parsed = {"usage": WRITES if is_old_botocore else usage}

    report = CONVERSE.read_usage(Reply(parsed, content=json.dumps({"usage": usage}).encode()), call)

    assert report is not None
    assert report.usage == {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 7, **writes}


def test_a_body_read_elsewhere_tells_the_same() -> None:
    """
    Whoever reads it, usage is usage.
    """
    body = json.dumps({"usage": TOKENS}).encode()

    assert CONVERSE.read_body(body, Reply({}), converse()) == CONVERSE.read_usage(
        Reply({"usage": TOKENS}), converse()
    )


@pytest.mark.parametrize(
    "parsed",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": {"outputTokens": 5}},
        {"usage": {"inputTokens": 1.5, "outputTokens": 5}},
    ],
)
def test_a_reply_without_usage_is_not_a_free_one(parsed: dict[str, Any]) -> None:
    """
    A 200 with a truncated body is a success to botocore; it is charged at its estimate.
    """
    assert CONVERSE.read_usage(Reply(parsed, content=b"{"), converse()) is None


def test_an_explicit_zero_is_a_report() -> None:
    """
    A guardrail that blocked the input: the model was not asked.
    """
    parsed = {"usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}}

    assert CONVERSE.read_usage(Reply(parsed), converse()) == UsageReport({})


def test_guardrail_units_of_input_and_every_output_are_summed() -> None:
    """
    They are billed beside the tokens.
    """
    metrics = {
        "invocationMetrics": {
            "usage": {"topicPolicyUnits": 1, "wordPolicyUnits": 2, "automatedReasoningPolicies": 9}
        }
    }
    trace = {"guardrail": {"inputAssessment": {"g": metrics}, "outputAssessments": {"g": [metrics, metrics]}}}

    report = CONVERSE.read_usage(Reply({"usage": TOKENS, "trace": trace}), converse())

    assert report is not None
    assert report.usage == {
        "input_tokens": 3,
        "output_tokens": 5,
        "guardrail_topic_policy_units": 3,
        "guardrail_word_policy_units": 6,
    }


@pytest.mark.parametrize(
    "guardrail", [{"actionReason": "No action."}, {"inputAssessment": {"g": {"topicPolicy": {}}}}, {}]
)
def test_a_trace_without_units_leaves_them_to_be_estimated(guardrail: dict[str, Any]) -> None:
    """
    What a guardrail did does not tell what it is billed for.
    """
    call = converse(guardrailConfig={"guardrailIdentifier": "g", "guardrailVersion": "1"})
    report = CONVERSE.read_usage(Reply({"usage": TOKENS, "trace": {"guardrail": guardrail}}), call)

    assert report is not None
    assert report.usage["guardrail_topic_policy_units"] > 0
    assert report.untold is not None


def test_the_raw_trace_tells_units_that_older_botocore_drops() -> None:
    """
    Automated reasoning is younger than traces.
    """
    metrics = {"topicPolicyUnits": 1, "automatedReasoningPolicyUnits": 3}
    raw = {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": metrics}}}}}
    known = {
        "guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {"topicPolicyUnits": 1}}}}}
    }
    content = json.dumps({"usage": TOKENS, "trace": raw}).encode()

    for told in (content, b"", b"{", b"{}"):
        report = CONVERSE.read_usage(Reply({"usage": TOKENS, "trace": known}, content=told), converse())
        assert report is not None
        assert report.usage["guardrail_topic_policy_units"] == 1
        assert report.usage.get("guardrail_automated_reasoning_policy_units") == (
            3 if told == content else None
        )


def test_only_the_metadata_event_counts() -> None:
    """
    Nothing before it says what was used, and nothing comes after it.
    """
    reader = CONVERSE_STREAM.open_stream_reader(converse())

    reader.feed({"contentBlockDelta": {"delta": {"text": "metadata"}}}, b"{}")
    assert (reader.report, reader.is_last_word) == (None, False)
    reader.feed({"metadata": {"usage": TOKENS, "serviceTier": {"type": "flex"}}}, b"{}")
    assert reader.report == UsageReport({"input_tokens": 3, "output_tokens": 5}, "flex")
    assert reader.is_last_word


def test_the_raw_event_tells_what_older_botocore_drops() -> None:
    """
    Its payload is the JSON of the event alone.
    """
    reader = CONVERSE_STREAM.open_stream_reader(converse())
    payload = json.dumps({"usage": {**WRITES, "cacheDetails": [{"ttl": "1h", "inputTokens": 11}]}}).encode()

    reader.feed({"metadata": {"usage": WRITES}}, payload)

    assert reader.report is not None
    assert reader.report.usage["cache_write_1h_input_tokens"] == 11


@pytest.mark.parametrize("event", [{}, {"metadata": None}, {"metadata": []}, {"metadata": {"usage": 5}}])
def test_an_odd_event_is_no_report(event: dict[str, Any]) -> None:
    """
    A reader that raises would break the caller's stream.
    """
    reader = CONVERSE_STREAM.open_stream_reader(converse())

    reader.feed(event, b"\xff")

    assert reader.report is None
