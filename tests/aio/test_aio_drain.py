"""
`on_abandoned_stream = "drain"` for async streams: a task of their loop reads them on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.hooks import drains
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    corrupt_frame,
    cut_stream,
    missing_usage,
    stream_error,
)

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from .test_aio import (
    HELLO,
    INVOKE,
    RATES,
    Guarded,
    close_after_one,
    leave_after_one,
    never_read,
    raise_inside,
)

A_WHILE_S = 30.0
MANY_S = 3600.0
BOTH = pytest.mark.parametrize("operation", ["converse_stream", "invoke_model_with_response_stream"])


def ledger_of(request: Any, folder: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{folder / 'ledger.db'}"


@pytest.fixture(params=["memory", "sqlite"])
def draining(request: Any, tmp_path: Path) -> Iterator[Guarded]:
    with (
        BedrockServer(rates=RATES, event_delay_s=0.002) as server,
        Guard(budget="5 USD", ledger=ledger_of(request, tmp_path), on_abandoned_stream="drain") as policy,
    ):
        yield Guarded(policy, server)
        assert eventually(lambda: len(drains.DRAINS) == 0)


@pytest.fixture(params=["memory", "sqlite"])
def waiting(request: Any, tmp_path: Path) -> Iterator[Guarded]:
    """
    As `draining`, and the streams do not come to their end while a test runs.
    """
    with (
        BedrockServer(rates=RATES, event_delay_s=MANY_S) as server,
        Guard(budget="5 USD", ledger=ledger_of(request, tmp_path), on_abandoned_stream="drain") as policy,
    ):
        yield Guarded(policy, server)
        assert eventually(lambda: len(drains.DRAINS) == 0)


@pytest.fixture(autouse=True)
def _no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """
    Asyncio logs a task that was lost, and an exception that nobody took.
    """
    yield
    gc.collect()
    complaints = [each for each in caplog.get_records("call") if each.levelno >= logging.WARNING]
    assert [each.message for each in complaints if "bedrock_guard" in each.name + each.message] == []


def eventually(is_so: Callable[[], bool]) -> bool:
    """
    Whether it comes true; only a test that fails waits for the end.
    """
    deadline = time.monotonic() + A_WHILE_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    return is_so()


async def soon(is_so: Callable[[], bool]) -> bool:
    """
    As `eventually`, while the loop goes on.
    """
    deadline = time.monotonic() + A_WHILE_S
    while not is_so() and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    return is_so()


async def open_stream(client: Any, operation: str = "converse_stream") -> Any:
    if operation == "converse_stream":
        return (await client.converse_stream(**HELLO))["stream"]
    return (await client.invoke_model_with_response_stream(**INVOKE))["body"]


async def cancel_reader(stream: Any) -> None:
    """
    A stop button, as async programs have it.
    """
    has_begun = asyncio.Event()

    async def read(stream: Any) -> None:
        async for _ in stream:
            has_begun.set()

    reader = asyncio.create_task(read(stream))
    await has_begun.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def close_unread(stream: Any) -> None:
    stream.close()


@BOTH
@pytest.mark.parametrize(
    "leave", [never_read, leave_after_one, close_after_one, close_unread, raise_inside, cancel_reader]
)
def test_a_stream_left_early_costs_what_the_server_bills(
    draining: Guarded, operation: str, leave: Callable[[Any], Awaitable[None]]
) -> None:
    """
    AWS bills the whole generation, which is less than the most that it could have been.
    """

    async def work(client: Any) -> None:
        stream = await open_stream(client, operation)
        await leave(stream)
        alive = weakref.ref(stream)
        gc.collect()
        gc.disable()
        try:
            del stream
            assert await soon(lambda: alive() is None)
        finally:
            gc.enable()
        assert await soon(lambda: draining.pending == [0])

    draining.run(work)

    assert draining.spent_nanousd == draining.server.bill.nanousd > 0
    assert (draining.entry.outcome, draining.entry.basis) == ("answered", "reported")
    assert [attempt.outcome for attempt in draining.entry.attempts] == ["answered"]


@BOTH
@pytest.mark.parametrize(
    "fault",
    [cut_stream(after_events=3), stream_error(after_events=3), corrupt_frame(at_event=3), missing_usage()],
    ids=["cut", "error event", "corrupt", "no usage"],
)
def test_a_stream_that_cannot_be_read_on_is_abandoned_at_the_estimate(
    draining: Guarded, operation: str, fault: Any
) -> None:
    """
    It is charged as if nobody had tried.
    """
    draining.server.will_answer(fault)

    async def work(client: Any) -> None:
        await close_after_one(await open_stream(client, operation))
        assert await soon(lambda: draining.pending == [0])

    draining.run(work)

    assert (draining.entry.outcome, draining.entry.basis) == ("abandoned", "estimated")
    assert draining.entry.cost == draining.entry.estimated_cost
    assert draining.entry.received_bytes is not None


def test_after_close_a_stream_gives_what_a_bare_one_gives(draining: Guarded) -> None:
    """
    To close twice, or to read on, must be no other mistake than it was.
    """

    async def say(client: Any, taken: int) -> list[Any]:
        said: list[Any] = []
        stream = await open_stream(client)
        events = stream.__aiter__()
        for _ in range(taken):
            await anext(events)
        said.append(stream.close())
        for _ in range(2):
            try:
                said.append(len([event async for event in stream]))
            except Exception as error:
                said.append((type(error), str(error)))
        said.append(stream.close())
        return said

    async def work(client: Any) -> None:
        guarded = [await say(client, taken) for taken in (0, 1, 5)]
        draining.guard.detach(client)
        assert guarded == [await say(client, taken) for taken in (0, 1, 5)]
        assert await soon(lambda: draining.pending == [0])

    draining.run(work)
    assert draining.spent_nanousd * 2 == draining.server.bill.nanousd


def test_a_loop_that_closes_without_a_break_ends_as_it_did(draining: Guarded) -> None:
    """
    Two must not read one stream.
    """
    from aiohttp import ClientConnectionError

    async def work(client: Any) -> None:
        stream, seen = await open_stream(client), []
        with pytest.raises(ClientConnectionError):
            async for event in stream:
                seen.append(event)
                if len(seen) == 3:
                    stream.close()
        assert len(seen) == 3
        assert await soon(lambda: draining.pending == [0])
        assert stream._raw_stream.closed

    draining.run(work)
    assert draining.spent_nanousd == draining.server.bill.nanousd


def test_only_so_many_are_read_on_at_once(waiting: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Each is a connection, which others need.
    """
    monkeypatch.setattr(drains, "MOST_AT_ONCE", 2)

    async def work(client: Any) -> None:
        for _ in range(5):
            await close_after_one(await open_stream(client))
        assert await soon(lambda: outcomes() == ["abandoned"] * 3)
        assert len(drains.DRAINS) == 2

    def outcomes() -> list[str]:
        return [entry.outcome for entry in waiting.guard.entries() if entry.outcome != "pending"]

    waiting.run(work, read_timeout=MANY_S)
    # The loop has cancelled the two, or was closed under them.
    assert eventually(lambda: outcomes() == ["abandoned"] * 5)


