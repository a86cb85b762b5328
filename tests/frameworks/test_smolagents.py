"""
smolagents: `AmazonBedrockModel(client=guarded_client(...))`.

1.25 and 1.26 look for a key in the reply that boto3's have not, guarded or not; see the page.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from bedrock_guard import Guard, scope
from bedrock_guard.testing.bedrock_server import converse_reply

smolagents = pytest.importorskip("smolagents", reason="smolagents: `.ci/run test-frameworks`")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HI = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


def code(text: str) -> Any:
    """
    What an agent that writes Python is answered.
    """
    return converse_reply(input_tokens=9, output_tokens=9, text=f"Thought: so.\n<code>\n{text}\n</code>")


def no_tool_calls(parsed: dict[str, Any], **_: Any) -> None:
    parsed.get("output", {}).get("message", {}).setdefault("tool_calls", None)


def model(loopback: Any, guard: Guard) -> Any:
    client = loopback.client(guard)
    client.meta.events.register("after-call.bedrock-runtime.Converse", no_tool_calls)
    return smolagents.AmazonBedrockModel(SONNET, client=client, inferenceConfig={"maxTokens": 100})


def agent(model: Any, **options: Any) -> Any:

    @smolagents.tool
    def weather(city: str) -> str:
        """
        The weather of a city.

        Args:
            city: Its name.
        """
        return f"It is sunny in {city}."

    return smolagents.CodeAgent([weather], model, verbosity_level=0, **options)


def test_a_model_is_settled_and_refused(loopback: Any) -> None:
    """
    It tries again what looks like a throttled call; a refusal does not.
    """
    guard = loopback.guard()
    model(loopback, guard).generate(HI)
    loopback.assert_settled(guard, 1)

    loopback.server.reset()
    guard = loopback.guard("0.0001 USD")
    loopback.assert_refused(guard, lambda: model(loopback, guard).generate(HI))


def test_an_agent_s_calls_are_settled_with_the_tags_of_its_caller(loopback: Any) -> None:
    """
    One call a step.
    """
    guard = loopback.guard()
    loopback.server.will_answer(code("print(weather('Bern'))"), code("final_answer(weather('Bern'))"))

    with scope(user="ann"):
        said = agent(model(loopback, guard)).run("The weather in Bern?")

    assert said == "It is sunny in Bern."
    loopback.assert_settled(guard, 2)
    assert loopback.users(guard) == ["ann"] * 2


def test_an_agent_that_never_ends_is_ended(loopback: Any) -> None:
    """
    It takes a model's error for the end of the run, not for a step that failed.
    """
    guard = loopback.guard("0.04 USD")
    loopback.server.always(code("print(1)"))

    loopback.assert_stopped(
        guard, lambda: agent(model(loopback, guard), max_steps=1000).run("hi"), "AgentGenerationError"
    )


def test_a_reply_that_it_cannot_read_is_charged_all_the_same(loopback: Any) -> None:
    """
    AWS bills it, whatever the framework makes of it.
    """
    guard = loopback.guard()
    bare = smolagents.AmazonBedrockModel(
        SONNET, client=loopback.client(guard), inferenceConfig={"maxTokens": 100}
    )
    with suppress(KeyError):
        bare.generate(HI)

    loopback.assert_settled(guard, 1)


@pytest.mark.parametrize(("options", "user"), [({}, None), ({"timeout_seconds": None}, "ann")])
def test_calls_of_an_agent_s_code_drop_the_tags_unless_it_runs_where_it_is_asked_for(
    options: Any, user: str | None, loopback: Any
) -> None:
    """
    Code that may time out runs in a thread, which sees no `scope()`; the page says so.
    """
    guard = loopback.guard()
    asked = model(loopback, guard)
    helper = smolagents.CodeAgent([], asked, name="helper", description="Helps.", verbosity_level=0)
    loopback.server.will_answer(
        code("print(helper(task='help'))"), code("final_answer(1)"), code("final_answer(2)")
    )

    with scope(user="ann"):
        agent(asked, managed_agents=[helper], executor_kwargs=options).run("hi")

    loopback.assert_settled(guard, 3)
    assert loopback.users(guard) == ["ann", user, "ann"]
