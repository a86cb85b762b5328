"""
Operations: from parameters to a `Call`, from replies and streams to usage.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bedrock_guard.domain.call import Call, RequestSize
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations import OPERATIONS, Reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
GPT = "openai.gpt-6-sol"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEFGHIJ"


def converse(**params: Any) -> Call:
    return CONVERSE.read_call({"modelId": CLAUDE, **params}, region="us-east-1")


def size_of(*blocks: dict[str, Any]) -> RequestSize:
    return converse(messages=[{"role": "user", "content": list(blocks)}]).size


def invoke(body: Any, model_id: str = CLAUDE, **params: Any) -> Call:
    raw = body if isinstance(body, bytes | str) else json.dumps(body).encode()
    return INVOKE_MODEL.read_call({"modelId": model_id, "body": raw, **params}, region="us-east-1")


# --- Converse: the request ------------------------------------------------------------------


def test_a_converse_call_carries_what_prices_and_budgets_ask_for() -> None:
    """
    Tier, latency, region and the caller's own metadata decide what a call costs and whose it is.
    """
    call = converse(
        serviceTier={"type": "priority"},
        performanceConfig={"latency": "optimized"},
        requestMetadata={"team": "search"},
    )

    assert (call.operation, call.family, call.region) == ("Converse", "anthropic", "us-east-1")
    assert (call.service_tier, call.latency) == ("priority", "optimized")
    assert call.request_tags == {"team": "search"}


def test_the_region_of_an_arn_goes_first() -> None:
    """
    It is billed where the ARN says, whatever the client's region.
    """
    arn = "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"

    assert CONVERSE.read_call({"modelId": arn}, region="us-east-1").region == "eu-west-1"


def test_all_that_the_model_reads_is_counted() -> None:
    """
    System prompt, messages, tool schemas and the extra fields are one prompt.
    """
    call = converse(
        system=[{"text": "s" * 100}],
        messages=[{"role": "user", "content": [{"text": "m" * 200}]}],
        toolConfig={"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {"k" * 300: 1}}}}]},
        additionalModelRequestFields={"note": "n" * 400},
    )

    assert 1_000 <= call.size.text_bytes < 1_200
    assert call.size.has_tools
    assert call.size.messages == 3


def test_what_the_model_does_not_read_is_not_counted() -> None:
    """
    Metadata is no prompt.
    """
    call = converse(requestMetadata={"k": "v" * 200}, guardrailConfig={"guardrailIdentifier": "g" * 200})

    assert call.size.text_bytes == 0
    assert call.size.has_guardrail


@pytest.mark.parametrize(
    "block",
    [
        {"toolUse": {"toolUseId": "1", "name": "n", "input": {"image": {"source": {"bytes": "x" * 900}}}}},
        {"toolUse": {"toolUseId": "1", "name": "n", "input": {"x" * 900: 1}}},
        {"toolResult": {"toolUseId": "1", "content": [{"json": {"video": "x" * 900}}]}},
        {"toolResult": {"toolUseId": "1", "content": [{"text": "x" * 900}]}},
        {"toolResult": {"toolUseId": "1", "content": [{"searchResult": {"title": "x" * 900}}]}},
        {"reasoningContent": {"reasoningText": {"text": "x" * 900, "signature": "s"}}},
        {"reasoningContent": {"reasoningText": {"text": "s", "signature": "x" * 900}}},
        {"reasoningContent": {"redactedContent": b"x" * 900}},
        {"guardContent": {"text": {"text": "x" * 900, "qualifiers": ["query"]}}},
        {"citationsContent": {"content": [{"text": "x" * 900}]}},
        {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x" * 900}]}},
        {"document": {"format": "txt", "name": "n", "source": {"bytes": b"x" * 900}}},
        {
            "document": {
                "format": "md",
                "name": "n",
                "source": {"bytes": base64.b64encode(b"x" * 900).decode()},
            }
        },
        {"document": {"name": "n", "source": {"text": "x" * 900}}},
        {"document": {"name": "n", "source": {"content": [{"text": "x" * 900}]}}},
        {"document": {"name": "n", "context": "x" * 900, "source": {"text": "s"}}},
        {"somethingNew": {"deep": [{"text": "x" * 900}]}},
    ],
)
def test_every_kind_of_text_is_counted(block: dict[str, Any]) -> None:
    """
    A kind of block that is passed over is a prompt for free.
    """
    size = size_of(block)

    assert 900 <= size.text_bytes < 1_400
    assert not size.has_unseen


@pytest.mark.parametrize(
    "block",
    [
        {"video": {"format": "mp4", "source": {"bytes": b"x"}}},
        {"audio": {"format": "mp3", "source": {"bytes": b"x"}}},
        {"document": {"format": "pdf", "name": "n", "source": {"bytes": b"%PDF"}}},
        {"document": {"format": "docx", "name": "n", "source": {"bytes": b"PK"}}},
        {"document": {"format": "txt", "name": "n", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"document": {"format": "txt", "name": "n", "source": {"bytes": b"\xff\xfe"}}},
        {"document": {"format": "txt", "name": "n", "source": {"bytes": "no base64"}}},
        {"document": "odd"},
        {"toolResult": {"toolUseId": "1", "content": [{"video": {}}]}},
        {"somethingNew": {"bytes": b"x"}},
    ],
)
def test_what_cannot_be_measured_is_unseen(block: dict[str, Any]) -> None:
    """
    Then the context window is the bound.
    """
    assert size_of(block).has_unseen


@pytest.mark.parametrize(
    "block",
    [
        image := {"image": {"format": "png", "source": {"bytes": b"x" * 9_000}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"toolResult": {"toolUseId": "1", "content": [image]}},
        {"guardContent": image},
    ],
)
def test_an_image_counts_as_one(block: dict[str, Any]) -> None:
    """
    By the family's cap for any image, not by its bytes.
    """
    size = size_of(block)

    assert (size.images, size.image_tokens, size.has_unseen) == (1, 1_600, False)
    assert size.text_bytes < 100


def test_a_prompt_resource_is_unseen() -> None:
    """
    Its text is at AWS.
    """
    params = {"modelId": PROMPT, "promptVariables": {"topic": {"text": "x"}}}

    assert CONVERSE.read_call(params, region="us-east-1").size.has_unseen
    assert CONVERSE.read_call({"modelId": PROMPT}, region="us-east-1").size.has_unseen
    assert converse(promptVariables={}).size.has_unseen


def test_a_system_tool_makes_the_input_unseen() -> None:
    """
    What it finds on the web is read by the model, and billed.
    """
    assert converse(toolConfig={"tools": [{"systemTool": {"name": "nova_grounding"}}]}).size.has_unseen


@pytest.mark.parametrize(
    ("params", "life"),
    [
        ({"system": [{"text": "s"}, {"cachePoint": {"type": "default"}}]}, "5m"),
        ({"system": [{"cachePoint": {"type": "default", "ttl": "1h"}}, {"cachePoint": {"ttl": "5m"}}]}, "1h"),
        ({"toolConfig": {"tools": [{"cachePoint": {"type": "default", "ttl": "5m"}}]}}, "5m"),
        ({"messages": [{"role": "user", "content": [{"cachePoint": {"ttl": "7d"}}]}]}, "1h"),
        ({"additionalModelRequestFields": {"cache_control": {"type": "ephemeral", "ttl": "1h"}}}, "1h"),
        ({"messages": [{"role": "user", "content": [{"text": '{"cachePoint": "1h"}'}]}]}, None),
    ],
)
def test_the_longest_life_of_a_cache_point_counts(params: dict[str, Any], life: str | None) -> None:
    """
    It is the dearest price that a token of the prompt can have.
    """
    assert converse(**params).size.writes_cache == life


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, None),
        ({"inferenceConfig": {"maxTokens": 100}}, 100),
        ({"inferenceConfig": {"maxTokens": -5}}, None),
        ({"inferenceConfig": {"maxTokens": "9"}}, None),
        ({"inferenceConfig": "odd"}, None),
        ({"inferenceConfig": {"maxTokens": 100}, "additionalModelRequestFields": {"max_tokens": 900}}, 900),
        ({"inferenceConfig": {"maxTokens": 900}, "additionalModelRequestFields": {"max_tokens": 100}}, 900),
        ({"additionalModelRequestFields": {"max_gen_len": 900}}, 900),
        ({"additionalModelRequestFields": {"max_completion_tokens": 900}}, 900),
        ({"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 900}}}, 900),
        ({"additionalModelRequestFields": {"thinking": {"budget_tokens": 900}}}, None),
        (
            {
                "inferenceConfig": {"maxTokens": 100},
                "additionalModelRequestFields": {"reasoning_config": {"budget_tokens": 900}},
            },
            900,
        ),
    ],
)
def test_a_limit_hidden_in_the_extra_fields_counts(params: dict[str, Any], limit: int | None) -> None:
    """
    Otherwise maxTokens=10 would be a disguise for any answer.
    """
    assert converse(**params).size.output_limit == limit


def test_extra_fields_can_ask_for_more_answers_tools_and_window() -> None:
    """
    What a maker's own parameters can do, they do in Converse too.
    """
    size = converse(
        additionalModelRequestFields={
            "n": 4,
            "tools": [{"name": "t"}],
            "anthropic_beta": ["context-1m-2025-08-07"],
        }
    ).size

    assert (size.candidates, size.has_tools, size.max_input_tokens) == (4, True, 1_000_000)


def test_answers_in_a_form_cost_what_the_maker_says_about_it() -> None:
    """
    A recording: 126 tokens more than the schema.
    """
    schema = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}}

    assert converse(outputConfig=schema).size.text_bytes > 1_000
    assert converse(outputConfig={"effort": "low"}).size.text_bytes < 100


@pytest.mark.parametrize(
    "odd",
    [None, 1, "x", [], {}, [1], [None], {"a": 1}, b"x", [[]], [{"text": 5}], [{1: 2}], (1,), 1.5, object()],
)
@pytest.mark.parametrize("key", ["modelId", "messages", "system", "toolConfig", "inferenceConfig", "additionalModelRequestFields", "serviceTier", "performanceConfig", "requestMetadata", "outputConfig", "promptVariables", "somethingNew"])  # fmt: skip
def test_odd_parameters_do_not_raise(key: str, odd: object) -> None:
    """
    Whatever botocore lets through is AWS's to refuse, not ours.
    """
    CONVERSE.read_call({"modelId": CLAUDE, key: odd}, region="us-east-1")


def test_messages_that_are_none_are_unseen() -> None:
    """
    What cannot be read may be anything.
    """
    assert converse(messages="odd").size.has_unseen


# --- Converse: the wire ---------------------------------------------------------------------


def test_the_wire_reads_as_the_parameters_did() -> None:
    """
    A handler after ours may have changed the request: what is sent is bounded the same way.
    """
    params = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "hi"},
                    {"document": {"format": "txt", "name": "n", "source": {"bytes": b"x" * 90}}},
                ],
            }
        ],
        "inferenceConfig": {"maxTokens": 7},
        "serviceTier": {"type": "flex"},
    }
    wire = json.dumps(params, default=lambda raw: base64.b64encode(raw).decode()).encode()

    sent = CONVERSE.read_wire(model_id=CLAUDE, headers={}, body=wire)

    assert CONVERSE.read_call(sent, region="us-east-1") == converse(**params)


def test_a_wire_that_is_no_json_is_unseen() -> None:
    """
    AWS will refuse it; until then it may be anything.
    """
    sent = CONVERSE.read_wire(model_id=CLAUDE, headers={}, body=b"\xff{")

    assert CONVERSE.read_call(sent, region="us-east-1").size.has_unseen


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


@pytest.mark.parametrize(
    "parsed",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": {"outputTokens": 5}},
        {"usage": {"inputTokens": -3, "outputTokens": 5}},
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


def test_text_that_quotes_metrics_is_not_taken_for_them() -> None:
    """
    The model writes what its user wants.
    """
    text = json.dumps(STOP)

    reader = read_stream(
        invoke({}), START, {"type": "content_block_delta", "delta": {"text": text, "x": "usage"}}
    )

    assert reader.report is None


def test_every_line_of_the_table_is_named_as_its_key() -> None:
    """
    The hooks find an operation by its name.
    """
    for (service, name), operation in OPERATIONS.items():
        assert service == "bedrock-runtime"
        assert operation.name == name
