"""
What dead processes hold in a SQLite ledger, and its end.

A row that is damaged is left as it is, and keeps no other from its end: what it holds stays pending, the
safe side, until somebody mends it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

from bedrock_guard.domain.ledger import LedgerKey, SweepReport
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books, sqlite_books, sqlite_rows, sqlite_schema
from bedrock_guard.ledgers.sqlite_books import Call, Ending


def sweep(db: sqlite3.Connection, *, now: float, limit: int) -> SweepReport:
    """
    End at most *limit* of the calls that are over at *now*, inside a transaction.
    """
    ways: Counter[str] = Counter()
    keys: set[LedgerKey] = set()
    for id_, at, expires_at_s, text, on_expiry, entry_text in db.execute(
        sqlite_schema.DUE, (now, limit)
    ).fetchall():
        call = Call(id_, "pending", at, expires_at_s, text)
        db.execute("SAVEPOINT one")
        try:
            lines = call.lines()
            booked = books.expired_amounts(lines, on_expiry)
            amounts = {line.key: amount for line, amount in zip(lines, booked, strict=True)}
            entry = books.expired_entry(sqlite_rows.read_entry(entry_text, 1, at), on_expiry)
            ending = Ending.of(lines, amounts, entry)
            db.execute(sqlite_schema.TAKE, (id_,)).fetchall()
            sqlite_books.write_end(db, call, "expired", ending, ending.rows)
        except (LedgerUnavailable, sqlite3.IntegrityError):  # no lines, or not those of its balances
            db.execute("ROLLBACK TO one")
            ways["damaged"] += 1
        else:
            ways["charged" if on_expiry == "charge" else "released"] += 1
            keys.update(key for key, amount in amounts.items() if amount)
        db.execute("RELEASE one")
    return SweepReport(ways["charged"], ways["released"], frozenset(keys), ways["damaged"])


def overdue(db: sqlite3.Connection, now: float) -> SweepReport:
    """
    What a sweep at *now* would end; changes nothing.
    """
    ways: Counter[str] = Counter()
    for text, on_expiry in db.execute(sqlite_schema.ALL_DUE, (now,)):
        try:
            sqlite_rows.read_lines(text)
        except LedgerUnavailable:
            ways["damaged"] += 1
        else:
            ways["charged" if on_expiry == "charge" else "released"] += 1
    return SweepReport(ways["charged"], ways["released"], damaged=ways["damaged"])
