"""
aiobotocore clients: the same contract with `async`.

aiobotocore pins a botocore of its own, so these run in an environment of their
own: `.ci/run test-aio`.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard, guard, scope
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    slow_answer,
    stream_error,
)

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.config import AioConfig  # noqa: E402
from aiobotocore.session import get_session  # noqa: E402
from botocore.eventstream import EventStream  # noqa: E402

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
HELLO: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps({"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}),
}


@dataclass
class Guarded:
    guard: Guard
    server: BedrockServer

    @asynccontextmanager
    async def client(self, **config: Any) -> AsyncIterator[Any]:
        settings = {"read_timeout": 5, "retries": {"mode": "standard"}, **config}
        async with get_session().create_client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=self.server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=AioConfig(**settings),
        ) as client:
            yield self.guard.attach(client)

    def run(self, work: Callable[[Any], Awaitable[Any]], **config: Any) -> Any:
        async def main() -> Any:
            async with self.client(**config) as client:
                return await work(client)

        return asyncio.run(main())

    @property
    def entry(self) -> Any:
        return next(self.guard.entries())

    @property
    def pending(self) -> list[Any]:
        return [row.pending for row in self.guard.status()]

    @property
    def spent_nanousd(self) -> int:
        return int(self.guard.status()[0].spent * 10**9)

    async def settled(self) -> None:
        """
        Ends that came where nothing can be awaited are told in a thread, soon.
        """
        for _ in range(500):
            if self.pending == [0]:
                return
            await asyncio.sleep(0.01)


@pytest.fixture(params=["memory", "sqlite"])
def guarded(request: Any, tmp_path: Path) -> Iterator[Guarded]:
    ledger = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with BedrockServer(rates=RATES) as server, Guard(budget="5 USD", ledger=ledger) as policy:
        yield Guarded(policy, server)


def test_a_call_costs_what_the_server_bills(guarded: Guarded) -> None:
    """
    Sync or async, the ledger says what AWS will say.
    """

    async def work(client: Any) -> Any:
        with scope(team="search") as tally:
            reply = await client.converse(**HELLO)
        assert tally.calls == 1
        return reply

    reply = guarded.run(work)

    assert reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"] == "0.0016599"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
    assert guarded.pending == [0]
    assert guarded.entry.tags["team"] == "search"


def test_a_call_that_does_not_fit_never_leaves(guarded: Guarded) -> None:
    """
    A second road to the same bill must not be open.
    """
    with Guard(budget="0 USD", ledger="memory://") as closed, pytest.raises(BudgetExceeded):
        Guarded(closed, guarded.server).run(lambda client: client.converse(**HELLO))

    assert guarded.server.requests == ()


def test_many_tasks_cannot_overspend(guarded: Guarded) -> None:
    """
    A hundred tasks on one loop are a hundred callers.
    """
    cost = guarded.guard.estimate("Converse", **HELLO).cost
    assert cost is not None
    limited = Guarded(Guard(budget=f"{cost * 10} USD", ledger="memory://"), guarded.server)

    async def call(client: Any) -> bool:
        try:
            await client.converse(**HELLO)
        except BudgetExceeded:
            return False
        return True

    async def work(client: Any) -> list[bool]:
        return await asyncio.gather(*(call(client) for _ in range(100)))

    admitted = sum(limited.run(work))

    assert admitted >= 10
    assert limited.spent_nanousd == guarded.server.bill.nanousd <= cost * 10 * 10**9
    assert limited.pending == [0]


@pytest.mark.parametrize("operation", ["converse_stream", "invoke_model_with_response_stream"])
def test_a_stream_read_to_its_end_costs_what_the_server_bills(guarded: Guarded, operation: str) -> None:
    """
    The stream keeps its type, and its last event settles it.
    """

    async def work(client: Any) -> int:
        reply = await getattr(client, operation)(**(HELLO if operation == "converse_stream" else INVOKE))
        stream = reply["stream" if operation == "converse_stream" else "body"]
        assert isinstance(stream, EventStream)
        assert type(stream).__name__ == "AioEventStream"
        return len([event async for event in stream])

    assert guarded.run(work) > 30
    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


async def never_read(stream: Any) -> None:
    pass


async def leave_after_one(stream: Any) -> None:
    async for _ in stream:
        break


async def close_after_one(stream: Any) -> None:
    await leave_after_one(stream)
    stream.close()


async def raise_inside(stream: Any) -> None:
    with pytest.raises(RuntimeError):
        async for _ in stream:
            raise RuntimeError


@pytest.mark.parametrize("leave", [never_read, leave_after_one, close_after_one, raise_inside])
def test_a_stream_left_early_is_charged_at_the_bound(
    guarded: Guarded, leave: Callable[[Any], Awaitable[None]]
) -> None:
    """
    With the collector off: nobody waits for it to settle money.
    """

    async def work(client: Any) -> None:
        gc.disable()
        try:
            stream = (await client.converse_stream(**HELLO))["stream"]
            await leave(stream)
            del stream
            await guarded.settled()
            assert guarded.pending == [0]
        finally:
            gc.enable()

    guarded.run(work)

    assert (guarded.entry.outcome, guarded.entry.basis) == ("abandoned", "estimated")
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd


@pytest.mark.parametrize("fault", [cut_stream(after_events=3), stream_error(after_events=3), missing_usage()])
def test_a_broken_stream_is_charged(guarded: Guarded, fault: Any) -> None:
    """
    The model ran; only its usage never arrived.
    """
    guarded.server.will_answer(fault)

    async def work(client: Any) -> None:
        stream = (await client.converse_stream(**HELLO))["stream"]
        with suppress(Exception):  # aiohttp's, botocore's or none, by fault
            async for _ in stream:
                pass

    guarded.run(work)

    assert guarded.entry.outcome == "lost"
    assert guarded.pending == [0]
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd


@pytest.mark.parametrize("how", ["cancel", "wait_for"])
def test_a_cancelled_call_is_charged(guarded: Guarded, how: str) -> None:
    """
    No event fires when a task is cancelled, and the model goes on.
    """
    guarded.server.always(slow_answer(2))

    async def work(client: Any) -> None:
        task = asyncio.create_task(client.converse(**HELLO))
        while not guarded.server.requests:
            await asyncio.sleep(0.01)
        if how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.05)
        assert guarded.pending == [0]

    guarded.run(work)

    assert (guarded.entry.outcome, guarded.entry.basis) == ("lost", "estimated")
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd


def test_a_cancelled_stream_is_charged(guarded: Guarded) -> None:
    """
    A web server cancels the task when its own client hangs up.
    """
    guarded.server.stop()
    with BedrockServer(rates=RATES, event_delay_s=0.1) as slow:
        guarded.server = slow

        async def read(client: Any) -> None:
            async for _ in (await client.converse_stream(**HELLO))["stream"]:
                pass

        async def work(client: Any) -> None:
            task = asyncio.create_task(read(client))
            while not slow.requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await guarded.settled()

        guarded.run(work)
        assert guarded.pending == [0]
        assert guarded.entry.basis == "estimated"
        assert guarded.spent_nanousd >= slow.bill.nanousd


def test_lost_answers_hold_and_charge_each_attempt(guarded: Guarded) -> None:
    """
    Retries are money here too.
    """
    guarded.server.always(lost_answer())

    async def work(client: Any) -> None:
        with pytest.raises(Exception, match="closed"):
            await client.converse(**HELLO)

    guarded.run(work)

    assert {attempt.outcome for attempt in guarded.entry.attempts} == {"lost"}
    assert len(guarded.entry.attempts) == guarded.server.bill.requests > 1
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd
    assert guarded.pending == [0]


@pytest.mark.parametrize(("status", "outcome"), [(400, "rejected"), (429, "rejected"), (500, "lost")])
def test_errors_are_free_or_charged_as_for_sync_clients(guarded: Guarded, status: int, outcome: str) -> None:
    """
    One table says what a status means.
    """
    guarded.server.always(error(status))

    async def work(client: Any) -> None:
        with pytest.raises(client.exceptions.ClientError):
            await client.converse(**HELLO)

    guarded.run(work)

    assert guarded.entry.outcome == outcome
    assert guarded.pending == [0]


async def read_all(body: Any) -> bytes:
    return await body.read()


async def read_chunks(body: Any) -> bytes:
    return b"".join([chunk async for chunk in body.iter_chunks(7)])


async def read_inside(body: Any) -> bytes:
    async with body as inside:
        return await inside.read()


@pytest.mark.parametrize("read", [read_all, read_chunks, read_inside])
@pytest.mark.parametrize("has_headers", [True, False])
def test_a_body_is_read_as_ever_and_its_usage_is_seen(
    guarded: Guarded, read: Callable[[Any], Awaitable[bytes]], has_headers: bool
) -> None:
    """
    Headers settle at once; without them, the caller's own reading is enough.
    """
    if not has_headers:
        guarded.server.will_answer(missing_usage_headers())

    async def work(client: Any) -> bytes:
        return await read((await client.invoke_model(**INVOKE))["body"])

    assert json.loads(guarded.run(work))["usage"]["output_tokens"] == 100
    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_body_left_unread_is_charged_at_the_bound(guarded: Guarded) -> None:
    """
    Not reading is no way to pay less.
    """
    guarded.server.will_answer(missing_usage_headers())

    async def work(client: Any) -> None:
        body = (await client.invoke_model(**INVOKE))["body"]
        body.close()
        del body
        await guarded.settled()

    guarded.run(work)

    assert guarded.pending == [0]
    assert guarded.entry.outcome == "abandoned"


def test_a_coroutine_that_is_never_finished_leaves_nothing_held(guarded: Guarded) -> None:
    """
    A framework may drop a call half-way; nothing can be awaited then.
    """
    guarded.server.always(slow_answer(1))

    async def work(client: Any) -> None:
        call = client.converse(**HELLO)
        steps = call.__await__()
        next(steps)
        call.close()
        del steps
        while not any(guarded.guard.entries()):  # a thread may be reserving for it still
            await asyncio.sleep(0.01)

    guarded.run(work)

    assert guarded.pending == [0]


def test_guard_takes_an_async_client(guarded: Guarded) -> None:
    """
    The same function as for sync ones, and the same object back.
    """

    async def main() -> None:
        session = get_session()
        async with session.create_client(
            "bedrock-runtime", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        ) as client:
            assert guard(client, budget="0 USD", ledger="memory://") is client
            with pytest.raises(BudgetExceeded):
                await client.converse(**HELLO)

    asyncio.run(main())
