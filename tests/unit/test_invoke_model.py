"""
InvokeModel and its stream: bodies, headers and chunks in each dialect.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bounds import most_of

from bedrock_guard.domain.call import Call, ModelKind, ModelLimits, ModelRef
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations import Reply
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
GPT = "openai.gpt-6-sol"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEFGHIJ"


def invoke(body: Any, model_id: str = CLAUDE, **params: Any) -> Call:
    raw = body if isinstance(body, bytes | str) else json.dumps(body).encode()
    return INVOKE_MODEL.read_call({"modelId": model_id, "body": raw, **params}, region="us-east-1")


# --- InvokeModel: the request ---------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[1]", b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5_000, "é", None, 5]
)
def test_a_body_that_cannot_be_read_is_unseen(body: Any) -> None:
    """
    It is sent as it is, so it may be anything up to the context window.
    """
    call = INVOKE_MODEL.read_call({"modelId": CLAUDE, "body": body}, region="us-east-1")

    assert call.size.has_unseen
    assert call.size.output_limit is None


@pytest.mark.parametrize("make", [bytes, bytearray, lambda raw: raw.decode()])
def test_a_body_may_be_bytes_or_text(make: Any) -> None:
    """
    As botocore takes it.
    """
    raw = b'{"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}'

    call = INVOKE_MODEL.read_call({"modelId": CLAUDE, "body": make(raw)}, region="us-east-1")

    assert (call.size.output_limit, call.size.has_unseen) == (9, False)


@pytest.mark.parametrize(
    ("params", "body", "tier"),
    [
        ({}, {}, "default"),
        ({"serviceTier": "flex"}, {}, "flex"),
        ({}, {"service_tier": "priority"}, "priority"),
        ({"serviceTier": "flex"}, {"service_tier": "PRIORITY"}, "priority"),
        ({}, {"service_tier": "auto"}, "default"),
        ({"serviceTier": 5}, {"service_tier": []}, "default"),
    ],
)
def test_of_two_tiers_the_dearer_is_asked_for(
    params: dict[str, Any], body: dict[str, Any], tier: str
) -> None:
    """
    AWS documents the header, and its pages show the body's key too.
    """
    assert invoke(body, **params).service_tier == tier


def test_the_wire_of_invoke_model_keeps_its_headers() -> None:
    """
    A handler may set the tier as a header, with the body unchanged.
    """
    headers = {
        "X-Amzn-Bedrock-Service-Tier": b"priority",
        "X-Amzn-Bedrock-PerformanceConfig-Latency": "optimized",
        "X-Amzn-Bedrock-GuardrailIdentifier": "g",
        "X-Amzn-Bedrock-Request-Metadata": '{"team": "search"}',
    }
    sent = INVOKE_MODEL.read_wire(model_id=CLAUDE, headers=headers, body=b'{"max_tokens": 9}')  # type: ignore[arg-type]

    call = INVOKE_MODEL.read_call(sent, region="us-east-1")

    assert (call.service_tier, call.latency) == ("priority", "optimized")
    assert (call.size.output_limit, call.size.has_guardrail) == (9, True)
    assert call.request_tags == {"team": "search"}


# --- InvokeModel: the reply -----------------------------------------------------------------


def headers(**counts: int) -> dict[str, str]:
    return {
        f"x-amzn-bedrock-{name.replace('_', '-')}-token-count": str(count) for name, count in counts.items()
    }


PLAIN = headers(input=3, output=5)
CACHED = {**PLAIN, **headers(cache_read_input=7, cache_write_input=11)}
MARKED_5M = {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}
MARKED_1H = {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}


@pytest.mark.parametrize(
    ("call", "given", "suffices"),
    [
        (invoke({}), PLAIN, True),
        (invoke({}), CACHED, True),
        (invoke({}), headers(input=3), False),
        (invoke({}), {}, False),
        (invoke(MARKED_5M), PLAIN, False),
        (invoke(MARKED_5M), CACHED, True),
        (invoke(MARKED_1H), CACHED, False),  # headers do not split writes by life
        (invoke(MARKED_1H), {**CACHED, **headers(cache_write_input=0)}, True),
        (invoke({}, GPT), PLAIN, False),  # it caches unasked, and only the body says how much
        (invoke({}, "openai.gpt-oss-20b-1:0"), PLAIN, True),
        (invoke({}, "cohere.embed-english-v3"), headers(input=3), True),
        (invoke({}, guardrailIdentifier="g"), PLAIN, False),
    ],
)
def test_headers_settle_a_call_only_where_the_body_could_not_say_more(
    call: Call, given: dict[str, str], suffices: bool
) -> None:
    """
    Settling early is good, settling wrong is not.
    """
    assert (INVOKE_MODEL.read_usage(Reply({}, given), call) is not None) == suffices


def test_headers_and_body_that_disagree_count_as_the_larger() -> None:
    """
    Which of them AWS bills by is not known.
    """
    body = json.dumps({"usage": {"input_tokens": 9, "output_tokens": 1}}).encode()

    report = INVOKE_MODEL.read_body(body, Reply({}, PLAIN), invoke({}))

    assert report == UsageReport({"input_tokens": 9, "output_tokens": 5})


def test_one_hour_writes_are_read_from_the_body() -> None:
    """
    Priced at five minutes they would be 37 % too low.
    """
    usage = {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 11,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 10},
    }

    report = INVOKE_MODEL.read_body(
        json.dumps({"usage": usage}).encode(), Reply({}, CACHED), invoke(MARKED_1H)
    )

    assert report is not None
    assert report.usage == {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": 7,
        "cache_write_5m_input_tokens": 1,
        "cache_write_1h_input_tokens": 10,
    }


def test_openai_headers_and_body_tell_one_prompt() -> None:
    """
    The header counts what was cached, the meters do not.
    """
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}}

    report = INVOKE_MODEL.read_body(
        json.dumps({"usage": usage}).encode(), Reply({}, headers(input=100, output=5)), invoke({}, GPT)
    )

    assert report is not None
    assert report.usage == {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 5}


@pytest.mark.parametrize("body", [b"", b"{}", b"junk", b"[]", b'{"usage": null}'])
def test_a_body_that_says_nothing_is_no_report(body: bytes) -> None:
    """
    Then the estimate is charged.
    """
    assert INVOKE_MODEL.read_body(body, Reply({}), invoke({})) is None


def test_the_serving_tier_is_read_from_the_headers() -> None:
    """
    Botocore before 1.41 does not parse it.
    """
    given = {**PLAIN, "x-amzn-bedrock-service-tier": "flex"}

    report = INVOKE_MODEL.read_usage(Reply({}, given), invoke({}))

    assert report is not None
    assert report.service_tier == "flex"


# --- InvokeModelWithResponseStream ----------------------------------------------------------


def read_stream(call: Call, *chunks: Any) -> Any:
    reader = INVOKE_MODEL_WITH_RESPONSE_STREAM.open_stream_reader(call, Reply({"serviceTier": "flex"}))
    for chunk in chunks:
        data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
        reader.feed({"chunk": {"bytes": data}}, b"")
    return reader


START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 1}},
}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 130}}
STOP = {
    "type": "message_stop",
    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 98},
}


def test_counts_of_a_stream_are_merged_never_summed() -> None:
    """
    A peer let the metrics replace the rest, and charged nothing for the cache; recordings
    show metrics that count less output than the message did.
    """
    reader = read_stream(invoke({}), START, DELTA, STOP)

    assert reader.report == UsageReport(
        {"input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 130}, "flex"
    )
    assert reader.is_last_word


def test_a_stream_that_only_began_has_no_report() -> None:
    """
    message_start counts one token of an answer of thousands.
    """
    assert read_stream(invoke({}), START, b'{"type": "content_block_delta"}').report is None


def test_a_message_is_complete_before_the_metrics_come() -> None:
    """
    A stream cut between the two has told its usage; but not its last word.
    """
    reader = read_stream(invoke({}), START, DELTA)

    assert reader.report is not None
    assert not reader.is_last_word


@pytest.mark.parametrize(
    ("model_id", "chunks"),
    [
        ("amazon.nova-lite-v1:0", [{"metadata": {"usage": {"inputTokens": 3, "outputTokens": 5}}}]),
        (GPT, [{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}]),
        (GPT, [{"choices": [{"finish_reason": None}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
               {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}]),
        ("meta.llama3-70b-instruct-v1:0", [{"generation": "x", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 5}}]),
        ("cohere.command-r-v1:0", [{"is_finished": True, "response": {"meta": {"billed_units": {"input_tokens": 3, "output_tokens": 5}}}}]),
        ("imported", [{"x": 1, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 5}}]),
    ],
)  # fmt: skip
def test_each_dialect_says_when_it_is_done(model_id: str, chunks: list[Any]) -> None:
    """
    The last chunk of each is known, and a running count before it is not taken for it.
    """
    reader = read_stream(invoke({}, model_id), *chunks)

    assert reader.report is not None
    assert reader.report.usage == {"input_tokens": 3, "output_tokens": 5}
    assert read_stream(invoke({}, model_id), *chunks[:-1]).report is None


@pytest.mark.parametrize(
    "event", [{}, {"chunk": None}, {"chunk": {}}, {"chunk": {"bytes": None}}, {"chunk": {"bytes": b'"usage" \xff'}}, {"chunk": 5}]
)  # fmt: skip
def test_an_odd_chunk_is_passed_over(event: dict[str, Any]) -> None:
    """
    A reader that raises would break the caller's stream.
    """
    reader = INVOKE_MODEL_WITH_RESPONSE_STREAM.open_stream_reader(invoke({}))

    reader.feed(event, b"")

    assert reader.report is None


def test_a_running_count_without_choices_is_not_the_end() -> None:
    """
    Only a chunk that says that every answer is done, or carries none, is.
    """
    chunk = {"object": "ping", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}

    assert read_stream(invoke({}, GPT), chunk).report is None


def test_text_that_quotes_metrics_is_not_taken_for_them() -> None:
    """
    The model writes what its user wants.
    """
    text = json.dumps(STOP)

    reader = read_stream(
        invoke({}), START, {"type": "content_block_delta", "delta": {"text": text, "x": "usage"}}
    )

    assert reader.report is None


COMPACTING = {
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": "hello"}],
    "context_management": {"edits": [{"type": "compact_20260112"}]},
}
ROUNDS = {
    "input_tokens": 23_000,
    "output_tokens": 1_000,
    "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ],
}


def test_what_summing_up_a_prompt_takes_is_held_and_charged() -> None:
    """
    The prompt is read to sum it up, the summary to answer; Anthropic states both in `iterations` only.
    """
    headers = {"x-amzn-bedrock-input-token-count": "23000", "x-amzn-bedrock-output-token-count": "1000"}
    params = {"modelId": CLAUDE, "body": json.dumps(COMPACTING)}
    call = INVOKE_MODEL.read_call(params, region="us-east-1")
    plain = call._replace(times=1)
    limits = ModelLimits(200_000, 64_000)
    fields = {"context_management": COMPACTING["context_management"]}
    reader = INVOKE_MODEL_WITH_RESPONSE_STREAM.open_stream_reader(call)
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ROUNDS}
    reader.feed({"chunk": {"bytes": json.dumps(delta).encode()}}, b"")

    assert most_of(call, limits)[0] == {name: 2 * most for name, most in most_of(plain, limits)[0].items()}
    assert INVOKE_MODEL.read_usage(Reply({}, headers), call) is None
    for report in (
        INVOKE_MODEL.read_body(json.dumps({"usage": ROUNDS}).encode(), Reply({}, headers), call),
        reader.report,
    ):
        assert report is not None
        assert report.usage == {"input_tokens": 203_000, "output_tokens": 4_500}
        assert report.anomalies == ()
    converse = {"modelId": CLAUDE, "messages": [], "additionalModelRequestFields": fields}
    assert CONVERSE.read_call(converse, region="us-east-1").times == 2


@pytest.mark.parametrize(
    "odd",
    [None, 5, [], {"edits": 5}, {"edits": [None, 5, {"type": 5}, {"type": "clear_tool_uses_20250919"}]}],
)
def test_other_edits_of_a_prompt_run_the_model_once(odd: object) -> None:
    """
    They only leave something out.
    """
    params = {"modelId": CLAUDE, "body": json.dumps({**COMPACTING, "context_management": odd})}

    assert INVOKE_MODEL.read_call(params, region="us-east-1").times == 1


@pytest.mark.parametrize(("kind", "limit"), [("imported-model", 100), ("foundation-model", None)])
def test_an_imported_model_may_go_by_any_spelling(kind: ModelKind, limit: int | None) -> None:
    """
    An imported Qwen takes `max_gen_len`, whatever `models` says of its price; Bedrock's own does not.
    """
    model = ModelRef("arn", kind, "qwen.qwen3-32b-v1:0", "qwen")
    params = {"modelId": "arn", "body": json.dumps({"prompt": "hello", "max_gen_len": 100})}

    assert INVOKE_MODEL.read_call(params, region="us-east-1", model=model).size.output_limit == limit
