"""
Streams and bodies: the caller's own objects, settled once.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.eventstream import EventStream
from botocore.exceptions import EventStreamError
from botocore.response import StreamingBody

from bedrock_guard import BudgetExceeded
from bedrock_guard.testing.bedrock_server import (
    corrupt_frame,
    cut_stream,
    missing_usage,
    missing_usage_headers,
    stream_error,
    truncated_body,
)

from .conftest import HELLO, SONNET, Guarded

INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hello there"}],
        }
    ),
}


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def open_stream(guarded: Guarded, operation: str) -> Any:
    if operation == "ConverseStream":
        return guarded.client.converse_stream(**HELLO)["stream"]
    return guarded.client.invoke_model_with_response_stream(**INVOKE)["body"]


BOTH = pytest.mark.parametrize("operation", ["ConverseStream", "InvokeModelWithResponseStream"])


@BOTH
def test_a_stream_read_to_its_end_costs_what_the_server_bills(guarded: Guarded, operation: str) -> None:
    """
    Usage comes with the last event; until then the estimate is held.
    """
    stream = open_stream(guarded, operation)
    assert isinstance(stream, EventStream)
    assert guarded.pending[0] > 0

    events = list(stream)

    assert len(events) > 30
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
    assert guarded.pending == [0]
    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")


@BOTH
def test_a_guarded_stream_gives_the_events_of_a_bare_one(
    guarded: Guarded, make_client: Callable[..., Any], operation: str
) -> None:
    """
    Invisible: what a program reads must not change.
    """
    bare = Guarded(make_client(), guarded.guard, guarded.server)

    assert [_stable(event) for event in open_stream(guarded, operation)] == [
        _stable(event) for event in open_stream(bare, operation)
    ]


def leave_after_one(stream: Any) -> None:
    for _ in stream:
        break


def close_after_one(stream: Any) -> None:
    leave_after_one(stream)
    stream.close()


def raise_inside(stream: Any) -> None:
    with pytest.raises(RuntimeError):
        for _ in stream:
            raise RuntimeError


@BOTH
@pytest.mark.parametrize(
    "leave",
    [lambda stream: None, leave_after_one, close_after_one, raise_inside, lambda stream: stream.close()],
)
def test_a_stream_left_early_is_charged_at_the_bound_and_freed_at_once(
    guarded: Guarded, operation: str, leave: Callable[[Any], None]
) -> None:
    """
    AWS bills the whole generation; with the collector off, dropping the stream must be enough.
    """
    with without_collector():
        stream = open_stream(guarded, operation)
        leave(stream)
        alive = weakref.ref(stream)
        del stream
        assert alive() is None
        assert guarded.pending == [0]

    assert guarded.entry.outcome == "abandoned"
    assert guarded.entry.basis == "estimated"
    assert guarded.entry.cost == guarded.entry.estimated_cost
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd


def test_a_loop_that_hangs_up_before_the_usage_exhausts_the_budget(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    Reading all the text and closing before the last event must not be free use.
    """
    guarded = make_guarded("0.02 USD")

    with pytest.raises(BudgetExceeded):
        for _ in range(50):
            close_after_one(open_stream(guarded, "ConverseStream"))

    assert guarded.server.bill.nanousd <= 20_000_000


@BOTH
@pytest.mark.parametrize(
    "fault", [cut_stream(after_events=3), stream_error(after_events=3), corrupt_frame(at_event=3)]
)
def test_a_broken_stream_raises_what_it_always_raised_and_is_charged(
    guarded: Guarded, operation: str, fault: Any
) -> None:
    """
    The model ran; only its usage never arrived.
    """
    guarded.server.will_answer(fault)
    stream = open_stream(guarded, operation)

    with pytest.raises(Exception) as caught:
        list(stream)

    assert not isinstance(caught.value, BudgetExceeded)
    assert guarded.entry.outcome == "lost"
    assert guarded.pending == [0]
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd > 0


def test_a_stream_error_event_keeps_its_type(guarded: Guarded) -> None:
    """
    Programs catch botocore's EventStreamError by name.
    """
    guarded.server.will_answer(stream_error(after_events=2))

    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        list(open_stream(guarded, "ConverseStream"))


@BOTH
def test_a_stream_without_its_usage_event_is_charged_at_the_bound(guarded: Guarded, operation: str) -> None:
    """
    Nothing is ever silently 0.
    """
    guarded.server.will_answer(missing_usage())

    list(open_stream(guarded, operation))

    assert guarded.entry.cost == guarded.entry.estimated_cost
    assert guarded.pending == [0]


