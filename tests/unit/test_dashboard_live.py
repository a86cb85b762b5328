"""
The parts of a dashboard that take time: calls as they end, and reports that are read bit by bit.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dashboards import MARKUP, Served, served
from journal import HOSTILE, NOON, made_entry, made_ledger

from bedrock_guard.dashboard import live
from bedrock_guard.dashboard.live import Events, Hub
from bedrock_guard.dashboard.sums import PERIODS, Pages, Sums, spans_of
from bedrock_guard.dashboard.views.spending import SpendSums, _sum_up
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.reports.grouping import read_kinds


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.02)
    monkeypatch.setattr(Hub.__init__, "__kwdefaults__", {"every_s": 0.02})


@contextmanager
def following(dashboard: Served, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """
    The events of a stream, each as its fields.
    """
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=30)
    connection.request("GET", f"/live.events{query}", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")

    def events() -> Iterator[dict[str, Any]]:
        fields: dict[str, Any] = {}
        for line in iter(answer.readline, b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = json.loads(value) if name == "data" else value
            elif fields:
                yield fields
                fields = {}

    found = events()
    assert next(found) == {"retry": "2000"}
    try:
        yield found
    finally:
        answer.close()
        connection.close()


def write(url: str, *ids: str, **changes: Any) -> None:
    ledger = open_ledger(url, clock=time.time)
    for id_ in ids:
        ledger.record(made_entry(id_, at_s=time.time(), **changes))
    ledger.close()


def until_told(url: str, events: Iterator[dict[str, Any]], prefix: str, **changes: Any) -> dict[str, Any]:
    """
    The first call that a stream tells: it follows from a moment on that only it knows.
    """
    is_told = threading.Event()

    def go_on() -> None:
        for number in count():
            write(url, f"{prefix}{number}", **changes)
            if is_told.wait(0.02):
                return

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        return next(events)
    finally:
        is_told.set()
        writer.join()


def test_calls_are_told_as_they_end(tmp_path: Path) -> None:
    """
    As cells that are text, with a link; and who comes back gets what it has missed.
    """
    url = made_ledger(tmp_path, [made_entry("old")])
    with served(url) as dashboard:
        with following(dashboard) as events:
            first = until_told(url, events, "a", tags={"user": HOSTILE, MARKUP: "x"})
            write(url, "b")
            while (second := next(events))["data"]["id"] != "b":
                pass
        write(url, "c")
        with following(dashboard, **{"Last-Event-ID": second["id"]}) as events:
            third = next(events)

    assert first["event"] == "call"
    assert first["data"]["cells"][1] == "answered"
    assert first["data"]["link"].startswith("/entry?at=")
    assert not {"\x1b", "\u202e", "\x00"} & set(str(first["data"]))
    assert "old" not in first["data"]["id"]
    assert third["data"]["id"] == "c"


def test_a_filter_narrows_what_is_told(tmp_path: Path) -> None:
    """
    Each reader has its own.
    """
    url = made_ledger(tmp_path, [])
    with served(url) as dashboard, following(dashboard, "?tag=team=ads&outcome=answered") as events:
        write(url, "x", tags={"team": "seo"})
        found = until_told(url, events, "y", tags={"team": "ads"})

    assert found["data"]["id"].startswith("y")


def test_no_more_follow_than_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The others are told so; a place that is left is free again.
    """
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    with served(made_ledger(tmp_path, [])) as dashboard:
        with following(dashboard):
            full = dashboard.get("/live.events")
        assert (full.status, full.headers["Retry-After"]) == (503, "30")
        for _ in range(200):
            try:
                with following(dashboard):
                    break
            except AssertionError:  # it takes a moment until it is noticed
                time.sleep(0.02)
        else:
            pytest.fail("The place stays taken.")


def test_who_comes_back_gets_what_came_since() -> None:
    """
    As far as it is kept; who was never here gets what comes.
    """

    async def story() -> list[list[str]]:
        hub = Hub(MemoryLedger(clock=lambda: NOON), clock=lambda: NOON)
        hub._tell([made_entry(f"e{number}", tags={"n": str(number % 2)}) for number in range(6)])
        (second, _), where = list(hub._told)[1], EntryFilter(tags={"n": "1"})
        streams = [hub.join(where, last_id) for last_id in (second, None, "unknown")]
        return [[entry.id for _, entry in stream.take()] for stream in streams]

    assert asyncio.run(story()) == [["e3", "e5"], [], []]


