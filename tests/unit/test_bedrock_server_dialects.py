"""
The loopback Bedrock over plain HTTP: what it counts, and how each family says so.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = {"messages": [{"role": "user", "content": [{"text": "12345678"}]}]}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


def send(url: str, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def post(server: BedrockServer, path: str, body: object) -> tuple[int, dict[str, str], dict]:
    status, headers, raw_body = send(server.url, "POST", path, json.dumps(body).encode())
    return status, headers, json.loads(raw_body)


def converse(server: BedrockServer, **body: object) -> dict:
    return post(server, f"/model/{MODEL}/converse", body)[2]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (HELLO, 2),
        ({"messages": [{"role": "user", "content": [{"text": "123456789"}]}]}, 3),
        ({"messages": [{"role": "user", "content": [{"text": "é"}, {"text": "ééé"}]}]}, 2),
        ({"system": [{"text": "1234"}], **HELLO}, 3),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "tool", "description": "does"}}]}, **HELLO}, 4),
        ({"messages": [{"role": "user", "content": [{"image": {"source": {"bytes": "AAAA"}}}]}]}, 1500),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"toolResult": {"content": [{"json": {"a": "1234"}}]}}]}
                ]
            },
            1,
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"toolUse": {"name": "1234", "input": {"a": 1}}}]}
                ]
            },
            1,
        ),
        ({"system": [{"cachePoint": {"type": "default"}}], **HELLO}, 2),
        ({"messages": []}, 0),
    ],
)
def test_input_is_a_quarter_of_the_bytes_of_all_text(server: BedrockServer, body: dict, tokens: int) -> None:
    """
    Tests state expected money by hand, so the count must be one that a hand can do.
    """
    assert converse(server, **body)["usage"]["inputTokens"] == tokens


@pytest.mark.parametrize(
    ("body", "tokens", "reason"),
    [
        ({}, 200, "end_turn"),
        ({"inferenceConfig": {"maxTokens": 200}}, 200, "end_turn"),
        ({"inferenceConfig": {"maxTokens": 7}}, 7, "max_tokens"),
        ({"inferenceConfig": {"maxTokens": 5000}}, 200, "end_turn"),
        (
            {"inferenceConfig": {"maxTokens": 7}, "additionalModelRequestFields": {"max_tokens": 9}},
            9,
            "max_tokens",
        ),
        ({"inferenceConfig": {"maxTokens": 7}, "additionalModelRequestFields": {"n": 2}}, 14, "max_tokens"),
    ],
)
def test_output_stops_at_the_limit_of_the_request(
    server: BedrockServer, body: dict, tokens: int, reason: str
) -> None:
    """
    A guard that lowers a limit must see less generated, and a missed spelling more.
    """
    reply = converse(server, **HELLO, **body)

    assert (reply["usage"]["outputTokens"], reply["stopReason"]) == (tokens, reason)
    assert len(reply["output"]["message"]["content"][0]["text"]) == 4 * tokens


@pytest.mark.parametrize(
    ("model_id", "body", "in_body"),
    [
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            {"messages": [{"role": "user", "content": "12345678"}], "max_tokens": 7},
            ("usage", {"input_tokens": 2, "output_tokens": 7}),
        ),
        ("anthropic.claude-v2", {"prompt": "12345678", "max_tokens_to_sample": 7}, None),
        (
            "us.amazon.nova-lite-v1:0",
            {"messages": HELLO["messages"], "inferenceConfig": {"maxTokens": 7}},
            ("usage", {"inputTokens": 2, "outputTokens": 7, "totalTokens": 9}),
        ),
        (
            "amazon.titan-text-express-v1",
            {"inputText": "12345678", "textGenerationConfig": {"maxTokenCount": 7}},
            ("inputTextTokenCount", 2),
        ),
        (
            "us.meta.llama3-3-70b-instruct-v1:0",
            {"prompt": "12345678", "max_gen_len": 7},
            ("generation_token_count", 7),
        ),
        ("mistral.mistral-7b-instruct-v0:2", {"prompt": "12345678", "max_tokens": 7}, None),
        (
            "mistral.mistral-large-2407-v1:0",
            {"messages": [{"role": "user", "content": "12345678"}], "max_tokens": 7},
            ("usage", {"prompt_tokens": 2, "completion_tokens": 7}),
        ),
        ("cohere.command-text-v14", {"prompt": "12345678", "max_tokens": 7}, None),
        ("cohere.command-r-v1:0", {"message": "12345678", "max_tokens": 7}, None),
        (
            "ai21.jamba-1-5-mini-v1:0",
            {"messages": [{"role": "user", "content": "12345678"}], "max_tokens": 7},
            ("usage", {"prompt_tokens": 2, "completion_tokens": 7}),
        ),
        (
            "openai.gpt-oss-120b-1:0",
            {"messages": [{"role": "user", "content": "12345678"}], "max_completion_tokens": 7},
            ("usage", {"prompt_tokens": 2, "completion_tokens": 7, "total_tokens": 9}),
        ),
        ("deepseek.r1-v1:0", {"prompt": "12345678", "max_tokens": 7}, None),
        ("us.twelvelabs.pegasus-1-2-v1:0", {"inputPrompt": "12345678", "maxOutputTokens": 7}, None),
        (
            "arn:aws:bedrock:us-east-1:123456789012:imported-model%2Fabcdefghijkl",
            {"prompt": "12345678", "max_tokens": 7},
            ("usage", {"prompt_tokens": 2, "completion_tokens": 7}),
        ),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2Fabcdef",
            {
                "anthropic_version": "x",
                "messages": [{"content": "12345678", "role": "user"}],
                "max_tokens": 7,
            },
            ("usage", {"input_tokens": 2, "output_tokens": 7}),
        ),
    ],
)
def test_every_family_states_its_usage_in_its_own_words(
    server: BedrockServer, model_id: str, body: dict, in_body: tuple[str, object] | None
) -> None:
    """
    A family read wrongly is money lost, so each speaks here as it does on Bedrock.
    """
    status, headers, reply = post(server, f"/model/{model_id}/invoke", body)

    assert status == 200
    assert headers["x-amzn-bedrock-input-token-count"] == "2"
    assert headers["x-amzn-bedrock-output-token-count"] == "7"
    if in_body is None:
        assert not any("count" in key or key == "usage" for key in reply)
    else:
        key, stated = in_body
        assert reply[key] == stated if not isinstance(stated, dict) else stated.items() <= reply[key].items()


@pytest.mark.parametrize(
    ("model_id", "body", "line"),
    [
        ("amazon.titan-embed-text-v2:0", {"inputText": "12345678"}, ("input_tokens", 2)),
        ("us.cohere.embed-v4:0", {"texts": ["1234", "5678"]}, ("input_tokens", 2)),
        (
            "amazon.nova-2-multimodal-embeddings-v1:0",
            {"singleEmbeddingParams": {"text": {"value": "12345678"}}},
            ("input_tokens", 2),
        ),
        (
            "amazon.nova-canvas-v1:0",
            {"imageGenerationConfig": {"numberOfImages": 3}},
            ("images_standard_1024", 3),
        ),
        ("stability.stable-image-core-v1:1", {"prompt": "a cat"}, ("images", 1)),
    ],
)
def test_models_that_write_no_text_are_billed_for_no_output(
    server: BedrockServer, model_id: str, body: dict, line: tuple[str, int]
) -> None:
    """
    An embedding has no output and an image no tokens; the bill must not invent them.
    """
    _, headers, _ = post(server, f"/model/{model_id}/invoke", body)

    assert server.bill.lines == {(model_id, line[0]): line[1]}
    assert "x-amzn-bedrock-output-token-count" not in headers


def test_openai_counts_its_cached_tokens_twice_over(server: BedrockServer) -> None:
    """
    Its `prompt_tokens` include what was cached, the header leaves it out.
    """
    server.will_answer(converse_reply(input_tokens=10, output_tokens=5, cache_read_input_tokens=90))
    calls = [{"id": "call", "type": "function", "function": {"name": "tool", "arguments": "{}"}}]
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    body = {
        "messages": [
            {"role": "user", "content": [picture]},
            {"role": "assistant", "content": None, "tool_calls": calls},
        ]
    }
    path = "/model/openai.gpt-oss-20b-1:0/invoke"

    _, headers, reply = post(server, path, body)

    assert reply["usage"]["prompt_tokens"] == 100
    assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 90}
    assert headers["x-amzn-bedrock-input-token-count"] == "10"
    assert headers["x-amzn-bedrock-cache-read-input-token-count"] == "90"
    # "tool" and "{}" are 6 bytes, and an image is an image.
    assert post(server, path, body)[2]["usage"]["prompt_tokens"] == 2 + 1500


def test_several_answers_are_billed_several_times(server: BedrockServer) -> None:
    """
    `n` multiplies the output of one request, and a bound that forgets it is low.
    """
    body = {"messages": [{"role": "user", "content": "1234"}], "max_tokens": 7, "n": 3}
    post(server, "/model/openai.gpt-oss-20b-1:0/invoke", body)

    assert server.bill.lines["openai.gpt-oss-20b-1:0", "output_tokens"] == 21


def test_the_tier_asked_for_is_the_tier_that_served(server: BedrockServer) -> None:
    """
    Prices differ by the tier in the reply; a script may serve another than asked.
    """
    asked = {"serviceTier": {"type": "flex"}, "performanceConfig": {"latency": "optimized"}}
    server.will_answer(converse_reply(input_tokens=1, output_tokens=1, service_tier="default"))

    scripted, usual = converse(server, **HELLO, **asked), converse(server, **HELLO, **asked)

    assert (scripted["serviceTier"], scripted["performanceConfig"]) == (
        {"type": "default"},
        {"latency": "optimized"},
    )
    assert usual["serviceTier"] == {"type": "flex"}
