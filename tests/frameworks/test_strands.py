"""
Strands Agents: `boto_session=guarded_session(...)`, whose client `BedrockModel` makes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard, guard, guarded_session, scope
from bedrock_guard.testing.bedrock_server import tool_call

strands = pytest.importorskip("strands", reason="Strands: `.ci/run test-frameworks`")
models = pytest.importorskip("strands.models", reason="Strands: `.ci/run test-frameworks`")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
STREAMING = pytest.mark.parametrize("streaming", [True, False])


@strands.tool
def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


def agent(guard: Guard, *, streaming: bool) -> Any:
    session = guarded_session(guard=guard)
    model = models.BedrockModel(boto_session=session, model_id=SONNET, max_tokens=100, streaming=streaming)
    return strands.Agent(model, tools=[weather], callback_handler=None)


async def read(agent: Any, *, most: int) -> None:
    seen = 0
    async for event in agent.stream_async("hi"):
        seen += "data" in event
        if seen >= most:
            break


@STREAMING
def test_an_agent_s_calls_are_settled_with_the_tags_of_its_caller(streaming: bool, loopback: Any) -> None:
    """
    Strands calls boto3 in threads of its own event loop.
    """
    guard = loopback.guard()
    loopback.server.will_answer(tool_call("weather", city="Bern"))

    with scope(user="ann"):
        said = agent(guard, streaming=streaming)("The weather in Bern?")
        asyncio.run(read(agent(guard, streaming=streaming), most=10**9))

    assert said.stop_reason == "end_turn"
    loopback.assert_settled(guard, 3)
    assert loopback.users(guard) == ["ann"] * 3


@STREAMING
def test_the_first_call_s_refusal_comes_as_it_is(streaming: bool, loopback: Any) -> None:
    """
    Strands tries again what is throttled, and nothing else.
    """
    guard = loopback.guard("0.0001 USD")

    loopback.assert_refused(guard, lambda: agent(guard, streaming=streaming)("hi"))
    loopback.assert_refused(guard, lambda: asyncio.run(read(agent(guard, streaming=streaming), most=10**9)))


@STREAMING
def test_a_later_call_s_refusal_is_wrapped(streaming: bool, loopback: Any) -> None:
    """
    In what its loop raises of the cycles within; `BudgetExceeded.find` has it.
    """
    guard = loopback.guard("0.05 USD")
    loopback.server.always(tool_call("weather", city="Bern"))

    loopback.assert_stopped(guard, lambda: agent(guard, streaming=streaming)("hi"), "EventLoopException")


@STREAMING
def test_a_run_that_is_left_is_charged(streaming: bool, loopback: Any) -> None:
    """
    The thread that reads for it goes on to the end.
    """
    guard = loopback.guard()

    asyncio.run(read(agent(guard, streaming=streaming), most=1))

    loopback.assert_left(guard)
    loopback.assert_settled(guard, 1)


def test_a_model_that_exists_takes_a_guard(loopback: Any) -> None:
    """
    Its client is boto3's own.
    """
    model = models.BedrockModel(region_name="us-east-1", model_id=SONNET, max_tokens=100)
    client = guard(model.client, budget="0 USD", ledger="memory://", settings={})

    loopback.assert_refused(Guard.of(client), lambda: strands.Agent(model, callback_handler=None)("hi"))


def test_a_refusal_within_a_tool_is_told_to_the_model(loopback: Any) -> None:
    """
    Its loop goes on and is refused itself where it shares the budget, as here; with one of its own it would go on.
    """
    guard = loopback.guard("0.05 USD")
    model = agent(guard, streaming=False).model

    @strands.tool
    def ask(question: str) -> str:
        """
        Ask at length.
        """
        return str(strands.Agent(model, callback_handler=None)(question * 50_000))

    loopback.server.always(tool_call("ask", question="Bern?"))

    with pytest.raises(Exception, match="the call may cost up to") as raised:
        strands.Agent(model, tools=[ask], callback_handler=None)("hi")

    assert BudgetExceeded.find(raised.value) is not None
    assert loopback.refusals(guard) == loopback.server.bill.requests + 1 > 2
    assert sum(row.pending for row in guard.status()) == 0


def test_a_swarm_tells_of_a_refusal_in_its_result(loopback: Any) -> None:
    """
    It raises nothing: who does not look at the status does not see it.
    """
    guard = loopback.guard("0.0001 USD")

    said = pytest.importorskip("strands.multiagent").Swarm([agent(guard, streaming=True)])("hi")

    assert said.status.value == "failed"
    assert loopback.refusals(guard) == 1
    loopback.assert_at_rest(guard)
