"""
Families: who speaks which dialect, how large a request is, what a reply says.
"""

from __future__ import annotations

from typing import Any

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import FAMILIES, UNKNOWN, Family, family_of
from bedrock_guard.families.text import text_bytes

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "meta.llama3-70b-instruct-v1:0"
GPT = "openai.gpt-6-sol"
OPAQUE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
IMAGE = "iVBORw0KGgo" * 1_000


def family(model_id: str) -> Family:
    return family_of(parse_model_id(model_id))


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("anthropic.claude-v2:1", "anthropic"),
        ("us.anthropic.claude-opus-4-7", "anthropic"),
        (NOVA, "nova"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", "nova"),
        ("amazon.titan-embed-text-v2:0", "titan"),
        ("us.meta.llama4-maverick-17b-instruct-v1:0", "llama"),
        ("mistral.mistral-7b-instruct-v0:2", "mistral"),
        ("cohere.command-r-v1:0", "cohere"),
        ("ai21.j2-mid-v1", "ai21"),
        ("deepseek.v3.2", "deepseek"),
        ("qwen.qwen3-32b-v1:0", "openai_chat"),
        ("writer.palmyra-x5-v1:0", "writer"),
        ("stability.sd3-5-large-v1:0", "stability"),
        ("amazon.nova-canvas-v1:0", "nova"),
        ("amazon.nova-reel-v1:1", "nova"),
        ("amazon.titan-image-generator-v2:0", "titan"),
        ("amazon.rerank-v1:0", "rerank"),
        ("cohere.rerank-v3-5:0", "cohere"),
        ("luma.ray-v2:0", "luma"),
        ("us.twelvelabs.pegasus-1-2-v1:0", "twelvelabs"),
        ("eu.twelvelabs.marengo-embed-2-7-v1:0", "twelvelabs"),
        (OPAQUE, "unknown"),
        ("claude", "unknown"),
    ],
)
def test_a_model_speaks_the_dialect_of_its_maker(model_id: str, name: str) -> None:
    """
    The wrong dialect misses limits and counts.
    """
    assert family(model_id).name == name


def test_a_name_that_only_resembles_another_is_unknown() -> None:
    """
    Looking for "claude" anywhere in an id would trust whoever chose the id.
    """
    assert family("acme.claude-nova-titan-v1:0") is UNKNOWN


def test_of_several_lines_the_longest_counts() -> None:
    """
    A maker's line must not hide what is special about one of its models.
    """
    assert family("anthropic.claude-3-5-haiku-20241022-v1:0") is FAMILIES["anthropic", "claude-3-5"]
    assert not family("amazon.titan-embed-text-v2:0").generates


def test_an_unlisted_claude_counts_as_new() -> None:
    """
    The images of newer models are larger: the old cap would be low for them.
    """
    assert family("anthropic.claude-opus-9").image_tokens == 4_800
    assert family(CLAUDE).image_tokens == 1_600


# --- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("plain", 5),
        ("größe", 7),
        ("日本", 6),
        ("\ufdfa", 33),  # one character, which NFKC writes out in eighteen
        ("\ud800", 3),  # half of a pair: no UTF-8, but JSON can carry it
        ("", 0),
    ],
)
def test_text_is_as_long_as_the_longest_it_can_become(text: str, size: int) -> None:
    """
    Some tokenizers normalise first, and see more text than was sent.
    """
    assert text_bytes(text) == size


# --- requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "body"),
    [
        (CLAUDE, {"messages": [{"role": "user", "content": [anthropic_image := {"type": "image", "source": {"type": "base64", "data": IMAGE}}]}]}),
        (CLAUDE, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [anthropic_image]}]}]}),
        (NOVA, {"messages": [{"role": "user", "content": [nova_image := {"image": {"source": {"bytes": IMAGE}}}]}]}),
        (GPT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]}),
        (LLAMA, {"prompt": "", "images": [IMAGE]}),
        ("cohere.embed-v4:0", {"images": [IMAGE]}),
        (OPAQUE, {"messages": [{"role": "user", "content": [anthropic_image]}]}),
        (OPAQUE, {"messages": [{"role": "user", "content": [nova_image]}]}),
    ],
)  # fmt: skip
def test_an_image_is_not_text(model_id: str, body: dict[str, Any]) -> None:
    """
    As text, a photograph would be a million tokens, and no budget would let it pass.
    """
    size = family(model_id).read_request(body)

    assert size.images == 1
    assert size.text_bytes < 1_000


