"""
Async streams that were left early and are read on, as `drains` does for sync ones: by a task of their loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from importlib import import_module
from typing import Any, Self
from weakref import ref

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.background import BACKGROUND
from bedrock_guard.hooks.aio_ends import Ends
from bedrock_guard.hooks.drains import DRAINS, Drain, feed, note_failure
from bedrock_guard.operations import StreamReader


class RawEvents:
    """
    What is still to be read of a response, event by event; whoever reads on begins where another stopped.

    Attributes:
        is_left: Whether the consumer will not ask for another event.
        is_taken: Whether the consumer has no more say.
    """

    __slots__ = ("_buffer", "_chunks", "is_left", "is_taken")

    def __init__(self, raw: Any) -> None:
        self._chunks: AsyncIterator[tuple[bytes, bool]] = raw.content.iter_chunks()
        self._buffer = EventStreamBuffer()
        self.is_left = self.is_taken = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            for event in self._buffer:
                return event
            chunk, _ = await anext(self._chunks)
            self._buffer.add_data(chunk)


class TaskReading:
    """
    Reads a stream on in a task of *loop*.

    Attributes:
        consumer: The generator that the consumer reads by.
    """

    __slots__ = ("_blocks", "_events", "_loop", "_parser", "_raw", "_reader", "_shape", "_task", "consumer")

    def __init__(
        self,
        stream: Any,
        events: RawEvents,
        reader: StreamReader,
        loop: asyncio.AbstractEventLoop,
        *,
        blocks: bool,
    ) -> None:
        self._raw = stream._raw_stream
        self._parser, self._shape = stream._parser, stream._output_shape
        self._events = events
        self._reader = reader
        self._loop = loop
        self._blocks = blocks
        self._task: asyncio.Task[None] | None = None
        self.consumer: ref[Any] | None = None

    def take(self) -> bool:
        """
        Keep the consumer from reading any further; False when it is reading at this moment.
        """
        # In this order: a consumer that goes on after the look sees that it must not.
        self._events.is_taken = True
        consumer = None if self.consumer is None else self.consumer()
        if not self._events.is_left and consumer is not None and consumer.ag_running:
            self._events.is_taken = False
            return False
        return True

    def start(self, drain: Drain, *, at_once: bool) -> bool:
        """
        Read on, in a task; False when the loop is closed.

        Without *at_once*, it is called by a finalizer, which must make no task: it may be inside of asyncio.
        """
        BACKGROUND.soon(partial(BACKGROUND.keep, drain))
        if at_once and _is_inside(self._loop):
            self._start(drain)
            return True
        try:
            self._loop.call_soon_threadsafe(self._start, drain)
        except RuntimeError:
            return False
        return True

    def give_up(self) -> bool:
        """
        True when the loop is closed, and the task can be run no more.
        """
        is_closed = self._loop.is_closed()
        if is_closed:
            self._task = None
        return is_closed

    def _start(self, drain: Drain) -> None:
        self._task = self._loop.create_task(self._run(drain), name="bedrock_guard drain")
        # A loop that is closed under it is no mistake, and is seen by `give_up`.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _run(self, drain: Drain) -> None:
        ends = self._ends(drain)
        try:
            await self._read_on(drain)
        except asyncio.CancelledError:  # the loop is on its way out
            await self._finish(ends)
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, the usage is not known)
            note_failure(error)
            await self._finish(ends)
        else:
            await self._finish(ends)
        finally:
            DRAINS.forget(drain)

    async def _finish(self, ends: Ends) -> None:
        self._raw.close()
        await ends.now("dropped")

    async def _read_on(self, drain: Drain) -> None:
        async with asyncio.timeout(drain.left_s):
            async for event in self._events:
                response = event.to_response_dict()
                parsed = await self._parser.parse(response, self._shape)
                if feed(self._reader, event, response, parsed) or drain.end.is_told:
                    return

    def _ends(self, drain: Drain) -> Ends:
        return Ends(drain.finish, blocks=self._blocks)


def closed_error() -> Exception:
    """
    What aiohttp raises for a response that was closed.
    """
    error: Exception = import_module("aiohttp").ClientConnectionError("Connection closed")
    return error


def _is_inside(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
