"""
Event streams and bodies that report once: at their last word, their end, an
error, `close()`, or when nobody holds them any more.

The caller's objects stay the objects botocore made: frameworks check their type
and read their private attributes. A stream changes its class in place; a body
gets a tee below it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.hooks.drains import Drain, RawEvents, ThreadReading
from bedrock_guard.hooks.ends import Once, StreamEnd, end_by
from bedrock_guard.operations import StreamReader

_MAX_BODY_BYTES = 64 * 1024 * 1024


class Grows(Protocol):
    """
    What holds more for a stream while it is read, or sees that it is to be left.
    """

    @property
    def is_due(self) -> bool:
        """
        Whether it has told of more, or it is time to look.
        """
        ...

    def __call__(self) -> None:
        """
        Hold it, look, or raise.
        """
        ...


class StreamWatch:
    """
    What a guarded stream knows: its reader, and whom to tell, once. It holds no stream.

    Attributes:
        is_left: Whether it was closed: an error that a reader in another thread then meets is no loss.
        grow: Holds more as it tells what it uses, or closes it; None where all is held, and nothing does.
    """

    __slots__ = ("end", "grow", "is_left", "reader")

    def __init__(
        self, reader: StreamReader, tell: Callable[[StreamEnd], None], grow: Grows | None = None
    ) -> None:
        self.reader = reader
        self.grow = grow
        self.end = Once(tell)
        self.is_left = False

    def fail(self, error: BaseException) -> None:
        """
        Tell that reading it raised *error*.
        """
        self.end("closed" if self.is_left else end_by(error))


class BodyWatch:
    """
    What was read of a body, and whom to tell, once. It holds no body.
    """

    __slots__ = ("_read", "_tell")

    def __init__(self, tell: Callable[[StreamEnd, bytes], None]) -> None:
        self._read = bytearray()
        self._tell = Once(tell)

    @property
    def read_bytes(self) -> int:
        """
        How much was read and kept.
        """
        return len(self._read)

    def note(self, data: bytes) -> bool:
        """
        Remember what was read; False when it is too much to be a reply.
        """
        if not self._tell.is_told:
            self._read += data
        return len(self._read) <= _MAX_BODY_BYTES

    def end(self, how: StreamEnd) -> None:
        """
        Tell how it ended, with what was read.
        """
        self._tell(how, bytes(self._read))


def guard_event_stream(
    stream: Any,
    reader: StreamReader,
    tell: Callable[[StreamEnd], None],
    *,
    drain_for: tuple[object, ...] = (),
    grow: Grows | None = None,
) -> Callable[[StreamEnd], None]:
    """
    Make *stream* feed *reader* and tell its end, once; it stays the same object.

    *grow*, where there is one, holds more as it goes; what it raises closes the stream.

    Where *drain_for* names anybody, one that is left early is read on before its end is told.

    Returns what tells its end at once.
    """
    watch = StreamWatch(reader, tell, grow)
    # botocore's generator holds the stream, a cycle that only the collector would free.
    stream._event_generator.close()
    drain: Drain | None = None
    if drain_for:
        events = RawEvents(stream._raw_stream)
        stream._event_generator = _pump_until_taken(events, watch)
        reading = ThreadReading(stream, events, stream._event_generator, reader)
        drain = Drain(watch.end, reading, drain_for)
        weakref.finalize(stream, _drop, drain)
    else:
        stream._event_generator = _pump(stream._raw_stream, watch)
        weakref.finalize(stream, watch.end, "dropped")
    stream._bedrock_guard_watch, stream._bedrock_guard_drain = watch, drain
    stream.__class__ = _guarded_class(stream.__class__)
    return watch.end


def _drop(drain: Drain) -> None:
    if not drain.begin():
        drain.end("dropped")


def _pump(raw: Any, watch: StreamWatch) -> Iterator[Any]:
    """
    As `EventStream._create_raw_event_generator`, but holding no stream.
    """
    buffer = EventStreamBuffer()
    try:
        for chunk in raw.stream():
            buffer.add_data(chunk)
            yield from buffer
    except GeneratorExit:
        raise
    except BaseException as error:
        watch.fail(error)
        raise
    watch.end("end")


def _pump_until_taken(events: RawEvents, watch: StreamWatch) -> Iterator[Any]:
    """
    As `_pump`, for a stream that may be read on by another.
    """
    if events.is_taken:
        return
    while not events.is_taken:
        try:
            event = next(events, None)
        except BaseException as error:
            watch.fail(error)
            raise
        if event is None:
            watch.end("end")
            return
        yield event
    # Closed half-way, a bare stream raises this type; to end in silence would look like a whole reply.
    raise AttributeError("The stream is closed, and there is no more to be read of it.")


@functools.cache
def _guarded_class(base: Any) -> Any:
    class Guarded(base):  # type: ignore[misc]
        def _parse_event(self, event: Any) -> Any:
            watch: StreamWatch = self._bedrock_guard_watch
            try:
                parsed = super()._parse_event(event)
            except BaseException as error:
                watch.fail(error)
                raise
            if parsed:
                watch.reader.feed(parsed, event.payload)
                if watch.reader.is_last_word:
                    watch.end("last_word")
                if watch.grow is not None and watch.grow.is_due:
                    self._grow(watch.grow)
            return parsed

        def _grow(self, grow: Grows) -> None:
            try:
                grow()
            except BaseException:
                self._bedrock_guard_watch.is_left = True
                super().close()  # not read on: it is to stop
                self._bedrock_guard_watch.end("closed")
                raise

        def close(self) -> None:
            drain: Drain | None = self._bedrock_guard_drain
            if drain is not None and drain.begin(at_once=True):
                return
            self._bedrock_guard_watch.is_left = True
            try:
                super().close()
            finally:
                self._bedrock_guard_watch.end("closed")

    return named_like(Guarded, base)


def named_like(guarded: Any, base: Any) -> Any:
    """
    *guarded*, looking like *base* to who prints or compares names.
    """
    guarded.__name__, guarded.__qualname__ = base.__name__, base.__qualname__
    guarded.__module__, guarded.__doc__ = base.__module__, base.__doc__
    return guarded


def guard_body(body: Any, tell: Callable[[StreamEnd, bytes], None]) -> Callable[[StreamEnd], None]:
    """
    Tee what the caller reads of *body*, and tell its end, once; it stays the same object.

    Returns what tells its end at once.
    """
    expected, watch = body._content_length, BodyWatch(tell)
    body._raw_stream = BodyTee(body._raw_stream, watch, int(expected) if expected is not None else None)
    return watch.end


class BodyTee:
    """
    A raw response that remembers what was read of it.

    Everything else (`closed`, the socket for `set_socket_timeout`, …) is the raw response's own.
    """

    def __init__(self, raw: Any, watch: BodyWatch, expected_bytes: int | None) -> None:
        self._raw = raw
        self._expected_bytes = expected_bytes
        self._watch = watch
        # At exit it runs before ledgers are closed, which `__del__` would not.
        weakref.finalize(self, self._watch.end, "dropped")

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """
        As the raw response's own.
        """
        try:
            data: bytes = self._raw.read(amt, *args, **kwargs)
        except BaseException as error:
            self._end(end_by(error))
            raise
        self._note(data, at_end=amt is None or (amt > 0 and not data))
        return data

    def readinto(self, target: Any) -> int:
        """
        As the raw response's own.
        """
        try:
            count: int = self._raw.readinto(target)
        except BaseException as error:
            self._end(end_by(error))
            raise
        self._note(bytes(memoryview(target)[:count]), at_end=not count and len(target) > 0)
        return count

    def read1(self, amt: int = -1) -> bytes:
        """
        As the raw response's own.
        """
        return self.read() if amt < 0 else self.read(amt)

    def readline(self, size: int = -1) -> bytes:
        """
        As the raw response's own.
        """
        try:
            line: bytes = self._raw.readline(size)
        except BaseException as error:
            self._end(end_by(error))
            raise
        self._note(line, at_end=not line and size != 0)
        return line

    def stream(self, amt: int = 2**16, decode_content: bool | None = None) -> Iterator[bytes]:
        """
        As the raw response's own.
        """
        try:
            for chunk in self._raw.stream(amt, decode_content):
                self._note(chunk, at_end=False)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._end(end_by(error))
            raise
        self._note(b"", at_end=True)

    def readlines(self) -> list[bytes]:
        """
        As the raw response's own.
        """
        return self.read().splitlines(keepends=True)

    def close(self) -> None:
        """
        As the raw response's own; what was not read is not learned.
        """
        try:
            self._raw.close()
        finally:
            self._end("closed")

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(1024):
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _note(self, data: bytes, *, at_end: bool) -> None:
        is_reply = self._watch.note(data)
        if at_end or self._watch.read_bytes == self._expected_bytes:
            self._end("end")
        elif not is_reply:
            self._end("dropped")

    def _end(self, how: StreamEnd) -> None:
        self._watch.end(how)