@pytest.mark.parametrize("key", ["image", "source", "data", "cachePoint", "video"])
@pytest.mark.parametrize(
    ("model_id", "wrap"),
    [
        (CLAUDE, lambda tool_input: {"type": "tool_use", "id": "1", "name": "n", "input": tool_input}),
        (NOVA, lambda tool_input: {"toolUse": {"toolUseId": "1", "name": "n", "input": tool_input}}),
        (OPAQUE, lambda tool_input: {"type": "tool_use", "id": "1", "name": "n", "input": tool_input}),
        (OPAQUE, lambda tool_input: {"toolUse": {"toolUseId": "1", "name": "n", "input": tool_input}}),
    ],
)
def test_what_a_tool_is_given_is_text_whatever_its_keys(model_id: str, wrap: Any, key: str) -> None:
    """
    A tool with an argument named "image" would be a hole in the bound.
    """
    block = wrap({key: {"bytes": "x" * 5_000}})

    size = family(model_id).read_request({"messages": [{"role": "assistant", "content": [block]}]})

    assert size.text_bytes > 5_000


def test_an_image_that_is_embedded_may_be_as_large_as_aws_leaves_it() -> None:
    """
    1,610 tokens for 512 x 512 pixels, as Oracle documents the same model.
    """
    size = family("cohere.embed-v4:0").read_request({"images": ["data:image/png;base64,AAAA"]})

    assert size.image_tokens >= 1_610 * 2_458_624 // 512**2


def test_keys_and_numbers_of_tools_are_text() -> None:
    """
    A model reads the whole schema, not only its strings.
    """
    schema = {"properties": {"k" * 400: {"maximum": 10**300}}}

    size = family(CLAUDE).read_request({"tools": [{"name": "t", "input_schema": schema}]})

    assert size.has_tools
    assert size.text_bytes > 700


def test_a_tool_of_the_makers_counts_for_what_it_brings() -> None:
    """
    Its schema is not in the request, but it is billed.
    """
    size = family(CLAUDE).read_request({"tools": [{"type": "computer_20250124", "name": "computer"}]})

    assert size.text_bytes > 1_250


def test_escaped_text_is_as_long_as_a_template_may_write_it() -> None:
    r"""
    Some templates write tools as JSON in ASCII, where "日" is "\u65e5".
    """
    tools = [{"name": "t", "description": "日" * 100, "input_schema": {}}]

    assert family(CLAUDE).read_request({"tools": tools}).text_bytes >= 600


@pytest.mark.parametrize(
    "document",
    [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com"}},
        {"type": "document"},
        {"type": "container_upload", "file_id": "f"},
        {"type": "input_audio", "input_audio": {}},
    ],
)
def test_what_cannot_be_measured_is_unseen(document: dict[str, Any]) -> None:
    """
    Its bound is the context window; as text it could be far too low.
    """
    body = {"messages": [{"role": "user", "content": [document]}]}

    assert family(CLAUDE).read_request(body).has_unseen


