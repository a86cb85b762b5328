"""
Async event streams and bodies that report once, as `streams` does for sync ones.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.hooks.aio_drains import RawEvents, TaskReading, closed_error
from bedrock_guard.hooks.aio_ends import Ends
from bedrock_guard.hooks.drains import Drain
from bedrock_guard.hooks.ends import StreamEnd
from bedrock_guard.hooks.streams import BodyWatch, Grows, StreamWatch, named_like
from bedrock_guard.hooks.threads import off_loop
from bedrock_guard.operations import StreamReader


def guard_event_stream(
    stream: Any,
    reader: StreamReader,
    tell: Callable[[StreamEnd], None],
    *,
    blocks: bool,
    drain_for: tuple[object, ...] = (),
    grow: Grows | None = None,
) -> Callable[[StreamEnd], None]:
    """
    Make *stream* feed *reader* and tell its end, once; it stays the same object.

    With *blocks*, *tell* may wait, and is called in a thread. Where *drain_for* names anybody,
    one that is left early is read on before its end is told.

    Returns what tells its end at once, in the thread that asks.
    """
    watch = StreamWatch(reader, tell, grow)
    ends = Ends(watch.end, blocks=blocks)
    raw = stream._raw_stream
    drain: Drain | None = None
    has_chunks = hasattr(getattr(raw, "content", None), "iter_chunks")
    loop = _loop_of(raw) if drain_for and has_chunks else None
    if loop is not None:
        events = RawEvents(raw)
        reading = TaskReading(stream, events, reader, loop, blocks=blocks)
        drain = Drain(watch.end, reading, drain_for)
        stream._event_generator = _follow_until_taken(events, ends, drain)
        reading.consumer = weakref.ref(stream._event_generator)
    else:
        if has_chunks:
            # aiobotocore's generator holds the stream, a cycle that only the collector would free.
            stream._event_generator = _read_events(raw)
        stream._event_generator = _follow(stream._event_generator, ends)
    stream._bedrock_guard_watch, stream._bedrock_guard_ends = watch, ends
    stream._bedrock_guard_drain, stream._bedrock_guard_blocks = drain, blocks
    stream.__class__ = _guarded_stream(stream.__class__)
    weakref.finalize(stream, _drop, ends, drain)
    return watch.end


def _drop(ends: Ends, drain: Drain | None) -> None:
    if drain is None or not drain.begin():
        ends.soon("dropped")


def _loop_of(raw: Any) -> asyncio.AbstractEventLoop | None:
    """
    The loop that *raw* is read in, also for a thread that works for it; None where nothing says.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop = getattr(raw, "_loop", None)
        return loop if isinstance(loop, asyncio.AbstractEventLoop) else None


def guard_body(
    body: Any, tell: Callable[[StreamEnd, bytes], None], *, blocks: bool
) -> Callable[[StreamEnd], None]:
    """
    Follow what the caller reads of *body*, and tell its end, once; it stays the same object.

    Returns what tells its end at once, in the thread that asks.
    """
    watch = BodyWatch(tell)
    ends = Ends(watch.end, blocks=blocks)
    body._bedrock_guard_watch, body._bedrock_guard_ends = watch, ends
    body.__class__ = _guarded_body(body.__class__)
    weakref.finalize(body, ends.soon, "dropped")
    return watch.end


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


async def _follow_until_taken(events: RawEvents, ends: Ends, drain: Drain) -> AsyncIterator[Any]:
    """
    As `_follow`, for a stream that may be read on by another.
    """
    while not events.is_taken:
        try:
            event = await anext(events, None)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            # The consumer's task was told to stop, so this is how it leaves.
            events.is_left = True
            if not drain.begin(at_once=True):
                await ends.failed(error)
            raise
        except BaseException as error:
            await ends.failed(error)
            raise
        if event is None:
            await ends.now("end")
            return
        yield event
    raise closed_error()


async def _hold_more(grow: Grows, *, blocks: bool) -> None:
    if blocks:
        await off_loop(grow)
    else:
        grow()


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
                grow = self._bedrock_guard_watch.grow
                if grow is not None and grow.is_due:
                    await self._grow(grow)
            return parsed

        async def _grow(self, grow: Grows) -> None:
            try:
                await _hold_more(grow, blocks=self._bedrock_guard_blocks)
            except BaseException:
                self._bedrock_guard_ends.is_left = True
                super().close()  # not read on: it is to stop
                await self._bedrock_guard_ends.now("closed")
                raise

        def close(self) -> Any:
            drain: Drain | None = self._bedrock_guard_drain
            if drain is not None and drain.begin(at_once=True):
                return None
            self._bedrock_guard_ends.is_left = True
            try:
                return super().close()
            finally:
                self._bedrock_guard_ends.soon("closed")

    return named_like(Guarded, base)


@functools.cache
def _guarded_body(base: Any) -> Any:
    class Guarded(base):  # type: ignore[misc]
        async def read(self, amt: int | None = None) -> Any:
            try:
                data = await super().read(amt)
            except BaseException as error:
                await self._bedrock_guard_ends.failed(error)
                raise
            await self._note(data, at_end=amt is None or amt < 0 or (amt > 0 and not data))
            return data

        async def readinto(self, target: Any) -> Any:
            try:
                count = await super().readinto(target)
            except BaseException as error:
                await self._bedrock_guard_ends.failed(error)
                raise
            await self._note(bytes(memoryview(target)[:count]), at_end=not count and len(target) > 0)
            return count

        async def _note(self, data: bytes, *, at_end: bool) -> None:
            expected = self._content_length
            is_reply = self._bedrock_guard_watch.note(data)
            if at_end or (expected is not None and self._amount_read == int(expected)):
                await self._bedrock_guard_ends.now("end")
            elif not is_reply:
                await self._bedrock_guard_ends.now("dropped")

        def close(self) -> Any:
            self._bedrock_guard_ends.is_left = True
            try:
                return super().close()
            finally:
                self._bedrock_guard_ends.soon("closed")

        async def aclose(self) -> None:
            # httpx' body has its own, which is no call of `close`.
            self._bedrock_guard_ends.is_left = True
            try:
                await super().aclose()
            finally:
                await self._bedrock_guard_ends.now("closed")

    return named_like(Guarded, base)
