"""
pydantic-ai: `BedrockProvider(bedrock_client=guarded_client(...))`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pydantic
import pytest

from bedrock_guard import Guard, scope
from bedrock_guard.testing.bedrock_server import tool_call

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai: `.ci/run test-frameworks`")
bedrock = pytest.importorskip("pydantic_ai.models.bedrock", reason="pydantic-ai: `.ci/run test-frameworks`")
providers = pytest.importorskip(
    "pydantic_ai.providers.bedrock", reason="pydantic-ai: `.ci/run test-frameworks`"
)

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


class City(pydantic.BaseModel):
    name: str
    people: int


def model_of(loopback: Any, guard: Guard) -> Any:
    provider = providers.BedrockProvider(bedrock_client=loopback.client(guard))
    return bedrock.BedrockConverseModel(SONNET, provider=provider)


def agent(loopback: Any, guard: Guard, **options: Any) -> Any:
    made = pydantic_ai.Agent(model_of(loopback, guard), model_settings={"max_tokens": 100}, **options)

    @made.tool_plain
    def weather(city: str) -> str:
        return f"It is sunny in {city}."

    return made


async def stream(agent: Any, *, most: int = 10**9) -> None:
    async with agent.run_stream("hi") as run:
        seen = 0
        async for _ in run.stream_text(delta=True, debounce_by=None):
            seen += 1
            if seen >= most:
                break


def test_an_agent_s_calls_are_settled_with_the_tags_of_its_caller(loopback: Any) -> None:
    """
    Threads of anyio take them along.
    """
    guard = loopback.guard()
    asked = agent(loopback, guard)
    loopback.server.will_answer(tool_call("weather", city="Bern"))

    with scope(user="ann"):
        said = asked.run_sync("The weather in Bern?")
        asyncio.run(stream(asked))

    assert len(said.all_messages()) == 4
    loopback.assert_settled(guard, 3)
    assert loopback.users(guard) == ["ann"] * 3


def test_an_answer_that_does_not_validate_is_paid_for_and_asked_for_again(loopback: Any) -> None:
    """
    Each time is a call of its own, above botocore's retries.
    """
    guard = loopback.guard()
    loopback.server.will_answer(
        tool_call("final_result", name="Bern"), tool_call("final_result", name="Bern", people=146348)
    )

    said = agent(loopback, guard, output_type=City, retries=2).run_sync("Bern?")

    assert said.output.people == 146348
    loopback.assert_settled(guard, 2)


def test_a_refusal_comes_as_it_is(loopback: Any) -> None:
    """
    Through a `FallbackModel` too: it falls back for errors of a model's API only.
    """
    guard = loopback.guard("0.0001 USD")
    asked = agent(loopback, guard)
    fallback = pytest.importorskip("pydantic_ai.models.fallback").FallbackModel(asked.model, asked.model)

    loopback.assert_refused(guard, lambda: asked.run_sync("hi"))
    loopback.assert_refused(guard, lambda: asyncio.run(stream(asked)))
    loopback.assert_refused(guard, lambda: pydantic_ai.Agent(fallback).run_sync("hi"))


def test_an_agent_that_never_ends_is_ended(loopback: Any) -> None:
    """
    Before its own limit of fifty requests.
    """
    guard = loopback.guard("0.05 USD")
    loopback.server.always(tool_call("weather", city="Bern"))

    loopback.assert_stopped(guard, lambda: agent(loopback, guard).run_sync("hi"))


def test_a_stream_that_is_left_is_charged(loopback: Any) -> None:
    """
    It stands still, or is read on, as pydantic-ai likes.
    """
    guard = loopback.guard()

    asyncio.run(stream(agent(loopback, guard), most=1))

    loopback.assert_left(guard)


def test_a_task_that_is_cancelled_is_charged(loopback: Any) -> None:
    """
    The thread that waits for the answer does not know, and gets it.
    """
    guard = loopback.guard()

    async def cancel() -> None:
        task = asyncio.create_task(agent(loopback, guard).run("hi"))
        while not loopback.server.requests:
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    loopback.assert_left(guard)
    loopback.assert_settled(guard, 1)


def test_embeddings_are_settled(loopback: Any) -> None:
    """
    Titan's, by InvokeModel.
    """
    embeddings = pytest.importorskip("pydantic_ai.embeddings.bedrock", reason="pydantic-ai of old has none")
    guard = loopback.guard()
    provider = providers.BedrockProvider(bedrock_client=loopback.client(guard))
    model = embeddings.BedrockEmbeddingModel("amazon.titan-embed-text-v2:0", provider=provider)

    asyncio.run(pydantic_ai.Embedder(model).embed_query("hi"))

    loopback.assert_settled(guard, 1)
