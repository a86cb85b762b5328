"""
The frames of a streamed reply, read as they come by on their way to an httpx client.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from botocore.eventstream import EventStreamBuffer, ParserError

from bedrock_guard.errors import ReservationClosed

if TYPE_CHECKING:
    from bedrock_guard.holding import Hold

# Of a stream's frames, those that may state usage; the others are the reply's own words.
_TELLING: Final = ("metadata", "chunk")
_METRICS: Final = b"amazon-bedrock-invocationMetrics"
_USAGE: Final = b'"usage"'
_OK: Final = 200


class Frames:
    """
    The frames of a reply as they come by, of which the last tell what it used.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._buffer = EventStreamBuffer()
        self._telling: list[bytes] = []
        self._has_told = False
        self._error: str | None = None

    def see(self, part: bytes) -> None:
        """
        Read *part*; never raises for what is in it.
        """
        if self._error is not None:
            return
        try:
            self._buffer.add_data(part)
            for message in self._buffer:
                self._see(message.headers, message.payload)
        except ParserError as error:
            self._error = type(error).__name__

    def end(self, error: BaseException | None = None) -> None:
        """
        The stream has ended, been closed or broken; the first of them counts.
        """
        if self._hold.entry is not None:
            return
        try:
            if self._has_told:
                self._hold.settle(self._telling)
            else:
                self._hold.lost(_OK, type(error).__name__ if error is not None else self._error)
        except ReservationClosed:  # another thread was quicker
            return

    def _see(self, headers: Any, payload: bytes) -> None:
        if headers.get(":message-type") != "event":
            self._error = str(headers.get(":exception-type") or headers.get(":error-code"))
        elif headers.get(":event-type") in _TELLING:
            chunk = headers[":event-type"] == "chunk"
            is_last = not chunk or _METRICS in _decoded(payload)
            self._has_told = self._has_told or is_last
            if is_last or _USAGE in _decoded(payload):
                self._telling.append(payload)


def _decoded(payload: bytes) -> bytes:
    try:
        return b64decode(json.loads(payload)["bytes"])
    except (ValueError, KeyError, TypeError):
        return b""
