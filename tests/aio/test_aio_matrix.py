"""
The fault matrix once more, for aiobotocore: the same tables and the same verdict, with `async`.

What only async code can do is here too: tasks that are cancelled, time-outs round a call, and
generators that somebody else's event loop finishes.
"""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.awsrequest import AioAWSResponse  # noqa: E402
from aiobotocore.config import AioConfig  # noqa: E402
from aiobotocore.response import AioStreamingBody  # noqa: E402
from aiobotocore.session import get_session  # noqa: E402
from journeys.fault_cells import (  # noqa: E402
    HELLO,
    INVOKE,
    LEDGERS,
    OPERATIONS,
    SHORT_S,
    STREAMS,
    Cell,
    check_cell,
    everywhere,
    on_streams,
    open_cell,
)
from journeys.test_fault_matrix import (  # noqa: E402
    ATTEMPTS,
    DAMAGED,
    IN_ORDER,
    LATE,
    NOT_RETRIED,
    RETRIED,
)
from journeys.test_fault_matrix_programs import RAISED_IN  # noqa: E402

from bedrock_guard.errors import GuardError  # noqa: E402
from bedrock_guard.testing.bedrock_server import (  # noqa: E402
    Answer,
    cut_stream,
    lost_answer,
    missing_usage_headers,
    slow_answer,
)
from bedrock_guard.testing.loopback.event_stream import event_frame  # noqa: E402

# aiobotocore's own is still the one of old: five attempts.
in_modes = pytest.mark.parametrize(
    ("mode", "ledger"), [("default", "memory"), ("default", "sqlite"), ("standard", "memory")]
)
# One, for it keeps the service model that it has read.
SESSION = get_session()
# When a connection breaks, aiohttp throws away what has come and is not read yet: the usage, or not.
MAY_BE_DROPPED = (DAMAGED["truncated"][0], DAMAGED["cut after the last word"][0])
METHODS = {
    "Converse": ("converse", HELLO, None),
    "ConverseStream": ("converse_stream", HELLO, "stream"),
    "InvokeModel": ("invoke_model", INVOKE, "body"),
    "InvokeModelWithResponseStream": ("invoke_model_with_response_stream", INVOKE, "body"),
}

Consume = Callable[[Any], Awaitable[None]]


@contextmanager
def open_async_cell(ledger: str, folder: Path, **settings: Any) -> Iterator[Cell]:
    """
    As `open_cell`; async retries wait for nothing either.
    """

    async def no_sleep(_: float) -> None:
        pass

    with open_cell(ledger, folder, **settings) as cell, pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiobotocore.endpoint.asyncio", SimpleNamespace(sleep=no_sleep))
        yield cell


async def send(client: Any, operation: str) -> Any:
    method, arguments, part = METHODS[operation]
    reply = await getattr(client, method)(**arguments)
    return reply if part is None else reply[part]


async def read_all(part: Any) -> None:
    if hasattr(part, "read"):
        await part.read()
    elif not isinstance(part, Mapping):
        async for _ in part:
            pass


def run(
    cell: Cell,
    operation: str,
    consume: Consume = read_all,
    *,
    mode: str = "standard",
    read_timeout: float = 5.0,
    prepare: Callable[[Any], object] = id,
    call: Callable[[Any, str], Awaitable[Any]] = send,
) -> tuple[str, int]:
    """
    Make a call on a loop of its own and consume it.

    Returns the name of what it raised, or nothing, and how often botocore would have tried.
    """

    async def make_call(client: Any) -> str:
        try:
            await consume(await call(client, operation))
        except GuardError:
            raise
        except BaseException as error:
            return type(error).__name__
        return ""

    async def main() -> tuple[str, int]:
        retries: dict[str, Any] = {} if mode == "default" else {"retries": {"mode": mode}}
        async with SESSION.create_client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=cell.client.meta.endpoint_url,
            verify=False,  # certificates, which take longest to load, are of no use here
            config=AioConfig(read_timeout=read_timeout, **retries),
        ) as client:
            prepare(cell.guard.attach(client))
            raised = await make_call(client)
            await all_told(cell)
            return raised, ATTEMPTS[client.meta.config.retries["mode"]]

    return asyncio.run(main())


async def all_told(cell: Cell) -> None:
    """
    An end that came where nothing can be awaited is told by the loop's next steps, or in a thread.
    """
    for _ in range(300):
        if cell.ledger.ended == cell.ledger.held and not cell.pending_nanousd:
            return
        await asyncio.sleep(0.01)


