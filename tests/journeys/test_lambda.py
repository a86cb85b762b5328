"""
The handler of a Lambda function: what it holds, and what is written before it returns.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest

from bedrock_guard import Guard, flushing
from bedrock_guard.background import BACKGROUND
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.hooks.drains import DRAINS
from bedrock_guard.invocations import LATE_S
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.bedrock_server import BedrockServer, missing_usage_headers

from .conftest import HELLO, NOVA, RATES, Guarded, eventually

NOON = 1_800_000_000.0
USUAL_S = 385.0  # (60 + 5 s of time-outs) x 5 attempts + 60 s
BODY = {"modelId": NOVA, "body": b'{"messages": [{"role": "user", "content": [{"text": "hi"}]}]}'}


@dataclass
class Context:
    """
    As Lambda's own, of an invocation that ends at a moment of our clock.
    """

    clock: Callable[[], float]
    ends_at: float

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int(1000 * (self.ends_at - self.clock())))


@dataclass
class Watched:
    """
    A real ledger that says for how long it was asked to hold, and fails where it is told to.
    """

    ledger: Any
    held_s: list[float] = field(default_factory=list)
    renewed_s: list[float] = field(default_factory=list)
    failures: int = 0
    sweeps: int = 0
    hangs: threading.Event | None = None
    is_gone: bool = False

    def reserve(self, *args: Any, hold_s: float, **kwargs: Any) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("The disk is away.")
        self.held_s.append(hold_s)
        return self.ledger.reserve(*args, hold_s=hold_s, **kwargs)

    def extend(self, *args: Any, hold_s: float | None = None, **kwargs: Any) -> Any:
        if hold_s is not None:
            self.renewed_s.append(hold_s)
        return self.ledger.extend(*args, hold_s=hold_s, **kwargs)

    def sweep(self, **kwargs: Any) -> Any:
        self.sweeps += 1
        return self.ledger.sweep(**kwargs)

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("The disk is away.")
        if self.hangs is not None:
            assert self.hangs.wait(60)
        return self.ledger.settle(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)


@pytest.fixture
def now() -> list[float]:
    return [NOON]


@pytest.fixture
def ledger(tmp_path: Path, now: list[float]) -> Iterator[Watched]:
    watched = Watched(open_ledger(f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}", clock=lambda: now[0]))
    yield watched
    watched.ledger.close()


@pytest.fixture
def guarded(make_guarded: Callable[..., Guarded], ledger: Watched, now: list[float]) -> Guarded:
    return make_guarded(ledger=ledger, clock=lambda: now[0])


@pytest.fixture
def context(now: list[float]) -> Context:
    """
    Of an invocation with 20 s to go.
    """
    return Context(lambda: now[0], NOON + 20)


# What is held


def test_what_a_killed_invocation_held_is_free_soon_after_its_time_out(
    guarded: Guarded, context: Context, now: list[float]
) -> None:
    """
    At its time-out Lambda kills the process: nobody settles, and budget would be pinned for minutes.
    """
    seen: list[int] = []

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        stream = guarded.client.converse_stream(**HELLO)["stream"]
        for at in (19, 20 + LATE_S - 1, 20 + LATE_S + 1):  # as others see it, who share the ledger
            now[0] = NOON + at
            seen.append(guarded.guard.ledger.sweep(now=now[0]).charged)
        list(stream)

    handler({}, context)

    assert seen == [0, 0, 1]


@pytest.mark.parametrize(
    ("remaining_s", "held_s"), [(20, 20 + LATE_S), (0, LATE_S), (-3, LATE_S), (600, USUAL_S), (380, USUAL_S)]
)
def test_nothing_is_held_longer_than_the_invocation_can_last(
    guarded: Guarded, ledger: Watched, now: list[float], remaining_s: float, held_s: float
) -> None:
    """
    No time that is left is not the same as no news of it.
    """

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        guarded.client.converse(**HELLO)

    handler({}, Context(lambda: now[0], NOON + remaining_s))
    handler(event={}, context=Context(lambda: now[0], NOON + remaining_s))
    guarded.client.converse(**HELLO)

    assert ledger.held_s == [held_s, held_s, USUAL_S]


def test_threads_of_a_pool_hold_no_longer_either(guarded: Guarded, ledger: Watched, context: Context) -> None:
    """
    A context variable would not reach them, and a fan-out is what a function often does.
    """

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: guarded.client.converse(**HELLO), range(2)))

    handler({}, context)

    assert ledger.held_s == [20 + LATE_S] * 2


@pytest.mark.parametrize("other", [None, object(), Mock()], ids=["None", "object", "mock"])
def test_a_context_that_cannot_tell_its_time_changes_nothing(
    guarded: Guarded, ledger: Watched, other: object
) -> None:
    """
    Handlers are called by tests, too.
    """
    handler = guarded.guard.lambda_handler(lambda event, context=None: guarded.client.converse(**HELLO))

    handler({}, other)
    handler({}, context=other)
    handler({})

    assert ledger.held_s == [USUAL_S] * 3
    assert guarded.pending == [0]


def test_a_renewal_holds_no_longer_than_the_invocation_can_last(
    make_guarded: Callable[..., Guarded], ledger: Watched, context: Context, now: list[float]
) -> None:
    """
    A hold that was shorter than that at first must not outgrow it; and one that lasts is not renewed.
    """
    guarded = make_guarded(ledger=ledger, clock=lambda: now[0], hold_s=24)
    look = guarded.guard._pipeline.upkeep.look

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        stream = guarded.client.converse_stream(**HELLO)["stream"]
        for second in range(30):
            now[0] = NOON + second
            look()
        list(stream)

    handler({}, context)

    # At half of 24 s; what it holds then ends 10 s after the invocation, and is renewed only if that goes on.
    assert ledger.held_s == [24]
    assert ledger.renewed_s == [8 + LATE_S, LATE_S]
    assert guarded.entry.basis == "reported"


# What is written before it returns


@pytest.mark.parametrize("on_abandoned_stream", ["charge", "drain"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_that_is_left_open_is_charged_before_the_reply(
    make_guarded: Callable[..., Guarded],
    ledger: Watched,
    fails: bool,
    on_abandoned_stream: str,
) -> None:
    """
    The environment freezes with the reply, and may never run again: nobody else would end it.
    """
    guarded = make_guarded(ledger=ledger, on_abandoned_stream=on_abandoned_stream)
    kept = []

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> str:
        stream = guarded.client.converse_stream(**HELLO)["stream"]
        kept.extend([stream, guarded.client.invoke_model_with_response_stream(**BODY)])
        next(iter(stream))
        if fails:
            raise LookupError("of the handler's own")
        return "reply"

    with pytest.raises(LookupError) if fails else nullcontext():
        assert handler({}, None) == "reply"

    assert guarded.pending == [0]
    entries = list(guarded.guard.entries())
    assert {entry.outcome for entry in entries} == {"abandoned"}
    assert all(entry.cost == entry.estimated_cost for entry in entries)
    spent = guarded.spent_nanousd
    for _ in kept[0]:  # it is read on all the same, and that costs no more
        pass
    assert guarded.spent_nanousd == spent > guarded.server.bill.nanousd


def test_a_stream_that_was_let_through_is_booked_before_the_reply(
    make_guarded: Callable[..., Guarded], ledger: Watched
) -> None:
    """
    The ledger was gone when the call was made, and is back: nobody else would book it.
    """
    guarded = make_guarded(ledger=ledger, on_ledger_error="allow", allow_up_to="1 USD")
    kept = []

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        ledger.is_gone = True
        kept.append(guarded.client.converse_stream(**HELLO)["stream"])
        ledger.is_gone = False
        next(iter(kept[0]))

    handler({}, None)

    (entry,) = guarded.guard.entries()
    assert (entry.outcome, entry.allowed_by) == ("abandoned", "on_ledger_error")
    assert guarded.spent_nanousd == entry.estimated_cost_nanousd


def test_a_stream_that_is_read_on_beside_the_handler_is_charged_before_the_reply(
    ledger: Watched,
) -> None:
    """
    Its thread would freeze half-way, and its connection would not outlive that.
    """
    guard = Guard(budget="5 USD/day", ledger=ledger, on_abandoned_stream="drain")

    @guard.lambda_handler
    def handler(client: Any, context: object) -> int:
        client.converse_stream(**HELLO)["stream"].close()
        return len(DRAINS)

    with BedrockServer(rates=RATES, event_delay_s=3600) as endless:
        assert (
            handler(
                guard.attach(
                    boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=endless.url)
                ),
                None,
            )
            == 1
        )
        assert [row.pending for row in guard.status()] == [0]
        assert [entry.outcome for entry in guard.entries()] == ["abandoned"]
    assert eventually(lambda: len(DRAINS) == 0)


def test_a_body_that_is_left_unread_is_charged_before_the_reply(guarded: Guarded, context: Context) -> None:
    """
    As a stream, where its headers say no usage.
    """
    kept = []

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        guarded.server.will_answer(missing_usage_headers())
        kept.append(guarded.client.invoke_model(**BODY)["body"])

    handler({}, context)

    assert guarded.pending == [0]
    assert guarded.entry.outcome == "abandoned"
    assert kept[0].read()


def test_a_settle_that_failed_is_tried_again_before_the_reply(
    guarded: Guarded, ledger: Watched, context: Context
) -> None:
    """
    What is tried again in the background otherwise would be tried in the next invocation, if there is one.
    """

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        guarded.guard._pipeline.upkeep._wait_s = 3600  # it fails since long, and is tried rarely
        ledger.failures = 3
        guarded.client.converse(**HELLO)

    handler({}, context)

    assert guarded.pending == [0]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


@pytest.mark.parametrize("left_s", [0.1, 0])
def test_a_ledger_that_hangs_does_not_cost_the_reply(
    guarded: Guarded,
    ledger: Watched,
    context: Context,
    now: list[float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    left_s: float,
) -> None:
    """
    The reply is paid for. What could not be written is named, and written when the environment runs again.
    """

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> str:
        ledger.failures = 1
        guarded.client.converse(**HELLO)
        ledger.hangs = threading.Event()
        now[0] = NOON + 20 - left_s
        return "reply"

    monkeypatch.setattr(flushing, "FLUSH_S", 3600.0)  # half of what is left is waited for, not this
    ids = []
    with caplog.at_level(logging.ERROR):
        assert handler({}, context) == "reply"
        ids = [opened.entry.id for opened in guarded.guard._pipeline.upkeep.open_calls()]

    assert len(ids) == 1
    assert f"1 calls are not settled as the handler returns: {ids[0]}." in caplog.text
    assert ledger.hangs is not None
    ledger.hangs.set()
    assert eventually(lambda: guarded.pending == [0])
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_context_that_fails_does_not_cost_the_reply(guarded: Guarded) -> None:
    context = Mock()
    context.get_remaining_time_in_millis.side_effect = [20_000, LookupError("of a context's own")]

    handler = guarded.guard.lambda_handler(lambda event, context: "reply")

    assert handler({}, context) == "reply"


def test_a_call_that_another_thread_is_in_is_named_and_settles_when_it_ends(
    guarded: Guarded, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Nobody waits for it, and it must not be ended under way: the reply that it gets is paid for.
    """
    sent, may_go_on = threading.Event(), threading.Event()

    def wait(**_: object) -> None:
        sent.set()
        assert may_go_on.wait(60)

    guarded.client.meta.events.register("before-send.bedrock-runtime", wait)
    thread = threading.Thread(target=guarded.client.converse, kwargs=HELLO)

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        thread.start()
        assert sent.wait(60)

    handler({}, context)
    (opened,) = guarded.guard._pipeline.upkeep.open_calls()
    may_go_on.set()
    thread.join()

    assert f"1 calls are not settled as the handler returns: {opened.entry.id}." in caplog.text
    assert guarded.pending == [0]
    assert guarded.entry.basis == "reported"


