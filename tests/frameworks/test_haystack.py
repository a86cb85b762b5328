"""
Haystack: `guard_process(...)`, for its components make clients of their own, by botocore and aiobotocore.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bedrock_guard import guarded_client, scope
from bedrock_guard.testing.bedrock_server import tool_call

haystack = pytest.importorskip("haystack", reason="Haystack: `.ci/run test-frameworks`")
generators = pytest.importorskip(
    "haystack_integrations.components.generators.amazon_bedrock", reason="Haystack: `.ci/run test-frameworks`"
)
embedders = pytest.importorskip(
    "haystack_integrations.components.embedders.amazon_bedrock", reason="Haystack: `.ci/run test-frameworks`"
)

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
HI = [haystack.dataclasses.ChatMessage.from_user("The weather in Bern?")]


def generator(**options: Any) -> Any:
    return generators.AmazonBedrockChatGenerator(
        model=SONNET, generation_kwargs={"maxTokens": 100}, **options
    )


def ignore(_chunk: Any) -> None:
    pass


async def ignore_async(_chunk: Any) -> None:
    pass


def in_a_pipeline() -> None:
    pipeline = haystack.Pipeline()
    pipeline.add_component("llm", generator())
    pipeline.run({"llm": {"messages": HI}})


WAYS: dict[str, Any] = {
    "run": lambda: generator().run(HI),
    "stream": lambda: generator(streaming_callback=ignore).run(HI),
    "async": lambda: asyncio.run(generator().run_async(HI)),
    "async stream": lambda: asyncio.run(generator(streaming_callback=ignore_async).run_async(HI)),
    "pipeline": in_a_pipeline,
}
WRAPPED = {"pipeline": "PipelineRuntimeError"}


def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


def agent() -> Any:
    tool = haystack.tools.create_tool_from_function(weather)
    return haystack.components.agents.Agent(chat_generator=generator(), tools=[tool], max_agent_steps=1000)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_settled_at_the_bill(way: str, loopback: Any) -> None:
    """
    The async ones are no client that a program could have guarded.
    """
    guard = loopback.process()

    with scope(user="ann"):
        WAYS[way]()

    loopback.assert_settled(guard, 1)
    assert loopback.users(guard) == ["ann"]


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_comes_as_it_is_or_wrapped(way: str, loopback: Any) -> None:
    """
    A component raises it on; a pipeline says in which component it was.
    """
    guard = loopback.process("0.0001 USD")

    loopback.assert_refused(guard, WAYS[way], WRAPPED.get(way, ""))


def test_an_agent_s_calls_are_settled(loopback: Any) -> None:
    """
    Its tools run in threads of a pool, its model does not.
    """
    guard = loopback.process()
    loopback.server.will_answer(tool_call("weather", city="Bern"), 429)

    with scope(user="ann"):
        said = agent().run(messages=HI)

    assert said["messages"][-1].text
    loopback.assert_settled(guard, 2)
    assert loopback.users(guard) == ["ann"] * 2


def test_an_agent_that_never_ends_is_ended(loopback: Any) -> None:
    """
    Its model asks for the tool for ever.
    """
    guard = loopback.process("0.05 USD")
    loopback.server.always(tool_call("weather", city="Bern"))

    loopback.assert_stopped(guard, lambda: agent().run(messages=HI))


def test_embedders_are_settled(loopback: Any) -> None:
    """
    A text, and documents.
    """
    guard = loopback.process()

    embedders.AmazonBedrockTextEmbedder(model=TITAN).run("hi")
    documents = [haystack.Document(content=text) for text in ("a", "b")]
    embedders.AmazonBedrockDocumentEmbedder(model=TITAN, progress_bar=False).run(documents)

    loopback.assert_settled(guard, 3)


def test_a_generator_takes_a_guarded_client(loopback: Any) -> None:
    """
    For `run`; `run_async` makes its own.
    """
    guard = loopback.guard("0.0001 USD")
    made = generator()
    made.client = guarded_client(guard=guard)

    loopback.assert_refused(guard, lambda: made.run(HI))
    asyncio.run(made.run_async(HI))
    assert loopback.server.bill.requests == 1
