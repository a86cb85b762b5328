"""
What keeps a SQLite ledger's file well over months: retention, migration, vacuum, checks, readers.
"""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bedrock_guard import Guard
from bedrock_guard.cli import app
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Ledger, LedgerKey, Line, Reservation, SweepReport, read_all_entries
from bedrock_guard.domain.ledger_options import DropsEntries
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.ledgers import open_ledger, sqlite_care, sqlite_entries, sqlite_schema
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
    NOW,
    TEAM,
    SetClock,
    answered,
    books,
    hold,
    ids,
    open_entry,
    settle,
)

DAY_S = 86_400.0
SCHEMA = sqlite_schema.SCHEMA


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path.as_posix()}"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(path: Path, clock: SetClock) -> Iterator[SQLiteLedger]:
    ledger = SQLiteLedger(str(path), clock=clock)
    yield ledger
    ledger.close()


@pytest.fixture(params=["memory", "sqlite"])
def any_ledger(request: Any, url: str, clock: SetClock) -> Iterator[Ledger]:
    ledger = open_ledger("memory://" if request.param == "memory" else url, clock=clock)
    yield ledger
    ledger.close()


@pytest.fixture
def old_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """
    This version, as it was before its schema.
    """
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "SCHEMA", SCHEMA - 1)
        patch.setattr(sqlite_schema, "NEWEST_USABLE", SCHEMA)
        yield patch


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ledger", *arguments])