def test_only_the_outermost_handler_ends_what_is_open(
    guarded: Guarded, ledger: Watched, context: Context, now: list[float]
) -> None:
    """
    A handler that calls another still reads its own streams; and holds for as long as it may last.
    """
    inner = guarded.guard.lambda_handler(lambda event, context: guarded.client.converse(**HELLO))

    @guarded.guard.lambda_handler
    def outer(event: object, context: object) -> None:
        stream = guarded.client.converse_stream(**HELLO)["stream"]
        inner({}, Context(lambda: now[0], NOON + 5))
        guarded.client.converse(**HELLO)
        list(stream)

    outer({}, context)

    assert ledger.held_s == [20 + LATE_S] * 3
    assert {entry.basis for entry in guarded.guard.entries()} == {"reported"}
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_two_guards_on_one_handler_each_settle_their_own(
    make_guarded: Callable[..., Guarded], context: Context
) -> None:
    """
    The inner one ends the stream for both, as there is one stream.
    """
    first = make_guarded()
    second = Guard(budget="team: 9 USD/day", ledger="memory://")
    second.attach(first.client)
    kept = []

    @second.lambda_handler
    @first.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        kept.append(first.client.converse_stream(**HELLO))

    handler({}, context)

    assert [row.pending for guard in (first.guard, second) for row in guard.status()] == [0, 0]
    assert first.guard.status()[0].spent == second.status()[0].spent > 0
    second.close()


