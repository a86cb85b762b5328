"""
The tables of a SQLite ledger, and every statement that is run on them.

`reservation` holds what is open, a handful of rows; `entry` is the journal of
what ended. The balances change in the same transaction as either.

Schema N is read and written by N - 1 too, so a rolling deploy never stops the
old processes: add columns with defaults, never change what one means.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from bedrock_guard.errors import LedgerUnavailable

# "bGrd": tells our files from other programs' databases, which are left alone.
APPLICATION_ID: Final = 0x62477264
SCHEMA: Final = 3
NEWEST_USABLE: Final = SCHEMA + 1
CLAIMS_SINCE: Final = 3  # before, there was nowhere to claim an alert
RATES_SINCE: Final = 3  # before, there was nowhere to keep them
FORGETS_SINCE: Final = 2  # before, there was nowhere to add up what dropped entries had spent
STEERS_SINCE: Final = 3  # before, there was no place for stops and top-ups
# A commit writes each page that it has touched, whole: some eight for a call. Only new files are made so.
PAGE_BYTES: Final = 1024
# Of write-ahead log, before it is copied into the file. Whoever commits then does that, and all others wait
# for the disk meanwhile: the more, the rarer and the longer.
LOG_BYTES: Final = 8 * 2**20
OLDEST_SQLITE: Final = (3, 37)  # STRICT tables

# Schema 1; what came later is added by `MIGRATIONS`, to new files too.
CREATE: Final = f"""
CREATE TABLE balance (
    budget TEXT NOT NULL,
    rule TEXT NOT NULL,
    per TEXT NOT NULL,              -- JSON: [[tag, value], ...]
    window_start INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    pending_calls INTEGER NOT NULL DEFAULT 0 CHECK (pending_calls >= 0),
    PRIMARY KEY (budget, rule, per, window_start)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservation (
    id TEXT NOT NULL PRIMARY KEY,
    at REAL NOT NULL,
    expires_at REAL NOT NULL,
    on_expiry TEXT NOT NULL,
    lines TEXT NOT NULL,            -- JSON: [[budget, rule, per, window_start, limit, amount], ...]
    entry TEXT NOT NULL             -- JSON: the open entry, for whoever sweeps
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,        -- tells calls of the same moment apart
    id TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    state TEXT NOT NULL,            -- settled, released, expired, recorded
    expires_at REAL,
    lines TEXT,                     -- as they were reserved; none for a recorded entry
    booked TEXT,                    -- JSON: what was spent on each line
    count INTEGER NOT NULL DEFAULT 1,
    entry TEXT                      -- JSON; none for a call that left no entry
) STRICT;

CREATE INDEX entry_at ON entry (at);

PRAGMA application_id = {APPLICATION_ID};
"""

# Calls that went wrong are few among many that did not, and are what is looked for.
USUAL_OUTCOME: Final = "answered"
IS_UNUSUAL: Final = f"json_extract(entry, '$.outcome') <> '{USUAL_OUTCOME}'"

# From the schema before, by the one that is reached. The one before must go on reading and writing.
MIGRATIONS: Final[dict[int, str]] = {
    2: f"""
CREATE TABLE dropped (              -- what entries that are kept no longer had spent
    budget TEXT NOT NULL,
    rule TEXT NOT NULL,
    per TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, rule, per, window_start)
) STRICT, WITHOUT ROWID;

CREATE INDEX entry_unusual ON entry (json_extract(entry, '$.outcome'), at) WHERE {IS_UNUSUAL};
""",
    3: """
CREATE TABLE rate (                 -- what is spent and held is in `balance`, as of others
    budget TEXT NOT NULL,
    rule TEXT NOT NULL,
    per TEXT NOT NULL,
    full_at INTEGER NOT NULL,       -- nanoseconds since 1970: when all that was taken is refilled
    PRIMARY KEY (budget, rule, per)
) STRICT, WITHOUT ROWID;

CREATE TABLE controls (             -- stops and top-ups: one row
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    record TEXT NOT NULL            -- JSON
) STRICT;

INSERT INTO controls VALUES (1, 0, '{}');

CREATE TABLE alert (                -- who tells what: once for each threshold, balance and window
    id TEXT NOT NULL PRIMARY KEY,
    claimed_at REAL NOT NULL,
    is_confirmed INTEGER NOT NULL DEFAULT 0,
    forget_at REAL,                 -- none for a window that never ends
    alert TEXT NOT NULL             -- JSON, for whoever takes it over; '' of what is confirmed
) STRICT, WITHOUT ROWID;

