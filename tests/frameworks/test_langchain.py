"""
LangChain: `client=guarded_client(...)`, for chat models of both kinds and for embeddings.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bedrock_guard import Guard, scope
from bedrock_guard.testing.bedrock_server import tool_call

langchain_aws = pytest.importorskip("langchain_aws", reason="LangChain: `.ci/run test-frameworks`")
agents = pytest.importorskip("langchain.agents", reason="LangChain: `.ci/run test-frameworks`")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CHATS = ["ChatBedrockConverse", "ChatBedrock"]


def chat(kind: str, client: Any) -> Any:
    return getattr(langchain_aws, kind)(model=SONNET, client=client, max_tokens=100)


async def gather(model: Any) -> None:
    await asyncio.gather(*(model.ainvoke("hi") for _ in range(4)))


async def astream(model: Any) -> None:
    async for _ in model.astream("hi"):
        pass


WAYS: dict[str, Any] = {
    "invoke": lambda model: model.invoke("hi"),
    "stream": lambda model: list(model.stream("hi")),
    "batch": lambda model: model.batch(["hi", "hello", "hey"]),
    "ainvoke": lambda model: asyncio.run(gather(model)),
    "astream": lambda model: asyncio.run(astream(model)),
}
CALLS = {"invoke": 1, "stream": 1, "batch": 3, "ainvoke": 4, "astream": 1}


def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_settled_at_the_bill(way: str, kind: str, loopback: Any) -> None:
    """
    Converse or InvokeModel, streamed, in threads of a pool or of an event loop.
    """
    guard = loopback.guard()

    WAYS[way](chat(kind, loopback.client(guard)))

    loopback.assert_settled(guard, CALLS[way])


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_comes_as_it_is(way: str, kind: str, loopback: Any) -> None:
    """
    LangChain logs what it does not know, and raises it on.
    """
    guard = loopback.guard("0.0001 USD")

    loopback.assert_refused(guard, lambda: WAYS[way](chat(kind, loopback.client(guard))), tries=CALLS[way])


@pytest.mark.parametrize("kind", CHATS)
def test_a_fallback_to_another_model_is_asked_of_the_same_budget(kind: str, loopback: Any) -> None:
    """
    `with_fallbacks` and `with_retry` take a refusal for any other error; neither gets past it.
    """
    guard = loopback.guard("0.0001 USD")
    model = chat(kind, loopback.client(guard))
    retried = model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)

    for each in (model.with_fallbacks([model]), retried):
        loopback.assert_refused(guard, lambda each=each: each.invoke("hi"), tries=2)
    assert loopback.refusals(guard) == 4


def test_a_retry_middleware_answers_with_a_refusal_unless_it_is_told_to_raise(loopback: Any) -> None:
    """
    Its way with any error that it gives up on; the page says so.
    """
    retry = pytest.importorskip("langchain.agents.middleware").ModelRetryMiddleware
    guard = loopback.guard("0.0001 USD")
    hi = {"messages": [("user", "hi")]}

    def agent(**options: Any) -> Any:
        middleware = retry(max_retries=1, initial_delay=0, jitter=False, **options)
        return agents.create_agent(
            chat("ChatBedrockConverse", loopback.client(guard)), [], middleware=[middleware]
        )

    assert "BudgetExceeded" in agent().invoke(hi)["messages"][-1].text
    loopback.assert_refused(guard, lambda: agent(on_failure="error").invoke(hi), tries=2)
    assert loopback.refusals(guard) == 4


@pytest.mark.parametrize("kind", CHATS)
def test_an_agent_s_calls_are_counted_one_by_one_with_the_tags_of_its_caller(
    kind: str, loopback: Any
) -> None:
    """
    A call for the tool, another for the answer; LangGraph's threads take the tags along.
    """
    guard = loopback.guard()
    agent = agents.create_agent(chat(kind, loopback.client(guard)), [weather])
    asked = {"messages": [("user", "The weather in Bern?")]}
    loopback.server.will_answer(tool_call("weather", city="Bern"))

    with scope(user="ann") as tally:
        said = agent.invoke(asked)
        loopback.server.will_answer(tool_call("weather", city="Bern"))
        asyncio.run(agent.ainvoke(asked))

    assert [message.type for message in said["messages"]] == ["human", "ai", "tool", "ai"]
    loopback.assert_settled(guard, 4)
    assert loopback.users(guard) == ["ann"] * 4
    assert tally.calls == 4


@pytest.mark.parametrize("kind", CHATS)
def test_an_agent_that_never_ends_is_ended(kind: str, loopback: Any) -> None:
    """
    Its model asks for the tool for ever.
    """
    guard = loopback.guard("0.04 USD")
    agent = agents.create_agent(chat(kind, loopback.client(guard)), [weather])
    loopback.server.always(tool_call("weather", city="Bern"))

    loopback.assert_stopped(
        guard, lambda: agent.invoke({"messages": [("user", "hi")]}, {"recursion_limit": 1000})
    )


@pytest.mark.parametrize("kind", CHATS)
def test_a_stream_that_is_left_is_charged(kind: str, loopback: Any) -> None:
    """
    The generator closes boto3's stream, or drops it.
    """
    guard = loopback.guard()
    for _ in chat(kind, loopback.client(guard)).stream("hi"):
        break

    loopback.assert_left(guard)


def test_embeddings_are_settled_and_refused(loopback: Any) -> None:
    """
    One call for each text.
    """
    guard = loopback.guard()
    embeddings = langchain_aws.BedrockEmbeddings(
        client=loopback.client(guard), model_id="amazon.titan-embed-text-v2:0"
    )

    assert len(embeddings.embed_documents(["a", "b"])) == 2
    assert asyncio.run(embeddings.aembed_query("c"))

    loopback.assert_settled(guard, 3)

    loopback.server.reset()
    embeddings.client = loopback.client(loopback.guard("0.000000001 USD"))
    guard = Guard.of(embeddings.client)
    loopback.assert_refused(guard, lambda: embeddings.embed_query("many words"))
    loopback.assert_refused(guard, lambda: asyncio.run(embeddings.aembed_documents(["many words"])))
