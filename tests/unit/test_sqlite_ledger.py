"""
The SQLite ledger among processes that share it, die in it, and break its file.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import bedrock_guard
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Balance, Line, Refusal, SweepReport, read_all_entries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite, sqlite_schema
from bedrock_guard.ledgers.file_lock import FileLock
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
    NOW,
    TEAM,
    SetClock,
    books,
    hold,
    ids,
    open_entry,
    reserve,
    settle,
)

PROCESS = Path(__file__).with_name("sqlite_process.py")
LIMIT = 2000
END_OF_TIME = 10.0**11

posix = pytest.mark.skipif(sys.platform == "win32", reason="kill, fork and file limits are POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(path: Path, clock: SetClock) -> Iterator[SQLiteLedger]:
    ledger = SQLiteLedger(str(path), clock=clock)
    yield ledger
    ledger.close()


def open_file(path: Path, **options) -> SQLiteLedger:
    return SQLiteLedger(str(path), clock=SetClock(), **options)


def start(command: str, path: Path) -> subprocess.Popen[str]:
    root = Path(bedrock_guard.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, str(PROCESS), command, f"sqlite:///{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()


# Processes


def test_processes_are_admitted_exactly_as_often_as_fits(path: Path) -> None:
    """
    A machine's budget is one budget, and whoever looks sees it unbroken at every moment.
    """
    ledger = open_file(path)
    processes = [start("spend_all", path) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()

    seen = []
    while any(process.poll() is None for process in processes) and sum(books(ledger)) < LIMIT:
        seen.append(sum(books(ledger)))
    admitted = sum(lines_of(process).count("admitted") for process in processes)

    assert admitted == LIMIT // 10
    assert sum(books(ledger)) == LIMIT
    assert max(seen, default=0) <= LIMIT
    assert seen == sorted(seen), "every call settles at what it reserved, so the sum only grows"
    ledger.close()


@posix
def test_nothing_acknowledged_is_lost_when_processes_are_killed(path: Path) -> None:
    """
    The kernel's out-of-memory killer sends no notice, and a budget must not forget or stay blocked.
    """
    told: list[str] = []
    for lines in (7, 20, 33):
        process = start("call_for_ever", path)
        told += [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines(keepends=True)
        process.communicate()
    reserved = {line.split()[1] for line in told if line.startswith("reserved ") and line.endswith("\n")}
    settled = {line.split()[1] for line in told if line.startswith("settled ") and line.endswith("\n")}

    ledger = open_file(path)
    report = ledger.sweep(now=END_OF_TIME)
    entries = list(read_all_entries(ledger, EntryFilter()))
    answered = {entry.id for entry in entries if entry.outcome == "answered"}
    expired = {entry.id for entry in entries if entry.basis == "expired"}

    assert settled <= answered
    assert reserved <= answered | expired
    assert report == SweepReport(charged=len(expired))
    assert len(expired) <= 3, "one call at most was under way in each"
    assert books(ledger) == (4 * len(answered) + 10 * len(expired), 0)
    ledger.close()


@posix
def test_a_stopped_process_is_waited_for_only_so_long(path: Path) -> None:
    """
    A call of the program must not hang because another one sits in a debugger.
    """
    ledger = open_file(path, wait_s=0.05)
    hold(ledger, "one", 60)
    other = FileLock(f"{path}.lock")
    assert other.acquire(timeout_s=0)

    with pytest.raises(LedgerUnavailable, match=r"ledger.db was not free within 0.05 s") as caught:
        reserve(ledger, "two", 10)
    assert caught.value.outcome == "not_done"
    assert books(ledger) == (0, 60), "who only reads waits for no one"

    other.close()
    hold(ledger, "two", 10)
    assert books(ledger) == (0, 70)
    ledger.close()


@pytest.mark.parametrize("holder", ["a process of ours", "another program"])
def test_an_end_waits_less_than_a_hold(path: Path, monkeypatch, holder: str) -> None:
    """
    Who has AWS's answer already is not kept: the end can be written in the background.
    """
    monkeypatch.setattr(sqlite, "END_WAIT_S", 0.01)
    ledger = open_file(path, wait_s=0.3)
    reservation = hold(ledger, "one", 60)
    lock, program = FileLock(f"{path}.lock"), sqlite3.connect(path, isolation_level=None)
    if holder == "another program":
        program.execute("BEGIN IMMEDIATE")
    else:
        assert lock.acquire(timeout_s=0)

    def seconds_of(call: Callable[[], object]) -> float:
        before = time.monotonic()
        with pytest.raises(LedgerUnavailable, match=r"not free within|Another program holds it") as caught:
            call()
        assert caught.value.outcome == "not_done"
        return time.monotonic() - before

    assert seconds_of(lambda: reserve(ledger, "two", 10)) >= 0.3
    assert min(seconds_of(lambda: settle(ledger, reservation, 40)) for _ in range(5)) < 0.3
    assert min(seconds_of(lambda: ledger.release(reservation)) for _ in range(5)) < 0.3
    lock.close()
    program.close()
    settle(ledger, reservation, 40)
    assert books(ledger) == (40, 0)
    ledger.close()


def test_a_thread_waits_for_another_only_so_long(path: Path) -> None:
    """
    The same holds inside a process: a disk that hangs one thread must not hang them all.
    """
    ledger = open_file(path, wait_s=0.05)
    reservation = hold(ledger, "one", 60)
    is_inside, is_over = threading.Event(), threading.Event()

    def slow_clock() -> float:
        is_inside.set()
        is_over.wait()
        return NOW

    ledger._clock = slow_clock
    thread = threading.Thread(target=ledger.extend, args=(reservation,), kwargs={"hold_s": 1})
    thread.start()
    is_inside.wait()

    with pytest.raises(LedgerUnavailable, match=r"not free within 0.05 s"):
        settle(ledger, reservation, 40)
    assert books(ledger) == (0, 60)
    with ThreadPoolExecutor(1) as pool, pytest.raises(LedgerUnavailable, match=r"not free within 0.05 s"):
        ledger._file.read(lambda _: pool.submit(books, ledger).result())
    with pytest.raises(LedgerUnavailable, match="called from inside itself"):
        ledger._file.read(lambda _: books(ledger))
    is_over.set()
    thread.join()
    settle(ledger, reservation, 40)
    ledger.close()


def test_a_lock_file_that_is_gone_costs_no_money(path: Path, ledger: SQLiteLedger) -> None:
    """
    The lock is for a short wait; SQLite's own keeps the books.
    """
    hold(ledger, "one", 60)
    path.with_name("ledger.db.lock").unlink()
    second = open_file(path)

    assert isinstance(reserve(second, "two", 60), Refusal)
    hold(second, "three", 40)
    settle(ledger, hold(ledger, "four", 0), 0)
    assert books(second) == books(ledger) == (0, 100)
    second.close()


def test_two_names_of_a_file_are_one_ledger(tmp_path: Path, path: Path, ledger: SQLiteLedger) -> None:
    """
    A deployment that links its state folder shares the budget with one that does not.
    """
    link = tmp_path / "link.db"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("this user may not make links here")
    hold(ledger, "one", 60)

    other = open_file(link)

    assert books(other) == (0, 60)
    assert other.path == ledger.path
    other.close()


@posix
def test_a_fork_between_threads_breaks_nothing(path: Path) -> None:
    """
    Web servers fork their workers after the program was loaded, and a client may be in use by then.
    """
    told = lines_of(start("fork_while_busy", path))

    ledger = open_file(path)
    assert told.count("child ended 0") == 5
    assert books(ledger) == (0, 10 * told.count("admitted"))
    ledger.close()


# Files that cannot be used


def check_unusable(path: Path, match: str) -> None:
    with pytest.raises(LedgerUnavailable, match=match) as caught:
        open_file(path)
    assert str(path) in str(caught.value)
    assert caught.value.outcome == "not_done"


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """
    The path of a log file given by mistake must not cost the log.
    """
    path.write_bytes(b"2027-01-15 something happened\n" * 1000)
    before = path.read_bytes()

    check_unusable(path, r"file is not a database\. Name another file")
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """
    Many programs keep a `db.sqlite3`; tables of ours in it would be a nasty find.
    """
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE auth_user (id); PRAGMA user_version = 1;")
    db.close()

    check_unusable(path, "another program's database")
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("auth_user",)]
    db.close()


def test_a_damaged_file_is_named(path: Path) -> None:
    """
    A budget that cannot be read must stop calls, and say which file to restore.
    """
    ledger = open_file(path)
    for number in range(50):
        settle(ledger, hold(ledger, f"{number}", 1), 1)
    ledger.close()
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'balance'").fetchone()
    content[(page - 1) * page_bytes : page * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(content)

    ledger = open_file(path)
    with pytest.raises(LedgerUnavailable, match=r"malformed\. Move it away, or restore a copy\.") as caught:
        reserve(ledger, "new", 1)
    assert str(path) in str(caught.value)
    with pytest.raises(LedgerUnavailable, match="malformed"):
        ledger.balances()
    ledger.close()


@pytest.mark.parametrize(("schema", "is_usable"), [(1, True), (2, True), (3, True), (4, True), (5, False)])
def test_the_next_schema_is_used_and_the_one_after_is_refused(
    path: Path, schema: int, is_usable: bool
) -> None:
    """
    In a rolling deploy the old processes go on beside the new ones.
    """
    open_file(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {schema}")
    db.close()

    if is_usable:
        ledger = open_file(path)
        hold(ledger, "one", 60)
        ledger.close()
    else:
        check_unusable(path, r"its schema is 5, .* Upgrade bedrock_guard\.")


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    """
    A path that ends one name too early is a common slip.
    """
    check_unusable(tmp_path, "unable to open database file")


def test_a_path_through_a_file_is_named(tmp_path: Path) -> None:
    """
    The folder is made where it can be, and the reason told where it cannot.
    """
    (tmp_path / "file").write_text("x")

    check_unusable(tmp_path / "file" / "ledger.db", "cannot be used: .*file")


@posix
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_what_may_only_be_read_is_named(read_only: str) -> None:
    """
    A container with a read-only file system finds out at its start, not at its first bill.
    """
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: that is for one user only
        path = Path(folder) / "ledger.db"
        ledger = open_file(path)
        hold(ledger, "one", 60)
        ledger.close()
        for file in Path(folder).iterdir():
            file.chmod(0o444 if read_only == "file" else 0o666)
        Path(folder).chmod(0o555 if read_only == "folder" else 0o777)
        if read_only == "folder":
            path.with_name("ledger.db.lock").unlink()

        told = lines_of(start("try_once", path))
        Path(folder).chmod(0o777)

        assert len(told) == 1
        assert told[0].startswith(f"unavailable not_done Ledger {path} cannot be used: ")
        ledger = open_file(path)
        assert books(ledger) == (0, 60)
        ledger.close()


def test_a_full_disk_refuses_and_loses_nothing(path: Path, ledger: SQLiteLedger) -> None:
    """
    The hold that did not reach the disk must not be taken for one, nor half of it stay.
    """
    hold(ledger, "one", 60)
    pages = ledger._file._writer.execute("PRAGMA page_count").fetchone()[0]
    ledger._file._writer.execute(f"PRAGMA max_page_count = {pages}")
    lines = [Line(TEAM._replace(per=(("user", f"{number}" * 100),)), None, 1) for number in range(200)]

    with pytest.raises(LedgerUnavailable, match=r"full\. Make room") as caught:
        ledger.reserve(lines, entry=open_entry("two"), hold_s=HOLD_S, on_expiry="charge")
    assert str(path) in str(caught.value)
    assert caught.value.outcome == "not_done"
    assert ledger.balances() == [Balance(DAY, 0, 60)]

    hold(ledger, "two", 40)
    assert books(ledger) == (0, 100), "a disk that has room again needs no restart"


@posix
def test_a_failed_write_loses_nothing_and_heals(path: Path) -> None:
    """
    The pages of a commit may be written in part when the disk says no.
    """
    told = lines_of(start("write_until_full", path))

    (failure,) = (line for line in told if line.startswith("unavailable"))
    assert failure.startswith(("unavailable unknown ", "unavailable not_done "))
    assert str(path) in failure
    assert told[-1] == "admitted"
    ledger = open_file(path)
    assert books(ledger) == (0, 10 * told.count("admitted"))
    ledger.close()


# Settings and care


@pytest.mark.parametrize(("query", "synchronous"), [("", 1), ("?sync=normal", 1), ("?sync=full", 2)])
def test_sync_full_waits_for_the_disk(path: Path, query: str, synchronous: int) -> None:
    """
    Who asks for power cuts to be survived must get it.
    """
    ledger = SQLiteLedger.open(f"sqlite:///{path}{query}", clock=SetClock())

    assert ledger._file._writer.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert ledger._file._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


def test_its_folder_is_made(tmp_path: Path) -> None:
    """
    A first run has no state folder yet.
    """
    ledger = open_file(tmp_path / "state" / "bedrock-guard" / "ledger.db")

    hold(ledger, "one", 60)
    ledger.close()


def test_an_interrupt_inside_a_transaction_undoes_it(ledger: SQLiteLedger, clock: SetClock) -> None:
    """
    Ctrl-C can come between any two statements, and the next call must find the lock free.
    """
    reservation = hold(ledger, "one", 60)
    ledger._clock = lambda: signal.raise_signal(signal.SIGINT)  # called between the hold and its commit

    # Where these tests run in the background of a shell, it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ledger.extend(reservation, [Line(DAY, 100, 10)], hold_s=1)
    finally:
        signal.signal(signal.SIGINT, before)
    ledger._clock = clock
    assert books(ledger) == (0, 60)
    hold(ledger, "two", 40)


def test_a_call_from_inside_itself_is_an_error_and_no_dead_lock(
    ledger: SQLiteLedger, clock: SetClock
) -> None:
    """
    A stream that is collected while the ledger works may try to settle there and then.
    """
    reservation = hold(ledger, "one", 60)
    ledger._clock = lambda: settle(ledger, reservation, 40)

    with pytest.raises(LedgerUnavailable, match="called from inside itself"):
        ledger.extend(reservation, hold_s=1)
    ledger._clock = clock
    assert books(ledger) == (0, 60)


def test_a_ledger_that_is_forgotten_closes_its_file(path: Path) -> None:
    """
    Test suites make thousands of guards, and few are closed.
    """
    ledger = open_file(path)
    file = ledger._file
    hold(ledger, "one", 60)

    del ledger

    assert file._writer is None
    assert not path.with_name("ledger.db-wal").exists()


def test_entries_of_a_newer_version_are_read(path: Path, ledger: SQLiteLedger) -> None:
    """
    In a rolling deploy the new processes write fields that the old ones do not know.
    """
    settle(ledger, hold(ledger, "one", 60), 40)
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE entry SET entry = json_set(entry, '$.brand_new', 1)")
        db.execute("ALTER TABLE entry ADD COLUMN brand_new TEXT")
        db.execute("ALTER TABLE reservation ADD COLUMN brand_new TEXT")
    db.close()

    assert ids(ledger) == ["one"]
    settle(ledger, hold(ledger, "two", 60), 40)
    assert ledger.sweep(now=NOW) == SweepReport()
    assert ids(ledger) == ["two", "one"]


def test_a_claim_reads_no_others(path: Path, ledger: SQLiteLedger) -> None:
    """
    Of a hundred thousand users each has thresholds, and what is old is forgotten with each claim.
    """
    ledger.claim_alert(AlertClaim("one", "{}", NOW))
    ledger.confirm_alert(AlertClaim("one", "{}", NOW))
    with sqlite3.connect(path) as db:
        (plan,) = db.execute(f"EXPLAIN QUERY PLAN {sqlite_schema.FORGET_CLAIMS}", (NOW,))
        (kept,) = db.execute("SELECT alert FROM alert")
    db.close()

    assert "USING INDEX" in plan[-1] or "USING COVERING INDEX" in plan[-1]
    assert kept == ("",), "nobody takes over what is confirmed"
