"""
CrewAI: `guard_process(...)` for its own Bedrock client, `client=` with a transport through LiteLLM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard, scope
from bedrock_guard.hooks.httpx import GuardTransport
from bedrock_guard.testing.bedrock_server import tool_call

crewai = pytest.importorskip("crewai", reason="CrewAI: `.ci/run test-frameworks`")
httpx = pytest.importorskip("httpx")
tools = pytest.importorskip("crewai.tools", reason="CrewAI: `.ci/run test-frameworks`")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def llm(**options: Any) -> Any:
    return crewai.LLM(model=f"bedrock/{SONNET}", max_tokens=100, **options)


@tools.tool("weather")
def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


def crew(model: Any = None, max_iter: int = 25) -> Any:
    # Through LiteLLM without tools: with them it imports an mcp that CrewAI excludes.
    given = [weather] if model is None else []
    agent = crewai.Agent(
        role="r", goal="g", backstory="b", llm=model or llm(), tools=given, max_iter=max_iter
    )
    task = crewai.Task(description="The weather in Bern?", expected_output="a word", agent=agent)
    return crewai.Crew(agents=[agent], tasks=[task])


WAYS: dict[str, Any] = {
    "call": lambda: llm().call("hi"),
    "stream": lambda: llm(stream=True).call("hi"),
    "acall": lambda: asyncio.run(llm().acall("hi")),
}
CREWS: dict[str, Any] = {
    "kickoff": lambda: crew().kickoff(),
    "kickoff_async": lambda: asyncio.run(crew().kickoff_async()),
    "akickoff": lambda: asyncio.run(crew().akickoff()),
}
# It names the errors of calls anew, and lets those of streams be.
WRAPPED = {"stream": ""}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_settled_at_the_bill(way: str, loopback: Any) -> None:
    """
    The async one is aiobotocore's, which no program could have guarded.
    """
    guard = loopback.process()

    WAYS[way]()

    loopback.assert_settled(guard, 1)


@pytest.mark.parametrize("way", [*WAYS, *CREWS])
def test_a_refusal_is_in_the_chain(way: str, loopback: Any) -> None:
    """
    A crew asks AWS to count first, which bills nothing, and tries a refused task three times.
    """
    guard = loopback.process("0.0001 USD")

    tries = 3 if way in CREWS else 1

    loopback.assert_refused(guard, {**WAYS, **CREWS}[way], WRAPPED.get(way, "RuntimeError"), tries=tries)
    assert loopback.refusals(guard) == tries


@pytest.mark.parametrize("way", CREWS)
def test_a_crew_s_calls_are_settled_with_the_tags_of_its_caller(way: str, loopback: Any) -> None:
    """
    Its flows copy the context into their threads.
    """
    guard = loopback.process()
    loopback.server.will_answer(tool_call("weather", city="Bern"))

    with scope(user="ann"):
        CREWS[way]()

    loopback.assert_settled(guard, 2)
    assert loopback.users(guard) == ["ann"] * 2


def test_a_crew_that_never_ends_is_ended(loopback: Any) -> None:
    """
    Its model asks for the tool for ever, with other arguments each time: the same ones CrewAI itself stops.
    """
    guard = loopback.process("0.05 USD")
    loopback.server.will_answer(*(tool_call("weather", city=f"No. {number}") for number in range(1000)))

    loopback.assert_stopped(guard, lambda: crew(max_iter=1000).kickoff(), "RuntimeError", tries=3)


@pytest.mark.parametrize("policy", ["charge", "drain"])
def test_its_async_stream_is_left_before_its_last_event(policy: str, loopback: Any) -> None:
    """
    CrewAI leaves at messageStop, before the usage: charged at the estimate, or read on for it.
    """
    guard = loopback.process(settings={"on_abandoned_stream": policy})

    async def ask() -> None:
        await llm(stream=True).acall("hi")
        while not list(guard.entries()):
            await asyncio.sleep(0.01)

    asyncio.run(ask())

    if policy == "drain":
        loopback.assert_settled(guard, 1)
    loopback.assert_left(guard)


@pytest.fixture
def through_litellm(loopback: Any) -> Iterator[Any]:
    """
    A model whose requests go out by LiteLLM, through a guard's transport.
    """
    handlers = pytest.importorskip("litellm.llms.custom_httpx.http_handler", reason="CrewAI takes LiteLLM")
    clients: list[Any] = []

    def make(guard: Guard, **options: Any) -> Any:
        client = httpx.Client(transport=GuardTransport(guard, region="us-east-1"))
        clients.append(client)
        return crewai.LLM(
            model=f"bedrock/converse/{SONNET}",
            is_litellm=True,
            max_tokens=100,
            client=handlers.HTTPHandler(client=client),
            aws_bedrock_runtime_endpoint=loopback.server.url,
            **options,
        )

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("streamed", [False, True])
def test_litellm_s_calls_are_settled_and_refused(streamed: bool, through_litellm: Any, loopback: Any) -> None:
    """
    The transport holds what no hook of botocore sees.
    """
    guard = loopback.guard()
    through_litellm(guard, stream=streamed).call("hi")
    loopback.assert_settled(guard, 1)

    loopback.server.reset()
    guard = loopback.guard("0.0001 USD")
    model = through_litellm(guard, stream=streamed)
    wrapped = "Exception" if streamed else "APIConnectionError"
    loopback.assert_refused(guard, lambda: model.call("hi"), wrapped)


def test_a_crew_through_litellm_loses_the_chain_and_keeps_the_text(
    through_litellm: Any, loopback: Any
) -> None:
    """
    Its flow raises LiteLLM's error again in another thread, and Python then forgets what it came of.
    """
    guard = loopback.guard("0.0001 USD")

    with pytest.raises(Exception, match=r"default \(0.0001 USD\): the call may cost up to") as raised:
        crew(through_litellm(guard)).kickoff()

    assert BudgetExceeded.find(raised.value) is None
    assert loopback.server.bill.requests == 0
    loopback.assert_at_rest(guard)
