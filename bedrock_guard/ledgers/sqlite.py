"""
A ledger in one SQLite file, shared by all processes of a machine.

Nothing is lost when a process dies at any moment; `?sync=full` survives a power
cut too, at the price of waiting for the disk. Not for network file systems:
the write-ahead log needs memory that all processes share.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import (
    Balance,
    Clock,
    EntryFilter,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    RefusedLine,
    Reservation,
    Settled,
    SweepReport,
)
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers import books, sqlite_rows, sqlite_schema
from bedrock_guard.ledgers.sqlite_file import SQLiteFile
from bedrock_guard.ledgers.url import read_url

WAIT_S: Final = 10.0
SYNC: Final = ("normal", "full")


class SQLiteLedger:
    """
    Every change is one short transaction, so that the lock is held for microseconds.

    Attributes:
        path: The file, links resolved.
    """

    blocking = True

    def __init__(self, path: str, *, clock: Clock, sync: str = "normal", wait_s: float = WAIT_S) -> None:
        self._clock = clock
        self._file = SQLiteFile(path, synchronous=sync, wait_s=wait_s)
        self._finalizer = weakref.finalize(self, self._file.close)
        self.path = self._file.path
        self._file.write(lambda _: None)  # what is wrong with the file shows now, not at the first call

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        The ledger in the file that *url* names, made with its folders if it does not exist.
        """
        location, given = read_url(url, {"sync": SYNC})
        path = location.removeprefix("/")
        if path == location or not path:
            raise ConfigurationError(
                f"{url!r} names no file. Write sqlite:///relative.db or sqlite:////absolute/path.db."
            )
        if path == ":memory:":
            raise ConfigurationError(f"{url!r}: a ledger in memory is memory://.")
        return cls(path, clock=clock, sync=given.get("sync", "normal"))

    def reserve(
        self, lines: Sequence[Line], *, entry: Entry, hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal:
        """
        Hold every line, or none.
        """
        wanted = books.merge(lines)
        expires_at_s = self._clock() + hold_s
        row = (
            entry.id,
            entry.at_s,
            expires_at_s,
            on_expiry,
            sqlite_rows.write_lines(wanted),
            sqlite_rows.write_entry(entry),
        )

        def work(db: sqlite3.Connection) -> Reservation | Refusal:
            if db.execute(sqlite_schema.OPEN, row).rowcount:
                return _hold(db, wanted) or Reservation(entry.id, wanted, expires_at_s)
            known = _find(db, Reservation(entry.id, wanted, expires_at_s))
            if known.state == "recorded":
                raise books.already(entry.id, known.state)
            return Reservation(entry.id, known.lines, known.expires_at_s)

        return self._file.write(work)

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        more = books.merge(lines)

        def work(db: sqlite3.Connection) -> Reservation | Refusal:
            call = _find(db, reservation)
            if call.state != "pending":
                raise books.already(reservation.id, call.state)
            together = books.merge((*call.lines, *more))
            refusal = _hold(db, more, known=frozenset(line.key for line in call.lines))
            if refusal is not None:
                return refusal
            expires_at_s = call.expires_at_s
            if hold_s is not None:
                expires_at_s = max(expires_at_s, self._clock() + hold_s)
            db.execute(
                sqlite_schema.EXTEND, (reservation.id, sqlite_rows.write_lines(together), expires_at_s)
            )
            return Reservation(reservation.id, together, expires_at_s)

        return self._file.write(work)

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        return self._end(reservation, "settled", amounts, entry)

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held; without an *entry*, the call leaves none.
        """
        return self._end(reservation, "released", {}, entry)

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        row = (entry.id, entry.at_s, entry.count, sqlite_rows.write_entry(entry))
        self._file.write(lambda db: db.execute(sqlite_schema.RECORD, row).rowcount)

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        if keys is None:
            rows = self._file.read(lambda db: db.execute(sqlite_schema.BALANCES).fetchall())
            return [Balance(sqlite_rows.read_key(*row[:4]), *row[4:]) for row in rows]
        return self._file.read(lambda db: [Balance(key, *_balance(db, key)[:2]) for key in keys])

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        parameters = {**_parameters(where, after), "limit": limit + 1}
        rows = self._file.read(lambda db: db.execute(sqlite_schema.ENTRIES, parameters).fetchall())
        page = rows[:limit]
        entries = [sqlite_rows.read_entry(text, count) for _, _, count, text in page]
        return entries, books.write_cursor(*page[-1][:2]) if len(rows) > limit else None

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End the reservations whose time is over, each by its own `on_expiry`.
        """
        if not self._file.read(lambda db: db.execute(sqlite_schema.IS_DUE, (now,)).fetchone()):
            return SweepReport()

        def work(db: sqlite3.Connection) -> SweepReport:
            due = db.execute(sqlite_schema.DUE, (now, limit)).fetchall()
            for id_, at, expires_at_s, text, on_expiry, entry_text in due:
                lines = sqlite_rows.read_lines(text)
                booked = books.expired_amounts(lines, on_expiry)
                entry = books.expired_entry(sqlite_rows.read_entry(entry_text, 1), on_expiry)
                call = _Call(id_, "pending", at, expires_at_s, lines, text)
                _end(db, call, "expired", lines=lines, booked=booked, entry=entry)
            charged = sum(row[4] == "charge" for row in due)
            return SweepReport(charged=charged, released=len(due) - charged)

        return self._file.write(work)

    def close(self) -> None:
        """
        Close the file; the ledger cannot be used afterwards.
        """
        self._finalizer()

    def _end(
        self,
        reservation: Reservation,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        def work(db: sqlite3.Connection) -> Settled:
            call = _find(db, reservation)
            lines, booked, is_overrun = books.align(call.lines, amounts)
            how = books.how_ends(call.id, call.state, end, is_same=booked == call.booked)
            if how != "replayed":
                _end(db, call, end, lines=lines, booked=booked, entry=entry)
            return books.SETTLED[how, is_overrun]

        return self._file.write(work)


class _Call(NamedTuple):
    id: str
    state: books.State
    at: float
    expires_at_s: float
    lines: tuple[Line, ...]
    lines_text: str
    booked: books.Booked = ()


def _find(db: sqlite3.Connection, reservation: Reservation) -> _Call:
    """
    What the ledger knows of a reservation; the caller's copy may be older.
    """
    row = db.execute(sqlite_schema.FIND, (reservation.id,)).fetchone()
    if row is None:
        raise books.unknown(reservation.id)
    state, at, expires_at_s, text, booked = row
    # To write what the caller has is faster than to read what is stored, and mostly they agree.
    is_known = text == sqlite_rows.write_lines(reservation.lines)
    lines = reservation.lines if is_known else sqlite_rows.read_lines(text or "[]")
    return _Call(reservation.id, state, at, expires_at_s, lines, text, sqlite_rows.read_booked(booked))


def _hold(
    db: sqlite3.Connection, lines: tuple[Line, ...], *, known: frozenset[LedgerKey] = frozenset()
) -> Refusal | None:
    """
    Add *lines* to what is pending, or roll back; keys in *known* count the call already.
    """
    for index, line in enumerate(lines):
        limit = books.MAX_AMOUNT if line.limit is None else line.limit
        row = (*sqlite_rows.key_columns(line.key), line.amount, line.key not in known, limit)
        if not (
            db.execute(sqlite_schema.HOLD, row).rowcount or db.execute(sqlite_schema.HOLD_FIRST, row).rowcount
        ):
            # The lines before did fit, and none of those after has been touched.
            refusal = _refusal(db, lines[index:])
            db.execute("ROLLBACK")
            return refusal
    return None


def _refusal(db: sqlite3.Connection, lines: tuple[Line, ...]) -> Refusal:
    refused = []
    for line in lines:
        spent, pending, calls = _balance(db, line.key)
        used = spent + pending + line.amount
        if line.limit is None and used > books.MAX_AMOUNT:
            raise books.uncountable(line.key, used)
        if line.limit is not None and used > line.limit:
            refused.append(RefusedLine(line, spent, pending, calls))
    return Refusal(tuple(refused))


def _balance(db: sqlite3.Connection, key: LedgerKey) -> tuple[int, int, int]:
    row = db.execute(sqlite_schema.BALANCE, sqlite_rows.key_columns(key)).fetchone()
    return row or (0, 0, 0)


def _end(
    db: sqlite3.Connection,
    call: _Call,
    end: books.State,
    *,
    lines: tuple[Line, ...],
    booked: books.Booked,
    entry: Entry | None,
) -> None:
    """
    Spend *booked* on *lines*, in place of what the call holds or has spent, and write its entry.
    """
    is_open = call.state == "pending"
    for index, (line, new) in enumerate(zip(lines, booked, strict=True)):
        old = call.booked[index] if index < len(call.booked) else 0
        is_held = is_open and index < len(call.lines)
        row = (*sqlite_rows.key_columns(line.key), new - old, line.amount if is_held else 0, is_held)
        if not db.execute(sqlite_schema.BOOK, row).rowcount:
            db.execute(sqlite_schema.BOOK_FIRST, row[:5])
    if is_open:
        db.execute(sqlite_schema.TAKE, (call.id,))
    ended = (
        call.id,
        call.at if entry is None else entry.at_s,
        end,
        call.expires_at_s,
        call.lines_text if lines is call.lines else sqlite_rows.write_lines(lines),
        sqlite_rows.write_booked(booked),
        None if entry is None else sqlite_rows.write_entry(entry),
    )
    db.execute(sqlite_schema.END, ended)


def _parameters(where: EntryFilter, after: str | None) -> dict[str, Any]:
    before_at, before_seq = books.read_cursor(after)
    named = {name: getattr(where, name) for name in sqlite_schema.FILTERED}
    return {
        **named,
        "since": float("-inf") if where.since is None else where.since,
        "until": float("inf") if where.until is None else where.until,
        "before_at": before_at,
        "before_seq": before_seq,
        "tags": json.dumps(dict(where.tags or {})),
    }
