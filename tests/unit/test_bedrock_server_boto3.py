"""
The loopback Bedrock as boto3 sees it: replies, streams and usage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import boto3
import pytest
from botocore.config import Config
from botocore_versions import needs_newer_model

from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    converse_reply,
    delay,
    raw,
)
from bedrock_guard.testing.loopback.event_stream import event_frame

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LONG = "long " * 819 + "."  # 4,096 bytes, 1,024 tokens: just enough to be cached
HELLO = {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": "12345678"}]}]}
BODY = json.dumps({"max_tokens": 500, "messages": [{"role": "user", "content": "12345678"}]})


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


def client_of(server: BedrockServer, **config: object):
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="loopback",
        aws_secret_access_key="loopback",
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )


@pytest.fixture
def client(server: BedrockServer):
    bedrock = client_of(server)
    yield bedrock
    bedrock.close()


def call_converse(client) -> dict:
    return client.converse(**HELLO)


def call_converse_stream(client) -> list[dict]:
    with closing(client.converse_stream(**HELLO)["stream"]) as stream:
        return list(stream)


def call_invoke(client) -> dict:
    return json.loads(client.invoke_model(modelId=CLAUDE, body=BODY)["body"].read())


def call_invoke_stream(client, model_id: str = CLAUDE, body: str = BODY) -> list[dict]:
    stream = client.invoke_model_with_response_stream(modelId=model_id, body=body)["body"]
    with closing(stream):
        return [json.loads(event["chunk"]["bytes"]) for event in stream]


CALLS = [call_converse, call_converse_stream, call_invoke, call_invoke_stream]
PLAIN = [call_converse, call_invoke]
STREAMED = [call_converse_stream, call_invoke_stream]


@needs_newer_model
def test_converse_answers_as_bedrock_does(server: BedrockServer, client) -> None:
    """
    Usage, text and stop reason are where every program looks for them.
    """
    reply = client.converse(**HELLO, inferenceConfig={"maxTokens": 3}, serviceTier={"type": "flex"})

    assert reply["output"]["message"] == {"role": "assistant", "content": [{"text": "bed bed bed "}]}
    assert reply["stopReason"] == "max_tokens"
    assert reply["serviceTier"] == {"type": "flex"}
    assert reply["usage"] == {
        "inputTokens": 2,
        "outputTokens": 3,
        "totalTokens": 5,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }
    assert reply["ResponseMetadata"]["RequestId"]


def test_a_conversation_streams_36_events_and_ends_in_its_usage(client) -> None:
    """
    The stream's last event is where the money is known, 35 events after the first.
    """
    events = call_converse_stream(client)

    names = [next(iter(event)) for event in events]
    assert names[0] == "messageStart"
    assert names[1:33] == ["contentBlockDelta"] * 32
    assert names[33:] == ["contentBlockStop", "messageStop", "metadata"]
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 200


def test_claude_streams_cumulative_usage_and_metrics(client) -> None:
    """
    Its deltas count up, so the last one counts, and the metrics close the stream.
    """
    chunks = call_invoke_stream(client)

    assert (chunks[0]["type"], chunks[0]["message"]["usage"]["input_tokens"]) == ("message_start", 2)
    assert chunks[-2]["usage"] == {"output_tokens": 200}
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (2, 200)


@pytest.mark.parametrize(
    ("model_id", "body"),
    [
        ("anthropic.claude-v2", {"prompt": "12345678", "max_tokens_to_sample": 7}),
        ("amazon.nova-lite-v1:0", {"messages": HELLO["messages"], "inferenceConfig": {"maxTokens": 7}}),
        (
            "amazon.titan-text-lite-v1",
            {"inputText": "12345678", "textGenerationConfig": {"maxTokenCount": 7}},
        ),
        ("meta.llama3-8b-instruct-v1:0", {"prompt": "12345678", "max_gen_len": 7}),
        ("mistral.mistral-7b-instruct-v0:2", {"prompt": "12345678", "max_tokens": 7}),
        ("cohere.command-text-v14", {"prompt": "12345678", "max_tokens": 7}),
        ("cohere.command-r-v1:0", {"message": "12345678", "max_tokens": 7}),
        ("openai.gpt-oss-20b-1:0", {"messages": [{"content": "12345678"}], "max_tokens": 7}),
        ("deepseek.r1-v1:0", {"prompt": "12345678", "max_tokens": 7}),
        ("nobody.knows-v1", {"prompt": "12345678", "max_tokens": 7}),
        ("twelvelabs.pegasus-1-2-v1:0", {"inputPrompt": "12345678", "maxOutputTokens": 7}),
    ],
)
def test_every_family_streams_its_counts_in_the_last_chunk(client, model_id: str, body: dict) -> None:
    """
    The invocation metrics are the one place where all families agree.
    """
    *_, last = call_invoke_stream(client, model_id, json.dumps(body))

    metrics = last["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (2, 7)


@needs_newer_model
def test_a_cache_point_is_written_then_read(server: BedrockServer, client) -> None:
    """
    boto3 shows the split by lifetime, and plain input without either.
    """
    cached = {
        **HELLO,
        "system": [{"text": LONG}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": [{"text": LONG}, {"cachePoint": {"type": "default"}}]}],
    }

    first, second = client.converse(**cached)["usage"], client.converse(**cached)["usage"]

    assert (first["inputTokens"], first["cacheWriteInputTokens"]) == (0, 2048)
    assert first["cacheDetails"] == [{"ttl": "1h", "inputTokens": 1024}, {"ttl": "5m", "inputTokens": 1024}]
    assert (second["cacheReadInputTokens"], second["cacheWriteInputTokens"]) == (2048, 0)
    assert server.bill.lines == {
        (CLAUDE, "cache_write_1h_input_tokens"): 1024,
        (CLAUDE, "cache_write_5m_input_tokens"): 1024,
        (CLAUDE, "cache_read_input_tokens"): 2048,
        (CLAUDE, "output_tokens"): 400,
    }


def test_claudes_own_cache_marks_count_too(client) -> None:
    """
    Its headers do not split writes by lifetime; only its body does.
    """
    block = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    question = [{"role": "user", "content": "1234"}]
    body = json.dumps({"max_tokens": 5, "system": [block], "messages": question})

    first = client.invoke_model(modelId=CLAUDE, body=body)
    second = client.invoke_model(modelId=CLAUDE, body=body)["ResponseMetadata"]["HTTPHeaders"]

    headers = first["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "1"
    assert headers["x-amzn-bedrock-cache-write-input-token-count"] == "1024"
    assert json.load(first["body"])["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == 1024
    assert second["x-amzn-bedrock-cache-read-input-token-count"] == "1024"


@pytest.mark.parametrize("call", CALLS)
def test_scripted_usage_is_what_is_billed(server: BedrockServer, client, call: Callable) -> None:
    """
    A test that states its figures must find them, on every operation.
    """
    server.will_answer(converse_reply(input_tokens=10, output_tokens=5, cache_read_input_tokens=7, text="hi"))

    assert '"hi"' in json.dumps(call(client), default=str)
    assert server.bill.lines == {
        (CLAUDE, "input_tokens"): 10,
        (CLAUDE, "output_tokens"): 5,
        (CLAUDE, "cache_read_input_tokens"): 7,
    }


def test_a_delayed_answer_is_the_usual_one(server: BedrockServer, client) -> None:
    """
    Races between calls are arranged by delaying one of them.
    """
    server.will_answer(delay(0.001))

    assert client.converse(**HELLO)["usage"]["outputTokens"] == 200


def test_a_stream_left_early_is_billed_whole(server: BedrockServer, client) -> None:
    """
    Hanging up does not stop the model.
    """
    stream = client.converse_stream(**HELLO)["stream"]
    next(iter(stream))
    stream.close()

    assert server.bill.lines[CLAUDE, "output_tokens"] == 200


def test_events_may_be_spread_over_time() -> None:
    """
    A stream in one packet never shows a reader that waits between events.
    """
    with BedrockServer(output_tokens=3, event_delay_s=0.001) as server:
        client = client_of(server)

        assert len(call_converse_stream(client)) == 7
        client.close()


def test_recorded_bytes_are_replayed_as_they_were(server: BedrockServer, client) -> None:
    """
    What AWS once sent is the best test of what reads it.
    """
    usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}
    message = {"message": {"role": "assistant", "content": [{"text": "recorded"}]}}
    body = json.dumps({"output": message, "stopReason": "end_turn", "usage": usage}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", "1"), ("X-Seen", "yes")]
    server.will_answer(raw(200, headers, body, billed={"input_tokens": 3}), raw(200, {}, body))

    reply = client.converse(**HELLO)
    client.converse(**HELLO)

    assert reply["usage"] == usage
    assert reply["ResponseMetadata"]["HTTPHeaders"]["x-seen"] == "yes"
    assert server.bill.lines == {(CLAUDE, "input_tokens"): 3}


def test_a_recorded_stream_is_replayed_chunked(server: BedrockServer, client) -> None:
    """
    Its frames keep their own checksums, so it is decoded or refused as on the day.
    """
    frame = event_frame("messageStart", b'{"role":"assistant"}')
    server.will_answer(raw(200, {"Content-Type": "application/vnd.amazon.eventstream"}, frame))

    reply = client.converse_stream(**HELLO)

    assert reply["ResponseMetadata"]["HTTPHeaders"]["transfer-encoding"] == "chunked"
    assert list(reply["stream"]) == [{"messageStart": {"role": "assistant"}}]


@needs_newer_model
def test_free_and_guardrail_operations_answer_boto3(server: BedrockServer, client) -> None:
    """
    Their shapes must parse too, and only the guardrail's cost money.
    """
    counted = client.count_tokens(modelId=CLAUDE, input={"converse": {"messages": HELLO["messages"]}})
    applied = client.apply_guardrail(
        guardrailIdentifier="abc",
        guardrailVersion="1",
        source="INPUT",
        content=[{"text": {"text": "hello"}}],
    )

    assert counted["inputTokens"] == 2
    assert (applied["action"], applied["usage"]["topicPolicyUnits"]) == ("NONE", 1)
    assert {model_id for model_id, _ in server.bill.lines} == {"abc"}
