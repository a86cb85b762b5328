"""
What a guard does beside its calls: holds that are renewed, ends that are written after all.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.domain.ledger import Reservation
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, SONNET, Guarded, eventually
from .fault_cells import LEDGERS

NOON = 1_800_000_000.0


class CountingLedger:
    """
    A real ledger that counts renewals, and fails where it is told to.
    """

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.renewed = 0
        self.failing: set[str] = set()
        self.refused_ids: set[str] = set()
        self.error: Exception = LedgerUnavailable("The disk is away.")
        self.loses_reserve = False

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._ledger.reserve(*args, **kwargs)
        if self.loses_reserve:
            raise LedgerUnavailable("The answer was lost.", outcome="unknown")
        return answer

    def release(self, *args: Any, **kwargs: Any) -> Any:
        self._check("release")
        return self._ledger.release(*args, **kwargs)

    def extend(self, *args: Any, **kwargs: Any) -> Any:
        self._check("extend")
        answer = self._ledger.extend(*args, **kwargs)
        self.renewed += isinstance(answer, Reservation)
        return answer

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        self._check("settle")
        if args[0].id in self.refused_ids:
            raise LedgerUnavailable("This cannot be counted.")
        return self._ledger.settle(*args, **kwargs)

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@pytest.fixture(params=LEDGERS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"


@pytest.fixture
def now() -> list[float]:
    return [NOON]


@pytest.fixture
def ledger(ledger_url: str, now: list[float]) -> CountingLedger:
    return CountingLedger(open_ledger(ledger_url, clock=lambda: now[0]))


@pytest.fixture
def held(make_guarded: Callable[..., Guarded], ledger: CountingLedger, now: list[float]) -> Guarded:
    """
    A guard whose holds last 60 s, by a clock that a test sets.
    """
    return make_guarded(ledger=ledger, clock=lambda: now[0], hold_s=60)


def look(guarded: Guarded) -> float:
    """
    What the background thread does, now.
    """
    return guarded.guard._pipeline.upkeep.look()


def test_a_stream_longer_than_its_hold_is_renewed_at_half_time(
    held: Guarded, ledger: CountingLedger, now: list[float]
) -> None:
    """
    A sweeper must not take a slow reader's call for a dead process's.
    """
    stream = held.client.converse_stream(**HELLO)["stream"]
    for at in (29, 31, 59, 62, 89, 93, 121):
        now[0] = NOON + at
        wait = look(held)
        assert 0 <= wait <= 30
        assert held.guard.sweep().charged == 0

    assert ledger.renewed == 3
    list(stream)

    assert held.pending == [0]
    assert held.entry.basis == "reported"
    assert held.spent_nanousd == held.server.bill.nanousd
    now[0] += 1000
    look(held)
    assert ledger.renewed == 3


def test_the_background_thread_renews_by_itself(
    make_guarded: Callable[..., Guarded], ledger_url: str
) -> None:
    """
    Nobody calls into the guard while a consumer thinks.
    """
    ledger = CountingLedger(open_ledger(ledger_url, clock=time.time))
    guarded = make_guarded(ledger=ledger, hold_s=0.4)

    stream = guarded.client.converse_stream(**HELLO)["stream"]
    assert eventually(lambda: ledger.renewed >= 3)
    list(stream)

    assert guarded.pending == [0]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_call_that_is_open_for_hours_is_left_to_expire(
    held: Guarded, ledger: CountingLedger, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """
    A stream that somebody forgot must not block the key until the process ends.
    """
    stream = held.client.converse_stream(**HELLO)["stream"]
    while now[0] < NOON + 7300:
        now[0] += 31
        look(held)

    now[0] += 61
    assert held.guard.sweep().charged == 1
    assert held.pending == [0]
    assert held.spent_nanousd > held.server.bill.nanousd
    assert "not renewed any more" in caplog.text
    list(stream)  # late, but true
    assert held.spent_nanousd == held.server.bill.nanousd
    assert [entry.basis for entry in held.guard.entries()] == ["reported"]


def test_a_renewal_that_fails_is_tried_again(
    held: Guarded, ledger: CountingLedger, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """
    Half of the hold is left for that.
    """
    stream = held.client.converse_stream(**HELLO)["stream"]
    ledger.failing = {"extend"}
    now[0] += 31
    assert look(held) < 5
    ledger.failing = set()
    now[0] += 5
    look(held)

    assert ledger.renewed == 1
    assert "is tried again" in caplog.text
    now[0] += 55
    assert held.guard.sweep().charged == 0
    list(stream)
    assert held.spent_nanousd == held.server.bill.nanousd


def test_a_hold_that_was_swept_meanwhile_is_told_and_settles_late(
    held: Guarded, ledger: CountingLedger, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """
    A laptop that slept: the books were closed on it, and are put right once.
    """
    stream = held.client.converse_stream(**HELLO)["stream"]
    now[0] += 3600
    assert held.guard.sweep().charged == 1
    look(held)

    assert ledger.renewed == 0
    assert "could not be renewed; it settles late" in caplog.text
    list(stream)
    assert held.spent_nanousd == held.server.bill.nanousd


def test_an_end_that_cannot_be_written_keeps_its_hold_alive(
    held: Guarded, ledger: CountingLedger, now: list[float]
) -> None:
    """
    Were it swept and released meanwhile, what was spent would be free for others to spend.
    """
    ledger.failing = {"settle"}
    held.client.converse(**HELLO)
    for _ in range(5):
        now[0] += 31
        look(held)
        assert held.guard.sweep().charged == 0
        assert held.pending[0] > 0

    ledger.failing = set()
    assert eventually(lambda: held.pending == [0])
    assert held.spent_nanousd == held.server.bill.nanousd
    assert len(list(held.guard.entries())) == 1


def test_an_end_outlives_the_guard_that_could_not_write_it(
    make_client: Callable[..., Any], server: BedrockServer, ledger: CountingLedger, now: list[float]
) -> None:
    """
    A function that makes a guard of its own returns before the disk is back.
    """

    def call_once() -> None:
        guard = Guard(budget="5 USD", ledger=ledger, clock=lambda: now[0])  # type: ignore[arg-type]
        guard.attach(make_client()).converse(**HELLO)

    ledger.failing = {"settle"}
    call_once()
    gc.collect()
    assert ledger.balances()[0].pending > 0
    ledger.failing = set()

    assert eventually(lambda: ledger.balances()[0].pending == 0)
    assert ledger.balances()[0].spent == server.bill.nanousd


def test_closing_a_guard_tries_once_more_and_says_what_is_lost(
    make_guarded: Callable[..., Guarded], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Never lost silently: the hold is on the disk, and is charged at its estimate.
    """
    path = tmp_path / "ledger.db"
    guarded = make_guarded(ledger=f"sqlite:///{path}")
    stream = guarded.client.converse_stream(**HELLO)["stream"]
    late = guarded.client.converse_stream(**HELLO)["stream"]
    with closing(sqlite3.connect(path)) as thief:
        thief.execute("ALTER TABLE balance RENAME TO stolen")
    list(stream)
    caplog.clear()

    guarded.guard.close()
    assert "1 calls could not be settled" in caplog.text
    list(late)
    assert "its guard is closed" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_leaves_the_calls_of_its_parent_alone(held: Guarded, now: list[float]) -> None:
    """
    The parent renews them; were both to, a dead parent's money would be held by its child.
    """
    stream = held.client.converse_stream(**HELLO)["stream"]
    upkeep = held.guard._pipeline.upkeep
    child = os.fork()
    if not child:  # pragma: no cover - seen by its exit code only
        is_forgotten = not upkeep._open
        held.client.converse(**HELLO)  # and its own are looked after by a thread of its own
        os._exit(0 if is_forgotten and upkeep.is_kept else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(upkeep._open) == 1
    list(stream)
    assert not upkeep._open


LAST_TRY = """
import atexit, sqlite3, sys
import boto3
from bedrock_guard import Guard

url, path, model = sys.argv[1:]

def give_back():
    with sqlite3.connect(path) as thief:
        thief.execute("ALTER TABLE stolen RENAME TO balance")
    thief.close()

guard = Guard(budget="5 USD", ledger=f"sqlite:///{path}")
client = guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url,
                      aws_access_key_id="test", aws_secret_access_key="test")
stream = client.converse_stream(modelId=model, messages=[{"role": "user", "content": [{"text": "hi"}]}],
                                inferenceConfig={"maxTokens": 100})["stream"]
with sqlite3.connect(path) as thief:
    thief.execute("ALTER TABLE balance RENAME TO stolen")
thief.close()
list(stream)
atexit.register(give_back)  # registered last, so called first
"""


def test_an_end_that_was_put_off_is_written_when_the_process_ends(
    server: BedrockServer, tmp_path: Path
) -> None:
    """
    A script is over sooner than its disk is back.
    """
    path = tmp_path / "ledger.db"
    subprocess.run(
        [sys.executable, "-c", LAST_TRY, server.url, str(path), SONNET], check=True, timeout=120, cwd=tmp_path
    )

    with Guard(budget="5 USD", ledger=f"sqlite:///{path}") as guard:
        row = guard.status()[0]
        assert row.pending == 0
        assert int(row.spent * 10**9) == server.bill.nanousd > 0
        assert [entry.basis for entry in guard.entries()] == ["reported"]


def test_an_end_that_can_never_be_written_does_not_keep_others_waiting(
    held: Guarded, ledger: CountingLedger
) -> None:
    """
    One amount that a backend cannot count must not leave every later call unsettled.
    """
    ledger.failing = {"settle"}
    held.client.converse(**HELLO)
    poisoned = {opened.entry.id for opened, _ in held.guard._pipeline.upkeep._unwritten}
    held.client.converse(**HELLO)
    ledger.failing = set()
    ledger.refused_ids = poisoned

    assert eventually(lambda: len(list(held.guard.entries())) == 1)
    assert len(held.guard._pipeline.upkeep._unwritten) == 1
    ledger.refused_ids = set()
    assert eventually(lambda: held.pending == [0])
    assert held.spent_nanousd == held.server.bill.nanousd


@pytest.mark.parametrize("error", [ConnectionError("gone"), MemoryError()])
def test_whatever_a_ledger_raises_the_caller_gets_the_reply(
    held: Guarded, ledger: CountingLedger, error: Exception
) -> None:
    """
    A backend of somebody else's may not keep to the protocol; the reply has been paid for.
    """
    ledger.error = error
    ledger.failing = {"settle"}

    assert held.client.converse(**HELLO)["output"]
    assert len(list(held.client.converse_stream(**HELLO)["stream"])) > 5

    ledger.failing = set()
    assert eventually(lambda: held.pending == [0])
    assert held.spent_nanousd == held.server.bill.nanousd


def test_a_hold_whose_answer_was_lost_is_given_back_beside_the_calls(
    make_guarded: Callable[..., Guarded], ledger: CountingLedger, now: list[float]
) -> None:
    """
    The very first call of a process: nothing had been watched yet.
    """
    guarded = make_guarded(ledger=ledger, clock=lambda: now[0], hold_s=60)
    ledger.loses_reserve = True
    ledger.failing = {"release"}
    with pytest.raises(LedgerUnavailable):
        guarded.client.converse(**HELLO)
    assert guarded.pending[0] > 0
    ledger.failing = set()

    assert eventually(lambda: guarded.pending == [0])
    assert guarded.spent_nanousd == 0


def test_a_process_of_seconds_sweeps_what_a_dead_one_held(
    make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    A cron job that lives no minute is one who comes next, too; and a refusal looks again.
    """
    now = [NOON]
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    same: dict[str, Any] = {"ledger": ledger, "hold_s": 60, "on_expiry": "release", "clock": lambda: now[0]}
    dead = make_guarded("0.002 USD", **same)
    stream = dead.client.converse_stream(**HELLO)["stream"]
    assert dead.pending[0] > 0
    other = make_guarded("0.002 USD", **same)
    with pytest.raises(BudgetExceeded):
        other.client.converse(**HELLO)

    dead.guard._pipeline.upkeep._open.clear()  # nobody renews for the dead
    now[0] += 61
    other.client.converse(**HELLO)  # refused at first, then swept for room
    newcomer = make_guarded("0.004 USD", **same)
    newcomer.client.converse(**HELLO)

    assert newcomer.pending == [0]
    stream.close()
