"""
Calls as they end, for browsers: one follower for all of them, as server-sent events.

A reader that is slow loses the oldest of what waits for it, and is told so; one that takes nothing for a
while is left. Who comes back says what it had last, and gets what came since.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bedrock_guard.cli.safe_text import to_json
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Clock, Ledger
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.reports.following import Follower

MOST_STREAMS: Final = 16
EVERY_S: Final = 1.0
# Waiting for one reader, and kept for those that come back.
MOST_WAITING: Final = 200
_KEPT: Final = 500
_RETRY_MS: Final = 2000
# Who comes back after that has missed what came in between.
LINGER_S: Final = 30.0
# So often something is sent, so that who has gone is noticed.
_QUIET_S: Final = 15.0
_SEND_S: Final = 30.0

Show = Callable[[Entry], dict[str, Any]]
IsStopping = Callable[[], bool]


class Stream:
    """
    What one reader has still to be told.

    Attributes:
        missed: How many were left out, as there was no room for them.
    """

    def __init__(self, where: EntryFilter) -> None:
        self._where = where
        self._waiting: deque[tuple[str, Entry]] = deque(maxlen=MOST_WAITING)
        self.missed = 0
        self.trouble: str | None = None
        self.news = asyncio.Event()

    def put(self, id_: str, entry: Entry) -> None:
        """
        Tell *entry*, if the reader asked for it.
        """
        if self._where.admits(entry):
            self.missed += len(self._waiting) == MOST_WAITING
            self._waiting.append((id_, entry))
            self.news.set()

    def take(self) -> list[tuple[str, Entry]]:
        """
        All that waits.
        """
        taken = list(self._waiting)
        self._waiting.clear()
        self.news.clear()
        return taken


class Hub:
    """
    Looks at the ledger for as long as anybody reads.
    """

    def __init__(self, ledger: Ledger, *, clock: Clock, every_s: float = EVERY_S) -> None:
        self._ledger = ledger
        self._clock = clock
        self._every_s = every_s
        self._streams: list[Stream] = []
        self._task: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._epoch = ""
        self._told: deque[tuple[str, Entry]] = deque(maxlen=_KEPT)

    @property
    def is_full(self) -> bool:
        """
        Whether no more can read.
        """
        return len(self._streams) >= MOST_STREAMS

    def join(self, where: EntryFilter, last_id: str | None) -> Stream:
        """
        A stream from now on, or from behind *last_id* where that is still known.
        """
        stream = Stream(where)
        ids = [id_ for id_, _ in self._told]
        if last_id in ids:
            for id_, entry in list(self._told)[ids.index(last_id) + 1 :]:
                stream.put(id_, entry)
        self._streams.append(stream)
        if self._task is None:
            self._task = asyncio.create_task(self._follow())
        return stream

    def leave(self, stream: Stream) -> None:
        """
        End a stream; a while after the last one, the looking ends.
        """
        self._streams.remove(stream)
        if not self._streams:
            asyncio.get_running_loop().call_later(LINGER_S, self._rest)

    def _rest(self) -> None:
        if not self._streams and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        self._epoch = f"{self._clock():.3f}"
        self._told.clear()
        follower: Follower | None = None
        while True:
            try:
                if follower is None:
                    follower = await asyncio.to_thread(self._begin)
                found = await asyncio.to_thread(follower.look, self._clock())
            except LedgerUnavailable as error:
                follower = None
                for stream in self._streams:
                    stream.trouble = str(error)
                    stream.news.set()
            else:
                self._tell(found)
            await asyncio.sleep(self._every_s)

    def _begin(self) -> Follower:
        return Follower(self._ledger, EntryFilter(), now=self._clock())

    def _tell(self, found: list[Entry]) -> None:
        for entry in found:
            told = f"{self._epoch}-{next(self._numbers)}", entry
            self._told.append(told)
            for stream in self._streams:
                stream.put(*told)


class Events(Response):
    """
    A stream of a hub, until its reader or the server goes.
    """

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, where: EntryFilter, last_id: str | None, show: Show, is_stopping: IsStopping
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub, self._where, self._last_id, self._show = hub, where, last_id, show
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer, as ASGI has it.
        """
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        stream = self._hub.join(self._where, self._last_id)
        gone = asyncio.create_task(_until_gone(receive))
        try:
            async for text in self._texts(stream, gone):
                async with asyncio.timeout(_SEND_S):
                    await send(_body(text, is_last=False))
            await send(_body("", is_last=True))
        except TimeoutError:  # nobody reads
            pass
        finally:
            self._hub.leave(stream)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _texts(self, stream: Stream, gone: asyncio.Task[None]) -> AsyncIterator[str]:
        yield f"retry: {_RETRY_MS}\n\n"
        quiet_s = 0.0
        while not gone.done() and not self._is_stopping():
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S / 2):
                    await stream.news.wait()
            taken = [*self._told(stream)]
            quiet_s = 0.0 if taken else quiet_s + EVERY_S / 2
            if quiet_s >= _QUIET_S:
                taken, quiet_s = [": quiet\n\n"], 0.0
            for text in taken:
                yield text

    def _told(self, stream: Stream) -> Iterator[str]:
        entries = stream.take()
        if stream.trouble is not None:
            yield _event("trouble", {"text": stream.trouble})
            stream.trouble = None
        if stream.missed:
            yield _event("missed", {"count": stream.missed})
            stream.missed = 0
        for id_, entry in entries:
            yield f"id: {id_}\n{_event('call', self._show(entry))}"


def _event(name: str, data: dict[str, Any]) -> str:
    # JSON in ASCII has no line breaks, which would begin another field.
    return f"event: {name}\ndata: {to_json(data)}\n\n"


def _body(text: str, *, is_last: bool) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": not is_last}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
