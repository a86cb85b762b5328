"""
What an operation answers before it is bytes, and how it becomes a `Reply`.

Faults are applied between the two, so that each of them fits every operation.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bedrock_guard.testing.loopback.event_stream import event_frame
from bedrock_guard.testing.loopback.http_wire import Reply

JSON_HEADERS: Final = {"Content-Type": "application/json"}
STREAM_HEADERS: Final = {"Content-Type": "application/vnd.amazon.eventstream"}

_COMPACT: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)

# Bedrock pads its events, so that their lengths tell an eavesdropper nothing.
_PADDING: Final = "abcdefghijkl"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event of a stream; a `chunk` wraps its document in base64.
    """

    event_type: str
    document: Mapping[str, object]

    def frame(self) -> bytes:
        """
        The event as it is framed on the wire.
        """
        if self.event_type == "chunk":
            document: Mapping[str, object] = {"bytes": b64encode(dump(self.document)).decode("ascii")}
        else:
            document = self.document
        return event_frame(self.event_type, dump({**document, "p": _PADDING}))


@dataclass(frozen=True, slots=True)
class ServerSentEvent(Event):
    """
    A line of a stream as OpenAI writes it, after which its document is empty: `data: [DONE]`.
    """

    def frame(self) -> bytes:
        """
        The event as it is on the wire.
        """
        return b"data: %b\n\n" % (dump(self.document) if self.document else b"[DONE]")


@dataclass(frozen=True, slots=True)
class Content:
    """
    A successful answer.

    Attributes:
        document: The JSON body, unless it is a stream.
        events: The stream, unless it is a body.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, object] = field(default_factory=dict)
    events: tuple[Event, ...] | None = None


def encode(content: Content) -> Reply:
    """
    The answer as it should be.
    """
    if content.events is None:
        return Reply(200, {**JSON_HEADERS, **content.headers}, dump(content.document))
    frames = tuple(event.frame() for event in content.events)
    return Reply(200, {**STREAM_HEADERS, **content.headers}, frames=frames)


def dump(document: Mapping[str, object]) -> bytes:
    """
    JSON as Bedrock writes it: compact, in UTF-8.
    """
    return _COMPACT.encode(document).encode("utf-8", "surrogatepass")