def test_who_asks_for_the_head_alone_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Its answer ends at once.
    """
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    with served(made_ledger(tmp_path, [])) as dashboard:
        head = dashboard.get("/live.events", "HEAD", Connection="close")
        with following(dashboard):
            pass

    assert (head.status, head.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")


class Reader:
    """
    Who reads a stream, as a server hands it on.
    """

    def __init__(self, *, takes: bool = True) -> None:
        self.texts: list[str] = []
        self.gone = asyncio.Event()
        self._takes = takes

    async def receive(self) -> dict[str, str]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.texts.append(message.get("body", b"").decode())
        if not self._takes and len(self.texts) > 1:
            await asyncio.Event().wait()

    async def until(self, text: str) -> None:
        while text not in "".join(self.texts):
            await asyncio.sleep(0.005)


class Broken(MemoryLedger):
    """
    A ledger that is gone now and then.
    """

    is_gone = False

    def entries(self, *arguments: Any, **named: Any) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("It is gone.")
        return super().entries(*arguments, **named)


def events_of(hub: Hub, reader: Reader, *, is_stopping: bool = False) -> asyncio.Task[None]:
    answer = Events(hub, EntryFilter(), None, lambda entry: {"id": entry.id}, lambda: is_stopping)
    return asyncio.create_task(answer({}, reader.receive, reader.send))


def test_a_slow_reader_loses_the_oldest_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What waits for it is bounded.
    """
    monkeypatch.setattr(live, "MOST_WAITING", 3)

    async def story() -> str:
        ledger, reader = MemoryLedger(clock=lambda: NOON), Reader()
        hub = Hub(ledger, clock=lambda: NOON)
        task = events_of(hub, reader)
        await reader.until("retry")
        await asyncio.sleep(0.05)
        (stream,) = hub._streams
        for number in range(5):
            stream.put(f"x-{number}", made_entry(f"e{number}"))
        await reader.until("e4")
        reader.gone.set()
        await task
        return "".join(reader.texts)

    told = asyncio.run(story())

    assert 'event: missed\ndata: {"count": 2}\n\n' in told
    assert [f'"e{number}"' in told for number in range(5)] == [False, False, True, True, True]


def test_a_reader_that_takes_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It holds neither a place nor memory for ever; and then nobody looks at the ledger any more.
    """
    monkeypatch.setattr(live, "_SEND_S", 0.05)
    monkeypatch.setattr(live, "LINGER_S", 0.01)

    async def story() -> tuple[bool, bool]:
        hub = Hub(MemoryLedger(clock=lambda: NOON), clock=lambda: NOON)
        await events_of(hub, Reader(takes=False))
        was_looking = hub._task is not None
        await asyncio.sleep(0.05)
        return was_looking, hub._task is None

    assert asyncio.run(story()) == (True, True)


def test_a_quiet_stream_says_so_and_trouble_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The ledger may come back.
    """
    monkeypatch.setattr(live, "_QUIET_S", 0.05)

    async def story() -> str:
        ledger, reader = Broken(clock=lambda: NOON), Reader()
        ledger.is_gone = True
        hub = Hub(ledger, clock=lambda: NOON)
        task = events_of(hub, reader)
        await reader.until("trouble")
        ledger.is_gone = False
        await reader.until(": quiet")
        ledger.record(made_entry("new"))
        await reader.until('{"id": "new"}')
        reader.gone.set()
        await task
        return "".join(reader.texts)

    assert 'event: trouble\ndata: {"text": "It is gone."}' in asyncio.run(story())


def test_a_stream_ends_with_the_server() -> None:
    """
    At once.
    """

    async def story() -> list[str]:
        reader = Reader()
        await events_of(Hub(MemoryLedger(clock=lambda: NOON), clock=lambda: NOON), reader, is_stopping=True)
        return reader.texts

    assert asyncio.run(story()) == ["", "retry: 2000\n\n", ""]


# --- sums ------------------------------------------------------------------------------


class Timer:
    """
    Each look at it takes a while.
    """

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
        self.now = 0.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += self.step_s
        return self.now


def spent(sums: Sums, period: str = "24h", name: str = "a") -> tuple[int, int, bool]:
    """
    Units that are read, calls in them, and whether that is all.
    """
    (kind,) = read_kinds(["model"], UTC)
    read = sums.read(name, PERIODS[period], UTC, SpendSums, partial(_sum_up, EntryFilter(), kind))
    return read.done, sum(each.total.calls for _, each in read.spans if each is not None), read.is_whole


