"""
Stops and top-ups of a SQLite ledger: one row, whose version every reserve compares as it opens its call.

A file of the schema before has no place for them, and none in force, until it is migrated.
"""

from __future__ import annotations

import sqlite3

from bedrock_guard.domain.control import Control, Controls, unreadable
from bedrock_guard.domain.entry import Entry
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite_rows, sqlite_schema


class Steered:
    """
    Which connection leads to a file that has the row: schemas only grow, so one look is enough.
    """

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None

    def is_so(self, db: sqlite3.Connection) -> bool:
        """
        Whether the file of *db* has the row.
        """
        if self._db is not db:
            if sqlite_schema.read_schema(db) < sqlite_schema.STEERS_SINCE:
                return False
            self._db = db
        return True


def read(db: sqlite3.Connection) -> Controls:
    """
    The record.

    Raises:
        LedgerUnavailable: It cannot be read.
    """
    if sqlite_schema.read_schema(db) < sqlite_schema.STEERS_SINCE:
        return Controls()
    row = db.execute(sqlite_schema.CONTROLS).fetchone()
    if row is None:
        raise unreadable(LookupError("its row is gone"))
    return Controls.from_json(*row)


def write(db: sqlite3.Connection, control: Control, entry: Entry, *, now: float, path: str) -> int:
    """
    Put *control* into the record, and *entry* into the journal; the new version.

    Raises:
        LedgerUnavailable: There would be too many, or the file is of a schema before.
    """
    if sqlite_schema.read_schema(db) < sqlite_schema.STEERS_SINCE:
        raise LedgerUnavailable(
            f"Ledger {path} has no place for stops and top-ups yet. Run, once: "
            f"bedrock-guard ledger migrate sqlite:///{path}"
        )
    controls = read(db)
    row = (entry.id, entry.at_s, entry.count, sqlite_rows.write_entry(entry))
    if db.execute(sqlite_schema.RECORD_ONCE, row).rowcount:
        controls = controls.with_(control, now=now)
        db.execute(sqlite_schema.WRITE_CONTROLS, (controls.version, controls.to_json()))
    return controls.version