CREATE INDEX alert_unconfirmed ON alert (claimed_at) WHERE is_confirmed = 0;
CREATE INDEX alert_forgotten ON alert (forget_at);
""",
}

# No row changed: the line does not fit, or there is no such balance yet. Counting changed
# rows is half the price of RETURNING, and a balance that is there is the common case.
HOLD: Final = """
UPDATE balance SET pending = pending + ?5, pending_calls = pending_calls + ?6
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4 AND spent + pending + ?5 <= ?7
"""
# The balance was not there: all that is held is ours.
HOLD_FIRST: Final = """
INSERT INTO balance (budget, rule, per, window_start, pending, pending_calls)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?5 <= ?7
ON CONFLICT DO NOTHING
"""
BOOK: Final = """
UPDATE balance SET spent = spent + ?5, pending = pending - ?6, pending_calls = pending_calls - ?7
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4
"""
# A key that was never reserved.
BOOK_FIRST: Final = """
INSERT INTO balance (budget, rule, per, window_start, spent)
SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
    SELECT 1 FROM balance WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4
)
"""
BALANCE: Final = """
SELECT spent, pending, pending_calls FROM balance
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4
"""
SUB_WINDOWS: Final = """
SELECT window_start, spent, pending, pending_calls FROM balance
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start >= ?4
"""
RATE: Final = "SELECT full_at FROM rate WHERE budget = ?1 AND rule = ?2 AND per = ?3"
TAKE_RATE: Final = """
INSERT INTO rate (budget, rule, per, full_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET full_at = excluded.full_at
"""
GIVE_BACK: Final = "UPDATE rate SET full_at = full_at + ?4 WHERE budget = ?1 AND rule = ?2 AND per = ?3"
BALANCES: Final = """
SELECT budget, rule, per, window_start, spent, pending FROM balance
ORDER BY budget, rule, per, window_start
"""

OPEN: Final = """
INSERT INTO reservation (id, at, expires_at, on_expiry, lines, entry)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM entry WHERE id = ?1)
ON CONFLICT DO NOTHING
"""
# The same, if stops and top-ups are those by which the call was admitted.
OPEN_BY: Final = """
INSERT INTO reservation (id, at, expires_at, on_expiry, lines, entry)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM entry WHERE id = ?1)
AND EXISTS (SELECT 1 FROM controls WHERE version = ?7)
ON CONFLICT DO NOTHING
"""
EXTEND: Final = "UPDATE reservation SET lines = ?2, expires_at = ?3 WHERE id = ?1"
# Found and ended by one statement: this is in every call's way.
TAKE: Final = "DELETE FROM reservation WHERE id = ?1 RETURNING at, expires_at, lines"
FIND: Final = """
SELECT 'pending', at, expires_at, lines, NULL FROM reservation WHERE id = ?1
UNION ALL
SELECT state, at, expires_at, lines, booked FROM entry WHERE id = ?1
LIMIT 1
"""
IS_DUE: Final = "SELECT 1 FROM reservation WHERE expires_at <= ?1 LIMIT 1"
ALL_DUE: Final = "SELECT lines, on_expiry FROM reservation WHERE expires_at <= ?1"
# Every row is looked at: only open calls are here, and an index would cost each of them.
DUE: Final = """
SELECT id, at, expires_at, lines, on_expiry, entry FROM reservation
WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
"""

# In conflict with an expired call that is settled after all.
END: Final = """
INSERT INTO entry (id, at, state, expires_at, lines, booked, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (id) DO UPDATE
SET at = excluded.at, state = excluded.state, lines = excluded.lines, booked = excluded.booked,
    entry = excluded.entry
"""
RECORD: Final = """
INSERT INTO entry (id, at, state, count, entry, expires_at) VALUES (?1, ?2, 'recorded', ?3, ?4, ?5)
ON CONFLICT (id) DO UPDATE SET count = count + excluded.count
"""
RECORD_ONCE: Final = """
INSERT INTO entry (id, at, state, count, entry) VALUES (?1, ?2, 'recorded', ?3, ?4) ON CONFLICT DO NOTHING
"""
CONTROLS: Final = "SELECT version, record FROM controls"
WRITE_CONTROLS: Final = "UPDATE controls SET version = ?1, record = ?2"

ENTRIES: Final = "SELECT at, seq, count, entry FROM entry"
NEWEST: Final = "ORDER BY at DESC, seq DESC LIMIT :limit"

# Of an expired call, and of one that lasts, a settle may still come until its time is over.
OLD: Final = """
SELECT seq, lines, booked FROM entry
WHERE at < ?1 AND coalesce(expires_at, at) < ?1 ORDER BY at LIMIT ?2
"""
ALL_BOOKED: Final = "SELECT id, lines, booked FROM entry"
ALL_HELD: Final = "SELECT id, lines FROM reservation"
ALL_DROPPED: Final = "SELECT budget, rule, per, window_start, spent FROM dropped"
ALL_BALANCES: Final = "SELECT budget, rule, per, window_start, spent, pending, pending_calls FROM balance"
DROP: Final = "DELETE FROM entry WHERE seq = ?1"
ADD_DROPPED: Final = """
INSERT INTO dropped (budget, rule, per, window_start, spent) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO UPDATE SET spent = spent + excluded.spent
"""

# A sub-window that nobody looks at any more goes with the last entry that was booked there.
ROLL_OUT: Final = """
UPDATE balance SET spent = spent - ?5
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4 AND spent >= ?5
"""
DROP_EMPTY: Final = """
DELETE FROM balance
WHERE budget = ?1 AND rule = ?2 AND per = ?3 AND window_start = ?4
AND spent = 0 AND pending = 0 AND pending_calls = 0
"""

# Counted as a change only if the claim is the caller's.
CLAIM: Final = """
INSERT INTO alert (id, claimed_at, forget_at, alert) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (id) DO UPDATE SET claimed_at = excluded.claimed_at
WHERE is_confirmed = 0 AND claimed_at <= ?5
"""
FORGET_CLAIMS: Final = "DELETE FROM alert WHERE forget_at < ?1"
CONFIRM: Final = "UPDATE alert SET is_confirmed = 1, alert = '' WHERE id = ?1"
UNCONFIRMED: Final = """
SELECT id, alert, forget_at FROM alert WHERE is_confirmed = 0 ORDER BY claimed_at LIMIT ?1
"""


def prepare(db: sqlite3.Connection, path: str, *, synchronous: str) -> None:
    """
    Make the tables, or see that they are ours; the caller holds the file alone.

    Raises:
        LedgerUnavailable: The file is another program's, or of a schema too new.
    """
    _check_sqlite(path)
    is_new = not _has_tables(db)
    if not is_new:
        check(db, path)
    else:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    if _pragma(db, "journal_mode = WAL") != "wal":
        raise LedgerUnavailable(f"Ledger {path} cannot be used: its file system has no shared memory.")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // _pragma(db, 'page_size')}")
    if is_new:
        migrate(db)


def check(db: sqlite3.Connection, path: str) -> None:
    """
    See that the tables are ours, and that this version knows them.

    Raises:
        LedgerUnavailable: The file is another program's, or of a schema too new.
    """
    _check_sqlite(path)
    if _pragma(db, "application_id") != APPLICATION_ID:
        what = "another program's database" if _has_tables(db) else "no ledger yet"
        raise LedgerUnavailable(f"Ledger {path} cannot be used: it is {what}.")
    schema = read_schema(db)
    if schema > NEWEST_USABLE:
        raise LedgerUnavailable(
            f"Ledger {path} cannot be used: its schema is {schema}, and this version of bedrock_guard "
            f"knows {SCHEMA} and can use {NEWEST_USABLE}. Upgrade bedrock_guard."
        )


def _check_sqlite(path: str) -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise LedgerUnavailable(f"Ledger {path} needs SQLite 3.37; this Python has {sqlite3.sqlite_version}.")


def _has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def read_schema(db: sqlite3.Connection) -> int:
    """
    Which schema the file has; 0 when it has no tables yet.
    """
    schema: int = _pragma(db, "user_version")
    return schema


def migrate(db: sqlite3.Connection) -> tuple[int, int]:
    """
    Bring the file to this version's schema, in one transaction; which one it had and has.
    """
    schema = read_schema(db)
    if schema >= SCHEMA:
        return schema, schema
    steps = [MIGRATIONS[number] for number in range(max(schema, 1) + 1, SCHEMA + 1)]
    script = "".join([*([] if schema else [CREATE]), *steps])
    db.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version = {SCHEMA};COMMIT;")
    return schema, SCHEMA


def _pragma(db: sqlite3.Connection, name: str) -> Any:
    return db.execute(f"PRAGMA {name}").fetchone()[0]
