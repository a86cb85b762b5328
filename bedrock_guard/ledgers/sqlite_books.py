"""
What a SQLite ledger does inside a transaction: hold lines, and end reservations.

Whatever can be worked out before the lock is held is (`Ending`), for every
other process of the host waits for what is done under it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self, TypeAlias

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, Refusal, RefusedLine, Settled
from bedrock_guard.ledgers import books, sqlite_lines, sqlite_rows, sqlite_schema
from bedrock_guard.ledgers.lines import with_kinds

HoldRow: TypeAlias = tuple[str, str, str, int, int, bool, int]
BookRow: TypeAlias = tuple[str, str, str, int, int, int, bool]


class Call(NamedTuple):
    """
    What the ledger knows of a reservation; the caller's copy may be older.
    """

    id: str
    state: books.State
    at: float
    expires_at_s: float
    lines_text: str | None
    booked_text: str | None = None

    def lines(self) -> tuple[Line, ...]:
        """
        What it holds, or held.
        """
        return sqlite_rows.read_lines(self.lines_text or "[]")


class Ending(NamedTuple):
    """
    An end of a reservation, ready to be written.

    Attributes:
        held_text: What it must hold, as it is stored, for the rest to be right.
        lines: What it holds, and keys that were never reserved; `lines_text` is how they are stored.
        rows: How the balances change, if it is open.
        has_rates: Whether a line is a rate, whose bucket changes too.
    """

    held_text: str
    lines_text: str
    lines: tuple[Line, ...]
    booked: books.Booked
    is_overrun: bool
    rows: list[BookRow]
    entry_at_s: float | None
    entry_text: str | None
    has_rates: bool

    @classmethod
    def of(cls, held: tuple[Line, ...], amounts: Mapping[LedgerKey, int], entry: Entry | None) -> Self:
        """
        The end of a call that holds *held*, at *amounts*.
        """
        lines, booked, is_overrun = books.align(held, amounts)
        rows = [
            (*sqlite_rows.key_columns(line.key), new, line.amount, index < len(held))
            for index, (line, new) in enumerate(zip(lines, booked, strict=True))
        ]
        held_text = sqlite_rows.write_lines(held)
        return cls(
            held_text,
            held_text if lines is held else sqlite_rows.write_lines(lines),
            lines,
            booked,
            is_overrun,
            rows,
            None if entry is None else entry.at_s,
            None if entry is None else sqlite_rows.write_entry(entry),
            any(line.kind == "rate" for line in lines),
        )

    def for_lines(self, call: Call, amounts: Mapping[LedgerKey, int]) -> Self:
        """
        The same end of a call that holds other lines than its caller knew.
        """
        if call.lines_text == self.held_text:
            return self
        other = self.of(with_kinds(call.lines(), self.lines), amounts, None)
        return other._replace(entry_at_s=self.entry_at_s, entry_text=self.entry_text)


def find(db: sqlite3.Connection, reservation_id: str) -> Call:
    """
    A reservation, open or ended.

    Raises:
        ReservationClosed: There is none.
    """
    call = find_if_known(db, reservation_id)
    if call is None:
        raise books.unknown(reservation_id)
    return call


def find_if_known(db: sqlite3.Connection, reservation_id: str) -> Call | None:
    """
    A reservation, open or ended; None where there is none.
    """
    row = db.execute(sqlite_schema.FIND, (reservation_id,)).fetchone()
    return None if row is None else Call(reservation_id, *row)


def hold_rows(lines: Sequence[Line], *, known: frozenset[LedgerKey] = frozenset()) -> list[HoldRow]:
    """
    Parameters of `HOLD`; keys in *known* count the call already.
    """
    return [
        (
            *sqlite_rows.key_columns(line.key),
            line.amount,
            line.key not in known,
            books.MAX_AMOUNT if line.limit is None else line.limit,
        )
        for line in lines
    ]


def hold(
    db: sqlite3.Connection, lines: Sequence[Line], rows: Sequence[HoldRow], *, now: float
) -> Refusal | tuple[RefusedLine, ...]:
    """
    Add *lines* to what is pending, or roll back; some balances may not be there yet.

    Returns what did not fit and is not enforced.
    """
    over = []
    for index, (line, row) in enumerate(zip(lines, rows, strict=True)):
        if line.kind == "window" and _add(db, row):
            continue
        unfit = sqlite_lines.unfit(db, line, now)
        if unfit is not None and line.enforce:
            # The lines before did fit, and none of those after has been touched.
            found = [sqlite_lines.unfit(db, each, now) for each in lines[index:]]
            db.execute("ROLLBACK")
            return Refusal(tuple(refused for refused in found if refused and refused.line.enforce))
        if unfit is not None:
            over.append(unfit)
        if line.kind == "rate":
            sqlite_lines.take(db, line, now)
        _add(db, (*row[:6], books.MAX_AMOUNT))
    return tuple(over)


def _add(db: sqlite3.Connection, row: HoldRow) -> int:
    return db.execute(sqlite_schema.HOLD, row).rowcount or db.execute(sqlite_schema.HOLD_FIRST, row).rowcount


def end(
    db: sqlite3.Connection,
    reservation_id: str,
    state: books.State,
    ending: Ending,
    amounts: Mapping[LedgerKey, int],
    *,
    now: float,
) -> Settled:
    """
    Spend what *ending* says in place of what the call holds, or has spent.
    """
    taken = db.execute(sqlite_schema.TAKE, (reservation_id,)).fetchall()
    if taken:
        call = Call(reservation_id, "pending", *taken[0])
        ending = ending.for_lines(call, amounts)
        write_end(db, call, state, ending, ending.rows)
        if ending.has_rates:
            held = [line.amount for line in call.lines()]
            sqlite_lines.give_back(db, ending.lines, held, ending.booked, now - call.at)
        return books.SETTLED[books.ENDS["pending", state], ending.is_overrun]
    call = find(db, reservation_id)
    ending = ending.for_lines(call, amounts)
    before = sqlite_rows.read_booked(call.booked_text)
    how = books.how_ends(reservation_id, call.state, state, is_same=ending.booked == before)
    if how != "replayed":
        write_end(db, call, state, ending, _corrections(ending, before))
        if ending.has_rates:
            sqlite_lines.give_back(db, ending.lines, before, ending.booked, now - call.at)
    return books.SETTLED[how, ending.is_overrun]


def write_end(
    db: sqlite3.Connection, call: Call, state: books.State, ending: Ending, rows: list[BookRow]
) -> None:
    """
    Change the balances by *rows*, and write the entry.
    """
    if rows and db.executemany(sqlite_schema.BOOK, rows).rowcount != len(rows):
        for row in rows:  # one has no balance yet
            db.execute(sqlite_schema.BOOK_FIRST, row[:5])
    ended = (
        call.id,
        call.at if ending.entry_at_s is None else ending.entry_at_s,
        state,
        call.expires_at_s,
        ending.lines_text,
        sqlite_rows.write_booked(ending.booked),
        ending.entry_text,
    )
    db.execute(sqlite_schema.END, ended)


def _corrections(ending: Ending, before: books.Booked) -> list[BookRow]:
    """
    How the balances change where *before* is spent already, and nothing is held.
    """
    spent = before + (0,) * (len(ending.booked) - len(before))
    return [
        (*row[:4], new - old, 0, False)
        for row, new, old in zip(ending.rows, ending.booked, spent, strict=True)
    ]