def test_a_plain_document_is_text() -> None:
    """
    Plain text needs no context window.
    """
    source = {"type": "text", "media_type": "text/plain", "data": "x" * 400}
    body = {"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}

    size = family(CLAUDE).read_request(body)

    assert not size.has_unseen
    assert 400 <= size.text_bytes <= 600


def test_a_document_of_content_may_hold_images() -> None:
    """
    They count as images there too.
    """
    source = {"type": "content", "content": [{"type": "text", "text": "x" * 400}, anthropic_image]}
    body = {"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}

    size = family(CLAUDE).read_request(body)

    assert (size.images, size.has_unseen) == (1, False)
    assert 400 <= size.text_bytes <= 700


@pytest.mark.parametrize(
    ("params", "has_unseen"),
    [
        ({"text": {"value": "x" * 90}}, False),
        ({"text": {"source": {"s3Location": {"uri": "s3://b/k"}}}}, True),
        ({"video": {"source": {"bytes": IMAGE}}}, False),
        ("odd" * 30, False),
    ],
)
def test_what_nova_embeds_is_text_or_unseen(params: object, has_unseen: bool) -> None:
    """
    A text in S3 may be of any length.
    """
    nova = family("amazon.nova-2-multimodal-embeddings-v1:0")

    size = nova.read_request({"singleEmbeddingParams": params})

    assert size.has_unseen == has_unseen
    assert has_unseen or size.text_bytes >= 90 or not size.reads_tokens


def test_citations_make_a_document_longer() -> None:
    """
    A recording: 193 bytes of text with citations on were 672 tokens.
    """
    source = {"type": "text", "media_type": "text/plain", "data": "x" * 193}
    document = {"type": "document", "source": source, "citations": {"enabled": True}}
    body = {"messages": [{"role": "user", "content": [document]}]}

    assert family(CLAUDE).read_request(body).text_bytes >= 672


@pytest.mark.parametrize(
    ("body", "life"),
    [
        ({"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}, "5m"),
        ({"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, "1h"),
        ({"tools": [{"name": "t", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]}, "5m"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "1h"),
        ({"cache\u005fcontrol": {"type": "ephemeral"}}, "5m"),
        ({"system": "cache_control"}, None),
    ],
)  # fmt: skip
def test_a_cache_mark_is_seen_wherever_it_stands(body: dict[str, Any], life: str | None) -> None:
    """
    A write costs up to twice the input: bounded as plain input, it would be low.
    """
    assert family(CLAUDE).read_request(body).writes_cache == life


@pytest.mark.parametrize(
    ("model_id", "body", "limit"),
    [
        (CLAUDE, {"max_tokens": 100, "thinking": {"budget_tokens": 4_000}}, 4_000),
        (CLAUDE, {"thinking": {"budget_tokens": 4_000}}, None),
        (CLAUDE, {"max_tokens_to_sample": 300}, 300),
        (CLAUDE, {"anthropic_beta": ["output-128k-2025-02-19"]}, 128_000),
        (NOVA, {"inferenceConfig": {"maxTokens": 10, "max_new_tokens": 20}}, 20),
        (NOVA, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, 128_000),
        ("amazon.titan-text-express-v1", {"textGenerationConfig": {"maxTokenCount": 64}}, 64),
        ("amazon.titan-text-express-v1", {}, 512),
        ("amazon.titan-text-express-v1", {"textGenerationConfig": {"maxTokenCount": "64"}}, None),
        (LLAMA, {}, 512),
        (LLAMA, {"max_gen_len": 2_048}, 2_048),
        ("mistral.mistral-large-2402-v1:0", {}, 8_192),
        ("mistral.mistral-large-2407-v1:0", {}, None),
        (GPT, {"max_tokens": 5, "max_completion_tokens": 50}, 50),
        ("ai21.j2-mid-v1", {"maxTokens": 7}, 7),
        (OPAQUE, {"max_gen_len": 7, "maxOutputTokens": 9}, 9),
        (GPT, {"max_tokens": -1}, None),
        (GPT, {"maxTokens": 1}, None),
        (GPT, {"max_tokens": None, "max_gen_len": 1}, None),
        (GPT, {"max_tokens": 5, "maxTokens": 50}, 50),
        (CLAUDE, {"inferenceConfig": {"maxTokens": 1}}, None),
        (CLAUDE, {"maxTokens": 1, "anthropic_beta": ["output-128k-2025-02-19"]}, 128_000),
        (NOVA, {"max_tokens": 1}, None),
        ("amazon.titan-text-express-v1", {"maxTokenCount": 1}, 512),
        ("cohere.command-r-v1:0", {"maxTokens": 1}, None),
        (LLAMA, {"max_tokens": 1}, 512),
        (LLAMA, {"max_tokens": 900}, 900),
        (GPT, {"max_tokens": 0}, None),
        (GPT, {"max_tokens": True}, None),
        (GPT, {"max_tokens": 1.5}, None),
        (GPT, {"max_tokens": 100.0}, 100),
        (GPT, {"max_tokens": 100, "max_completion_tokens": "lots"}, None),
        (GPT, {"max_tokens": None}, None),
        (GPT, {"max_tokens": 10**30}, None),
    ],
)
def test_the_limit_is_the_largest_of_its_spellings(
    model_id: str, body: dict[str, Any], limit: int | None
) -> None:
    """
    Whichever of them the model goes by, the answer is not longer; what cannot be read is no limit, nor is
    what is only another family's.
    """
    assert family(model_id).read_request(body).output_limit == limit


@pytest.mark.parametrize(
    ("body", "candidates"),
    [({}, 1), ({"n": 3}, 3), ({"num_generations": 5}, 5), ({"numResults": 2}, 2), ({"n": "3"}, 128), ({"n": 10**9}, 128)],
)  # fmt: skip
def test_each_answer_counts(body: dict[str, Any], candidates: int) -> None:
    """
    Two answers are twice the output.
    """
    assert family(GPT).read_request(body).candidates == candidates


@pytest.mark.parametrize(
    "model_id", [CLAUDE, NOVA, LLAMA, GPT, OPAQUE, "cohere.embed-v4:0", "cohere.command-r-v1:0"]
)
@pytest.mark.parametrize(
    "odd", [None, 1, "x", [], {}, [1], [None], {"a": 1}, [[["x"]]], [{"type": ["x"]}], [{"content": 5}]]
)
@pytest.mark.parametrize("key", ["messages", "system", "tools", "toolConfig", "images", "texts", "inputs", "documents", "chat_history", "anthropic_beta", "thinking", "inferenceConfig"])  # fmt: skip
def test_odd_values_do_not_raise(model_id: str, odd: object, key: str) -> None:
    """
    A guard that fails on what AWS would have refused is in the way.
    """
    family(model_id).read_request({key: odd})


def test_nesting_without_end_is_unseen() -> None:
    """
    The walk gives up before the stack does.
    """
    content: Any = "x"
    for _ in range(3_000):
        content = [{"type": "tool_result", "content": content}]

    assert family(CLAUDE).read_request({"messages": [{"role": "user", "content": content}]}).has_unseen