@in_modes
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", IN_ORDER)
def test_a_call_that_is_tried_again_pays_for_each_attempt_that_may_be_billed(
    tmp_path: Path, name: str, mode: str, operation: str, ledger: str
) -> None:
    """
    One call may be several requests, and a caller sees only the last.
    """
    answers, outcomes = IN_ORDER[name]
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.will_answer(*answers)

        run(cell, operation, mode=mode)

        check_cell(cell, outcomes)


@in_modes
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", RETRIED)
def test_a_fault_that_stays_is_charged_as_often_as_it_was_met(
    tmp_path: Path, name: str, mode: str, operation: str, ledger: str
) -> None:
    """
    By default aiobotocore tries five times, so a lost answer may cost five times the estimate.
    """
    answer, outcome = RETRIED[name]
    read_timeout = SHORT_S if answer is LATE else 5.0
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(answer)

        raised, attempts = run(cell, operation, mode=mode, read_timeout=read_timeout)

        assert raised
        check_cell(cell, [outcome] * attempts)


@everywhere
@pytest.mark.parametrize("name", NOT_RETRIED)
def test_an_error_that_is_final_is_free_unless_a_model_ran(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    What was turned away must not eat the budget; what a model began must not be free.
    """
    answer, outcome = NOT_RETRIED[name]
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(answer)

        assert run(cell, operation)[0]

        check_cell(cell, [outcome])


@everywhere
@pytest.mark.parametrize("name", DAMAGED)
def test_an_answer_that_arrives_damaged_is_charged(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    The status says 200 and the model ran; only the figures never arrived whole.
    """
    answer, telling = DAMAGED[name]
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(answer)

        run(cell, operation)

        outcome = "answered" if operation in telling else "lost"
        if answer in MAY_BE_DROPPED and operation in STREAMS and outcome == "answered":
            outcome = next(cell.guard.entries()).outcome
            assert outcome in ("answered", "lost")
        check_cell(cell, [outcome] * len(cell.server.requests))


@on_streams
def test_a_stream_is_never_charged_below_the_bill_wherever_it_is_cut(
    tmp_path: Path, operation: str, ledger: str
) -> None:
    """
    Anthropic's first event reports one output token; taken for the last word, it would be free use.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        for after_events in range(40):
            cell.server.will_answer(cut_stream(after_events=after_events))

            run(cell, operation)

            assert cell.spent_nanousd >= cell.server.bill.nanousd
            assert cell.pending_nanousd == 0
        assert cell.ledger.held == cell.ledger.ended == 40


@in_modes
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refused_connection_costs_nothing(tmp_path: Path, mode: str, operation: str, ledger: str) -> None:
    """
    A gateway that is down must not eat the budget of those who wait for it.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.stop()

        raised, attempts = run(cell, operation, mode=mode)

        assert raised == "EndpointConnectionError"
        check_cell(cell, ["not_sent"] * attempts)
        assert cell.spent_nanousd == 0


@on_streams
def test_a_stream_that_stalls_is_charged(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    Its time-out is raised by aiohttp, past botocore and every event.
    """
    with open_async_cell(ledger, tmp_path, event_delay_s=60) as cell:
        raised, _ = run(cell, operation, read_timeout=0.3)

        assert "Timeout" in raised
        # One, unless this machine is so slow that the headers were late as well.
        check_cell(cell, ["lost"] * len(cell.server.requests))


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


# Nobody may have to wait for the collector to settle money.
without_collector = pytest.mark.usefixtures("_no_collector")


async def never_read(part: Any) -> None:
    pass


async def read_some(part: Any) -> None:
    if hasattr(part, "read"):
        await part.read(5)
    elif not isinstance(part, Mapping):
        async for _ in part:
            break


async def close_unread(part: Any) -> None:
    if hasattr(part, "close"):
        part.close()


async def close_after_some(part: Any) -> None:
    await read_some(part)
    await close_unread(part)


async def raise_while_reading(part: Any, raised: type[BaseException] = RuntimeError) -> None:
    if hasattr(part, "read"):
        await part.read(5)
        raise raised
    async for _ in part:
        raise raised


async def be_cancelled_while_reading(part: Any) -> None:
    """
    As a web server's task is when the browser's tab is closed.
    """
    await raise_while_reading(part, asyncio.CancelledError)


async def leave_to_another_task(part: Any) -> None:
    await asyncio.create_task(read_some(part))


LEAVING: dict[str, Consume] = {
    "drop": never_read,
    "break": read_some,
    "break in a task": leave_to_another_task,
    "close": close_unread,
    "close after some": close_after_some,
    "raise": raise_while_reading,
    "cancelled": be_cancelled_while_reading,
}


@everywhere
@without_collector
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_early_pays(tmp_path: Path, name: str, operation: str, ledger: str) -> None:
    """
    AWS bills the whole generation to a client that hung up; closing the tab must not be free use.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        run(cell, operation, LEAVING[name])

        check_cell(cell, ["abandoned" if operation in STREAMS else "answered"])


@without_collector
@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_a_body_that_alone_knows_its_usage_pays(
    tmp_path: Path, name: str, ledger: str
) -> None:
    """
    Some families say nothing in their headers.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        run(cell, "InvokeModel", LEAVING[name])

        check_cell(cell, ["abandoned"])


@everywhere
@without_collector
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_an_answer_that_came_on_the_second_try_pays(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    The error of the first try holds the frames that hold the stream: kept, it keeps the money held.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.will_answer(lost_answer(), missing_usage_headers())

        run(cell, operation, LEAVING[name])

        check_cell(cell, ["lost", "answered" if operation == "Converse" else "abandoned"])


async def read_in_two_goes(part: Any) -> None:
    await read_some(part)
    await read_all(part)


async def read_and_close(part: Any) -> None:
    await read_all(part)
    await close_unread(part)
    await close_unread(part)


async def read_in_a_task(part: Any) -> None:
    await asyncio.create_task(read_all(part))


async def read_in_time(part: Any) -> None:
    await asyncio.wait_for(read_all(part), 60)


@everywhere
@pytest.mark.parametrize("has_headers", [True, False])
@pytest.mark.parametrize("consume", [read_in_two_goes, read_and_close, read_in_a_task, read_in_time])
def test_whoever_reads_to_the_end_pays_the_bill_however_he_reads(
    tmp_path: Path, consume: Consume, has_headers: bool, operation: str, ledger: str
) -> None:
    """
    Frameworks peek, read on in tasks, and close what is already over.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        if not has_headers:
            cell.server.always(missing_usage_headers())

        assert run(cell, operation, consume)[0] == ""

        check_cell(cell, ["answered"])


async def by_chunks(body: Any) -> list[bytes]:
    return [chunk async for chunk in body.iter_chunks(7)]


async def by_lines(body: Any) -> list[bytes]:
    return [line async for line in body.iter_lines()]


async def by_readlines(body: Any) -> list[bytes]:
    return list(await body.readlines())


async def by_pieces(body: Any) -> list[bytes]:
    pieces = []
    while piece := await body.read(11):
        pieces.append(piece)
    return pieces


async def by_itself(body: Any) -> list[bytes]:
    return [chunk async for chunk in body]


async def inside(body: Any) -> list[bytes]:
    async with body as opened:
        return [await opened.read()]


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("read", [by_chunks, by_lines, by_readlines, by_pieces, by_itself, inside])
def test_a_body_that_alone_knows_its_usage_is_followed_however_it_is_read(
    tmp_path: Path, read: Callable[[Any], Awaitable[list[bytes]]], ledger: str
) -> None:
    """
    The caller's own reading must be enough to learn it, and must not change.
    """
    said: list[bytes] = []

    async def consume(body: Any) -> None:
        said.extend(await read(body))

    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        assert run(cell, "InvokeModel", consume)[0] == ""

        check_cell(cell, ["answered"])
        assert json.loads(b"".join(said))["usage"]["output_tokens"] == 100


def stalled_body() -> Answer:
    """
    Headers that say nothing, half a body, and then silence.
    """
    shape = missing_usage_headers().shape
    return Answer(shape=lambda content: replace(shape(content), withheld=20))


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_body_that_stalls_is_charged(tmp_path: Path, ledger: str) -> None:
    """
    The model ran; that its words are late is no discount.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(stalled_body())

        raised, _ = run(cell, "InvokeModel", read_timeout=0.3)

        assert "Timeout" in raised
        check_cell(cell, ["lost"] * len(cell.server.requests))


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await task


async def time_out(task: asyncio.Task[Any]) -> None:
    await asyncio.wait_for(task, SHORT_S)


async def be_cancelled_in_a_group(task: asyncio.Task[Any]) -> None:
    """
    As `gather` does to the others when one of them is cancelled.
    """
    group = asyncio.gather(task, asyncio.sleep(60))
    await asyncio.sleep(0)
    group.cancel()
    await group


INTERRUPTS: dict[str, tuple[Callable[[asyncio.Task[Any]], Awaitable[None]], str]] = {
    "cancel": (cancel, "CancelledError"),
    "wait_for": (time_out, "TimeoutError"),
    "gather": (be_cancelled_in_a_group, "CancelledError"),
}


@everywhere
@pytest.mark.parametrize("name", INTERRUPTS)
def test_a_call_that_is_interrupted_while_it_waits_is_charged(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    No event fires when a task is cancelled, and the model goes on.
    """
    interrupt, raised = INTERRUPTS[name]

    async def call(client: Any, operation: str) -> None:
        task = asyncio.create_task(send(client, operation))
        while not cell.server.requests:
            await asyncio.sleep(0.001)
        await interrupt(task)

    with open_async_cell(ledger, tmp_path) as cell:
        cell.server.always(slow_answer(60))

        assert run(cell, operation, call=call)[0] == raised

        check_cell(cell, ["lost"])


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("operation", [*STREAMS, "InvokeModel"])
@pytest.mark.parametrize("name", INTERRUPTS)
def test_a_reader_that_is_interrupted_while_it_waits_is_charged(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    To be cancelled is the consumer's doing, not AWS's.
    """
    interrupt, raised = INTERRUPTS[name]

    async def consume(part: Any) -> None:
        task = asyncio.create_task(read_all(part))
        await asyncio.sleep(0)
        await interrupt(task)

    with open_async_cell(ledger, tmp_path, event_delay_s=60) as cell:
        cell.server.always(stalled_body())

        assert run(cell, operation, consume)[0] == raised

        check_cell(cell, ["abandoned"])


async def call_and_read(client: Any, operation: str) -> None:
    await read_all(await send(client, operation))


async def cancel_after(steps: int, client: Any, operation: str) -> None:
    task = asyncio.create_task(call_and_read(client, operation))
    for _ in range(steps**2):
        await asyncio.sleep(0)
    await cancel(task)


@everywhere
@without_collector
def test_a_task_may_be_cancelled_at_any_step(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    While a thread holds the money for it, or writes what became of it, too.
    """
    with open_async_cell(ledger, tmp_path) as cell:
        for steps in range(40):
            run(cell, operation, never_read, call=partial(cancel_after, steps))

            assert cell.ledger.held == cell.ledger.ended
            assert cell.pending_nanousd == 0
            assert cell.spent_nanousd >= cell.server.bill.nanousd


@everywhere
@without_collector
@pytest.mark.parametrize("event", ["before-call", "request-created", "before-send", "after-call"])
def test_a_task_that_is_cancelled_inside_the_guard_leaves_nothing_held(
    tmp_path: Path, event: str, operation: str, ledger: str
) -> None:
    """
    The cancellation arrives while the guard waits for the thread that it has given the ledger to.
    """

    def cancel_soon(**_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)

    def prepare(client: Any) -> None:
        client.meta.events.register_first(event, cancel_soon)

    async def call(client: Any, operation: str) -> None:
        await asyncio.create_task(call_and_read(client, operation))

    with open_async_cell(ledger, tmp_path) as cell:
        run(cell, operation, never_read, call=call, prepare=prepare)

        assert cell.ledger.held == cell.ledger.ended == 1
        assert cell.pending_nanousd == 0
        assert cell.spent_nanousd >= cell.server.bill.nanousd


@everywhere
@pytest.mark.parametrize("event", RAISED_IN)
@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, asyncio.CancelledError])
def test_whatever_a_handler_raises_ends_the_call(
    tmp_path: Path, raised: type[BaseException], event: str, operation: str, ledger: str
) -> None:
    """
    Ctrl-C, a cancelled task, another tool's bug: botocore tells nobody, and the model goes on.
    """
    outcomes = RAISED_IN[event]
    if event == "after-call" and operation in STREAMS:
        outcomes = ["abandoned"]

    async def stop(**_: Any) -> None:
        raise raised

    def prepare(client: Any) -> None:
        if event == "before-send, after the guard":
            client.meta.events.register_last("before-send", stop)
        else:
            client.meta.events.register(f"{event}.bedrock-runtime.{operation}", stop)

    with open_async_cell(ledger, tmp_path) as cell:
        assert run(cell, operation, prepare=prepare)[0] == raised.__name__

        check_cell(cell, outcomes)


class OtherToolsReply:
    """
    A response as aiohttp's, of what another tool has kept: 10 tokens read, 20 written.
    """

    def __init__(self, operation: str) -> None:
        claude = {"type": "message", "usage": {"input_tokens": 10, "output_tokens": 20}}
        converse = {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}}
        metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 10, "outputTokenCount": 20}}
        self._left = {
            "Converse": json.dumps({**converse, "stopReason": "end_turn"}).encode(),
            "ConverseStream": event_frame("metadata", json.dumps(converse).encode()),
            "InvokeModel": json.dumps(claude).encode(),
            "InvokeModelWithResponseStream": event_frame("chunk", _chunk(metrics)),
        }[operation]
        self.headers = {"content-type": "application/json", "content-length": str(len(self._left))}
        self.content = self

    async def read(self, amount: int = -1) -> bytes:
        size = len(self._left) if amount < 0 else amount
        read, self._left = self._left[:size], self._left[size:]
        return read

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        yield await self.read(), True

    def close(self) -> None:
        pass


