"""
For any request whatever: the bound is not below what a model could make of it.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from bounds import most_of
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.domain.usage import total_input
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.operations.invoke_model import INVOKE_MODEL

UNLISTED = ModelLimits()
MODELS = st.sampled_from(
    [
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "amazon.nova-lite-v1:0",
        "amazon.titan-text-express-v1",
        "amazon.titan-embed-text-v2:0",
        "meta.llama3-70b-instruct-v1:0",
        "mistral.mistral-large-2407-v1:0",
        "cohere.command-r-v1:0",
        "ai21.jamba-1-5-mini-v1:0",
        "openai.gpt-6-sol",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456",
    ]
)
# Text with what NFKC makes longer, what has no UTF-8, and what JSON escapes.
TEXT = st.text(st.characters(codec=None) | st.sampled_from('\ufdfa\ufb2c\u0390\ud800"\\\n€💥')) | st.text()
# Keys that mean something in the dialect, used for something else.
KEYS = st.sampled_from(
    [
        "image",
        "text",
        "source",
        "bytes",
        "data",
        "cachePoint",
        "cache_control",
        "type",
        "video",
        "ttl",
        "usage",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=4),
    max_leaves=12,
)
PARAMETERS = [
    "messages", "system", "toolConfig", "inferenceConfig", "additionalModelRequestFields", "serviceTier",
    "performanceConfig", "requestMetadata", "promptVariables", "outputConfig", "guardrailConfig",
]  # fmt: skip


def tokens_at_most(text: str) -> int:
    """
    What a byte-level tokenizer may make of *text*, normalising first or not.
    """
    normal = unicodedata.normalize("NFKC", text)
    return max(len(form.encode("utf-8", "surrogatepass")) for form in (text, normal))


def rounded_up(window: int) -> int:
    """
    What a window may be that a list gives in thousands, or in millions.
    """
    return -(-window * 2**20 // 10**6)


def least_input(call: Call) -> int:
    return min(total_input(usage) for usage in most_of(call, UNLISTED))


@given(MODELS, TEXT, TEXT)
def test_text_in_converse(model_id: str, system: str, text: str) -> None:
    """
    Any alphabet, any normalisation, half a surrogate pair.
    """
    call = CONVERSE.read_call(
        {
            "modelId": model_id,
            "system": [{"text": system}],
            "messages": [{"role": "user", "content": [{"text": text}]}],
        },
        region="us-east-1",
    )

    assert least_input(call) >= tokens_at_most(system) + tokens_at_most(text)


@given(MODELS, TEXT)
def test_text_in_any_dialect(model_id: str, text: str) -> None:
    """
    Where a dialect keeps its prompt does not matter: text is text.
    """
    for body in (
        {"prompt": text},
        {"inputText": text},
        {"messages": [{"role": "user", "content": text}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        {"messages": [{"role": "user", "content": [{"text": text}]}]},
        {"message": text},
        {"unheard_of": {"deep": [text]}},
    ):
        call = INVOKE_MODEL.read_call(
            {"modelId": model_id, "body": json.dumps(body).encode()}, region="us-east-1"
        )

        assert least_input(call) >= tokens_at_most(text)


@given(MODELS, JSON)
def test_what_a_tool_is_given_or_gives(model_id: str, value: Any) -> None:
    """
    User data may be shaped like a block of the dialect; it is text all the same.
    """
    written = tokens_at_most(json.dumps({"value": value}, ensure_ascii=False, separators=(",", ":")))
    use = {"toolUse": {"toolUseId": "1", "name": "n", "input": {"value": value}}}
    result = {"toolResult": {"toolUseId": "1", "content": [{"json": {"value": value}}]}}
    typed = {"type": "tool_use", "id": "1", "name": "n", "input": {"value": value}}

    for block in (use, result):
        params = {"modelId": model_id, "messages": [{"role": "user", "content": [block]}]}
        assert least_input(CONVERSE.read_call(params, region="us-east-1")) >= written
    for block in (use, typed):
        body = json.dumps({"messages": [{"role": "user", "content": [block]}]})
        call = INVOKE_MODEL.read_call({"modelId": model_id, "body": body}, region="us-east-1")
        assert least_input(call) >= written


@given(MODELS, st.dictionaries(st.sampled_from(PARAMETERS), JSON))
def test_any_parameters_have_a_bound(model_id: str, params: dict[str, Any]) -> None:
    """
    Reading a request never raises, and every alternative is a usage that can be priced.
    """
    for usage in most_of(CONVERSE.read_call({"modelId": model_id, **params}, region="us-east-1"), UNLISTED):
        assert all(isinstance(quantity, int) and quantity > 0 for quantity in usage.values())


@given(MODELS, st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_has_a_bound(model_id: str, body: bytes) -> None:
    """
    Bytes that are no JSON are bounded by the context window.
    """
    for usage in most_of(
        INVOKE_MODEL.read_call({"modelId": model_id, "body": body}, region="us-east-1"), UNLISTED
    ):
        assert all(isinstance(quantity, int) and quantity > 0 for quantity in usage.values())


@given(
    MODELS,
    st.dictionaries(st.sampled_from(["max_tokens", "max_gen_len", "maxTokens", "max_completion_tokens"]), JSON | st.integers(1, 4_096)),
)  # fmt: skip
def test_no_spelling_of_a_limit_lowers_another(model_id: str, limits: dict[str, Any]) -> None:
    """
    Whichever the model goes by, the bound is not below it; one that cannot be read lifts it.
    """
    params = {
        "modelId": model_id,
        "inferenceConfig": {"maxTokens": 50},
        "additionalModelRequestFields": limits,
    }
    call = CONVERSE.read_call(params, region="us-east-1")

    # Above what any model here writes, AWS refuses the request.
    readable = [limit for limit in limits.values() if isinstance(limit, int) and 0 < limit <= 4_096]

    if call.size.generates:
        assert all(usage["output_tokens"] >= max([50, *readable]) for usage in most_of(call, UNLISTED))


@given(MODELS, TEXT, st.integers(0, 10**9))
def test_no_bound_is_above_the_window(model_id: str, text: str, window: int) -> None:
    """
    What is longer AWS refuses, so money held for it would be kept from other calls for nothing.
    """
    params = {"modelId": model_id, "messages": [{"role": "user", "content": [{"text": text}]}]}
    call = CONVERSE.read_call(params, region="us-east-1")

    for usage in most_of(call, ModelLimits(max_input_tokens=window)):
        least = min(tokens_at_most(text), window or 10**12)
        most = rounded_up(window) if window else 2_000_000
        assert least <= total_input(usage) <= most


UNSEEN: list[dict[str, Any]] = [
    {"promptVariables": {"name": {"text": "x"}}},
    {"modelId": "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1"},
    {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
    *(
        {
            "messages": [
                {"role": "user", "content": [{kind: {"format": "any", "name": "n", "source": source}}]}
            ]
        }
        for kind in ("document", "video", "audio")
        for source in ({"s3Location": {"uri": "s3://b/k"}}, {"bytes": b"\x00\x01"}, {"new": "place"}, {})
        if source or kind != "document"
    ),
]


@given(MODELS, st.sampled_from(UNSEEN), st.integers(1, 10**7))
def test_what_cannot_be_seen_is_the_whole_window(model_id: str, unseen: dict[str, Any], window: int) -> None:
    """
    A prompt resource, an object in S3, a video: of any size that the model takes.
    """
    call = CONVERSE.read_call({"modelId": model_id, **unseen}, region="us-east-1")

    if call.size.generates:
        for usage in most_of(call, ModelLimits(max_input_tokens=window)):
            assert window <= total_input(usage) <= rounded_up(window)


@given(MODELS, st.dictionaries(KEYS | TEXT, JSON, max_size=3))
def test_additional_fields_are_text_and_limits_too(model_id: str, fields: dict[str, Any]) -> None:
    """
    A model may be shown what botocore does not know, and go by a limit in it.
    """
    stated = {**fields, "thinking": {"type": "enabled", "budget_tokens": 9_000}, "n": 3}
    params = {
        "modelId": model_id,
        "inferenceConfig": {"maxTokens": 5},
        "additionalModelRequestFields": stated,
    }
    call = CONVERSE.read_call(params, region="us-east-1")
    written = sum(tokens_at_most(key) for key in fields)

    for usage in most_of(call, UNLISTED):
        assert total_input(usage) >= written
        if call.size.generates:
            assert usage["output_tokens"] >= 3 * 9_000
