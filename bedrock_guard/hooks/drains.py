"""
Streams that were left early, and are read on to learn what they cost.

    open --begin--> read on --the usage is told-----------> settled at what AWS reports
                            --failed, time over, exit-----> abandoned, at the estimate

No more than `MOST_AT_ONCE` in this process, and each for no longer than `LONGEST_S`; what is
left beyond that is charged at its estimate at once. Nothing here holds the consumer's stream.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from botocore.eventstream import EventStreamBuffer

from bedrock_guard.background import BACKGROUND
from bedrock_guard.hooks.ends import Once, StreamEnd
from bedrock_guard.operations import StreamReader

log = logging.getLogger("bedrock_guard")

MOST_AT_ONCE: Final = 8
"""How many streams of this process are read on at a time."""

LONGEST_S: Final = 60.0
"""How long one stream is read on, in seconds."""

_LOOK_EVERY_S: Final = 1.0
_IDLE_S: Final = 3600.0


class Reading(Protocol):
    """
    Who reads a stream on.
    """

    def take(self) -> bool:
        """
        Keep the consumer from reading any further; False when it is reading at this moment.
        """
        ...

    def start(self, drain: Drain, *, at_once: bool) -> bool:
        """
        Read on, elsewhere; False when that is not possible any more.

        Without *at_once*, it is called by a finalizer.
        """
        ...

    def give_up(self) -> bool:
        """
        True when nobody will ever read on.
        """
        ...


class Drain:
    """
    One stream that may be read on, and who does it.

    Attributes:
        owners: For whom.
        end: Tells the end of the stream.
    """

    __slots__ = ("__weakref__", "_ends_at", "_reading", "_telling", "_unbegun", "end", "owners")

    def __init__(self, end: Once, reading: Reading, owners: tuple[object, ...]) -> None:
        self.end = end
        self.owners = owners
        self._reading = reading
        self._unbegun = [True]
        self._ends_at = 0.0
        self._telling = threading.Lock()

    @property
    def left_s(self) -> float:
        """
        The seconds that are left of its time.
        """
        return self._ends_at - time.monotonic()

    def begin(self, *, at_once: bool = False) -> bool:
        """
        Read on, for the consumer has left; True if that is so, now or since long.

        May be called by a finalizer; whoever is not one says *at_once*.
        """
        if not self.end.can_tell:
            return False
        try:
            self._unbegun.pop()  # atomic: two threads may close one stream
        except IndexError:
            return True
        self._ends_at = time.monotonic() + LONGEST_S
        if DRAINS.admit(self):
            if self._reading.take() and self._reading.start(self, at_once=at_once):
                return True
            DRAINS.forget(self)
        self._unbegun.append(True)
        return False

    def finish(self, how: StreamEnd = "dropped") -> None:
        """
        Tell the end, unless it has been told; whoever is telling it is waited for.
        """
        with self._telling:
            self.end(how)

    def look(self) -> float:
        """
        End it in time, also where its reading hangs.
        """
        is_lost = self._reading.give_up()
        if not is_lost and self.left_s > 0 and not self.end.is_told:
            return min(self.left_s, _LOOK_EVERY_S)
        # Who holds the lock is telling it just now.
        if self._telling.acquire(blocking=False):
            try:
                self.end("dropped")
            finally:
                self._telling.release()
        if is_lost:
            DRAINS.forget(self)
        return _IDLE_S

    def forget(self) -> None:
        """
        In a fork: the stream is the parent's.
        """


class Drains:
    """
    The streams that are read on in this process.
    """

    def __init__(self) -> None:
        self._active: set[Drain] = set()
        self._is_leaving = False

    def __len__(self) -> int:
        return len(self._active)

    def admit(self, drain: Drain) -> bool:
        """
        Whether one more may be read on; it is held here until it is forgotten.
        """
        self._active.add(drain)  # first: of two who come at once, neither may be one too many
        if len(self._active) <= MOST_AT_ONCE and not self._is_leaving:
            return True
        self._active.discard(drain)
        return False

    def forget(self, drain: Drain) -> None:
        """
        Let go of *drain*, which nobody reads on any more.
        """
        self._active.discard(drain)

    def finish(self, owner: object) -> None:
        """
        End what is read on for *owner*, at the estimate.
        """
        for drain in list(self._active):
            if owner in drain.owners:
                drain.finish()

    def leave(self) -> None:
        """
        End all of them, at the estimate: the interpreter is on its way out.
        """
        self._is_leaving = True
        for drain in list(self._active):
            drain.finish()

    def begin_anew(self) -> None:
        """
        In a fork: nothing is read on here.
        """
        self.__init__()  # type: ignore[misc]


DRAINS: Final = Drains()
"""Those of this process."""

# What is registered later runs earlier: this, before weakref's own handler, which comes with the first
# finalizer, writes what is not written, and closes ledgers.
weakref.finalize(DRAINS, int).detach()
atexit.register(DRAINS.leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=DRAINS.begin_anew)


class RawEvents:
    """
    What is still to be read of a response, event by event; whoever reads on begins where another stopped.

    Attributes:
        is_taken: Whether the consumer has no more say.
    """

    __slots__ = ("_buffer", "_chunks", "is_taken")

    def __init__(self, raw: Any) -> None:
        self._chunks: Iterator[bytes] = raw.stream()
        self._buffer = EventStreamBuffer()
        self.is_taken = False

    def __next__(self) -> Any:
        while True:
            for event in self._buffer:
                return event
            self._buffer.add_data(next(self._chunks))


class ThreadReading:
    """
    Reads a stream on in a thread of its own.
    """

    __slots__ = ("_consumer", "_events", "_parser", "_raw", "_reader", "_shape")

    def __init__(self, stream: Any, events: RawEvents, consumer: Any, reader: StreamReader) -> None:
        self._raw = stream._raw_stream
        self._parser, self._shape = stream._parser, stream._output_shape
        self._events = events
        self._consumer = weakref.ref(consumer)
        self._reader = reader

    def take(self) -> bool:
        """
        Keep the consumer from reading any further; False when it is reading at this moment.
        """
        # In this order: a consumer that goes on after the look sees that it must not.
        self._events.is_taken = True
        consumer = self._consumer()
        if consumer is not None and consumer.gi_running:
            self._events.is_taken = False
            return False
        return True

    def start(self, drain: Drain, *, at_once: bool) -> bool:  # noqa: ARG002  (a thread is never started here)
        """
        Read on, in a thread that the background thread starts: a finalizer must not.
        """
        BACKGROUND.soon(partial(self._start, drain))
        return True

    def give_up(self) -> bool:
        """
        Never: a thread comes to its end.
        """
        return False

    def _start(self, drain: Drain) -> None:
        BACKGROUND.keep(drain)
        try:
            # No pool: the threads of a pool are waited for when the interpreter ends.
            threading.Thread(target=self._run, args=(drain,), name="bedrock_guard drain", daemon=True).start()
        except RuntimeError:  # too many threads, or the interpreter is on its way out
            self._finish(drain)

    def _run(self, drain: Drain) -> None:
        try:
            self._read_on(drain)
        except Exception as error:  # noqa: BLE001  (whatever it is, the usage is not known)
            note_failure(error)
        finally:
            self._finish(drain)

    def _finish(self, drain: Drain) -> None:
        with suppress(Exception):
            self._raw.close()
        try:
            drain.finish()
        finally:
            DRAINS.forget(drain)

    def _read_on(self, drain: Drain) -> None:
        socket = _socket_of(self._raw)
        before = None if socket is None else socket.gettimeout()
        try:
            while not drain.end.is_told:
                left = drain.left_s
                if left <= 0:
                    return
                if socket is not None:
                    socket.settimeout(left if before is None else min(before, left))
                event = next(self._events, None)
                if event is None:
                    return
                response = event.to_response_dict()
                if feed(self._reader, event, response, self._parser.parse(response, self._shape)):
                    return
        finally:
            if socket is not None:  # which may serve another call by now
                with suppress(OSError):
                    socket.settimeout(before)


def feed(reader: StreamReader, event: Any, response: Mapping[str, Any], parsed: Any) -> bool:
    """
    Give *reader* an event that was read on; True when nothing is left to be learned.
    """
    if response["status_code"] != 200:
        return True
    if parsed:
        reader.feed(parsed, event.payload)
    return reader.is_last_word


def note_failure(error: BaseException) -> None:
    """
    Say that a stream could not be read on, and nothing of what it said.
    """
    log.info(
        "A stream that was left could not be read to its usage (%s); its call is charged at its estimate.",
        type(error).__name__,
    )


def _socket_of(raw: Any) -> Any:
    """
    The socket below a urllib3 response, where botocore's own `set_socket_timeout` finds it; or None.
    """
    try:
        return raw._fp.fp.raw._sock
    except AttributeError:
        return None