def _chunk(document: Mapping[str, Any]) -> bytes:
    return json.dumps({"bytes": b64encode(json.dumps(document).encode()).decode()}).encode()


# 10 x 3.30 and 20 x 16.50 USD a million.
OTHER_TOOLS_NANOUSD = 363_000


@everywhere
@pytest.mark.parametrize("comes", ["first", "last"])
def test_a_request_that_another_tool_answers_is_charged_at_what_it_says(
    tmp_path: Path, comes: str, operation: str, ledger: str
) -> None:
    """
    Mocks answer in `before-send`; to the guard that is AWS itself.
    """

    async def answer(request: Any, **_: Any) -> AioAWSResponse:
        reply = OtherToolsReply(operation)
        return AioAWSResponse(request.url, 200, reply.headers, reply)

    def prepare(client: Any) -> None:
        getattr(client.meta.events, f"register_{comes}")("before-send", answer)

    with open_async_cell(ledger, tmp_path) as cell:
        assert run(cell, operation, prepare=prepare)[0] == ""

        check_cell(cell, ["answered"], bill_nanousd=OTHER_TOOLS_NANOUSD)
        assert cell.server.requests == ()


def parsed_by_another_tool(operation: str, status: int) -> dict[str, Any]:
    metadata = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}
    if status != 200:
        return {**metadata, "Error": {"Code": "ThrottlingException", "Message": ""}}
    reply = OtherToolsReply(operation)
    parts: dict[str, dict[str, Any]] = {
        "Converse": {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}},
        "ConverseStream": {"stream": reply.iter_chunks()},
        "InvokeModel": {"body": AioStreamingBody(reply, reply.headers["content-length"])},
        "InvokeModelWithResponseStream": {"body": reply.iter_chunks()},
    }
    return {**metadata, **parts[operation]}