def test_a_period_is_read_bit_by_bit_the_newest_first() -> None:
    """
    Each request goes on where the last one stopped, and what is over is read once.
    """
    ledger = MemoryLedger(clock=lambda: NOON)
    for hour in range(24):
        for number in range(600 if hour == 1 else 2):
            ledger.record(made_entry(f"{hour}-{number}", at_s=NOON - hour * 3600 + number))
    timer = Timer(0.03)
    sums = Sums(ledger, clock=lambda: NOON + 1200, timer=timer)

    first = spent(sums)
    calls = [spent(sums) for _ in range(40)]

    assert first[0] < 3
    assert first[2] is False
    assert any(500 <= told[1] < 602 for told in [first, *calls])  # half-way through an hour
    assert calls[-1] == (24, 646, True)
    assert [told[1] for told in calls] == sorted(told[1] for told in calls)


def test_what_may_change_is_read_anew_and_what_is_over_now_and_then() -> None:
    """
    A call is written when it ends, at the time when it began; or by a sweep, long after.
    """
    now = [NOON + 600.0]
    ledger = MemoryLedger(clock=lambda: now[0])
    sums = Sums(ledger, clock=lambda: now[0], timer=Timer())
    assert spent(sums) == (24, 0, True)

    ledger.record(made_entry("recent", at_s=NOON - 1800))
    ledger.record(made_entry("past", at_s=NOON - 20_000))
    assert spent(sums) == (24, 0, True)  # fresh enough
    now[0] += 6
    assert spent(sums) == (24, 1, True)
    now[0] += 600
    assert spent(sums) == (24, 2, True)
    now[0] += 86_400
    assert spent(sums) == (24, 0, True)


def test_many_that_read_the_same_wait_for_one_of_them() -> None:
    """
    Each has a tenth of a second, and not each its own after all that came before.
    """
    ledger, timer = MemoryLedger(clock=lambda: NOON), Timer()
    sums = Sums(ledger, clock=lambda: NOON, timer=timer)
    lock, reads = sums._find("a").lock, []
    with lock:
        waiting = threading.Thread(target=lambda: reads.append(spent(sums)))
        waiting.start()
        while timer.looks == 0:
            time.sleep(0.001)
        timer.now += 1
    waiting.join()

    assert reads == [(0, 0, False)]


def test_what_is_read_is_handed_out_as_it_is() -> None:
    """
    Copies of a long report would take longer than its page may; what is under way has to be copied.
    """
    ledger = MemoryLedger(clock=lambda: NOON)
    for number in range(700):
        ledger.record(made_entry(f"e{number}", at_s=NOON - number / 10))
    (kind,) = read_kinds(["model"], UTC)
    sums = Sums(ledger, clock=lambda: NOON, timer=(timer := Timer(0.04)))

    def read() -> Any:
        where = partial(_sum_up, EntryFilter(), kind)
        return sums.read("a", PERIODS["24h"], UTC, SpendSums, where).spans[-2][1]

    assert read() is None  # the hour that is under way comes first
    first = read()
    assert (first.total.calls, read().total.calls, first.total.calls) == (500, 699, 500)
    timer.step_s = 0.0
    assert read() is read()


def test_few_reports_are_kept() -> None:
    """
    Those that were asked for last.
    """
    ledger = MemoryLedger(clock=lambda: NOON)
    sums = Sums(ledger, clock=lambda: NOON, timer=Timer())
    for number in range(20):
        spent(sums, name=str(number))

    assert list(sums._reports) == [str(number) for number in range(12, 20)]


def test_days_begin_where_the_budgets_are() -> None:
    """
    Also where clocks are put back: an hour that comes twice is two, and a day has 25.
    """
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 10, 25, 12, 30, tzinfo=berlin).timestamp()
    hours = [span.name for span in spans_of(PERIODS["24h"], berlin, now)]
    days = list(spans_of(PERIODS["30d"], berlin, now + 86_400))

    assert hours[:1] + hours[9:12] == [
        "2026-10-25 12:00",
        "2026-10-25 03:00",
        "2026-10-25 02:00 again",
        "2026-10-25 02:00",
    ]
    assert [span.name for span in days[:3]] == ["2026-10-26", "2026-10-25", "2026-10-24"]
    assert (days[1].until or 0) - days[1].since == 25 * 3600
    assert all(newer.since == older.until for newer, older in pairwise(days))


def test_pages_are_read_as_a_ledger_is() -> None:
    """
    Filters are theirs to apply.
    """
    pages = Pages([made_entry("a"), made_entry("b", model="m")])

    assert [entry.id for entry in pages.entries(EntryFilter(model="m"))[0]] == ["b"]