def test_a_stream_resumes_after_a_break(guarded: Guarded) -> None:
    """
    Frameworks peek at the first event and read the rest later.
    """
    stream = open_stream(guarded, "ConverseStream")
    first = next(iter(stream))

    rest = list(stream)

    assert "messageStart" in first
    assert "metadata" in rest[-1]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_class_patched_by_another_tool_still_runs(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    OpenTelemetry's tests patch `EventStream._parse_event` after the stream was made.
    """
    stream = open_stream(guarded, "ConverseStream")
    seen = []
    original = EventStream._parse_event
    monkeypatch.setattr(
        EventStream, "_parse_event", lambda self, event: seen.append(1) or original(self, event)
    )

    assert len(list(stream)) == len(seen) > 30
    assert guarded.entry.basis == "reported"


def test_a_stream_keeps_what_frameworks_read_of_it(guarded: Guarded) -> None:
    """
    pydantic-ai takes `_raw_stream` to cut the socket; others look at the class's name.
    """
    stream = open_stream(guarded, "ConverseStream")

    assert "_raw_stream" in vars(stream)
    assert type(stream).__name__ == "EventStream"
    assert type(stream).__module__ == "botocore.eventstream"


def read_into(body: Any) -> bytes:
    if not hasattr(body, "readinto"):  # older botocore
        return bytes(body.read())
    read, buffer = bytearray(), bytearray(64)
    while count := body.readinto(buffer):
        read += buffer[:count]
    return bytes(read)


def with_raw(body: Any, read: Callable[[Any], bytes]) -> bytes:
    with body as raw:
        return read(raw)


@pytest.mark.parametrize(
    "read",
    [
        lambda body: body.read(),
        lambda body: b"".join(body.iter_chunks(7)),
        lambda body: b"".join(body),
        lambda body: b"".join(body.iter_lines()),
        lambda body: b"".join(body.readlines()),
        lambda body: json.dumps(json.load(body)).encode(),
        lambda body: b"".join(iter(lambda: body.read(11), b"")),
        lambda body: read_into(body),
        lambda body: with_raw(body, lambda raw: raw.read()),
        lambda body: with_raw(body, lambda raw: b"".join(raw)),
        lambda body: with_raw(body, lambda raw: b"".join(raw.stream(64))),
        lambda body: with_raw(body, lambda raw: b"".join(iter(lambda: raw.read1(64), b""))),
        lambda body: with_raw(body, lambda raw: b"".join(iter(raw.readline, b""))),
    ],
)
def test_a_body_is_read_as_ever_and_its_usage_is_seen(guarded: Guarded, read: Callable[[Any], bytes]) -> None:
    """
    Some families state usage only in the body; the caller's reading must be enough to learn it.
    """
    guarded.server.will_answer(missing_usage_headers())
    body = guarded.client.invoke_model(**INVOKE)["body"]
    assert isinstance(body, StreamingBody)

    assert json.loads(read(body))["usage"]["output_tokens"] == 100

    assert guarded.entry.basis == "reported"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_usage_in_the_headers_settles_before_the_body_is_read(guarded: Guarded) -> None:
    """
    A body that is never read has been paid for all the same.
    """
    reply = guarded.client.invoke_model(**INVOKE)

    assert guarded.entry.basis == "reported"
    assert reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"]
    assert json.loads(reply["body"].read())["role"] == "assistant"


@pytest.mark.parametrize("leave", [lambda body: None, lambda body: body.read(5), lambda body: body.close()])
def test_a_body_left_unread_is_charged_at_the_bound(guarded: Guarded, leave: Callable[[Any], Any]) -> None:
    """
    Not reading is no way to pay less.
    """
    guarded.server.will_answer(missing_usage_headers())
    with without_collector():
        body = guarded.client.invoke_model(**INVOKE)["body"]
        leave(body)
        del body
        assert guarded.pending == [0]

    assert guarded.entry.outcome == "abandoned"
    assert guarded.entry.cost == guarded.entry.estimated_cost


def test_a_body_cut_short_is_charged(guarded: Guarded) -> None:
    """
    The generation was billed; half a body does not say how much.
    """
    guarded.server.will_answer(truncated_body())
    body = guarded.client.invoke_model(**INVOKE)["body"]

    with pytest.raises(Exception):  # noqa: B017  (botocore's own, unchanged)
        body.read()

    assert guarded.pending == [0]
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd > 0


def test_a_socket_timeout_can_still_be_set_on_a_body(guarded: Guarded) -> None:
    """
    Botocore reaches through the raw stream for the socket; the tee must not be in the way.
    """
    guarded.server.will_answer(missing_usage_headers())
    body = guarded.client.invoke_model(**INVOKE)["body"]

    body.set_socket_timeout(3)

    assert json.loads(body.read())["role"] == "assistant"


def test_a_client_is_freed_by_reference_count(make_client: Callable[..., Any]) -> None:
    """
    Services that make a client a request would otherwise pile them up until the collector comes.
    """
    from bedrock_guard import Guard

    guard = Guard(budget="5 USD", ledger="memory://")
    with without_collector():
        client = guard.attach(make_client())
        client.converse(**HELLO)
        alive = weakref.ref(client)
        del client
        assert alive() is None


def _stable(event: dict[str, Any]) -> Any:
    if "metadata" in event:
        return {key: value for key, value in event["metadata"].items() if key != "metrics"}
    if "chunk" in event:
        return json.loads(event["chunk"]["bytes"]).get("type")
    return event
