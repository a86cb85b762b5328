"""
The loopback Bedrock asks for tools, in the words of Converse and of Claude.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from bedrock_guard.testing.bedrock_server import BedrockServer, tool_call

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
HELLO: dict[str, Any] = {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
BODIES = {
    CLAUDE: {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}],
    },
    NOVA: {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    "meta.llama3-1-8b-instruct-v1:0": {"prompt": "hi"},
}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        running.will_answer(tool_call("weather", name="Bern", days=2))
        yield running


@pytest.fixture
def client(server: BedrockServer) -> Any:
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url)


def test_converse_asks_for_a_tool_once(client: Any, server: BedrockServer) -> None:
    """
    In the place of its text; what it used is billed as ever.
    """
    reply = client.converse(**HELLO)
    again = client.converse(**HELLO)

    (block,) = reply["output"]["message"]["content"]
    assert (reply["stopReason"], block["toolUse"]["name"]) == ("tool_use", "weather")
    assert block["toolUse"]["input"] == {"name": "Bern", "days": 2}
    assert again["stopReason"] == "end_turn"
    assert server.bill.requests == 2


def test_converse_stream_asks_for_a_tool(client: Any) -> None:
    """
    A start with its name, its arguments in a piece of JSON, and the usage after it.
    """
    events = list(client.converse_stream(**HELLO)["stream"])

    assert [next(iter(event)) for event in events] == [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert events[1]["contentBlockStart"]["start"]["toolUse"]["name"] == "weather"
    delta = events[2]["contentBlockDelta"]["delta"]["toolUse"]["input"]
    assert json.loads(delta) == {"name": "Bern", "days": 2}
    assert events[4]["messageStop"]["stopReason"] == "tool_use"


def invoke(client: Any, model: str) -> Any:
    return json.loads(client.invoke_model(modelId=model, body=json.dumps(BODIES[model]))["body"].read())


def chunks(client: Any, model: str) -> list[Any]:
    reply = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(BODIES[model]))
    return [json.loads(event["chunk"]["bytes"]) for event in reply["body"]]


def test_claude_s_message_asks_for_a_tool(client: Any) -> None:
    """
    In its own words.
    """
    message = invoke(client, CLAUDE)

    (block,) = message["content"]
    assert (message["stop_reason"], block["type"]) == ("tool_use", "tool_use")
    assert (block["name"], block["input"]) == ("weather", {"name": "Bern", "days": 2})


def test_claude_s_stream_asks_for_a_tool(client: Any) -> None:
    """
    With the same usage in its last chunk.
    """
    said = chunks(client, CLAUDE)

    assert [chunk["type"] for chunk in said] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert said[1]["content_block"]["name"] == "weather"
    assert json.loads(said[2]["delta"]["partial_json"]) == {"name": "Bern", "days": 2}
    assert said[4]["delta"]["stop_reason"] == "tool_use"
    assert said[5]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 100


def test_nova_s_message_asks_for_a_tool_as_converse_does(client: Any) -> None:
    """
    Their words are the same.
    """
    assert invoke(client, NOVA)["stopReason"] == "tool_use"


@pytest.mark.parametrize("ask", [invoke, chunks])
def test_others_answer_with_text(ask: Any, client: Any) -> None:
    """
    Their bodies have no words for it here.
    """
    said = ask(client, "meta.llama3-1-8b-instruct-v1:0")

    assert "bed bed" in json.dumps(said)