def schema_of(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA user_version").fetchone()[0]
    finally:
        db.close()


def change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


# Retention


def test_old_entries_are_dropped_and_money_is_not(any_ledger: Ledger, clock: SetClock) -> None:
    """
    A disk is finite; a lifetime budget must remember for ever all the same.
    """
    assert isinstance(any_ledger, DropsEntries)
    for number in range(5):
        settle(any_ledger, hold(any_ledger, f"{number}", 10), 7)
    clock.now += 10 * DAY_S
    hold(any_ledger, "open", 20)
    any_ledger.record(open_entry("new", at_s=clock(), outcome="refused"))

    before = clock() - DAY_S
    assert [any_ledger.drop_entries(before=before, limit=3) for _ in range(3)] == [3, 2, 0]
    assert ids(any_ledger) == ["new"]
    assert books(any_ledger) == (35, 20)


def test_a_late_settle_is_known_for_as_long_as_entries_are_kept(any_ledger: Ledger, clock: SetClock) -> None:
    """
    A process that was frozen for a weekend still puts the books right, once.
    """
    assert isinstance(any_ledger, DropsEntries)
    reservation, other = hold(any_ledger, "late", 60), hold(any_ledger, "never", 10)
    any_ledger.sweep(now=NOW + HOLD_S)

    assert any_ledger.drop_entries(before=NOW + HOLD_S) == 0, "its hold has only just ended"
    assert settle(any_ledger, reservation, 40).how == "corrected"
    assert any_ledger.drop_entries(before=NOW + HOLD_S + 1) == 2
    with pytest.raises(ReservationClosed, match="so long ago"):
        settle(any_ledger, other, 1)
    assert books(any_ledger) == (50, 0)


def test_what_has_rolled_out_goes_with_its_entries(path: Path, clock: SetClock) -> None:
    """
    A rolling minute has 43,200 sub-windows a day: they must not be kept for longer than the calls in them.
    """
    ledger = SQLiteLedger(str(path), clock=clock)

    def keys() -> list[tuple[str, int, int]]:
        return [(each.key.budget, each.spent, each.pending) for each in ledger.balances()]

    minute = LedgerKey("minute", "USD/rolling minute", (), int(NOW) // 2 * 2)
    month = LedgerKey("month", "USD/rolling 30 days", (), int(NOW // DAY_S * DAY_S))
    spans = {minute: 60, month: 30 * 86_400}
    lines = [Line(key, 100, 10, kind="rolling", span_s=span_s) for key, span_s in spans.items()]
    open_calls = []
    for name, at_s in (("first", NOW), ("second", NOW + 1), ("open", NOW + 1)):
        held = ledger.reserve(lines, entry=open_entry(name, at_s=at_s), hold_s=HOLD_S, on_expiry="charge")
        assert isinstance(held, Reservation)
        open_calls.append((held, name, at_s))
    for held, name, at_s in open_calls[:2]:
        ledger.settle(held, {minute: 10, month: 10}, answered(name, at_s=at_s))
    before = NOW + HOLD_S + DAY_S

    assert ledger.drop_entries(before=before, limit=1) == 1
    assert keys() == [("minute", 10, 10), ("month", 20, 10)]
    assert ledger.drop_entries(before=before) == 1
    assert keys() == [("minute", 0, 10), ("month", 20, 10)]
    ledger.settle(open_calls[2][0], {minute: 5, month: 5}, answered("open", at_s=NOW + 1))
    assert ledger.drop_entries(before=before) == 1
    assert keys() == [("month", 25, 0)]  # it still counts, for weeks
    ledger.close()
    assert sqlite_care.check(f"sqlite:///{path.as_posix()}").findings == ()


@pytest.mark.parametrize(("days", "kept"), [(30, 1), (90, 2), (None, 3)])
def test_a_guard_drops_what_is_older_than_asked(url: str, days: int | None, kept: int) -> None:
    """
    It happens by itself, at a sweep.
    """
    clock = SetClock()
    with Guard(budget="5 USD", ledger=url, clock=clock, keep_entries_days=days) as guard:
        for age in (100, 60, 1):
            guard.ledger.record(open_entry(f"{age}", at_s=NOW - age * DAY_S, outcome="refused"))

        assert guard.sweep() == SweepReport()
        assert len(list(guard.entries())) == kept


def test_calls_drop_old_entries_a_portion_at_a_time(url: str) -> None:
    """
    After months without retention the first call must not wait for all of it.
    """
    clock = SetClock()
    with Guard(budget="5 USD", ledger=url, clock=clock) as guard:
        db = sqlite3.connect(url.removeprefix("sqlite:///"))
        with db:
            db.executemany(
                sqlite_schema.RECORD,
                [(f"{number}", NOW - 100 * DAY_S, 1, "{}", NOW - 100 * DAY_S) for number in range(1500)],
            )
        count = "SELECT count(*) FROM entry"
        left = []
        for later in (0, 1, 10):
            clock.now = NOW + later
            guard._pipeline.sweeper.sweep_if_due(clock())
            left.append(db.execute(count).fetchone()[0])
        db.close()

    assert left == [500, 500, 0]


def test_a_ledger_that_fails_to_drop_is_left_alone(caplog: pytest.LogCaptureFixture, url: str) -> None:
    """
    House-keeping must not cost a call.
    """
    with Guard(budget="5 USD", ledger=url) as guard:

        def fail(**_: object) -> int:
            raise LedgerUnavailable("no disk")

        guard.ledger.drop_entries = fail  # type: ignore[attr-defined]
        guard._pipeline.sweeper.sweep_if_due(NOW)

    assert "Old entries could not be dropped: no disk" in caplog.text


# Schemas


def test_a_new_file_has_the_newest_schema(path: Path, ledger: SQLiteLedger) -> None:
    """
    Nobody should have to migrate what was made today.
    """
    assert schema_of(path) == sqlite_schema.SCHEMA


def test_the_version_before_goes_on_while_a_file_is_migrated(
    path: Path, url: str, clock: SetClock, old_schema: pytest.MonkeyPatch
) -> None:
    """
    A rolling deploy runs both for hours, and neither may stop.
    """
    old = SQLiteLedger(str(path), clock=clock)
    settle(old, hold(old, "old 1", 10), 7)
    under_way, expired = hold(old, "old 2", 10), hold(old, "old 3", 5)
    old_schema.undo()
    assert schema_of(path) == SCHEMA - 1
    new = SQLiteLedger(str(path), clock=clock)
    settle(new, hold(new, "new 1", 10), 7)
    assert schema_of(path) == SCHEMA - 1, "only the command migrates"

    told = run("migrate", url)

    assert (told.exit_code, told.output.strip()) == (0, f"{url}: schema {SCHEMA - 1} is now {SCHEMA}.")
    settle(old, under_way, 4)
    settle(new, hold(new, "new 2", 10), 7)
    assert new.sweep(now=NOW + HOLD_S) == SweepReport(charged=1)
    assert settle(old, expired, 2).how == "corrected"
    assert ids(old) == ids(new) == ["old 3", "new 2", "old 2", "new 1", "old 1"]
    assert books(old) == books(new) == (27, 0)
    assert sqlite_care.check(url).findings == ()
    old.close()
    new.close()


def test_statements_of_the_version_before_work_on_a_migrated_file(
    path: Path, url: str, clock: SetClock
) -> None:
    """
    These are frozen: what an installed version sends cannot be changed any more.
    """
    ledger = SQLiteLedger(str(path), clock=clock)
    entry, key = answered("old"), ("default", "USD/day@UTC", "[]", 1_800_000_000)
    lines = '[["default","USD/day@UTC",[],1800000000,100,60]]'
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    db.execute(
        "INSERT INTO reservation (id, at, expires_at, on_expiry, lines, entry) SELECT ?1, ?2, ?3, ?4, ?5, ?6 "
        "WHERE NOT EXISTS (SELECT 1 FROM entry WHERE id = ?1) ON CONFLICT DO NOTHING",
        ("old", NOW, NOW + HOLD_S, "charge", lines, entry.to_json()),
    )
    db.execute(
        "INSERT INTO balance (budget, rule, per, window_start, pending, pending_calls) "
        "SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?5 <= ?7 ON CONFLICT DO NOTHING",
        (*key, 60, 1, 100),
    )
    db.execute("COMMIT")
    assert books(ledger) == (0, 60)

    db.execute("BEGIN IMMEDIATE")
    db.execute(
        "UPDATE balance SET spent = spent + ?5, pending = pending - ?6, pending_calls = pending_calls - ?7 "
        "WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4",
        (*key, 40, 60, 1),
    )
    db.execute("DELETE FROM reservation WHERE id = ?1", ("old",))
    db.execute(
        "INSERT INTO entry (id, at, state, expires_at, lines, booked, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
        "ON CONFLICT (id) DO UPDATE SET at = excluded.at, state = excluded.state, lines = excluded.lines, "
        "booked = excluded.booked, entry = excluded.entry",
        ("old", NOW, "settled", NOW + HOLD_S, lines, "[40]", entry.to_json()),
    )
    db.execute("COMMIT")
    db.close()

    assert ledger.entries(EntryFilter()) == ([entry], None)
    assert books(ledger) == (40, 0)
    assert sqlite_care.check(url).findings == ()
    ledger.close()


def test_a_file_of_the_schema_before_keeps_its_entries(
    path: Path, url: str, clock: SetClock, old_schema: pytest.MonkeyPatch
) -> None:
    """
    It has no place for what dropped entries had spent, and its books could not be checked any more.
    """
    old_schema.setattr(sqlite_schema, "SCHEMA", 1)
    SQLiteLedger(str(path), clock=clock).close()
    old_schema.undo()
    ledger = SQLiteLedger(str(path), clock=clock)
    settle(ledger, hold(ledger, "one", 10), 7)

    assert ledger.drop_entries(before=NOW + DAY_S) == 0
    assert run("migrate", url, "--json").exit_code == 0
    assert json.loads(run("migrate", url, "--json").stdout) == {
        "ledger": url,
        "before": SCHEMA,
        "after": SCHEMA,
    }
    assert "nothing to do" in run("migrate", url).stdout
    assert ledger.drop_entries(before=NOW + DAY_S) == 1
    ledger.close()


def test_a_file_of_a_schema_without_rates_says_what_to_run(
    path: Path, url: str, clock: SetClock, old_schema: pytest.MonkeyPatch
) -> None:
    """
    Everything else goes on; a rate that was silently a window would be none.
    """
    SQLiteLedger(str(path), clock=clock).close()
    old_schema.undo()
    ledger = SQLiteLedger(str(path), clock=clock)
    rate = Line(LedgerKey("rps", "requests/second rate", (), 0), 10, 1, "rate", span_s=1, refill=5)
    rolling = Line(LedgerKey("hour", "USD/rolling hour", (), 1_800_000_000), 10, 1, "rolling", span_s=3600)

    hold(ledger, "rolls", rolling)
    with pytest.raises(LedgerUnavailable, match=r"it has schema 2, and rates need 3.*ledger migrate"):
        hold(ledger, "rate", rate)
    run("migrate", url)
    hold(ledger, "rate", rate)
    assert sqlite_care.check(url).findings == ()
    ledger.close()


# The commands


def test_a_check_finds_books_that_are_right(ledger: SQLiteLedger, url: str) -> None:
    """
    Also after entries were dropped, a correction, and with calls under way.
    """
    ledger.settle(hold(ledger, "one", 60), {DAY: 40, TEAM: 5}, answered("one"))
    expired = hold(ledger, "two", 10)
    ledger.sweep(now=NOW + HOLD_S)
    settle(ledger, expired, 3)
    hold(ledger, "three", 20)
    ledger.release(hold(ledger, "four", 1))
    ledger.record(open_entry("five", outcome="refused"))
    ledger.drop_entries(before=NOW + DAY_S, limit=2)

    assert json.loads(run("check", url, "--json").stdout) == {
        "ledger": url,
        "schema": SCHEMA,
        "entries": 2,
        "open_calls": 1,
        "balances": 2,
        "findings": [],
    }
    assert run("check", url).stdout.endswith("The sums agree.\n")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE balance SET spent = spent + 1", "spent is 41, and its entries come to 40"),
        ("UPDATE balance SET pending = 0", "pending is 0, and its open calls come to 20"),
        ("UPDATE balance SET pending_calls = 7", "pending calls is 7, and its open calls come to 1"),
        ("DELETE FROM entry", "spent is 40, and its entries come to 0"),
        ("DELETE FROM balance", "has no balance, and calls that count towards it"),
    ],
)
def test_a_check_finds_what_is_wrong(
    ledger: SQLiteLedger, path: Path, url: str, statement: str, says: str
) -> None:
    """
    Somebody edited the file, or a disk forgot.
    """
    settle(ledger, hold(ledger, "one", 60), 40)
    hold(ledger, "two", 20)
    change(path, statement)

    done = run("check", url)

    assert done.exit_code == 1
    assert f"Budget 'default' (USD/day@UTC, window {DAY.window_start})" in done.stdout
    assert says in done.stdout


def test_vacuum_gives_room_back_while_others_have_the_file_open(
    ledger: SQLiteLedger, path: Path, url: str
) -> None:
    """
    Retention empties pages; only this makes the file smaller.
    """
    for number in range(300):
        ledger.record(open_entry(f"{number}", outcome="refused", tags={"text": "x" * 1000}))
    ledger.drop_entries(before=NOW + DAY_S)

    told = json.loads(run("vacuum", url, "--json").stdout)

    assert told["bytes_after"] < told["bytes_before"] / 3
    assert path.stat().st_size == told["bytes_after"]
    settle(ledger, hold(ledger, "one", 60), 40)
    assert "bytes are now" in run("vacuum", url).stdout


@pytest.mark.parametrize("command", ["migrate", "vacuum", "check"])
@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("memory://", 2, "'memory://': this is for sqlite://"),
        ("sqlite://x.db", 2, "names no file"),
        ("sqlite:///x.db?a=b", 2, "'a' is no parameter"),
        ("sqlite:////nonexistent/x.db", 1, "There is no ledger /nonexistent/x.db."),
    ],
)
def test_what_is_no_ledger_is_named_and_not_made(command: str, url: str, code: int, says: str) -> None:
    """
    A slip in the path must not become an empty file.
    """
    done = run(command, url)

    assert done.exit_code == code
    assert says in done.stderr


