"""
A ledger in one SQLite file, shared by all processes of a machine.

Nothing is lost when a process dies at any moment; `?sync=full` survives a power
cut too, at the price of waiting for the disk. Not for network file systems:
the write-ahead log needs memory that all processes share.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from typing import Final, Self

from bedrock_guard.domain.alert_claim import RETRY_AFTER_S, AlertClaim
from bedrock_guard.domain.control import CHANGED, Control, Controls, ControlsChanged
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import (
    Balance,
    Clock,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    Reservation,
    Settled,
    SweepReport,
)
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers import (
    books,
    sqlite_books,
    sqlite_controls,
    sqlite_entries,
    sqlite_lines,
    sqlite_rows,
    sqlite_schema,
    sqlite_sweeping,
)
from bedrock_guard.ledgers.lines import with_kinds
from bedrock_guard.ledgers.sqlite_books import Ending
from bedrock_guard.ledgers.sqlite_file import SQLiteFile
from bedrock_guard.ledgers.url import read_url

# How long a call waits before it is refused.
WAIT_S: Final = 2.0
# An end keeps nobody waiting for an answer from AWS: it can be written in the background, so that the
# caller, who has it already, is not kept for long. Eight writers without a pause wait a quarter of this.
END_WAIT_S: Final = 1.0
SYNC: Final = ("normal", "full")
ACCESS: Final = ("read", "write")


class SQLiteLedger:
    """
    Every change is one short transaction, so that the lock is held for microseconds.

    Attributes:
        path: The file, links resolved.
    """

    blocking = True

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        sync: str = "normal",
        wait_s: float = WAIT_S,
        read_only: bool = False,
    ) -> None:
        self._clock = clock
        self._file = SQLiteFile(path, synchronous=sync, wait_s=wait_s, read_only=read_only)
        self._finalizer = weakref.finalize(self, self._file.close)
        self._steered = sqlite_controls.Steered()
        self.path = self._file.path
        # What is wrong with the file shows now, not at the first call.
        if read_only:
            self._file.read(lambda _: None)
        else:
            self._file.write(lambda _: None)

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        The ledger in the file that *url* names, made with its folders if it does not exist.
        """
        path, given = read_path(url)
        return cls(
            path,
            clock=clock,
            sync=given.get("sync", "normal"),
            read_only=given.get("access") == "read",
        )

    def reserve(
        self,
        lines: Sequence[Line],
        *,
        entry: Entry,
        hold_s: float,
        on_expiry: OnExpiry,
        controls: int | None = None,
    ) -> Reservation | Refusal | ControlsChanged:
        """
        Hold every line, or none.
        """
        wanted = books.merge(lines)
        now = self._clock()
        expires_at_s = now + hold_s
        reservation = Reservation(entry.id, wanted, expires_at_s)
        # What can be made ready before the lock is held is; others wait for what is done under it.
        lines_text, entry_text = sqlite_rows.write_lines(wanted), sqlite_rows.write_entry(entry)
        row = (entry.id, entry.at_s, expires_at_s, on_expiry, lines_text, entry_text)
        row_by = (*row, controls)
        holds = sqlite_books.hold_rows(wanted)
        are_windows = all(line.kind == "window" for line in wanted)

        def work(db: sqlite3.Connection) -> Reservation | Refusal | ControlsChanged:
            is_steered = controls is not None and self._steered.is_so(db)
            if controls and not is_steered:  # the file was there with others before
                return CHANGED
            opening, values = (sqlite_schema.OPEN_BY, row_by) if is_steered else (sqlite_schema.OPEN, row)
            if not db.execute(opening, values).rowcount:
                known = sqlite_books.find_if_known(db, entry.id)
                if known is None:
                    return CHANGED
                if known.state == "recorded":
                    raise books.already(entry.id, known.state)
                return Reservation(entry.id, with_kinds(known.lines(), wanted), known.expires_at_s)
            if are_windows:
                if db.executemany(sqlite_schema.HOLD, holds).rowcount == len(holds):
                    return reservation
                # One does not fit, or has no balance yet: once more from the start, one by one.
                db.execute("ROLLBACK")
                db.execute("BEGIN IMMEDIATE")
                db.execute(opening, values)
            found = sqlite_books.hold(db, wanted, holds, now=now)
            return found if isinstance(found, Refusal) else reservation._replace(over=found)

        return self._file.write(work)

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        more = books.merge(lines)

        def work(db: sqlite3.Connection) -> Reservation | Refusal:
            call = sqlite_books.find(db, reservation.id)
            if call.state != "pending":
                raise books.already(reservation.id, call.state)
            held = with_kinds(call.lines(), reservation.lines)
            together = books.merge((*held, *more))
            rows = sqlite_books.hold_rows(more, known=frozenset(line.key for line in held))
            now = self._clock()
            found = sqlite_books.hold(db, more, rows, now=now)
            if isinstance(found, Refusal):
                return found
            expires_at_s = call.expires_at_s
            if hold_s is not None:
                expires_at_s = max(expires_at_s, now + hold_s)
            db.execute(
                sqlite_schema.EXTEND, (reservation.id, sqlite_rows.write_lines(together), expires_at_s)
            )
            return Reservation(reservation.id, together, expires_at_s, found)

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
        row = (entry.id, entry.at_s, entry.count, sqlite_rows.write_entry(entry), entry.over_at_s)
        self._file.write(lambda db: db.execute(sqlite_schema.RECORD, row).rowcount, most_wait_s=END_WAIT_S)

    def controls(self) -> Controls:
        """
        Stops and top-ups, and their version.
        """
        return self._file.read(sqlite_controls.read)

    def write_control(self, control: Control, entry: Entry) -> int:
        """
        Put *control* into the record, and *entry* into the journal; the new version.
        """
        return self._file.write(
            lambda db: sqlite_controls.write(db, control, entry, now=self._clock(), path=self.path)
        )

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        if keys is None:
            return self._file.read(sqlite_lines.all_balances)
        return self._file.read(lambda db: [sqlite_lines.balance(db, key) for key in keys])

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        return self._file.read(lambda db: sqlite_entries.read_page(db, where, after, limit))

    def drop_entries(self, *, before: float, limit: int = 1000) -> int:
        """
        Forget old entries, at most *limit*; what they had spent is added up for `ledger check`.

        A file of the schema before has no place for the sums, and keeps its entries until it is migrated.
        """

        def is_there(db: sqlite3.Connection) -> bool:
            if sqlite_schema.read_schema(db) < sqlite_schema.FORGETS_SINCE:
                return False
            return db.execute(sqlite_schema.OLD, (before, 1)).fetchone() is not None

        if not self._file.read(is_there):
            return 0
        return self._file.write(lambda db: sqlite_entries.drop(db, before, limit))

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End the reservations whose time is over, each by its own `on_expiry`.
        """
        if not self._file.read(lambda db: db.execute(sqlite_schema.IS_DUE, (now,)).fetchone()):
            return SweepReport()
        return self._file.write(lambda db: sqlite_sweeping.sweep(db, now=now, limit=limit))

    def claim_alert(self, claim: AlertClaim, *, retry_after_s: float = RETRY_AFTER_S) -> bool:
        """
        Whether the caller is to tell it; in a file of the schema before, each process is.
        """
        now = self._clock()
        if not self._has_claims():
            return True
        row = (claim.id, now, claim.forget_at_s, claim.alert, now - retry_after_s)

        def work(db: sqlite3.Connection) -> bool:
            is_ours = db.execute(sqlite_schema.CLAIM, row).rowcount > 0
            if is_ours:
                db.execute(sqlite_schema.FORGET_CLAIMS, (now,))
            return is_ours

        return self._file.write(work)

    def confirm_alert(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        if self._has_claims():
            self._file.write(lambda db: db.execute(sqlite_schema.CONFIRM, (claim.id,)).rowcount)

    def unconfirmed_alerts(self, *, limit: int = 100) -> list[AlertClaim]:
        """
        Claims that are not confirmed, the oldest first; at most *limit*.
        """
        if not self._has_claims():
            return []
        rows = self._file.read(lambda db: db.execute(sqlite_schema.UNCONFIRMED, (limit,)).fetchall())
        return [AlertClaim(*row) for row in rows]

    def close(self) -> None:
        """
        Close the file; the ledger cannot be used afterwards.
        """
        self._finalizer()

    def _has_claims(self) -> bool:
        return self._file.read(sqlite_schema.read_schema) >= sqlite_schema.CLAIMS_SINCE

    def _end(
        self,
        reservation: Reservation,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        ending = Ending.of(reservation.lines, amounts, entry)
        now = self._clock() if ending.has_rates else 0.0
        return self._file.write(
            lambda db: sqlite_books.end(db, reservation.id, end, ending, amounts, now=now),
            most_wait_s=END_WAIT_S,
        )


def read_path(url: str) -> tuple[str, dict[str, str]]:
    """
    The file that *url* names, and its parameters.

    Raises:
        ConfigurationError: It names none, or a parameter is unknown.
    """
    location, given = read_url(url, {"sync": SYNC, "access": ACCESS})
    path = location.removeprefix("/")
    if path == location or not path:
        raise ConfigurationError(
            f"{url!r} names no file. Write sqlite:///relative.db or sqlite:////absolute/path.db."
        )
    if path == ":memory:":
        raise ConfigurationError(f"{url!r}: a ledger in memory is memory://.")
    return path, given
