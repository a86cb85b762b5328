"""
Converse: from parameters, and from the wire, to a `Call`.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bedrock_guard.domain.call import Call, RequestSize
from bedrock_guard.operations.converse import CONVERSE

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
GPT = "openai.gpt-6-sol"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEFGHIJ"


def converse(**params: Any) -> Call:
    return CONVERSE.read_call({"modelId": CLAUDE, **params}, region="us-east-1")


def size_of(*blocks: dict[str, Any]) -> RequestSize:
    return converse(messages=[{"role": "user", "content": list(blocks)}]).size


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
        {"toolResult": "odd"},
        {"toolResult": {"toolUseId": "1", "content": "odd"}},
        {"guardContent": b"odd"},
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
        ({"additionalModelRequestFields": {"max_tokens": 900}}, 900),
        # Claude goes by none of these: they raise a limit, and are none.
        ({"additionalModelRequestFields": {"max_gen_len": 900}}, None),
        ({"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 900}}}, None),
        (
            {
                "inferenceConfig": {"maxTokens": 100},
                "additionalModelRequestFields": {"max_completion_tokens": 900},
            },
            900,
        ),
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


def test_extra_fields_bring_what_the_maker_adds_to_them() -> None:
    """
    A computer, a shell and an editor of Anthropic's are 1,700 tokens, in a request of 300 bytes.
    """
    own = [{"type": f"{tool}_20250124", "name": tool} for tool in ("computer", "bash", "text_editor")]
    plain = converse(additionalModelRequestFields={"top_k": 5}).size

    assert converse(additionalModelRequestFields={"tools": own}).size.text_bytes > 3 * 1_500
    assert converse(additionalModelRequestFields={"output_config": {}}).size.text_bytes > 1_000
    assert not converse(additionalModelRequestFields={"tools": None}).size.has_unseen
    assert plain.text_bytes < 100


@pytest.mark.parametrize(
    ("params", "tier"),
    [
        ({"additionalModelRequestFields": {"service_tier": "priority"}}, "priority"),
        ({"additionalModelRequestFields": {"service_tier": "auto"}}, "default"),
        ({"additionalModelRequestFields": {"service_tier": "priority"}, "serviceTier": {"type": "flex"}}, "priority"),
        ({"additionalModelRequestFields": ["service_tier"], "serviceTier": {"type": "flex"}}, "flex"),
    ],
)  # fmt: skip
def test_extra_fields_may_ask_for_a_dearer_tier(params: dict[str, Any], tier: str) -> None:
    """
    Which of the two AWS goes by is not told.
    """
    assert converse(**params).service_tier == tier


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


@pytest.mark.parametrize(
    "params",
    [
        {"messages": "odd"},
        {"messages": ["odd"]},
        {"messages": [{"role": "user", "content": "odd"}]},
        {"messages": [{"role": "user", "content": ["odd"]}]},
        {"toolConfig": "odd"},
        {"toolConfig": {"tools": "odd"}},
        {"toolConfig": {"tools": ["odd"]}},
    ],
)
def test_what_stands_in_the_wrong_place_is_unseen(params: dict[str, Any]) -> None:
    """
    What cannot be read may be anything.
    """
    assert converse(**params).size.has_unseen


def test_a_tool_added_on_the_way_is_a_tool() -> None:
    """
    The maker's system prompt for tools comes with it.
    """
    assert size_of({"toolAddition": {"tool": {"name": "t"}}}).has_tools


def test_nesting_without_end_is_unseen() -> None:
    """
    The walk gives up before the stack does.
    """
    block: dict[str, Any] = {"text": "x"}
    for _ in range(3_000):
        block = {"toolResult": {"toolUseId": "1", "content": [block]}}

    assert size_of(block).has_unseen


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
