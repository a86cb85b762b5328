"""
Calls in the order of time, however many: on disk, in a file that has no name and goes with its process.
"""

from __future__ import annotations

import copyreg
import pickle
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from bedrock_guard.replay.records import LoggedCall

# Of memory, for what is being sorted; the rest lies on the disk.
_CACHE_KB: Final = 16_384


def _reduce(view: MappingProxyType[Any, Any]) -> tuple[type[dict[Any, Any]], tuple[dict[Any, Any]]]:
    return dict, (dict(view),)


class _Pickler(pickle.Pickler):
    # What is empty in a call is a view of a mapping, which pickle does not know; a mapping is as good.
    dispatch_table = copyreg.dispatch_table | {MappingProxyType: _reduce}


class SortingFailed(Exception):
    """
    The disk does not take them; the text says what to do.
    """


class SortedCalls:
    """
    Takes calls as they are read, and gives them back by time; those of a moment as they came.

    Attributes:
        count: How many are in it.
    """

    def __init__(self) -> None:
        # Without a name, so that SQLite makes a temporary file, and deletes it.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (request BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("CREATE TABLE call (number INTEGER PRIMARY KEY, at REAL, told BLOB)")
        self._db.execute("BEGIN")
        self.count = 0

    def add(self, call: LoggedCall) -> bool:
        """
        Keep *call*; False where one of its request is there, as logs that went to two places have it twice.

        Raises:
            SortingFailed: There is no room for it.
        """
        try:
            return self._add(call)
        except sqlite3.Error as error:
            raise SortingFailed(_told(error)) from error

    def __iter__(self) -> Iterator[LoggedCall]:
        try:
            self._db.execute("CREATE INDEX IF NOT EXISTS by_time ON call (at, number)")
            for (told,) in self._db.execute("SELECT told FROM call ORDER BY at, number"):
                yield pickle.loads(told)  # noqa: S301 - by `add`, in a file that nobody else can open
        except sqlite3.Error as error:
            raise SortingFailed(_told(error)) from error

    def _add(self, call: LoggedCall) -> bool:
        if call.request_id:
            digest = blake2b(call.request_id.encode(errors="backslashreplace"), digest_size=16).digest()
            if not self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount:
                return False
        told = BytesIO()
        _Pickler(told, pickle.HIGHEST_PROTOCOL).dump(call)
        self._db.execute("INSERT INTO call (at, told) VALUES (?, ?)", (call.at_s, told.getvalue()))
        self.count += 1
        return True

    def close(self) -> None:
        """
        Give the disk back.
        """
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _told(error: sqlite3.Error) -> str:
    return (
        f"Calls cannot be sorted in a temporary file: {error}. It takes some 700 bytes a call; "
        "name a folder that has room: SQLITE_TMPDIR=/folder."
    )
