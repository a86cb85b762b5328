"""
Requests and replies as clients other than botocore have them, for what operations read.

    a body     bytes or text, as boto3 takes it, or the document that will be sent
    a reply    bytes, text or the document; of InvokeModel also boto3's `{"body": bytes}`
    a stream   its events as boto3 yields them, as frames carry them, or the documents inside

Nothing here minds what a reply says: one that cannot be read states no usage.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations.contract import Operation, Reply

_Text: TypeAlias = bytes | bytearray | str


def read_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    *params* as boto3's method takes them: a body that is a mapping becomes its JSON.

    Raises:
        TypeError, ValueError: It cannot be written as JSON.
    """
    body = params.get("body")
    if not isinstance(body, Mapping):
        return params
    # No stand-in for what JSON lacks, as replies have: what is left out would not be held for.
    return {**params, "body": json.dumps(dict(body))}


def read_headers(headers: Any) -> dict[str, str]:
    """
    HTTP headers by lower-case name: a mapping of any client's, pairs, or None.
    """
    pairs = headers.items() if hasattr(headers, "items") else headers
    return {} if pairs is None else {_text(name).lower(): _text(value) for name, value in pairs}


def read_reply(
    operation: Operation, reply: Any, headers: Mapping[str, str], call: Call
) -> UsageReport | None:
    """
    The usage that a whole *reply* states, or None.
    """
    key = operation.body_key
    if key is None:
        return operation.read_usage(Reply(_document(reply), headers), call)
    is_parsed = isinstance(reply, Mapping) and isinstance(reply.get(key), _Text)
    rest: Mapping[str, Any] = reply if is_parsed else {}
    body = _as_json(rest[key] if is_parsed else reply)
    read = Reply(rest, headers, body)
    return operation.read_body(body, read, call) if body else operation.read_usage(read, call)


def read_events(operation: Operation, reply: object) -> Iterator[Mapping[str, Any]]:
    """
    The events of a stream as boto3 yields them.

    *reply* is an iterable, whose own errors go through, or the one event that matters.
    """
    read = _EVENTS[operation.stream_key or ""]
    if isinstance(reply, Mapping | _Text):
        yield read(reply)
    elif isinstance(reply, Iterable):
        for event in reply:
            yield read(event)


def _event(event: object) -> Mapping[str, Any]:
    document = _document(event)
    # Without a name it is the payload of a frame, and of those one states usage.
    return {"metadata": document} if "usage" in document else document


def _chunk(event: object) -> Mapping[str, Any]:
    if isinstance(event, _Text):
        event = _document(event)
    outer = event if isinstance(event, Mapping) else {}
    chunk = outer.get("chunk", outer)
    data = chunk.get("bytes") if isinstance(chunk, Mapping) else None
    if isinstance(data, str):  # the payload of a frame
        data = _base64(data)
    return {"chunk": {"bytes": bytes(data) if isinstance(data, bytes | bytearray) else _as_json(outer)}}


# By where boto3's reply has the stream: of events that have names, or of opaque chunks.
_EVENTS: Final[dict[str, Callable[[object], Mapping[str, Any]]]] = {
    "stream": _event,
    "body": _chunk,
}


def _document(value: object) -> dict[str, Any]:
    try:
        document = json.loads(_as_json(value))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _as_json(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, Mapping):
        return b""
    try:
        return json.dumps(value, default=_plain, skipkeys=True).encode()
    except (TypeError, ValueError, RecursionError):
        return b""


def _base64(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""


def _plain(value: object) -> object:
    # Images and times say nothing of usage.
    return dict(value) if isinstance(value, Mapping) else None


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