@everywhere
def test_an_answer_of_another_tool_is_charged_at_what_it_says(
    tmp_path: Path, operation: str, ledger: str
) -> None:
    """
    The guard cannot tell a cache from AWS; what says nothing is charged at its estimate.
    """

    async def answer(**_: Any) -> tuple[AioAWSResponse, dict[str, Any]]:
        return AioAWSResponse("", 200, {}, None), parsed_by_another_tool(operation, 200)

    def prepare(client: Any) -> None:
        client.meta.events.register(f"before-call.bedrock-runtime.{operation}", answer)

    with open_async_cell(ledger, tmp_path) as cell:
        assert run(cell, operation, prepare=prepare)[0] == ""

        said = operation not in STREAMS
        check_cell(cell, ["answered" if said else "lost"], bill_nanousd=OTHER_TOOLS_NANOUSD if said else 0)
        assert cell.server.requests == ()


@everywhere
def test_an_error_of_another_tool_is_free(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    Chaos tools throttle from inside; nothing left, so nothing is owed.
    """

    async def answer(**_: Any) -> tuple[AioAWSResponse, dict[str, Any]]:
        return AioAWSResponse("", 429, {}, None), parsed_by_another_tool(operation, 429)

    def prepare(client: Any) -> None:
        client.meta.events.register(f"before-call.bedrock-runtime.{operation}", answer)

    with open_async_cell(ledger, tmp_path) as cell:
        assert run(cell, operation, prepare=prepare)[0] == "ThrottlingException"

        check_cell(cell, ["rejected"])
