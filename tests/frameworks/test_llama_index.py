"""
LlamaIndex: `client=guarded_client(...)`, and `async_client=` where aioboto3 is installed.

aioboto3 excludes newer frameworks, so `.ci/run test-frameworks` runs this file with it and without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import pytest

from bedrock_guard import Guard, bind, scope
from bedrock_guard.testing.bedrock_server import tool_call

bedrock = pytest.importorskip(
    "llama_index.llms.bedrock_converse", reason="LlamaIndex: `.ci/run test-frameworks`"
)
workflow = pytest.importorskip(
    "llama_index.core.agent.workflow", reason="LlamaIndex: `.ci/run test-frameworks`"
)
embeddings = pytest.importorskip(
    "llama_index.embeddings.bedrock", reason="LlamaIndex: `.ci/run test-frameworks`"
)
llms = pytest.importorskip("llama_index.core.llms")

HAS_AIOBOTO3 = find_spec("aioboto3") is not None
with_aioboto3 = pytest.mark.skipif(not HAS_AIOBOTO3, reason="aioboto3: `.ci/run test-frameworks`")
without_aioboto3 = pytest.mark.skipif(HAS_AIOBOTO3, reason="aioboto3 is what LlamaIndex takes then")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
HI = [llms.ChatMessage(role="user", content="The weather in Bern?")]


class BoundExecutor(ThreadPoolExecutor):
    """
    Its threads have the tags of the code that hands them work.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(bind(fn), *args, **kwargs)


def llm(loopback: Any, guard: Guard, **options: Any) -> Any:
    return bedrock.BedrockConverse(
        model=SONNET, client=loopback.client(guard), max_tokens=100, region_name="us-east-1", **options
    )


def run_async(loopback: Any, guard: Guard, ask: Callable[[Any], Any], *, bound: bool = False) -> Any:
    """
    What *ask* awaits of a model whose async calls are the guard's, too.
    """

    async def run() -> Any:
        if bound:
            asyncio.get_running_loop().set_default_executor(BoundExecutor())
        if not HAS_AIOBOTO3:
            return await ask(llm(loopback, guard))
        import aioboto3

        async with aioboto3.Session().client("bedrock-runtime") as client:
            return await ask(llm(loopback, guard, async_client=guard.attach(client)))

    return asyncio.run(run())


async def stream(model: Any) -> None:
    async for _ in await model.astream_chat(HI):
        pass


def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


async def ask_agent(model: Any) -> Any:
    agent = workflow.FunctionAgent(tools=[weather], llm=model)
    return await agent.run(user_msg="The weather in Bern?", max_iterations=1000)


WAYS: dict[str, Any] = {
    "chat": lambda loopback, guard: llm(loopback, guard).chat(HI),
    "complete": lambda loopback, guard: llm(loopback, guard).complete("hi"),
    "stream": lambda loopback, guard: list(llm(loopback, guard).stream_chat(HI)),
    "achat": lambda loopback, guard: run_async(loopback, guard, lambda model: model.achat(HI)),
    "astream": lambda loopback, guard: run_async(loopback, guard, stream),
    "agent": lambda loopback, guard: run_async(loopback, guard, ask_agent),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_settled_at_the_bill(way: str, loopback: Any) -> None:
    """
    In the caller's thread, in others, or by aiobotocore.
    """
    guard = loopback.guard()

    WAYS[way](loopback, guard)

    loopback.assert_settled(guard, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_comes_as_it_is(way: str, loopback: Any) -> None:
    """
    Its retries are for what AWS says, and its workflows raise what a step raised.
    """
    guard = loopback.guard("0.0001 USD")

    loopback.assert_refused(guard, lambda: WAYS[way](loopback, guard))


def test_an_agent_that_never_ends_is_ended(loopback: Any) -> None:
    """
    Its model asks for the tool for ever.
    """
    guard = loopback.guard("0.05 USD")
    loopback.server.always(tool_call("weather", city="Bern"))

    loopback.assert_stopped(guard, lambda: run_async(loopback, guard, ask_agent))


def test_an_agent_s_calls_are_settled_with_the_tags_of_its_caller(loopback: Any) -> None:
    """
    Where its streams are read in threads, these take the tags of `scope()` with the loop's executor bound.
    """
    guard = loopback.guard()
    loopback.server.will_answer(tool_call("weather", city="Bern"))

    with scope(user="ann"):
        run_async(loopback, guard, ask_agent, bound=True)

    loopback.assert_settled(guard, 2)
    assert loopback.users(guard) == ["ann"] * 2


@without_aioboto3
def test_its_own_threads_drop_the_tags_of_a_scope(loopback: Any) -> None:
    """
    The page says so, and what to do: if this fails, LlamaIndex has mended it.
    """
    guard = loopback.guard()

    with scope(user="ann"):
        run_async(loopback, guard, stream)

    loopback.assert_settled(guard, 1)
    assert loopback.users(guard) == [None]


@with_aioboto3
def test_its_own_async_client_is_guarded_by_the_process_only(loopback: Any) -> None:
    """
    With aioboto3, a guarded `client=` alone is passed by: `guard_process`, or `async_client=`.
    """
    guard = loopback.guard()
    asyncio.run(llm(loopback, guard).achat(HI))
    assert (loopback.server.bill.requests, list(guard.entries())) == (1, [])
    loopback.server.reset()

    process = loopback.process()
    asyncio.run(llm(loopback, guard).achat(HI))
    asyncio.run(stream(llm(loopback, guard)))

    loopback.assert_settled(process, 2)


def test_a_stream_that_is_left_is_charged(loopback: Any) -> None:
    """
    Its generator is dropped with boto3's stream in it.
    """
    guard = loopback.guard()
    chunks = llm(loopback, guard).stream_chat(HI)
    next(chunks)
    with suppress(AttributeError):
        chunks.close()
    del chunks

    loopback.assert_left(guard)


def test_embeddings_are_settled(loopback: Any) -> None:
    """
    Async ones are by aioboto3's own client, where it is installed.
    """
    guard = loopback.guard()
    model = embeddings.BedrockEmbedding(model_name=TITAN, client=loopback.client(guard))

    model.get_text_embedding("a")
    if not HAS_AIOBOTO3:
        asyncio.run(model.aget_text_embedding("b"))

    loopback.assert_settled(guard, 1 if HAS_AIOBOTO3 else 2)
