"""
OpenAI's own SDK on Bedrock's route for it, through a guard's transport, against a loopback Bedrock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.errors import UnmeteredOperation
from bedrock_guard.hooks.httpx import AsyncGuardTransport, GuardTransport
from bedrock_guard.testing.bedrock_server import BedrockServer, cut_stream, lost_answer

openai = pytest.importorskip("openai", reason="the group `frameworks` brings openai")
httpx = pytest.importorskip("httpx")

MODEL = "openai.gpt-oss-120b-1:0"
# USD a token, from AWS's price page: 0.15 / 0.60 a million.
RATES = {MODEL: {"input_tokens": "0.00000015", "output_tokens": "0.0000006"}}
ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello there"}],
}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(budget="1 USD", ledger="memory://", settings={}) as guard:
        yield guard


def make_client(guard: Guard, server: BedrockServer, refusals: Any = "raise") -> Any:
    transport = GuardTransport(guard, region="us-east-1", hosts=["127.0.0.1"], refusals=refusals)
    http_client = httpx.Client(transport=transport, trust_env=False)
    return openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="any", http_client=http_client)


def books(guard: Guard, server: BedrockServer) -> tuple[int, int, int]:
    row = guard.status()[0]
    return int(row.spent * 10**9), int(row.pending * 10**9), int(server.bill.usd * 10**9)


def test_completions_are_settled_at_what_they_report(guard: Guard, server: BedrockServer) -> None:
    """
    Whole, and streamed with their usage; a throttled attempt, which the SDK repeats, is free.
    """
    server.will_answer(429)
    with make_client(guard, server) as client:
        assert client.chat.completions.create(**ASK).usage.total_tokens == 103
        chunks = list(client.chat.completions.create(**ASK, **USAGE))

    assert chunks[-1].usage.total_tokens == 103
    assert [entry.outcome for entry in guard.entries()] == ["answered", "answered", "rejected"]
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


def test_async_completions_too(guard: Guard, server: BedrockServer) -> None:
    """
    By the same functions.
    """

    async def ask() -> None:
        transport = AsyncGuardTransport(guard, region="us-east-1", hosts=["127.0.0.1"])
        http_client = httpx.AsyncClient(transport=transport, trust_env=False)
        url = f"{server.url}/openai/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="any", http_client=http_client) as client:
            await client.chat.completions.create(**ASK)
            async for _ in await client.chat.completions.create(**ASK, **USAGE):
                pass

    asyncio.run(ask())
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


@pytest.mark.parametrize(
    ("answer", "outcome"), [(None, "answered"), (cut_stream(after_events=2), "lost")], ids=["whole", "cut"]
)
def test_a_stream_without_its_usage_is_charged_at_its_estimate(
    answer: Any, outcome: str, guard: Guard, server: BedrockServer
) -> None:
    """
    OpenAI's API states none unless `stream_options` asks for it.
    """
    if answer is not None:
        server.will_answer(answer)
    with make_client(guard, server) as client:
        stream = client.chat.completions.create(stream=True, **ASK)
        try:
            list(stream)
        except httpx.TransportError:
            assert answer is not None

    (entry,) = guard.entries()
    assert (entry.outcome, entry.basis, entry.cost) == (outcome, "estimated", entry.estimated_cost)
    assert entry.cost >= server.bill.usd > 0


def test_a_lost_answer_is_charged_and_so_is_its_retry(guard: Guard, server: BedrockServer) -> None:
    """
    The SDK asks again by itself, and AWS may bill both.
    """
    server.will_answer(lost_answer())
    with make_client(guard, server) as client:
        client.chat.completions.create(**ASK)

    assert [entry.outcome for entry in guard.entries()] == ["answered", "lost"]
    spent, pending, billed = books(guard, server)
    assert spent >= billed > 0
    assert pending == 0


def test_a_refusal_is_found_in_the_sdk_s_error(server: BedrockServer) -> None:
    """
    It takes whatever a transport raises for a lost connection.
    """
    with Guard(budget="0.0000001 USD", ledger="memory://", settings={}) as guard:
        client = make_client(guard, server).with_options(max_retries=0)
        with client, pytest.raises(openai.APIConnectionError) as raised:
            client.chat.completions.create(**ASK)

    assert BudgetExceeded.find(raised.value) is not None
    assert server.requests == ()


def test_a_refusal_that_is_replied_is_the_sdk_s_own_error(server: BedrockServer) -> None:
    """
    With the text, and without a retry, though the SDK has two.
    """
    sent = []
    with Guard(budget="0.0000001 USD", ledger="memory://", settings={}) as guard:
        client = make_client(guard, server, "reply")
        client._client.event_hooks["request"].append(sent.append)
        with client, pytest.raises(openai.BadRequestError, match="may cost up to") as raised:
            client.chat.completions.create(**ASK)

    assert raised.value.code == "BudgetExceeded"
    assert len(sent) == 1
    assert server.requests == ()


def test_responses_are_refused(guard: Guard, server: BedrockServer) -> None:
    """
    What they keep at AWS is read again, and billed, with the next; a request does not tell how much.
    """
    client = make_client(guard, server).with_options(max_retries=0)
    with client, pytest.raises(openai.APIConnectionError) as raised:
        client.responses.create(model=MODEL, input="hello there")

    assert UnmeteredOperation.find(raised.value) is not None
    assert server.requests == ()
