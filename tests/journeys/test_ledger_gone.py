"""
A ledger that goes away under a program at work, and comes back: nobody hangs, nobody restarts, books are right.
"""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import dynamodb_engine
import dynamodb_faults
import pytest
import tcp_proxy

from bedrock_guard import Guard
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.entry import Entry
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.bedrock_server import BedrockServer, lost_answer

from .conftest import HELLO, SONNET, Guarded, eventually

# Shorter than the default, for tests must not wait for it; longer than a busy machine needs for one request.
WAIT_S = 0.5
# What only a hanging thread exceeds.
FOREVER_S = 30.0
ALLOWED_USD = Decimal("0.02")


class Trouble:
    """
    A ledger, and what happens to it between `begin` and `end`.
    """

    def __init__(self, ledger: Any, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self.ledger, self.begin, self.end = ledger, begin, end


LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA busy_timeout = 30000")
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


class Locker:
    """
    Another program that holds a SQLite file for itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOCK, str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def end(self) -> None:
        assert self._process is not None
        self._process.communicate("\n", timeout=FOREVER_S)


def rename_table(path: Path, old: str, new: str) -> None:
    """
    The file is there, and is no ledger.
    """
    with closing(sqlite3.connect(path, timeout=FOREVER_S)) as other:
        other.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.fixture
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trouble]:
    engine, kind = request.param.split()
    if engine == "sqlite":
        path = tmp_path / "ledger.db"
        ledger: Any = SQLiteLedger(str(path), clock=time.time, wait_s=WAIT_S)
        locker = Locker(path)
        yield (
            Trouble(ledger, locker.begin, locker.end)
            if kind == "locked"
            else Trouble(
                ledger,
                lambda: rename_table(path, "balance", "stolen"),
                lambda: rename_table(path, "stolen", "balance"),
            )
        )
        ledger.close()
        return
    with tcp_proxy.Proxy(dynamodb_engine.endpoint()) as proxy:
        url = dynamodb_engine.table_url(proxy.url, deadline_ms=int(1000 * WAIT_S))
        ledger = open_ledger(url, clock=time.time)
        yield Trouble(ledger, proxy.close if kind == "closed" else proxy.be_silent, proxy.open)
        ledger.close()


SQLITE = ["sqlite locked", "sqlite broken"]
CLOSED, SILENT = (pytest.param(f"dynamodb {kind}", marks=pytest.mark.slow) for kind in ("closed", "silent"))


class Program:
    """
    Threads that call one model again and again, until they are told to stop.
    """

    def __init__(self, guarded: Guarded, threads: int = 4) -> None:
        self._guarded = guarded
        self._is_over = threading.Event()
        self.answered = 0
        self.refused: list[str] = []
        self.longest_s = 0.0
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(FOREVER_S)

    @property
    def is_hanging(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def waits_for(self, more: int, what: str) -> bool:
        """
        Whether so many more calls end so.
        """

        def count() -> int:
            return self.answered if what == "answered" else len(self.refused)

        least = count() + more
        return eventually(lambda: count() >= least or bool(self.errors)) and not self.errors

    def _work(self) -> None:
        while not self._is_over.is_set():
            began = time.monotonic()
            try:
                self._guarded.client.converse(**HELLO)
            except LedgerUnavailable as error:
                with self._lock:
                    self.refused.append(str(error))
                time.sleep(0.01)
            except BaseException as error:
                self.errors.append(error)
                return
            else:
                with self._lock:
                    self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def allowed(guarded: Guarded) -> list[Entry]:
    return [entry for entry in guarded.guard.entries() if entry.allowed_by == "on_ledger_error"]


def assert_books_are_right(guarded: Guarded) -> None:
    """
    Once what could not be written is written: each call is there once, at what the server bills.
    """
    assert eventually(lambda: guarded.pending == [0] and guarded.spent_nanousd == guarded.server.bill.nanousd)
    entries = list(guarded.guard.entries())
    assert len(entries) == len({entry.id for entry in entries})
    sent = [entry for entry in entries if entry.outcome == "answered"]
    assert len(sent) == len(guarded.server.requests)
    assert sum(entry.cost or 0 for entry in entries) * 10**9 == guarded.server.bill.nanousd


@pytest.mark.parametrize("trouble", [*SQLITE, CLOSED, SILENT], indirect=True)
def test_refuse_answers_in_time_and_resumes_by_itself(
    trouble: Trouble, make_guarded: Callable[..., Guarded]
) -> None:
    """
    Nothing is sent that nobody holds, and nobody restarts a program because its ledger was restarted.
    """
    guarded = make_guarded("all: 100 USD", ledger=trouble.ledger)
    with Program(guarded) as program:
        assert program.waits_for(8, "answered")
        trouble.begin()
        assert program.waits_for(12, "refused")
        trouble.end()
        assert program.waits_for(8, "answered")

    assert not program.is_hanging
    assert program.longest_s < 10  # settle and reserve, and a machine that is busy
    assert allowed(guarded) == []
    assert_books_are_right(guarded)


@pytest.mark.parametrize("trouble", [*SQLITE, CLOSED, "dynamodb silent"], indirect=True)
def test_allow_goes_on_up_to_its_limit_and_books_it_later(
    trouble: Trouble, make_guarded: Callable[..., Guarded]
) -> None:
    """
    A program that must not stop spends what it was given for that, and not a dollar in silence.
    """
    guarded = make_guarded(
        "all: 100 USD", ledger=trouble.ledger, on_ledger_error="allow", allow_up_to=f"{ALLOWED_USD} USD"
    )
    with Program(guarded) as program:
        assert program.waits_for(8, "answered")
        trouble.begin()
        assert program.waits_for(12, "refused")  # `allow_up_to` is used up
        trouble.end()
        assert program.waits_for(8, "answered")

    assert not program.is_hanging
    assert program.longest_s < 10
    assert any(
        "this one does not fit:\nallow_up_to (0.02 USD): the call may cost" in text
        for text in program.refused
    )
    assert_books_are_right(guarded)
    let_through = allowed(guarded)
    assert 0 < sum(entry.cost or 0 for entry in let_through) <= ALLOWED_USD
    # The rest was held by the ledger: it had stopped them otherwise.
    assert len(let_through) < len(guarded.server.requests)


@pytest.mark.slow
@pytest.mark.parametrize("on_ledger_error", ["refuse", "allow"])
def test_a_table_that_is_stopped_and_started_again(
    on_ledger_error: str, make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    The engine itself, with what it held: twice, and once frozen.
    """
    engine = dynamodb_engine.Engine(tmp_path)
    engine.start()
    try:
        url = dynamodb_engine.table_url(engine.url, deadline_ms=int(1000 * WAIT_S))
        settings = {} if on_ledger_error == "refuse" else {"allow_up_to": f"{ALLOWED_USD} USD"}
        guarded = make_guarded("all: 100 USD", ledger=url, on_ledger_error=on_ledger_error, **settings)
        with Program(guarded, threads=8) as program:
            for begin, end in (
                (engine.stop, engine.start),
                (lambda: os.kill(engine.pid, signal.SIGSTOP), lambda: os.kill(engine.pid, signal.SIGCONT)),
                (engine.stop, engine.start),
            ):
                assert program.waits_for(20, "answered")
                begin()
                assert program.waits_for(40, "refused")
                end()
            assert program.waits_for(20, "answered")

        assert not program.is_hanging
        assert program.longest_s < 10
        assert_books_are_right(guarded)
        cost = sum(entry.cost or 0 for entry in allowed(guarded))
        assert cost <= ALLOWED_USD
        assert bool(cost) == (on_ledger_error == "allow")
        guarded.guard.close()
    finally:
        engine.stop()


def test_a_call_that_is_open_when_the_ledger_comes_back_is_booked_at_its_end(
    make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    A stream may outlast the outage in which it began.
    """
    path = tmp_path / "ledger.db"
    guarded = make_guarded(ledger=f"sqlite:///{path}", on_ledger_error="allow", allow_up_to="1 USD/hour")
    rename_table(path, "balance", "stolen")
    stream = guarded.client.converse_stream(**HELLO)["stream"]
    rename_table(path, "stolen", "balance")
    guarded.client.converse(**HELLO)
    assert len(list(guarded.guard.entries())) == 1

    list(stream)

    assert eventually(lambda: len(list(guarded.guard.entries())) == 2)
    assert_books_are_right(guarded)
    assert len(allowed(guarded)) == 1


@pytest.mark.parametrize("arrives", ["while it is open", "when it is booked"])
def test_a_request_that_was_taken_for_lost_changes_nothing(arrives: str) -> None:
    """
    A call that was let through has one id, and a table keeps one reservation for it.
    """
    ledger = open_ledger(dynamodb_engine.table_url(deadline_ms=1000), clock=time.time)
    assert isinstance(ledger, DynamoDBLedger)
    watched = dynamodb_faults.Watched(ledger)
    late = dynamodb_faults.Delay()
    guard = Guard(budget="all: 5 USD", ledger=ledger, on_ledger_error="allow", allow_up_to="1 USD")
    reply = {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}}

    with guard.hold("Converse", HELLO, region="us-east-1") as held:
        held.settle(reply)  # the balance is there from now on
    watched.faults = itertools.repeat(late)
    with guard.hold("Converse", HELLO, region="us-east-1") as held:
        watched.faults = None
        if arrives == "while it is open":
            late.arrive()
            assert guard.status()[0].pending > 0
        entry = held.settle(reply)
    assert eventually(lambda: next(guard.entries()).id == entry.id)
    late.arrive()

    (row,) = guard.status()
    assert (row.spent, row.pending) == (2 * (entry.cost or 0), 0)
    assert [each.allowed_by for each in guard.entries()] == ["on_ledger_error", None]
    guard.close()
    ledger.close()


@pytest.mark.parametrize("on_ledger_error", ["refuse", "allow"])
def test_an_attempt_after_a_lost_answer(
    on_ledger_error: str, make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    Both may be billed: the second is sent if `allow_up_to` has room for it.
    """
    path = tmp_path / "ledger.db"
    settings = {} if on_ledger_error == "refuse" else {"allow_up_to": "1 USD"}
    guarded = make_guarded(ledger=f"sqlite:///{path}", on_ledger_error=on_ledger_error, **settings)
    guarded.server.will_answer(lost_answer())
    seen: list[int] = []

    def take_the_ledger_away(**_: Any) -> None:
        if not seen:
            rename_table(path, "balance", "stolen")
        seen.append(1)

    guarded.client.meta.events.register("response-received.bedrock-runtime.Converse", take_the_ledger_away)
    with suppress(LedgerUnavailable):
        guarded.client.converse(**HELLO)
    rename_table(path, "stolen", "balance")

    assert eventually(lambda: guarded.pending == [0])
    assert (
        len(guarded.server.requests)
        == len(guarded.entry.attempts)
        == (1 if on_ledger_error == "refuse" else 2)
    )
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd > 0
    assert [bool(entry.allowed_by) for entry in guarded.guard.entries()] == [on_ledger_error == "allow"]


LAST_TRY = """
import logging, sys
import boto3
from bedrock_guard import Guard
from bedrock_guard.ledgers.sqlite import SQLiteLedger
import sqlite3, time

logging.basicConfig(level="WARNING", stream=sys.stdout)
url, path, model, ends = sys.argv[1:]
guard = Guard(
    budget="5 USD",
    ledger=SQLiteLedger(path, clock=time.time, wait_s=0.3),
    on_ledger_error="allow",
    allow_up_to="1 USD",
)
client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url))
other = sqlite3.connect(path, isolation_level=None)
other.execute("BEGIN EXCLUSIVE")
for _ in range(2):
    client.converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": "hello there"}]}],
        inferenceConfig={"maxTokens": 100},
    )
if ends == "in time":
    other.execute("ROLLBACK")
"""


@pytest.mark.parametrize("ends", ["in time", "too late"])
def test_a_process_that_ends_tries_once_more_and_says_what_is_missing(
    ends: str, server: BedrockServer, tmp_path: Path
) -> None:
    """
    What was let through is known to this process alone.
    """
    path = tmp_path / "ledger.db"
    done = subprocess.run(
        [sys.executable, "-c", LAST_TRY, server.url, str(path), SONNET, ends],
        check=True,
        timeout=120,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    with Guard(budget="5 USD", ledger=f"sqlite:///{path}") as guard:
        (row,) = guard.status()
        booked = int(row.spent * 10**9)
    assert (row.pending, booked) == (0, server.bill.nanousd if ends == "in time" else 0)
    missing = f"ERROR:bedrock_guard:2 calls that were let through while the ledger was gone could not be booked, as the process ended: {usd_from_nanousd(server.bill.nanousd)} USD"
    assert (missing in done.stdout) == (ends == "too late"), done.stdout
