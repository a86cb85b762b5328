"""
Care for the file of a SQLite ledger: migrate, vacuum, check, and what a sweep would end.

For the command line, while programs go on writing; only `vacuum` makes them wait.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bedrock_guard.domain.ledger import LedgerKey, Line, SweepReport
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite_entries, sqlite_rows, sqlite_schema, sqlite_sweeping
from bedrock_guard.ledgers.sqlite import read_path
from bedrock_guard.ledgers.sqlite_file import SQLiteFile

# A person waits for these, and may wait for a long transaction of somebody else's.
WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """
    What a check looked at, and what is wrong.

    Attributes:
        schema: The file's.
        findings: What is wrong, in words; nothing for books that are right.
    """

    schema: int
    entries: int
    open_calls: int
    balances: int
    findings: tuple[str, ...]


def migrate(url: str) -> tuple[int, int]:
    """
    Bring the file to this version's schema; which one it had, and has now.

    The version before goes on reading and writing it.
    """
    return _alone(url, sqlite_schema.migrate)


def vacuum(url: str) -> tuple[int, int]:
    """
    Give the room of dropped entries back to the disk; the file's bytes before and after.

    Nobody can write meanwhile, and as much room again is needed.
    """

    def work(db: sqlite3.Connection) -> tuple[int, int]:
        before = _bytes(db)
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before, _bytes(db)

    return _alone(url, work)


def check(url: str) -> CheckReport:
    """
    Whether the file is sound and its sums agree, from one moment of the books; changes nothing.
    """
    file = SQLiteFile(_existing(url), synchronous="normal", wait_s=WAIT_S, read_only=True)
    try:
        return file.read(_look)
    finally:
        file.close()


def overdue(url: str, now: float) -> SweepReport:
    """
    What a sweep at *now* would end; changes nothing.
    """
    file = SQLiteFile(_existing(url), synchronous="normal", wait_s=WAIT_S, read_only=True)
    try:
        return file.read(lambda db: sqlite_sweeping.overdue(db, now))
    finally:
        file.close()


def _look(db: sqlite3.Connection) -> CheckReport:
    findings = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    schema = sqlite_schema.read_schema(db)
    spent: Counter[LedgerKey] = Counter()
    pending: Counter[LedgerKey] = Counter()
    calls: Counter[LedgerKey] = Counter()
    entries = open_calls = 0
    for id_, lines, booked in db.execute(sqlite_schema.ALL_BOOKED):
        entries += 1
        try:
            sqlite_entries.add_booked(spent, lines, booked)
        except LedgerUnavailable as error:
            findings.append(f"The call {id_!r} is in no sum: {error}")
    if schema >= sqlite_schema.FORGETS_SINCE:
        for *key, amount in db.execute(sqlite_schema.ALL_DROPPED):
            spent[sqlite_rows.read_key(*key)] += amount
    for id_, lines in db.execute(sqlite_schema.ALL_HELD):
        open_calls += 1
        for line in _read_held(id_, lines, findings):
            pending[line.key] += line.amount
            calls[line.key] += 1
    keys = set()
    for *columns, in_spent, in_pending, in_calls in db.execute(sqlite_schema.ALL_BALANCES):
        key = sqlite_rows.read_key(*columns)
        keys.add(key)
        findings += _compare(key, "spent", in_spent, spent[key], "its entries")
        findings += _compare(key, "pending", in_pending, pending[key], "its open calls")
        findings += _compare(key, "pending calls", in_calls, calls[key], "its open calls")
    lost = [key for key in {*spent, *pending} - keys if spent[key] or pending[key]]
    findings += [f"{_name(key)} has no balance, and calls that count towards it." for key in sorted(lost)]
    return CheckReport(schema, entries, open_calls, len(keys), tuple(findings))


def _read_held(id_: str, lines: str, findings: list[str]) -> tuple[Line, ...]:
    try:
        return sqlite_rows.read_lines(lines)
    except LedgerUnavailable as error:
        findings.append(f"The open call {id_!r} is in no sum: {error}")
        return ()


def _compare(key: LedgerKey, what: str, kept: int, summed: int, of: str) -> list[str]:
    return [] if kept == summed else [f"{_name(key)}: {what} is {kept}, and {of} come to {summed}."]


def _name(key: LedgerKey) -> str:
    per = "".join(f", {tag}={value}" for tag, value in key.per)
    return f"Budget {key.budget!r} ({key.rule}{per}, window {key.window_start})"


def _alone(url: str, work: Callable[[sqlite3.Connection], tuple[int, int]]) -> tuple[int, int]:
    file = SQLiteFile(_existing(url), synchronous="full", wait_s=WAIT_S)
    try:
        return file.alone(work)
    finally:
        file.close()


def _existing(url: str) -> str:
    path, _ = read_path(url)
    if not Path(path).is_file():
        raise LedgerUnavailable(f"There is no ledger {path}.")
    return path


def _bytes(db: sqlite3.Connection) -> int:
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    return pages * size
