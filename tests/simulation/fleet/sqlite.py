"""
Ledgers on one SQLite file: no network, but processes that die between any two statements, and clocks that lie.

The file and its locks are the machine's own; only waiting is virtual.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from simulation.fleet import seams
from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Kept, Oracle, Story, Wrong
from simulation.fleet.scenario import Scenario
from simulation.fleet.world import World

from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers import sqlite_rows
from bedrock_guard.ledgers.sqlite import SQLiteLedger

_IN_MEMORY: Final = Path("/dev/shm")
# Where the files are.
IN = _IN_MEMORY if _IN_MEMORY.is_dir() else None
# Of a statement, and of a look whether another's transaction is over.
STATEMENT_S: Final = (10e-6, 200e-6)
BUSY_S: Final = 20e-3
LOOKS_EVERY_S: Final = 20e-3
# All books are added up after every so many commits; caps are looked at after each.
SUMS_EVERY: Final = 8

_CALLS: Final = """
SELECT id, 'pending', lines, NULL, 1 FROM reservation UNION ALL
SELECT id, state, lines, booked, entry IS NOT NULL FROM entry WHERE state <> 'recorded'
"""
_HELD: Final = "SELECT id, lines FROM reservation"
_BALANCES: Final = "SELECT budget, rule, per, window_start, spent, pending FROM balance"


class SQLiteStore:
    """
    One file, in memory where the machine has such a folder.
    """

    faults: Mapping[str, float] = {"none": 0.0}
    network = None
    has_calls = True
    # Connections are the machine's own, and cannot be copied; tests/unit forks real processes.
    can_fork = False

    def __init__(self, world: World, scenario: Scenario, oracle: Oracle) -> None:
        self._world, self._oracle = world, oracle
        self._folder = tempfile.mkdtemp(dir=IN)
        self.path = f"{self._folder}/ledger.db"
        self._books: sqlite3.Connection | None = None
        self._commits = 0
        self._seen: set[str] = set()

    @contextmanager
    def installed(self, world: World) -> Iterator[None]:
        """
        While this lasts, ledgers are on it.
        """
        with seams.installed(world, connect=self._connect):
            yield

    def open(self, node: Node) -> SQLiteLedger:
        """
        The ledger of a process.
        """
        node.least_sleep_s = LOOKS_EVERY_S
        return SQLiteLedger.open(f"sqlite:///{self.path}", clock=node.clock)

    def close(self) -> None:
        """
        Leave nothing behind.
        """
        if self._books is not None:
            self._books.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def fork(self, node: Node, child: Node) -> None:
        """
        Not here.
        """
        raise NotImplementedError

    def check_admitted(self, node: Node, story: Story) -> None:
        """
        The commit was looked at already.
        """

    def told(self, story: Story) -> None:
        """
        A process was told that a call has ended.
        """
        self._oracle.book(story)

    def is_whole(self, node: Node) -> bool:
        """
        Whether a process that has left could write all that it knew.
        """
        return True

    def check_calls(self, listed: Counter[str]) -> None:
        """
        All calls, when all is over; *listed* is how often the journal has each.
        """
        kept = self.calls()
        for id_ in {**self._oracle.stories, **kept}:
            self._oracle.check_call(id_, kept.get(id_), listed[id_])

    def calls(self) -> dict[str, Kept]:
        """
        Every call that is kept.
        """
        return {
            id_: Kept(state, _read_lines(lines or "[]"), sqlite_rows.read_booked(booked), bool(has_entry))
            for id_, state, lines, booked, has_entry in self._read(_CALLS)
        }

    def check(self) -> None:
        """
        All balances, when all is over.
        """
        self._check_sums()
        for *columns, spent, pending in self._read(_BALANCES):
            if pending:
                raise Wrong(f"{columns} is at rest at {spent}, and {pending} is held")

    def committed(self) -> None:
        """
        Somebody has written: nothing may be above its limit, and what is held and spent be what calls say.
        """
        self._commits += 1
        sums = self._check_balances()
        for id_, lines in self._read(_HELD):
            story = self._oracle.stories.get(id_)
            if story is not None and id_ not in self._seen:
                self._seen.add(id_)
                for line in _read_lines(lines):
                    if line.kind == "window":
                        self._oracle.check_cap(story, line.key, sums[line.key])
        if self._commits % SUMS_EVERY == 0:
            self._check_sums()

    def _check_balances(self) -> dict[LedgerKey, int]:
        """
        What is used of each balance.
        """
        sums: dict[LedgerKey, int] = {}
        for budget, rule, per, start, spent, pending in self._read(_BALANCES):
            key = _read_key(budget, rule, per, start)
            if "/rolling " not in rule:
                self._oracle.check_balance(key, spent + pending, spent)
            sums[key] = spent + pending
        return sums

    def _check_sums(self) -> None:
        wanted: dict[LedgerKey, list[int]] = {}
        for call in self.calls().values():
            for key, (used, spent) in call.sums().items():
                sums = wanted.setdefault(key, [0, 0])
                sums[0] += used
                sums[1] += spent
        for *columns, spent, pending in self._read(_BALANCES):
            key = _read_key(*columns)
            found = wanted.pop(key, [0, 0])
            if found != [spent + pending, spent]:
                raise Wrong(f"{key} is at {spent + pending} used, {spent} spent; its calls come to {found}")
        left = {key: sums for key, sums in wanted.items() if sums != [0, 0]}
        if left:
            raise Wrong(f"calls come to {left}, and there are no such balances")

    def _read(self, statement: str) -> list[Any]:
        if self._books is None:
            self._books = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        return self._books.execute(statement).fetchall()

    def _connect(self, path: str, *, timeout: float = 5.0, **named: Any) -> sqlite3.Connection:
        world = self._world

        class Connection(_Connection):
            node: Any = world.task().owner
            store = self
            busy_s = timeout

        found = sqlite3.connect(path, timeout=0, factory=Connection, **named)
        Connection.node.connections.append(found)
        return found


class _Connection(sqlite3.Connection):
    """
    Each statement takes a moment, in which others go on, or this process dies.
    """

    node: Any
    store: SQLiteStore
    busy_s: float

    def execute(self, statement: str, *args: Any) -> sqlite3.Cursor:
        if statement.startswith("PRAGMA busy_timeout"):
            self.busy_s = int(statement.partition("=")[2]) / 1000
            return super().execute("SELECT 1")
        return self._run(super().execute, statement, *args)

    def executemany(self, statement: str, rows: Any) -> sqlite3.Cursor:
        return self._run(super().executemany, statement, rows)

    def executescript(self, statements: str) -> sqlite3.Cursor:
        return self._run(super().executescript, statements)

    def close(self) -> None:
        self._pause()
        if self in self.node.connections:
            self.node.connections.remove(self)
        super().close()

    def _run(self, run: Any, statement: str, *args: Any) -> sqlite3.Cursor:
        until_s = self.node.monotonic() + self.busy_s
        while True:
            self._pause()
            try:
                found: sqlite3.Cursor = run(statement, *args)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or self.node.monotonic() >= until_s:
                    raise
                self.node.sleep(BUSY_S)
                continue
            if statement == "COMMIT":
                self.store.committed()
            self._pause()
            return found

    def _pause(self) -> None:
        node = self.node
        node.world.task()  # the dead are told
        node.world.park(node.world.now + node.dice.uniform(*STATEMENT_S))


@lru_cache(maxsize=10_000)
def _read_key(*columns: Any) -> LedgerKey:
    return sqlite_rows.read_key(*columns)


@lru_cache(maxsize=10_000)
def _read_lines(text: str) -> tuple[Line, ...]:
    return sqlite_rows.read_lines(text)
