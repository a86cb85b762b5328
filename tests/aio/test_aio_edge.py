"""
The edge of a budget with aiobotocore: the same steps, and the event loop waits for none of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Budget, Guard
from bedrock_guard.hooks import aio, counting
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.bedrock_server import BedrockServer, delay

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
TEXT = "word" * 1_000
UNSET: dict[str, Any] = {"modelId": SONNET, "messages": [{"role": "user", "content": [{"text": TEXT}]}]}
LONG = 3_600


def asking(max_tokens: int) -> dict[str, Any]:
    return {**UNSET, "inferenceConfig": {"maxTokens": max_tokens}}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(output_tokens=10) as running:
        yield running


@pytest.fixture(params=["memory", "sqlite"])
def make_guard(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Guard]]:
    monkeypatch.setattr(counting, "_PATIENCE_S", 30.0)  # a busy machine may need it for its first count
    made: list[Guard] = []

    def make(*budgets: Budget, **settings: Any) -> Guard:
        url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
        made.append(Guard(budgets=budgets, ledger=url, **settings))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


@asynccontextmanager
async def client_of(guard: Guard, server: BedrockServer) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=AioConfig(max_pool_connections=30),
    ) as client:
        yield guard.attach(client)


async def ask(guard: Guard, server: BedrockServer, asked: dict[str, Any]) -> Any:
    async with client_of(guard, server) as client:
        return await client.converse(**asked)


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def test_a_call_is_lowered_and_counted(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    1,000 tokens are counted, and as many are left.
    """
    guard = make_guard(Budget("x", "2000 tokens"), refine="count_tokens")

    reply = asyncio.run(ask(guard, server, UNSET))

    assert reply["ResponseMetadata"]["BedrockGuard"]["ClampedMaxTokens"] == 1_000
    assert json.loads(server.requests[-1].body)["inferenceConfig"] == {"maxTokens": 1_000}


def test_a_call_is_sent_to_another_model(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    What leaves is what was held.
    """
    guard = make_guard(Budget("x", "0.006 USD", fallback=[NOVA]))

    reply = asyncio.run(ask(guard, server, asking(1_000)))

    assert reply["ResponseMetadata"]["BedrockGuard"]["FallbackFrom"] == SONNET
    assert server.requests[-1].model_id == NOVA


def test_calls_that_wait_keep_neither_the_loop_nor_the_ends_waiting(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Twelve wait, more than there are threads for ledgers; each end makes room for the next.
    """
    guard = make_guard(Budget("x", "100 output_tokens", wait_s=LONG))
    server.output_tokens = 5
    server.always(delay(0.02))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def work() -> list[Any]:
        async with client_of(guard, server) as client:
            ticking = asyncio.create_task(tick())
            replies = await asyncio.wait_for(
                asyncio.gather(*[client.converse(**asking(40)) for _ in range(12)]), timeout=120
            )
            ticking.cancel()
            return replies

    replies = asyncio.run(work())

    assert [reply["usage"]["outputTokens"] for reply in replies] == [5] * 12
    assert ticks > 12
    assert [(row.spent, row.pending) for row in guard.status()] == [(60, 0)]


def test_a_call_that_fits_is_opened_where_it_is(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A thread of its own costs more than all else that is done for it.
    """
    guard = make_guard(Budget("x", "500 USD", fallback=[NOVA], wait_s=LONG), refine="count_tokens")
    monkeypatch.delattr(aio, "in_own_thread")

    assert asyncio.run(ask(guard, server, asking(100)))
    assert asyncio.run(ask(guard, server, UNSET))


def test_a_call_may_be_kept_waiting_by_two_guards(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    One after the other; it is seen, held and charged by each once.
    """
    first = make_guard(Budget("x", "150 output_tokens", wait_s=LONG))
    loop = "loop: same_request <= 6/minute"
    budget = Budget("y", "150 output_tokens", wait_s=LONG)

    async def main(second: Guard) -> None:
        async with client_of(first, server) as client:
            second.attach(client)
            await asyncio.gather(*[client.converse(**asking(90)) for _ in range(6)])

    with Guard(budgets=[budget], breakers=[loop], ledger="memory://") as second:
        asyncio.run(main(second))

        for guard in (first, second):
            (row,) = guard.status()
            assert (row.spent, row.pending) == (60, 0)
            assert [entry.outcome for entry in guard.entries()] == ["answered"] * 6


class AskedLedger(MemoryLedger):
    """
    A ledger that is asked in a thread, and keeps it until the task there is cancelled.
    """

    blocking = True

    def __init__(self) -> None:
        super().__init__(clock=time.time)
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.ended: list[str] = []

    def reserve(self, *given: Any, **named: Any) -> Any:
        self.asked.set()
        assert self.may_answer.wait(30)
        return super().reserve(*given, **named)

    def release(self, reservation: Any, entry: Any) -> Any:
        self.ended.append(entry.id)
        return super().release(reservation, entry)


def test_a_task_that_is_cancelled_before_it_waits_leaves_nothing(server: BedrockServer) -> None:
    """
    What was refused holds nothing that the end of its task could give back.
    """
    ledger = AskedLedger()

    async def main(guard: Guard) -> None:
        async with client_of(guard, server) as client:
            task = asyncio.create_task(client.converse(**asking(200)))
            await asyncio.to_thread(ledger.asked.wait, 30)
            task.cancel()
            await asyncio.sleep(0)
            ledger.may_answer.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Guard(budgets=[Budget("x", "100 output_tokens", wait_s=LONG)], ledger=ledger) as guard:
        asyncio.run(main(guard))

        assert ledger.ended == []
        assert list(guard.entries()) == []
        assert all(row.pending == 0 for row in guard.status())


def test_a_cancelled_task_waits_no_longer(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    Nor does its thread, and its place is free.
    """
    guard = make_guard(Budget("x", "100 output_tokens", wait_s=LONG))
    queue = guard._pipeline.edge.queue

    async def work() -> None:
        async with client_of(guard, server) as client:
            stream = (await client.converse_stream(**asking(100)))["stream"]
            waiting = asyncio.create_task(client.converse(**asking(90)))
            await until(lambda: queue.is_any)

            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, timeout=60)

            assert not queue.is_any
            async for _ in stream:
                pass
            await client.converse(**asking(90))

    asyncio.run(work())

    assert server.bill.requests == 2
    assert [(row.spent, row.pending) for row in guard.status()] == [(20, 0)]


def test_a_wait_for_time_out_leaves_nothing(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    `asyncio.wait_for` cancels.
    """
    guard = make_guard(Budget("x", "100 output_tokens", wait_s=LONG))

    async def work() -> None:
        async with client_of(guard, server) as client:
            stream = (await client.converse_stream(**asking(100)))["stream"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.converse(**asking(90)), timeout=0.1)
            stream.close()

    asyncio.run(work())

    assert not guard._pipeline.edge.queue.is_any
    assert guard.flush()
    assert [row.pending for row in guard.status()] == [0]
