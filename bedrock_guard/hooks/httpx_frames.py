"""
The frames of a streamed reply, read as they come by on their way to an httpx client.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.errors import ReservationClosed

if TYPE_CHECKING:
    from bedrock_guard.holding import Hold

_OK: Final = 200
# Of InvokeModel's streams; Converse's events have names.
_CHUNK: Final = "chunk"


class Frames:
    """
    The frames of one reply, and the hold that ends with them.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._buffer = EventStreamBuffer()
        self._events: list[object] = []
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
                self._hold.settle(self._events)
            else:
                self._hold.lost(_OK, broken)
        except ReservationClosed:  # another thread was quicker
            return
        finally:
            self._events.clear()

    def _see(self, headers: Any, payload: bytes) -> None:
        if headers.get(":message-type") != "event":
            self._error = str(headers.get(":exception-type") or headers.get(":error-code"))
            return
        name = headers.get(":event-type")
        self._events.append(payload if name == _CHUNK else {name: json.loads(payload)})
