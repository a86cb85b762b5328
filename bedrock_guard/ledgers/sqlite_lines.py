"""
What a SQLite ledger does for lines that roll, are a rate, or are not enforced, inside a transaction.

One by one, by what is read under the lock; enforced windows need one statement each, in `sqlite_books`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from bedrock_guard.domain.ledger import Balance, LedgerKey, Line, RefusedLine
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books, lines, sqlite_rows, sqlite_schema


def all_balances(db: sqlite3.Connection) -> list[Balance]:
    """
    Every balance, by its key.
    """
    found = [
        Balance(sqlite_rows.read_key(*row[:4]), *row[4:])
        for row in db.execute(sqlite_schema.BALANCES).fetchall()
    ]
    return [
        replace(each, full_at_s=_full_at_s(db, each.key)) if lines.is_rate(each.key) else each
        for each in found
    ]


def balance(db: sqlite3.Connection, key: LedgerKey) -> Balance:
    """
    The balance of *key*; zeros where there is none.
    """
    full_at_s = _full_at_s(db, key) if lines.is_rate(key) else None
    return Balance(key, *read_balance(db, key)[:2], full_at_s)


def unfit(db: sqlite3.Connection, line: Line, now: float) -> RefusedLine | None:
    """
    The balance that *line* met, if it does not fit.

    Raises:
        LedgerUnavailable: It would be larger than a ledger counts.
    """
    spent, pending, calls = read_balance(db, line.key)
    used = spent + pending + line.amount
    if used > books.MAX_AMOUNT and (line.limit is None or not line.enforce or line.kind == "rate"):
        raise books.uncountable(line.key, used)
    if line.limit is None:
        return None
    if line.kind == "rate":
        after_ns, free_at_s = _taken(db, line, now)
        return None if free_at_s is None else lines.refused_rate(line, after_ns, free_at_s, now)
    if line.kind == "rolling":
        columns = sqlite_rows.key_columns(line.key)[:3]
        rows = db.execute(sqlite_schema.SUB_WINDOWS, (*columns, lines.counts_since(line)))
        return lines.refused_rolling(line, {row[0]: row[1:] for row in rows})
    return RefusedLine(line, spent, pending, calls) if used > line.limit else None


def read_balance(db: sqlite3.Connection, key: LedgerKey) -> tuple[int, int, int]:
    """
    Spent, pending and pending calls of *key*.
    """
    row = db.execute(sqlite_schema.BALANCE, sqlite_rows.key_columns(key)).fetchone()
    return row or (0, 0, 0)


def take(db: sqlite3.Connection, line: Line, now: float) -> None:
    """
    Take the amount of a rate *line* from its bucket.
    """
    columns = sqlite_rows.key_columns(line.key)[:3]
    db.execute(sqlite_schema.TAKE_RATE, (*columns, _taken(db, line, now)[0]))


def give_back(
    db: sqlite3.Connection,
    held: Sequence[Line],
    before: Sequence[int],
    booked: Sequence[int],
    age_s: float,
) -> None:
    """
    Put the buckets of rates right: *before* was held or spent of *held* lines, and *booked* is true.
    """
    age_ns = lines.nanoseconds(age_s)
    for line, old, new in zip(held, before, booked, strict=False):
        if line.kind == "rate":
            change_ns = lines.given_back_ns(line, old, new, age_ns=age_ns)
            db.execute(sqlite_schema.GIVE_BACK, (*sqlite_rows.key_columns(line.key)[:3], change_ns))


def _full_at_s(db: sqlite3.Connection, key: LedgerKey) -> float:
    row = db.execute(sqlite_schema.RATE, sqlite_rows.key_columns(key)[:3]).fetchone()
    return row[0] / 10**9 if row else 0.0


def _taken(db: sqlite3.Connection, line: Line, now: float) -> tuple[int, float | None]:
    schema = sqlite_schema.read_schema(db)
    if schema < sqlite_schema.RATES_SINCE:
        raise LedgerUnavailable(
            f"Budget {line.key.budget!r} is a rate, which this ledger cannot keep: it has schema {schema}, "
            f"and rates need {sqlite_schema.RATES_SINCE}. Run, once: bedrock-guard ledger migrate"
        )
    row = db.execute(sqlite_schema.RATE, sqlite_rows.key_columns(line.key)[:3]).fetchone()
    return lines.taken(line, row[0] if row else 0, lines.nanoseconds(now))
