"""
instructor: `from_bedrock(guarded_client(...))`; refusals are wrapped.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest

from bedrock_guard import Guard, scope
from bedrock_guard.testing.bedrock_server import tool_call

instructor = pytest.importorskip("instructor", reason="instructor: `.ci/run test-frameworks`")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


class City(pydantic.BaseModel):
    name: str
    people: int


ASKED: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "Bern?"}]}],
    "inferenceConfig": {"maxTokens": 100},
    "response_model": City,
}
HALF = tool_call("City", name="Bern")
WHOLE = tool_call("City", name="Bern", people=146348)


def create(loopback: Any, guard: Guard, **options: Any) -> Any:
    client = instructor.from_bedrock(loopback.client(guard))
    return client.chat.completions.create(**ASKED, **options)


def acreate(loopback: Any, guard: Guard, **options: Any) -> Any:
    client = instructor.from_bedrock(loopback.client(guard), async_client=True)
    return asyncio.run(client.chat.completions.create(**ASKED, **options))


WAYS = [create, acreate]


@pytest.mark.parametrize("ask", WAYS)
def test_each_attempt_at_a_valid_answer_is_a_call(ask: Any, loopback: Any) -> None:
    """
    It asks again above botocore, and pays each time.
    """
    guard = loopback.guard()
    loopback.server.will_answer(HALF, WHOLE)

    with scope(user="ann"):
        city = ask(loopback, guard, max_retries=3)

    assert city.people == 146348
    loopback.assert_settled(guard, 2)
    assert loopback.users(guard) == ["ann"] * 2


@pytest.mark.parametrize("ask", WAYS)
def test_a_refusal_is_wrapped_and_tried_once(ask: Any, loopback: Any) -> None:
    """
    It retries what does not validate, not what does not fit.
    """
    guard = loopback.guard("0.0001 USD")

    loopback.assert_refused(
        guard, lambda: ask(loopback, guard, max_retries=3), wrapped_in="InstructorRetryException"
    )


@pytest.mark.parametrize("ask", WAYS)
def test_answers_that_never_validate_end_at_the_budget(ask: Any, loopback: Any) -> None:
    """
    However many retries it was given.
    """
    guard = loopback.guard("0.03 USD")
    loopback.server.always(HALF)

    loopback.assert_stopped(
        guard, lambda: ask(loopback, guard, max_retries=1000), wrapped_in="InstructorRetryException"
    )