@pytest.mark.parametrize("command", ["migrate", "vacuum", "check"])
def test_the_settings_name_the_ledger(
    command: str, ledger: SQLiteLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The command is run where the program is.
    """
    monkeypatch.setenv("BEDROCK_GUARD_LEDGER", url)

    assert json.loads(run(command, "--json").stdout)["ledger"] == url


# Readers


def test_a_reader_sees_what_is_written_and_writes_nothing(
    ledger: SQLiteLedger, url: str, clock: SetClock
) -> None:
    """
    A report runs beside the program, perhaps as a user who may not write.
    """
    reader = open_ledger(f"{url}?access=read", clock=clock)
    settle(ledger, hold(ledger, "one", 60), 40)

    assert books(reader) == (40, 0)
    assert ids(reader) == ["one"]
    assert reader.sweep(now=NOW) == SweepReport()
    with pytest.raises(LedgerUnavailable, match="opened to read only"):
        hold(reader, "two", 1)
    assert books(ledger) == (40, 0)
    reader.close()


def test_a_reader_makes_no_file(path: Path, url: str, clock: SetClock) -> None:
    """
    A report on a ledger that is not there would say that nothing was spent.
    """
    with pytest.raises(LedgerUnavailable, match="unable to open database file"):
        open_ledger(f"{url}?access=read", clock=clock)
    assert not path.exists()

    change(path, "CREATE TABLE auth_user (id)")
    with pytest.raises(LedgerUnavailable, match="another program's database"):
        open_ledger(f"{url}?access=read", clock=clock)


def check_stream(ledger: SQLiteLedger, path: Path, entries: int, most_bytes: int) -> None:
    text = answered("x").to_json()
    db = sqlite3.connect(path)
    with db:
        db.executemany(
            sqlite_schema.RECORD,
            ((f"{number}", NOW + number, 1, text, NOW + number) for number in range(entries)),
        )
    db.close()
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_all_entries(ledger, EntryFilter(outcome="answered")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == entries
    assert peak < most_bytes


def test_an_export_holds_a_page_at_a_time(ledger: SQLiteLedger, path: Path) -> None:
    """
    A month of entries does not fit in a Lambda's memory.
    """
    check_stream(ledger, path, 5_000, 8_000_000)


@pytest.mark.slow
def test_an_export_of_many_entries_holds_no_more(ledger: SQLiteLedger, path: Path) -> None:
    """
    Twenty times as many, in the same memory.
    """
    check_stream(ledger, path, 100_000, 8_000_000)


def test_what_went_wrong_is_found_by_an_index(ledger: SQLiteLedger) -> None:
    """
    Few among millions: a scan would take seconds.
    """
    statement, parameters = sqlite_entries._query(EntryFilter(outcome="lost"), None)

    rows = ledger._file.read(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {statement}", {**parameters, "limit": 1}).fetchall()
    )

    assert "USING INDEX entry_unusual" in rows[0][3]


# Rows that somebody has edited by hand


@pytest.mark.parametrize(
    "lines",
    [
        "'[[1'",
        "'null'",
        f"'{'[' * 100_000}'",
        """'[["all","USD",[],0,1]]'""",
        """'[["all","USD",[],0,1,"x"]]'""",
        """'[[7,"USD",[],0,1,1]]'""",
        "replace(lines, ',60]', ',9999]')",  # more than its balance has pending
    ],
    ids=lambda text: text[:30],
)
def test_a_damaged_hold_keeps_no_other_from_its_end(ledger: SQLiteLedger, path: Path, lines: str) -> None:
    """
    A sweep comes with the calls of every program: one row must neither stop it for ever nor fail a call.
    """
    hold(ledger, "bad", 60)
    hold(ledger, "sound", 10)
    change(path, f"UPDATE reservation SET lines = {lines}, expires_at = {NOW} WHERE id = 'bad'")

    assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(charged=1, damaged=1)
    assert books(ledger) == (10, 60)
    assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(damaged=1)
    assert run("check", f"sqlite:///{path.as_posix()}").exit_code == 1


def test_the_end_of_a_damaged_hold_says_what_is_wrong(ledger: SQLiteLedger, path: Path) -> None:
    """
    To the program, as of a ledger that cannot be used.
    """
    reservation = hold(ledger, "bad", 60)
    change(path, "UPDATE reservation SET lines = '[[1'")

    with pytest.raises(LedgerUnavailable, match=r"its lines is '\[\[1'\. No program writes that"):
        settle(ledger, reservation, 40)


@pytest.mark.parametrize("booked", ["[[", '["x"]', "[1,2]", "7"])
def test_what_a_damaged_entry_has_spent_is_in_no_sum_and_told(
    ledger: SQLiteLedger, path: Path, booked: str
) -> None:
    """
    It is not dropped either: with it would go the last trace.
    """
    for name in ("bad", "sound"):
        settle(ledger, hold(ledger, name, 60), 40)
    change(path, f"UPDATE entry SET booked = '{booked}' WHERE id = 'bad'")

    done = run("check", f"sqlite:///{path.as_posix()}")
    assert done.exit_code == 1
    assert "The call 'bad' is in no sum: " in done.stdout
    assert "spent is 80, and its entries come to 40." in done.stdout
    assert ledger.drop_entries(before=NOW + 10 * DAY_S) == 1
    assert ids(ledger) == ["bad"]


def test_a_damaged_open_call_is_named(ledger: SQLiteLedger, path: Path) -> None:
    """
    Whoever is told that sums differ must know where to look; and no finding acts on a terminal.
    """
    hold(ledger, "bad", 60)
    change(path, "UPDATE reservation SET lines = '[[1', id = char(27) || '[2J'")
    change(path, """UPDATE balance SET per = '[["user","\\u001b[2J"]]'""")

    done = run("check", f"sqlite:///{path.as_posix()}")

    assert "The open call '\\x1b[2J' is in no sum: " in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["cost_nanousd_min", "tokens_max", "attempts_min", "status"])
def test_a_figure_that_no_entry_can_have_is_asked_for_all_the_same(ledger: SQLiteLedger, name: str) -> None:
    """
    `--cost-min 1e30`: SQLite's integers end before Python's.
    """
    settle(ledger, hold(ledger, "a", 60), 40)

    found, _ = ledger.entries(EntryFilter(**{name: 10**30}))

    assert len(found) == (name == "tokens_max")
