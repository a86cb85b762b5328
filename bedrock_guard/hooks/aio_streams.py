"""
Async event streams and bodies that report once, as `streams` does for sync ones.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.hooks.streams import BodyWatch, StreamEnd, StreamWatch, named_like
from bedrock_guard.hooks.threads import off_loop, run_soon
from bedrock_guard.operations import StreamReader


def guard_event_stream(
    stream: Any, reader: StreamReader, tell: Callable[[StreamEnd], None], *, blocks: bool
) -> None:
    """
    Make *stream* feed *reader* and tell its end, once; it stays the same object.

    With *blocks*, *tell* may wait, and is called in a thread.
    """
    watch = StreamWatch(reader, tell)
    ends = Ends(watch.end, blocks=blocks)
    if hasattr(getattr(stream._raw_stream, "content", None), "iter_chunks"):
        # aiobotocore's generator holds the stream, a cycle that only the collector would free.
        stream._event_generator = _read_events(stream._raw_stream)
    stream._event_generator = _follow(stream._event_generator, ends)
    stream._bedrock_guard_watch, stream._bedrock_guard_ends = watch, ends
    stream.__class__ = _guarded_stream(stream.__class__)
    weakref.finalize(stream, ends.soon, "dropped")


def guard_body(body: Any, tell: Callable[[StreamEnd, bytes], None], *, blocks: bool) -> None:
    """
    Follow what the caller reads of *body*, and tell its end, once; it stays the same object.
    """
    watch = BodyWatch(tell)
    ends = Ends(watch.end, blocks=blocks)
    body._bedrock_guard_watch, body._bedrock_guard_ends = watch, ends
    body.__class__ = _guarded_body(body.__class__)
    weakref.finalize(body, ends.soon, "dropped")


class Ends:
    """
    Tells an end without making the event loop wait.
    """

    __slots__ = ("_blocks", "_end")

    def __init__(self, end: Callable[[StreamEnd], None], *, blocks: bool) -> None:
        self._end = end
        self._blocks = blocks

    async def now(self, how: StreamEnd) -> None:
        """
        Tell it, and go on when it is told.
        """
        if self._blocks:
            await off_loop(partial(self._end, how))
        else:
            self._end(how)

    async def failed(self, error: BaseException) -> None:
        """
        Tell that reading ended by *error*; to be cancelled is the consumer's doing.
        """
        await self.now("dropped" if isinstance(error, asyncio.CancelledError) else "error")

    def soon(self, how: StreamEnd) -> None:
        """
        Tell it from where nothing can be awaited.
        """
        if self._blocks:
            run_soon(partial(self._end, how))
        else:
            self._end(how)


async def _read_events(raw: Any) -> AsyncIterator[Any]:
    """
    As `AioEventStream._create_raw_event_generator`, but holding no stream.
    """
    buffer = EventStreamBuffer()
    async for chunk, _ in raw.content.iter_chunks():
        buffer.add_data(chunk)
        for event in buffer:
            yield event


async def _follow(events: AsyncIterator[Any], ends: Ends) -> AsyncIterator[Any]:
    try:
        async for event in events:
            yield event
    except GeneratorExit:
        raise
    except BaseException as error:
        await ends.failed(error)
        raise
    await ends.now("end")


@functools.cache
def _guarded_stream(base: Any) -> Any:
    class Guarded(base):  # type: ignore[misc]
        async def _parse_event(self, event: Any) -> Any:
            try:
                parsed = await super()._parse_event(event)
            except BaseException as error:
                await self._bedrock_guard_ends.failed(error)
                raise
            if parsed:
                reader = self._bedrock_guard_watch.reader
                reader.feed(parsed, event.payload)
                if reader.is_last_word:
                    await self._bedrock_guard_ends.now("last_word")
            return parsed

        def close(self) -> Any:
            try:
                return super().close()
            finally:
                self._bedrock_guard_ends.soon("closed")

    return named_like(Guarded, base)


@functools.cache
def _guarded_body(base: Any) -> Any:
    class Guarded(base):  # type: ignore[misc]
        async def read(self, amt: int | None = None) -> Any:
            ends = self._bedrock_guard_ends
            try:
                data = await super().read(amt)
            except BaseException as error:
                await ends.failed(error)
                raise
            if not self._bedrock_guard_watch.note(data):
                await ends.now("dropped")
            elif amt is None or amt < 0 or (amt > 0 and not data) or self._has_all():
                await ends.now("end")
            return data

        def _has_all(self) -> bool:
            expected = self._content_length
            return expected is not None and self._amount_read == int(expected)

        def close(self) -> Any:
            try:
                return super().close()
            finally:
                self._bedrock_guard_ends.soon("closed")

    return named_like(Guarded, base)
