"""
Streamed replies, read as they come by on their way to an httpx client: AWS's frames, and OpenAI's lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.errors import ReservationClosed

if TYPE_CHECKING:
    from bedrock_guard.holding import Hold

_OK: Final = 200
# Of InvokeModel's streams; Converse's events have names.
_CHUNK: Final = "chunk"
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
# What a decoder has for the word that ends a stream: it is whole, whether or not it has told its usage.
_LAST: Final = object()

Decoder: TypeAlias = Callable[[bytes], Iterator[object]]
"""What the next part of a reply completes, as `Hold.settle` reads it. Raises `BrokenStream`, or anything."""


class BrokenStream(Exception):
    """
    A stream says of itself that it has failed; the text is the error's name.
    """


def read_event_stream() -> Decoder:
    """
    A decoder of AWS's frames.
    """
    buffer = EventStreamBuffer()

    def decode(part: bytes) -> Iterator[object]:
        buffer.add_data(part)
        for message in buffer:
            yield _event(message.headers, message.payload)

    return decode


def read_server_sent() -> Decoder:
    """
    A decoder of lines such as `data: {...}`, as OpenAI has them.
    """
    rest = b""

    def decode(part: bytes) -> Iterator[object]:
        nonlocal rest
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            data = line.removeprefix(_DATA).strip()
            if line.startswith(_DATA):
                yield _LAST if data == _DONE else _chunk(data)

    return decode


class Frames:
    """
    The events of one reply, and the hold that ends with them.
    """

    def __init__(self, hold: Hold, open_decoder: Callable[[], Decoder]) -> None:
        self._hold = hold
        self._decode = open_decoder()
        self._events: list[object] = []
        self._is_whole = False
        self._error: str | None = None

    def see(self, part: bytes) -> None:
        """
        Read *part*; never raises for what is in it.
        """
        if self._error is not None:
            return
        try:
            for event in self._decode(part):
                if event is _LAST:
                    self._is_whole = True
                else:
                    self._events.append(event)
        except BrokenStream as broken:
            self._error = str(broken)
        except Exception as error:  # noqa: BLE001 - botocore's parser may raise anything; the reply is the client's
            self._error = type(error).__name__

    @property
    def is_ended(self) -> bool:
        """
        Whether the hold has ended.
        """
        return self._hold.entry is not None

    def end(self, error: BaseException | None = None) -> None:
        """
        The stream has ended, been closed or broken; the first of them counts.

        It is settled at what its events state, and at its estimate where they stop before that.
        """
        if self.is_ended:
            return
        broken = self._error if error is None else type(error).__name__
        try:
            if broken is None:
                self._hold.settle(self._events, is_whole=self._is_whole)
            else:
                self._hold.lost(_OK, broken)
        except ReservationClosed:  # another thread was quicker
            return
        finally:
            self._events.clear()


def _event(headers: Any, payload: bytes) -> object:
    if headers.get(":message-type") != "event":
        raise BrokenStream(str(headers.get(":exception-type") or headers.get(":error-code")))
    name = headers.get(":event-type")
    return payload if name == _CHUNK else {name: json.loads(payload)}


def _chunk(data: bytes) -> object:
    document = json.loads(data)
    error = document.get("error") if isinstance(document, dict) else None
    if error:
        code = error.get("code") or error.get("type") if isinstance(error, dict) else None
        raise BrokenStream(str(code or "error"))
    return data