def test_only_for_so_long_is_one_read_on(waiting: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A server that says nothing more must not hold money.
    """
    monkeypatch.setattr(drains, "LONGEST_S", 0.05)

    async def work(client: Any) -> None:
        stream = await open_stream(client)
        await close_after_one(stream)
        assert await soon(lambda: waiting.pending == [0] and stream._raw_stream.closed)

    waiting.run(work, read_timeout=MANY_S)
    assert waiting.entry.outcome == "abandoned"


@pytest.mark.parametrize("leave", [leave_after_one, close_after_one, cancel_reader])
def test_a_loop_that_ends_does_not_wait(waiting: Guarded, leave: Callable[[Any], Awaitable[None]]) -> None:
    """
    `asyncio.run` cancels what is left, and closes the loop under what comes later.
    """

    async def work(client: Any) -> None:
        await leave(await open_stream(client))

    waiting.run(work, read_timeout=MANY_S)

    assert eventually(lambda: waiting.pending == [0])
    assert (waiting.entry.outcome, waiting.entry.cost) == ("abandoned", waiting.entry.estimated_cost)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_stream_that_outlives_its_loop_is_charged(waiting: Guarded, is_closed: bool) -> None:
    """
    Nobody can read it on any more.
    """
    streams: list[Any] = []

    async def work(client: Any) -> None:
        stream = await open_stream(client)
        await leave_after_one(stream)
        streams.append(stream)

    waiting.run(work, read_timeout=MANY_S)
    if is_closed:
        streams[0].close()
    streams.clear()

    if not waiting.guard.ledger.blocking:
        assert waiting.pending == [0]
    assert eventually(lambda: waiting.pending == [0])
    assert waiting.entry.outcome == "abandoned"


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
def test_a_task_that_is_cancelled_has_settled_when_its_loop_has_ended(waiting: Guarded) -> None:
    """
    `asyncio.run` waits for what it cancels, and the program may look at its budget next.
    """

    async def main() -> None:
        contexts.append(waiting.client(read_timeout=MANY_S))
        client = await contexts[0].__aenter__()
        await close_after_one(await open_stream(client))
        await asyncio.sleep(0.01)

    contexts: list[Any] = []
    asyncio.run(main())

    assert waiting.pending == [0]
    assert waiting.entry.outcome == "abandoned"


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*ClientResponse.__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["dropped between two runs", "never begun", "half-way"])
def test_a_loop_that_is_closed_under_it_is_noticed(waiting: Guarded, way: str) -> None:
    """
    Notebooks and test suites close loops without a word to their tasks.
    """

    async def begin() -> None:
        contexts.append(waiting.client(read_timeout=MANY_S))
        stream = await open_stream(await contexts[0].__aenter__())
        await leave_after_one(stream)
        if way == "dropped between two runs":
            streams.append(stream)
        else:
            stream.close()
        if way == "half-way":
            await asyncio.sleep(0.01)

    contexts: list[Any] = []
    streams: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    streams.clear()
    assert waiting.pending[0] > 0
    loop.close()

    assert eventually(lambda: waiting.pending == [0] and len(drains.DRAINS) == 0)
    assert waiting.entry.outcome == "abandoned"
    contexts.clear()
    gc.collect()


def test_another_thread_may_close_it(draining: Guarded) -> None:
    """
    The task is made where the loop is.
    """

    async def work(client: Any) -> None:
        stream = await open_stream(client)
        await leave_after_one(stream)
        await asyncio.to_thread(stream.close)
        assert await soon(lambda: draining.pending == [0])

    draining.run(work)
    assert draining.spent_nanousd == draining.server.bill.nanousd


def test_one_that_is_read_at_this_moment_is_closed_as_ever(waiting: Guarded) -> None:
    """
    A task waits for its next event: it cannot be read by two.
    """

    async def work(client: Any) -> None:
        stream = await open_stream(client)

        async def read() -> int:
            return len([event async for event in stream])

        generator = stream._event_generator
        reader = asyncio.create_task(read())
        assert await soon(lambda: generator.ag_running)
        await asyncio.sleep(0.05)
        stream.close()
        assert len(drains.DRAINS) == 0
        with pytest.raises(Exception):  # noqa: B017  (aiohttp's own, unchanged)
            await reader
        assert await soon(lambda: waiting.pending == [0])

    waiting.run(work, read_timeout=MANY_S)
    assert waiting.entry.outcome == "abandoned"


def test_a_client_that_is_closed_takes_its_streams_with_it(waiting: Guarded) -> None:
    """
    The connections are the client's; what is not learned by then is charged at the estimate.
    """

    async def main() -> None:
        async with opened(waiting) as client:
            await close_after_one(await open_stream(client))
        assert await soon(lambda: waiting.pending == [0])

    asyncio.run(main())
    assert waiting.entry.outcome == "abandoned"


@asynccontextmanager
async def opened(guarded: Guarded) -> AsyncIterator[Any]:
    async with guarded.client(read_timeout=MANY_S) as client:
        yield client


PROGRAM = """
import asyncio, sys
from aiobotocore.session import get_session
from bedrock_guard import Guard

way, url, ledger, hello = sys.argv[1:]

async def main():
    guard = Guard(budget="5 USD", ledger=ledger, on_abandoned_stream="drain")
    session = get_session()
    async with session.create_client("bedrock-runtime", region_name="us-east-1", endpoint_url=url) as client:
        stream = (await guard.attach(client).converse_stream(**eval(hello)))["stream"]
        async for _ in stream:
            break
        if way == "close":
            stream.close()
        if way == "keep":
            kept.append(stream)

kept = []
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["close", "drop", "keep"])
def test_at_exit_it_settles_at_the_estimate_and_nobody_waits(tmp_path: Path, way: str) -> None:
    """
    The stream never ends; the program must.
    """
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    with BedrockServer(rates=RATES, event_delay_s=MANY_S) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, way, server.url, ledger, repr(HELLO)],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * A_WHILE_S,
        )

    assert (done.returncode, done.stderr) == (0, "")
    with Guard(budget="5 USD", ledger=ledger) as guard:
        (entry,) = guard.entries()
        (row,) = guard.status()
    assert (entry.outcome, entry.basis) == ("abandoned", "estimated")
    assert (row.pending, row.spent) == (0, entry.estimated_cost)