# The cold start


def test_an_environment_sweeps_while_it_starts_and_not_in_its_first_call(
    make_guarded: Callable[..., Guarded], ledger: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    On DynamoDB a sweep is a dozen requests, which somebody waits for else.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "chat")

    guarded = make_guarded(ledger=ledger)

    assert eventually(lambda: ledger.sweeps == 1)
    guarded.client.converse(**HELLO)
    assert ledger.sweeps == 1


def test_elsewhere_a_guard_does_nothing_before_its_first_call(
    make_guarded: Callable[..., Guarded], ledger: Watched
) -> None:
    """
    A program that makes a guard may fork before it uses it.
    """
    guarded = make_guarded(ledger=ledger)

    assert not guarded.guard._pipeline.upkeep.is_kept
    guarded.client.converse(**HELLO)
    assert ledger.sweeps == 1


def test_a_guard_that_is_closed_before_it_swept_says_nothing(
    ledger: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    `guard(client)` makes one each time it is called, and closes what it does not need.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "chat")
    may_go_on, is_done = threading.Event(), threading.Event()
    BACKGROUND.soon(may_go_on.wait)

    Guard(budget="all: 5 USD/day", ledger="memory://").close()
    BACKGROUND.soon(is_done.set)
    Guard(budget="all: 5 USD/day", ledger=ledger)
    may_go_on.set()

    assert is_done.wait(60)
    assert caplog.records == []


