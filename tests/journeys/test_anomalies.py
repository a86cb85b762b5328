"""
Replies whose usage cannot be right, through a real client: recorded raw, charged by a rule, told at warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from bedrock_guard.testing.bedrock_server import converse_reply, cut_stream, raw

from .conftest import HELLO, SONNET, Guarded
from .fault_cells import INVOKE

# 100 output tokens at 16.50 USD a million: what HELLO lets the model write.
MOST_OUTPUT_NANOUSD = 100 * 16_500
JSON = {"content-type": "application/json"}


def reply_with(**usage: int) -> dict[str, Any]:
    """
    A reply of Converse, as it comes over the wire.
    """
    return {
        "metrics": {"latencyMs": 1},
        "output": {"message": {"role": "assistant", "content": [{"text": "Good day."}]}},
        "stopReason": "end_turn",
        "usage": {"totalTokens": 0, **usage},
    }


def ask(make_guarded: Callable[..., Guarded], document: dict[str, Any]) -> tuple[Guarded, Any]:
    """
    A guarded client, and its reply, which says what *document* says.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(raw(200, JSON, json.dumps(document).encode()))
    return guarded, guarded.client.converse(**HELLO)


# The usage, how it is called, and what is charged: None is the estimate, in full.
CASES: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "no output": ({"inputTokens": 10, "outputTokens": 0}, "no_output", 10 * 3_300 + MOST_OUTPUT_NANOUSD),
    "negative": ({"inputTokens": -10, "outputTokens": 5}, "negative", None),
    "uncountable": ({"inputTokens": 10, "outputTokens": 10**13}, "uncountable", None),
    "above the bound": (
        {"inputTokens": 10, "outputTokens": 151},
        "above_bound",
        10 * 3_300 + 151 * 16_500,
    ),
    "a cache told twice": (
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "cacheReadInputTokens": 7,
            "cacheReadInputTokenCount": 40,
        },
        "contradictory",
        10 * 3_300 + 5 * 16_500 + 40 * 330,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_usage_that_cannot_be_right_is_charged_by_its_rule(
    make_guarded: Callable[..., Guarded], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """
    Peers took such replies at their word: free calls, or money paid back.
    """
    usage, anomaly, charged = CASES[name]
    caplog.set_level(logging.WARNING, "bedrock_guard")

    guarded, reply = ask(make_guarded, reply_with(**usage))

    entry = guarded.entry
    assert entry.outcome == "answered"
    assert anomaly in entry.anomalies
    assert entry.reported_usage["output_tokens" if usage["outputTokens"] else "input_tokens"]
    assert entry.cost_nanousd == (entry.estimated_cost_nanousd if charged is None else charged)
    assert guarded.spent_nanousd == entry.cost_nanousd
    assert guarded.pending == [0]
    assert reply["ResponseMetadata"]["BedrockGuard"]["Basis"] == entry.basis
    is_believed = anomaly in ("above_bound", "contradictory")
    assert entry.basis == ("reported" if is_believed else "estimated")
    assert anomaly in caplog.text
    assert "Good day" not in caplog.text


def test_a_guardrail_that_answers_itself_is_no_anomaly(make_guarded: Callable[..., Guarded]) -> None:
    """
    Its words are canned: text, and rightly no output tokens.
    """
    document = {**reply_with(inputTokens=0, outputTokens=0), "stopReason": "guardrail_intervened"}

    guarded, _ = ask(make_guarded, document)

    assert guarded.entry.anomalies == ()
    assert guarded.entry.cost_nanousd == 0


def test_a_body_with_text_and_no_output_tokens_is_told(make_guarded: Callable[..., Guarded]) -> None:
    """
    InvokeModel's body says what its headers do not.
    """
    document = {
        "type": "message",
        "content": [{"type": "text", "text": "Good day."}],
        "usage": {"input_tokens": 10, "output_tokens": 0},
    }
    guarded = make_guarded("50 USD")
    guarded.server.always(raw(200, JSON, json.dumps(document).encode()))

    guarded.client.invoke_model(**INVOKE)["body"].read()

    assert guarded.entry.anomalies == ("no_output",)
    assert guarded.entry.cost_nanousd == 10 * 3_300 + MOST_OUTPUT_NANOUSD


def test_a_stream_with_text_and_no_output_tokens_is_told(make_guarded: Callable[..., Guarded]) -> None:
    """
    What was streamed is remembered as far as that.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(converse_reply(input_tokens=10, output_tokens=0, text="Good day."))

    for operation in ("converse_stream", "invoke_model_with_response_stream"):
        if operation == "converse_stream":
            list(guarded.client.converse_stream(**HELLO)["stream"])
        else:
            list(guarded.client.invoke_model_with_response_stream(**INVOKE)["body"])

        assert guarded.entry.anomalies == ("no_output",), operation
        assert guarded.entry.cost_nanousd == 10 * 3_300 + MOST_OUTPUT_NANOUSD


def test_what_a_stream_said_before_it_was_cut_is_on_its_entry(make_guarded: Callable[..., Guarded]) -> None:
    """
    Anthropic counts the input before the answer begins: that part is no estimate any more. The charge
    stays the estimate, for AWS is said to bill what nobody reads.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(cut_stream(after_events=5))
    with pytest.raises(Exception, match=r"(?i)ended prematurely|incomplete|connection"):
        list(guarded.client.invoke_model_with_response_stream(**INVOKE)["body"])

    entry = guarded.entry
    assert entry.narrowed_by == "message_start"
    assert entry.narrowed_usage["output_tokens"] == 100
    assert 0 < entry.narrowed_usage["input_tokens"] < entry.usage["input_tokens"]
    assert entry.received_bytes > 0
    assert entry.basis == "estimated"
    assert entry.cost_nanousd == entry.estimated_cost_nanousd


def test_a_stream_with_tools_narrows_nothing(make_guarded: Callable[..., Guarded]) -> None:
    """
    A tool that runs at the maker's reads more after the first count.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(cut_stream(after_events=5))
    body = {**json.loads(INVOKE["body"]), "tools": [{"name": "look", "input_schema": {"type": "object"}}]}
    with pytest.raises(Exception, match=r"(?i)ended prematurely|incomplete|connection"):
        list(guarded.client.invoke_model_with_response_stream(modelId=SONNET, body=json.dumps(body))["body"])

    assert guarded.entry.narrowed_usage is None
    assert guarded.entry.received_bytes > 0


def test_a_stream_of_converse_tells_how_much_had_come(make_guarded: Callable[..., Guarded]) -> None:
    """
    Its events say nothing of the input until the last.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(cut_stream(after_events=5))
    with pytest.raises(Exception, match=r"(?i)ended prematurely|incomplete|connection"):
        list(guarded.client.converse_stream(**HELLO)["stream"])

    assert guarded.entry.narrowed_usage is None
    assert guarded.entry.received_bytes > 0


def test_input_that_aws_counted_above_the_bound_is_charged_though_the_stream_was_left(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    An estimate that is known to be too low is no estimate.
    """
    guarded = make_guarded("50 USD")
    guarded.server.always(converse_reply(input_tokens=100_000, output_tokens=40, text="Good day. " * 50))
    stream = guarded.client.invoke_model_with_response_stream(**INVOKE)["body"]
    next(iter(stream))
    stream.close()

    entry = guarded.entry
    assert entry.outcome == "abandoned"
    assert entry.anomalies == ("above_bound",)
    assert entry.usage == entry.narrowed_usage == {"input_tokens": 100_000, "output_tokens": 100}
    assert guarded.spent_nanousd == 100_000 * 3_300 + MOST_OUTPUT_NANOUSD
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd
