"""
`on_abandoned_stream = "drain"`: a stream that is left early is read on, and costs what AWS bills.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.hooks import drains
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    corrupt_frame,
    cut_stream,
    missing_usage,
    missing_usage_headers,
    stream_error,
)

from .conftest import HELLO, RATES, Guarded
from .test_streams import (
    BOTH,
    INVOKE,
    close_after_one,
    leave_after_one,
    open_stream,
    raise_inside,
    without_collector,
)

A_WHILE_S = 30.0
MANY_S = 3600.0


def eventually(is_so: Callable[[], bool]) -> bool:
    """
    Whether it comes true beside the test; only a test that fails waits for the end.
    """
    deadline = time.monotonic() + A_WHILE_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    return is_so()


def reading_threads() -> int:
    return sum(thread.name == "bedrock_guard drain" for thread in threading.enumerate())


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES, event_delay_s=0.002) as running:
        yield running
    assert eventually(lambda: len(drains.DRAINS) == reading_threads() == 0)


@pytest.fixture(params=["memory", "sqlite"])
def draining(request: Any, tmp_path: Path, make_guarded: Callable[..., Guarded]) -> Guarded:
    ledger = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    return make_guarded(ledger=ledger, on_abandoned_stream="drain")


@pytest.fixture
def make_waiting() -> Iterator[Callable[..., Guarded]]:
    """
    Guarded clients of a server whose streams do not come to their end while a test runs.
    """
    guards: list[Guard] = []

    def make(budget: str = "5 USD/day") -> Guarded:
        guard = Guard(budget=budget, ledger="memory://", on_abandoned_stream="drain")
        guards.append(guard)
        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=endless.url,
            config=Config(read_timeout=MANY_S),
        )
        return Guarded(guard.attach(client), guard, endless)

    with BedrockServer(rates=RATES, event_delay_s=MANY_S) as endless:
        yield make
    assert eventually(lambda: len(drains.DRAINS) == reading_threads() == 0)
    for guard in guards:
        guard.close()


LEAVE = pytest.mark.parametrize(
    "leave",
    [lambda stream: None, leave_after_one, close_after_one, raise_inside, lambda stream: stream.close()],
    ids=["unread", "break", "close", "exception", "close unread"],
)


@BOTH
@LEAVE
def test_a_stream_left_early_costs_what_the_server_bills(
    draining: Guarded, operation: str, leave: Callable[[Any], None]
) -> None:
    """
    AWS bills the whole generation, which is less than the most that it could have been.
    """
    with without_collector():
        stream = open_stream(draining, operation)
        leave(stream)
        alive = weakref.ref(stream)
        del stream
        assert alive() is None
        assert draining.pending[0] > 0 or draining.spent_nanousd > 0
        assert eventually(lambda: draining.pending == [0])

    assert draining.spent_nanousd == draining.server.bill.nanousd > 0
    entry = draining.entry
    assert (entry.outcome, entry.basis) == ("answered", "reported")
    assert [attempt.outcome for attempt in entry.attempts] == ["answered"]
    assert entry.received_bytes is None


@BOTH
@LEAVE
def test_by_default_it_is_charged_at_the_bound_at_once(
    guarded: Guarded, operation: str, leave: Callable[[Any], None]
) -> None:
    """
    Nothing is read that nobody asked for.
    """
    stream = open_stream(guarded, operation)
    leave(stream)
    del stream

    assert guarded.pending == [0]
    assert (guarded.entry.outcome, guarded.entry.cost) == ("abandoned", guarded.entry.estimated_cost)
    assert len(drains.DRAINS) == 0


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        cut_stream(after_events=3),
        stream_error(after_events=3),
        corrupt_frame(at_event=3),
        missing_usage(),
    ],
    ids=["cut", "error event", "corrupt", "no usage"],
)
@pytest.mark.parametrize("on_lost_reply", ["charge", "release"])
def test_a_stream_that_cannot_be_read_on_is_abandoned_at_the_estimate(
    make_guarded: Callable[..., Guarded], operation: str, fault: Any, on_lost_reply: str
) -> None:
    """
    Who left it could have left it at the default: a failure later must not make it cheaper.
    """
    guarded = make_guarded(on_abandoned_stream="drain", on_lost_reply=on_lost_reply)
    guarded.server.will_answer(fault)

    close_after_one(open_stream(guarded, operation))

    assert eventually(lambda: guarded.pending == [0])
    assert (guarded.entry.outcome, guarded.entry.basis) == ("abandoned", "estimated")
    assert guarded.entry.cost == guarded.entry.estimated_cost
    assert guarded.entry.received_bytes is not None
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd > 0


def test_a_stream_whose_usage_has_been_told_is_not_read_on(draining: Guarded) -> None:
    """
    There is nothing left to be learned.
    """
    stream = open_stream(draining, "ConverseStream")
    raw = stream._raw_stream
    for event in stream:
        if "metadata" in event:
            break

    stream.close()

    assert raw.closed
    assert draining.spent_nanousd == draining.server.bill.nanousd


@BOTH
def test_after_close_a_stream_gives_what_a_bare_one_gives(
    draining: Guarded, make_client: Callable[..., Any], operation: str
) -> None:
    """
    To close twice, or to read on, must be no other mistake than it was.
    """

    def say(guarded: Guarded, taken: int) -> list[Any]:
        said: list[Any] = []
        stream = open_stream(guarded, operation)
        events = iter(stream)
        for _ in range(taken):
            next(events)
        said.append(stream.close())
        for _ in range(2):
            try:
                said.append(len(list(stream)))
            except Exception as error:
                said.append(type(error))
        said.append(stream.close())
        return said

    bare = Guarded(make_client(), draining.guard, draining.server)

    for taken in (0, 1, 5):
        assert say(draining, taken) == say(bare, taken)
    assert eventually(lambda: draining.pending == [0])
    assert draining.spent_nanousd * 2 == draining.server.bill.nanousd


@BOTH
def test_a_loop_that_closes_without_a_break_ends_as_it_did(draining: Guarded, operation: str) -> None:
    """
    Two must not read one stream: the loop has its events, and who reads on has the rest.
    """
    stream = open_stream(draining, operation)
    seen = []

    with pytest.raises(AttributeError):
        for event in stream:
            seen.append(event)
            if len(seen) == 3:
                stream.close()

    assert len(seen) == 3
    assert eventually(lambda: draining.pending == [0])
    assert draining.spent_nanousd == draining.server.bill.nanousd


def test_the_connection_is_closed_when_all_is_known(draining: Guarded) -> None:
    """
    A service with a stop button would otherwise run out of sockets.
    """
    stream = open_stream(draining, "ConverseStream")
    raw = stream._raw_stream
    assert not raw.closed

    close_after_one(stream)

    assert eventually(lambda: draining.pending == [0])
    assert raw.closed


@pytest.mark.parametrize("settings", [["drain", "charge"], ["charge", "drain"]])
def test_one_guard_that_asks_for_it_is_enough(
    server: BedrockServer, make_client: Callable[..., Any], settings: list[str]
) -> None:
    """
    There is one stream, and what it tells is true for all.
    """
    guards = [Guard(budget="5 USD", ledger="memory://", on_abandoned_stream=each) for each in settings]
    client = make_client()
    for each in guards:
        each.attach(client)
    both = [Guarded(client, each, server) for each in guards]

    close_after_one(open_stream(both[0], "ConverseStream"))

    for each in both:
        assert eventually(lambda each=each: each.pending == [0])
        assert each.spent_nanousd == server.bill.nanousd
        assert each.entry.outcome == "answered"


def test_where_no_thread_can_be_started_it_is_charged(
    make_waiting: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Containers limit threads; the money must not stay held for one that never ran.
    """
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "bedrock_guard drain":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting = make_waiting()
    stream = open_stream(waiting, "ConverseStream")
    raw = stream._raw_stream

    close_after_one(stream)

    assert eventually(lambda: waiting.pending == [0])
    assert waiting.entry.outcome == "abandoned"
    assert raw.closed


def test_nothing_is_begun_when_the_program_is_on_its_way_out(
    make_waiting: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Streams that are still held are dropped last of all.
    """
    monkeypatch.setattr(drains.DRAINS, "_is_leaving", True)
    waiting = make_waiting()
    stream = open_stream(waiting, "ConverseStream")
    raw = stream._raw_stream

    close_after_one(stream)

    assert waiting.pending == [0]
    assert waiting.entry.outcome == "abandoned"
    assert raw.closed


def test_a_body_of_invoke_model_is_not_read_on(draining: Guarded) -> None:
    """
    A body has come as a whole when it is there; who does not read it is rare.
    """
    draining.server.will_answer(missing_usage_headers())

    draining.client.invoke_model(**INVOKE)["body"].close()

    assert draining.pending == [0]
    assert draining.entry.outcome == "abandoned"


def test_only_so_many_are_read_on_at_once(
    make_waiting: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each is a thread and a connection: a crowd that presses stop must not take a process with it.
    """
    monkeypatch.setattr(drains, "MOST_AT_ONCE", 2)
    waiting = make_waiting()

    for _ in range(5):
        close_after_one(open_stream(waiting, "ConverseStream"))

    entries = list(waiting.guard.entries())
    assert [entry.outcome for entry in entries if entry.outcome != "pending"] == ["abandoned"] * 3
    assert all(entry.cost == entry.estimated_cost for entry in entries if entry.outcome == "abandoned")
    assert len(drains.DRAINS) == 2
    assert eventually(lambda: reading_threads() == 2)


@pytest.mark.parametrize("has_socket", [True, False])
def test_only_for_so_long_is_one_read_on(
    make_waiting: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch, has_socket: bool
) -> None:
    """
    A server that says nothing more must hold neither money nor a thread.
    """
    monkeypatch.setattr(drains, "LONGEST_S", 0.05)
    if not has_socket:
        monkeypatch.setattr(drains, "_socket_of", lambda raw: None)
    waiting = make_waiting()

    close_after_one(open_stream(waiting, "ConverseStream"))

    assert eventually(lambda: waiting.pending == [0])
    assert (waiting.entry.outcome, waiting.entry.cost) == ("abandoned", waiting.entry.estimated_cost)
    if has_socket:
        assert eventually(lambda: reading_threads() == 0)


def test_a_stream_that_trickles_for_ever_is_given_up(
    make_guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each event comes in time, and the last never would.
    """
    monkeypatch.setattr(drains, "LONGEST_S", 0.03)
    guarded = make_guarded(on_abandoned_stream="drain")

    close_after_one(open_stream(guarded, "ConverseStream"))

    assert eventually(lambda: guarded.pending == [0] and reading_threads() == 0)
    assert guarded.entry.outcome == "abandoned"


def test_one_that_is_read_at_this_moment_is_closed_as_ever(make_waiting: Callable[..., Guarded]) -> None:
    """
    Another thread is inside the generator: it cannot be taken from there.
    """
    waiting = make_waiting()
    stream = open_stream(waiting, "ConverseStream")
    generator = stream._event_generator
    ended: list[BaseException] = []

    def read() -> None:
        try:
            list(stream)
        except BaseException as error:
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert eventually(lambda: generator.gi_running)
    closer = threading.Thread(target=stream.close)  # urllib3 waits for the reader
    closer.start()
    waiting.server.stop()
    reader.join(A_WHILE_S)
    closer.join(A_WHILE_S)

    assert ended
    assert len(drains.DRAINS) == 0
    assert waiting.pending == [0]
    assert waiting.entry.outcome in {"abandoned", "lost"}


def test_what_is_read_on_for_a_guard_can_be_ended(make_waiting: Callable[..., Guarded]) -> None:
    """
    A guard that is closed gives its ledger back: what ends later could not be written.
    """
    waiting, other = make_waiting(), make_waiting()
    close_after_one(open_stream(waiting, "ConverseStream"))
    close_after_one(open_stream(other, "ConverseStream"))

    drains.DRAINS.finish(waiting.guard._pipeline)

    assert waiting.pending == [0]
    assert waiting.entry.outcome == "abandoned"
    assert other.pending[0] > 0


def test_what_is_held_meanwhile_counts(make_waiting: Callable[..., Guarded]) -> None:
    """
    Money that may be spent must not be spent twice, while nobody knows how much it is.
    """
    waiting = make_waiting("0.003 USD")
    close_after_one(open_stream(waiting, "ConverseStream"))

    with pytest.raises(BudgetExceeded):
        waiting.client.converse(**HELLO)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_fork_reads_nothing_on(tmp_path: Path) -> None:
    """
    It has the same socket: two who read it would each have half.
    """
    done = run_program("fork", tmp_path, event_delay_s=0.02)

    assert done.stdout.split() == ["child", "0", "parent", "answered"], done.stderr


@pytest.mark.parametrize("way", ["close", "drop", "keep"])
@BOTH
def test_at_exit_it_settles_at_the_estimate_and_nobody_waits(
    tmp_path: Path, operation: str, way: str
) -> None:
    """
    The stream never ends; the program must.
    """
    done = run_program(way, tmp_path, event_delay_s=MANY_S, operation=operation)

    assert (done.returncode, done.stderr) == (0, "")
    with Guard(budget="5 USD", ledger=f"sqlite:///{tmp_path / 'ledger.db'}") as guard:
        (entry,) = guard.entries()
        (row,) = guard.status()
    assert (entry.outcome, entry.basis) == ("abandoned", "estimated")
    assert (row.pending, row.spent) == (0, entry.estimated_cost)


PROGRAM = """
import os, sys, time
import boto3
from bedrock_guard import Guard
from bedrock_guard.hooks import drains

way, url, ledger, operation, hello, invoke = sys.argv[1:]
guard = Guard(budget="5 USD", ledger=ledger, on_abandoned_stream="drain")
client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url))
if operation == "ConverseStream":
    stream = client.converse_stream(**eval(hello))["stream"]
else:
    stream = client.invoke_model_with_response_stream(**eval(invoke))["body"]
next(iter(stream))
if way == "fork":
    child = os.fork()
    if not child:
        stream.close()
        del stream
        print("child", len(drains.DRAINS), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
if way in ("close", "fork"):
    stream.close()
if way in ("close", "drop", "fork"):
    del stream
if way == "fork":
    while guard.status()[0].pending:
        time.sleep(0.01)
    print("parent", next(guard.entries()).outcome)
"""


def run_program(way: str, folder: Path, *, event_delay_s: float, operation: str = "ConverseStream") -> Any:
    """
    A program that leaves one stream, and ends.
    """
    with BedrockServer(rates=RATES, event_delay_s=event_delay_s) as server:
        ledger = f"sqlite:///{folder / 'ledger.db'}"
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, way, server.url, ledger, operation, repr(HELLO), repr(INVOKE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * A_WHILE_S,
        )