# The decorator


def test_a_handler_stays_what_it_was(guarded: Guarded) -> None:
    """
    Other decorators and tools look at names and signatures.
    """

    def handler(event: dict[str, str], context: object, *, extra: int = 0) -> int:
        """
        What it says.
        """
        return len(event) + extra

    wrapped = guarded.guard.lambda_handler(handler)

    assert (wrapped.__name__, wrapped.__doc__) == (handler.__name__, handler.__doc__)
    assert inspect.signature(wrapped) == inspect.signature(handler)
    assert wrapped({"a": "b"}, None, extra=2) == 3


def test_what_lambda_cannot_call_is_refused(guarded: Guarded) -> None:
    """
    Its body would run after the decorator has let go.
    """

    async def later(event: object, context: object) -> None: ...

    def pieces(event: object, context: object) -> Iterator[str]:
        yield "piece"

    for function in (later, pieces, "handler"):
        with pytest.raises(ConfigurationError, match="takes the plain function that Lambda calls"):
            guarded.guard.lambda_handler(function)  # type: ignore[arg-type]


# Flush


def test_a_flush_writes_what_has_ended_and_leaves_open_what_is_open(
    guarded: Guarded, ledger: Watched
) -> None:
    """
    For who goes before the background thread would have come to it.
    """
    assert guarded.guard.flush()
    stream = guarded.client.converse_stream(**HELLO)["stream"]
    ledger.failures = 2
    guarded.client.converse(**HELLO)

    assert guarded.guard.flush(60)
    assert [entry.basis for entry in guarded.guard.entries(basis="reported")] == ["reported"]
    assert guarded.pending != [0]
    list(stream)
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_flush_says_when_something_is_left(guarded: Guarded, ledger: Watched) -> None:
    """
    Who asks may wait once more, or tell somebody.
    """
    ledger.failures = 10**6
    guarded.client.converse(**HELLO)

    assert not guarded.guard.flush(0.05)
    assert not guarded.guard.flush(timeout_s=0)
    ledger.failures = 0
    assert guarded.guard.flush(60)
    assert guarded.pending == [0]


def test_a_flush_waits_for_an_end_that_another_thread_is_writing(guarded: Guarded, ledger: Watched) -> None:
    """
    It has ended, and is not in the ledger: that is what a flush is asked about.
    """
    ledger.hangs = threading.Event()
    thread = threading.Thread(target=guarded.client.converse, kwargs=HELLO)
    thread.start()
    assert eventually(lambda: bool(guarded.guard._pipeline.upkeep.unwritten_ids()))

    assert not guarded.guard.flush(0.05)
    threading.Timer(0.05, ledger.hangs.set).start()
    assert guarded.guard.flush(60)

    thread.join()
    assert guarded.pending == [0]


def test_a_flush_of_a_guard_that_was_never_used_starts_nothing(guarded: Guarded) -> None:
    """
    A function that calls no model pays nothing for its guard.
    """
    before = time.monotonic()
    handler = guarded.guard.lambda_handler(lambda event, context: threading.active_count())

    assert handler({}, None) == threading.active_count()
    assert not guarded.guard._pipeline.upkeep.is_kept
    assert time.monotonic() - before < 60
