"""
One SQLite file: its connections, its locks, and what its errors mean.

    write(work)   in line for the lock, then BEGIN IMMEDIATE, work, COMMIT; or nothing
    read(work)    on a connection of its own that only reads, and waits for no writer
    alone(work)   in line for the lock, without a transaction: VACUUM must not be in one

Threads of this process take turns at a `ThreadLock`, processes at a `FileLock`; an
interrupt at any step leaves both free, and the next one in finds nothing half done.
Before a fork the connections are closed, for SQLite's must not cross one; parent and
child open their own when they next need them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite_schema
from bedrock_guard.ledgers.books import MAX_AMOUNT
from bedrock_guard.ledgers.file_lock import FileLock
from bedrock_guard.ledgers.thread_lock import ThreadLock

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], T]

# What to do, by SQLite's primary result code; the text of the error itself says what happened.
ADVICE: Final[dict[int, str]] = {
    sqlite3.SQLITE_BUSY: "Another program holds it in a transaction.",
    sqlite3.SQLITE_CANTOPEN: "The file and its folder must exist and be writable.",
    sqlite3.SQLITE_CONSTRAINT: f"A ledger counts whole numbers from 0 to {MAX_AMOUNT}.",
    sqlite3.SQLITE_CORRUPT: "Move it away, or restore a copy.",
    sqlite3.SQLITE_FULL: "Make room, or name a file on another disk.",
    sqlite3.SQLITE_NOTADB: "Name another file, or move this one away.",
    sqlite3.SQLITE_READONLY: "The file and its folder must be writable.",
}

# A COMMIT that failed otherwise may have reached the disk all the same.
_NOT_DONE: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)

_FORK_WAIT_S: Final = 5.0
# Between two looks whether another program's transaction is over.
_BUSY_SLEEP_S: Final = 1e-3


class SQLiteFile:
    """
    Opens on use, and again after an error: a disk that recovers needs no restart.
    """

    def __init__(self, path: str, *, synchronous: str, wait_s: float, read_only: bool = False) -> None:
        # Two names of one file must come to one lock.
        self.path = os.path.realpath(path)
        self._synchronous = synchronous
        self._read_only = read_only
        self._wait_s = wait_s
        self._is_closed = False
        self._lock: FileLock | None = None
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_lock = ThreadLock()
        self._read_lock = ThreadLock()
        self._is_forking = False
        self._inherited: list[object] = []
        _close_before_forks(self)

    def write(self, work: Work[T], *, most_wait_s: float | None = None) -> T:
        """
        What *work* returns; what it wrote is kept, unless it raises or rolls back itself.

        Waits as long as the file says, and no longer than *most_wait_s*.
        """
        wait_s = self._wait_s if most_wait_s is None else min(most_wait_s, self._wait_s)
        return self._in_turn(self._in_transaction, work, wait_s)

    def alone(self, work: Work[T]) -> T:
        """
        What *work* returns, which begins and ends its own transactions while nobody else writes.
        """
        return self._in_turn(_with_patience, work, self._wait_s)

    def read(self, work: Work[T]) -> T:
        """
        What *work* returns, from one moment of the books.
        """
        self._check_outside(self._read_lock)

        def run() -> T:
            try:
                db = self._reader or self._open_reader()
                db.execute("BEGIN")
                return work(db)
            except sqlite3.Error:
                self._drop_reader()
                raise

        try:
            return self._read_lock.hold(run, clean=self._clean_reader, timeout_s=self._wait_s)
        except TimeoutError:
            raise self._timed_out(self._wait_s) from None
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """
        Close for good; a transaction under way is waited for.
        """
        self._is_closed = True
        for lock, clean in ((self._write_lock, self._clean_writer), (self._read_lock, self._clean_reader)):
            if not lock.is_ours:  # else it is closed when that is over
                lock.hold(_nothing, clean=clean, timeout_s=threading.TIMEOUT_MAX)

    def before_fork(self) -> None:
        """
        Close what must not cross a fork, between two transactions.
        """
        locks = (self._write_lock, self._read_lock)
        if any(lock.is_ours for lock in locks):  # a signal handler forks, half-way through
            return
        self._is_forking = True
        taken = [lock.enter(timeout_s=_FORK_WAIT_S) for lock in locks]
        if all(taken):
            self._drop_writer()
            self._drop_reader()

    def after_fork_in_parent(self) -> None:
        """
        Go on.
        """
        if self._is_forking:
            self._is_forking = False
            self._write_lock.leave()
            self._read_lock.leave()

    def after_fork_in_child(self) -> None:
        """
        Begin afresh; what could not be closed is kept, unused, for to close it here would harm the parent.
        """
        self._inherited += [self._writer, self._reader, self._lock]
        self._writer = self._reader = self._lock = None
        self._write_lock, self._read_lock = ThreadLock(), ThreadLock()
        self._is_forking = False

    def _in_turn(
        self, how: Callable[[Work[T], sqlite3.Connection, float], T], work: Work[T], wait_s: float
    ) -> T:
        if self._read_only:
            raise LedgerUnavailable(f"Ledger {self.path} is opened to read only.")
        self._check_outside(self._write_lock)
        deadline = time.monotonic() + wait_s

        def run() -> T:
            try:
                db = self._writer or self._open_writer(deadline)
                self._stand_in_line(deadline)
                return how(work, db, deadline)
            except sqlite3.Error:
                self._drop_writer()
                raise

        try:
            return self._write_lock.hold(run, clean=self._clean_writer, timeout_s=wait_s)
        except TimeoutError:
            raise self._timed_out(wait_s) from None
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _in_transaction(self, work: Work[T], db: sqlite3.Connection, deadline: float) -> T:
        _begin(db, deadline)
        result = work(db)
        if db.in_transaction:
            self._commit(db)
        return result

    def _clean_writer(self) -> None:
        """
        Undo what was not committed, and let other processes in, from wherever an interrupt left it.
        """
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:  # it was being closed
            self._drop_writer()
        if self._lock is not None:
            self._lock.release()
        if self._is_closed:
            self._drop_writer()

    def _clean_reader(self) -> None:
        try:
            if self._reader is not None and self._reader.in_transaction:
                self._reader.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_reader()
        if self._is_closed:
            self._drop_reader()

    def _check_outside(self, lock: ThreadLock) -> None:
        # A stream that is collected, or a signal, while this very thread is half-way through.
        if lock.is_ours:
            raise LedgerUnavailable(f"Ledger {self.path} was called from inside itself; try again later.")

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._drop_writer()
            is_known = _primary_code(error) in _NOT_DONE
            raise self._unavailable(error, "not_done" if is_known else "unknown") from error

    def _stand_in_line(self, deadline: float) -> None:
        if self._lock is None or not self._lock.acquire(timeout_s=deadline - time.monotonic()):
            raise TimeoutError

    def _open_writer(self, deadline: float) -> sqlite3.Connection:
        self._check_open()
        self._drop_writer()
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self.path}.lock")
        except OSError as error:
            raise self._unavailable(error) from error
        # Making tables, and changing to a write-ahead log, need the file alone.
        self._stand_in_line(deadline)
        db = self._connect(deadline - time.monotonic())
        try:
            sqlite_schema.prepare(db, self.path, synchronous=self._synchronous)
            _let_wait(db, 0)
        except BaseException:
            db.close()
            raise
        self._writer = db
        return db

    def _open_reader(self) -> sqlite3.Connection:
        self._check_open()
        db = self._connect(self._wait_s)
        try:
            db.execute("PRAGMA query_only = ON")
            if self._read_only:
                sqlite_schema.check(db, self.path)
        except BaseException:
            db.close()
            raise
        self._reader = db
        return db

    def _connect(self, wait_s: float) -> sqlite3.Connection:
        # SQLite's own waiting is for other programs: ours stand in line at the lock.
        name = f"{Path(self.path).as_uri()}?mode=ro" if self._read_only else self.path
        return sqlite3.connect(
            name,
            timeout=max(0.0, wait_s),
            isolation_level=None,
            check_same_thread=False,
            uri=self._read_only,
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise LedgerUnavailable(f"Ledger {self.path} is closed.")

    def _drop_writer(self) -> None:
        if self._writer is not None:
            _close_quietly(self._writer)
            self._writer = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _drop_reader(self) -> None:
        if self._reader is not None:
            _close_quietly(self._reader)
            self._reader = None

    def _timed_out(self, wait_s: float) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"Ledger {self.path} was not free within {wait_s:g} s: another process or thread holds it."
        )

    def _unavailable(
        self, error: Exception, outcome: Literal["not_done", "unknown"] = "not_done"
    ) -> LedgerUnavailable:
        advice = ADVICE.get(_primary_code(error), "")
        return LedgerUnavailable(f"Ledger {self.path} cannot be used: {error}. {advice}".rstrip(), outcome)


def _begin(db: sqlite3.Connection, deadline: float) -> None:
    """
    Begin to write; ours have stood in line by now, so that only other programs are waited for.

    SQLite's own wait has one length for all, and hears no Ctrl-C.
    """
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_SLEEP_S)
        else:
            return


def _with_patience(work: Work[T], db: sqlite3.Connection, deadline: float) -> T:
    _let_wait(db, deadline - time.monotonic())
    return work(db)


def _let_wait(db: sqlite3.Connection, wait_s: float) -> None:
    db.execute(f"PRAGMA busy_timeout = {max(0, int(wait_s * 1000))}")


def _nothing() -> None:
    pass


def _close_quietly(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        db.close()


def _primary_code(error: Exception) -> int:
    # The higher bytes of a result code only refine it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _close_before_forks(file: SQLiteFile) -> None:
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    this = weakref.ref(file)

    def tell(method: Callable[[SQLiteFile], None]) -> Callable[[], None]:
        def run() -> None:
            alive = this()
            if alive is not None:
                method(alive)

        return run

    os.register_at_fork(
        before=tell(SQLiteFile.before_fork),
        after_in_parent=tell(SQLiteFile.after_fork_in_parent),
        after_in_child=tell(SQLiteFile.after_fork_in_child),
    )
