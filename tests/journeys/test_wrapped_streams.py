"""
Streams and bodies in the hands of tools that wrap, patch or replace them.

OpenTelemetry and OpenLLMetry look at the type of what botocore made, put a proxy round it, hang
attributes on it, or swap `_parse_event`; each must go on working, and the call must settle once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
from botocore.eventstream import EventStream
from botocore.response import StreamingBody

from bedrock_guard.testing.bedrock_server import missing_usage_headers

from .fault_cells import INVOKE, LEDGERS, STREAMS, check_cell, open_cell, send

wrapt = pytest.importorskip("wrapt", reason="comes with OpenTelemetry's instrumentation")

everywhere = pytest.mark.parametrize("ledger", LEDGERS)
on_streams = pytest.mark.parametrize("operation", STREAMS)


class Wrapped(wrapt.ObjectProxy):
    """
    As OpenTelemetry's wrapper: iterates what it wraps, and counts.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._self_seen = 0

    def __iter__(self) -> Any:
        for event in self.__wrapped__:
            self._self_seen += 1
            yield event

    def close(self) -> None:
        self.__wrapped__.close()


def leave_after_one(stream: Any) -> None:
    next(iter(stream))


def close_unread(stream: Any) -> None:
    stream.close()


ENDS: dict[str, tuple[Callable[[Any], object], str]] = {
    "read": (list, "answered"),
    "left": (leave_after_one, "abandoned"),
    "closed": (close_unread, "abandoned"),
    "dropped": (lambda stream: None, "abandoned"),
}


@everywhere
@on_streams
@pytest.mark.parametrize("name", ENDS)
def test_a_stream_inside_a_proxy_settles_once(tmp_path: Path, name: str, operation: str, ledger: str) -> None:
    """
    The proxy is all that the program holds; what ends it must end the stream inside.
    """
    leave, outcome = ENDS[name]
    with open_cell(ledger, tmp_path) as cell:
        stream = send(cell.client, operation)
        assert isinstance(stream, EventStream)
        wrapped = Wrapped(stream)
        del stream

        leave(wrapped)
        del wrapped

        check_cell(cell, [outcome])


@everywhere
@on_streams
def test_a_method_that_is_patched_on_the_stream_itself_is_called(
    tmp_path: Path, operation: str, ledger: str
) -> None:
    """
    `_parse_event` is looked up for each event, on the object first.
    """
    seen = []

    with open_cell(ledger, tmp_path) as cell:
        stream = send(cell.client, operation)
        original = stream._parse_event

        def parse(self: Any, event: Any) -> Any:
            seen.append(event)
            return original(event)

        stream._parse_event = MethodType(parse, stream)
        events = list(stream)

        assert len(events) == len(seen) > 30
        check_cell(cell, ["answered"])


@everywhere
@on_streams
def test_a_method_that_is_patched_by_wrapt_is_called(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    OpenLLMetry wraps it with a proxy whose wrapped method is ours.
    """
    seen = []

    def follow(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        parsed = wrapped(*args, **kwargs)
        seen.append(parsed)
        return parsed

    with open_cell(ledger, tmp_path) as cell:
        stream = send(cell.client, operation)
        stream._parse_event = wrapt.FunctionWrapper(stream._parse_event, follow)
        events = list(stream)

        assert seen == events
        assert len(events) > 30
        check_cell(cell, ["answered"])


@everywhere
@on_streams
def test_attributes_that_are_hung_on_a_stream_stay(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    Tools keep their own state there, before and after it is read.
    """
    with open_cell(ledger, tmp_path) as cell:
        stream = send(cell.client, operation)
        stream.span = "span"
        list(stream)

        assert stream.span == "span"
        assert vars(stream)["span"] == "span"
        check_cell(cell, ["answered"])


@everywhere
def test_a_body_inside_a_proxy_settles_once(tmp_path: Path, ledger: str) -> None:
    """
    A proxy forwards `read` and the iterator; the usage is seen below both.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())
        wrapped = wrapt.ObjectProxy(send(cell.client, "InvokeModel"))
        assert isinstance(wrapped, StreamingBody)

        said = wrapped.read(5) + b"".join(wrapped)

        assert json.loads(said)["usage"]["output_tokens"] == 100
        check_cell(cell, ["answered"])


@everywhere
def test_a_body_that_is_closed_through_a_proxy_costs_the_estimate(tmp_path: Path, ledger: str) -> None:
    """
    Nothing was read, and all was billed.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        wrapt.ObjectProxy(send(cell.client, "InvokeModel")).close()

        check_cell(cell, ["abandoned"])


@everywhere
def test_a_body_that_a_tool_reads_and_replaces_settles_once(tmp_path: Path, ledger: str) -> None:
    """
    OpenTelemetry reads a body whole and puts a new one in its place, from memory.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())
        reply = cell.client.invoke_model(**INVOKE)
        content = reply["body"].read()
        reply["body"].close()
        reply["body"] = StreamingBody(io.BytesIO(content), len(content))

        assert json.loads(reply["body"].read())["usage"]["output_tokens"] == 100
        check_cell(cell, ["answered"])


@everywhere
def test_a_raw_stream_that_is_replaced_before_it_is_read_settles_once(tmp_path: Path, ledger: str) -> None:
    """
    Some tools read below the body and put what they read back.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())
        body = send(cell.client, "InvokeModel")
        content = body._raw_stream.read()
        body._raw_stream = io.BytesIO(content)

        assert json.loads(body.read())["usage"]["output_tokens"] == 100
        check_cell(cell, ["answered"])
