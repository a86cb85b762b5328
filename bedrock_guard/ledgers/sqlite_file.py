"""
One SQLite file: its connections, its locks, and what its errors mean.

    write(work)   in line for the lock, then BEGIN IMMEDIATE, work, COMMIT; or nothing
    read(work)    on a connection of its own that only reads, and waits for no writer
    alone(work)   in line for the lock, without a transaction: VACUUM must not be in one

Threads of this process take turns at a mutex, processes at a `FileLock`. Before
a fork the connections are closed, for SQLite's must not cross one; parent and
child open their own when they next need them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeVar

from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite_schema
from bedrock_guard.ledgers.books import MAX_AMOUNT
from bedrock_guard.ledgers.file_lock import FileLock

T = TypeVar("T")

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
        self._write_mutex = threading.Lock()
        self._read_mutex = threading.Lock()
        self._writing_thread: int | None = None
        self._taken_for_fork: list[threading.Lock] = []
        self._inherited: list[object] = []
        _close_before_forks(self)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        What *work* returns; what it wrote is kept, unless it raises or rolls back itself.
        """
        return self._in_turn(lambda deadline: self._write_alone(work, deadline))

    def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        What *work* returns, which begins and ends its own transactions while nobody else writes.
        """

        def run(deadline: float) -> T:
            with self._held(deadline) as db:
                return work(db)

        return self._in_turn(run)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        What *work* returns, from one moment of the books.
        """
        mutex = self._read_mutex
        is_ours = False
        try:
            is_ours = mutex.acquire(timeout=self._wait_s)
            if not is_ours:
                raise self._timed_out()
            db = self._reader or self._open_reader()
            db.execute("BEGIN")
            return work(db)
        except sqlite3.Error as error:
            self._drop_reader()
            raise self._unavailable(error) from error
        finally:
            if is_ours:
                if self._reader is not None and self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")
                mutex.release()

    def close(self) -> None:
        """
        Close for good; a transaction under way is waited for.
        """
        self._is_closed = True
        with self._write_mutex:
            self._drop_writer()
        with self._read_mutex:
            self._drop_reader()

    def before_fork(self) -> None:
        """
        Close what must not cross a fork, between two transactions.
        """
        mutexes = (self._write_mutex, self._read_mutex)
        self._taken_for_fork = [mutex for mutex in mutexes if mutex.acquire(timeout=_FORK_WAIT_S)]
        if len(self._taken_for_fork) == len(mutexes):
            self._drop_writer()
            self._drop_reader()

    def after_fork_in_parent(self) -> None:
        """
        Go on.
        """
        for mutex in self._taken_for_fork:
            mutex.release()
        self._taken_for_fork = []

    def after_fork_in_child(self) -> None:
        """
        Begin afresh; what could not be closed is kept, unused, for to close it here would harm the parent.
        """
        self._inherited += [self._writer, self._reader, self._lock]
        self._writer = self._reader = self._lock = self._writing_thread = None
        self._write_mutex, self._read_mutex = threading.Lock(), threading.Lock()
        self._taken_for_fork = []

    def _in_turn(self, run: Callable[[float], T]) -> T:
        if self._read_only:
            raise LedgerUnavailable(f"Ledger {self.path} is opened to read only.")
        # A stream that is collected, or a signal, while this very thread is half-way through.
        if self._writing_thread == threading.get_ident():
            raise LedgerUnavailable(f"Ledger {self.path} was called from inside itself; try again later.")
        deadline = time.monotonic() + self._wait_s
        mutex = self._write_mutex
        is_ours = False
        try:
            is_ours = mutex.acquire(timeout=self._wait_s)
            if not is_ours:
                raise self._timed_out()
            self._writing_thread = threading.get_ident()
            return run(deadline)
        finally:
            if is_ours:
                self._writing_thread = None
                mutex.release()

    def _write_alone(self, work: Callable[[sqlite3.Connection], T], deadline: float) -> T:
        with self._held(deadline) as db:
            db.execute("BEGIN IMMEDIATE")
            result = work(db)
            if db.in_transaction:
                self._commit(db)
            return result

    @contextmanager
    def _held(self, deadline: float) -> Iterator[sqlite3.Connection]:
        """
        The writing connection, while no other process of ours writes.
        """
        try:
            db = self._writer or self._open_writer(deadline)
            self._stand_in_line(deadline)
            yield db
        except sqlite3.Error as error:
            self._drop_writer()
            raise self._unavailable(error) from error
        finally:
            if self._writer is not None and self._writer.in_transaction:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            if self._lock is not None:
                self._lock.release()

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._drop_writer()
            is_known = _primary_code(error) in _NOT_DONE
            raise self._unavailable(error, "not_done" if is_known else "unknown") from error

    def _stand_in_line(self, deadline: float) -> None:
        if self._lock is None or not self._lock.acquire(timeout_s=deadline - time.monotonic()):
            raise self._timed_out()

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
        db = self._connect()
        try:
            sqlite_schema.prepare(db, self.path, synchronous=self._synchronous)
        except BaseException:
            db.close()
            raise
        self._writer = db
        return db

    def _open_reader(self) -> sqlite3.Connection:
        self._check_open()
        db = self._connect()
        try:
            db.execute("PRAGMA query_only = ON")
            if self._read_only:
                sqlite_schema.check(db, self.path)
        except BaseException:
            db.close()
            raise
        self._reader = db
        return db

    def _connect(self) -> sqlite3.Connection:
        # SQLite's own waiting is for other programs: ours stand in line at the lock.
        name = f"{Path(self.path).as_uri()}?mode=ro" if self._read_only else self.path
        return sqlite3.connect(
            name,
            timeout=self._wait_s,
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

    def _timed_out(self) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"Ledger {self.path} was not free within {self._wait_s:g} s: another process or thread holds it."
        )

    def _unavailable(
        self, error: Exception, outcome: Literal["not_done", "unknown"] = "not_done"
    ) -> LedgerUnavailable:
        advice = ADVICE.get(_primary_code(error), "")
        return LedgerUnavailable(f"Ledger {self.path} cannot be used: {error}. {advice}".rstrip(), outcome)


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
