"""
Ctrl-C at every step of the SQLite ledger.

A signal's exception comes between two bytecodes. Here one is raised at the n-th bytecode that the
ledger's own modules run, for each n in turn, so that none is missed by luck; and then another
thread must find the ledger free, and the call's end must be booked once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from bedrock_guard import ledgers
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import LedgerKey, Line, Reservation
from bedrock_guard.ledgers.file_lock import FileLock
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import DAY, HOLD_S, NOW, TEAM, SetClock, books, hold, settle

LEDGERS = str(Path(ledgers.__file__).parent)
SPENT, HELD = 40, 60
# So many steps are as one in the quick test; a prime, that loops do not hide steps from it.
EVERY = 11


class Interrupt:
    """
    Raises KeyboardInterrupt at the *step*-th bytecode inside the ledger; counts them otherwise.
    """

    def __init__(self, step: int) -> None:
        self.steps = 0
        self._step = step

    def __call__(self, work: Callable[[], Any]) -> bool:
        """
        Whether it came to that while *work* ran.
        """
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(LEDGERS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.steps += 1
            if self.steps == self._step:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


class Trial(NamedTuple):
    """
    One operation that is interrupted: what it is called on, and what makes up for it.

    Attributes:
        before: What there must be; the name is the call's.
        work: What is interrupted.
        after: Ends the call all the same, and may not know how far it was.
        spent: What the call has spent then.
    """

    before: Callable[[SQLiteLedger, str], Any]
    work: Callable[[SQLiteLedger, Any], Any]
    after: Callable[[SQLiteLedger, Any], Any]
    spent: int


def hold_one(ledger: SQLiteLedger, name: str) -> Reservation:
    return hold(ledger, name, HELD, limit=None)


def settle_one(ledger: SQLiteLedger, reservation: Reservation) -> None:
    settle(ledger, reservation, SPENT)


def release(ledger: SQLiteLedger, reservation: Reservation) -> None:
    ledger.release(reservation)


def sweep(ledger: SQLiteLedger, _: Reservation) -> None:
    ledger.sweep(now=NOW + HOLD_S)


def extend(ledger: SQLiteLedger, reservation: Reservation) -> None:
    ledger.extend(reservation, [Line(DAY, None, 10), Line(TEAM, None, 10)], hold_s=1)


def read(ledger: SQLiteLedger, _: Reservation) -> None:
    books(ledger)


def open_another(ledger: SQLiteLedger, _: Reservation) -> None:
    SQLiteLedger(ledger.path, clock=SetClock()).close()


def hold_and_reopen(ledger: SQLiteLedger, name: str) -> Reservation:
    """
    After an error the next call opens the file anew.
    """
    reservation = hold_one(ledger, name)
    ledger._file._drop_writer()
    return reservation


TRIALS: dict[str, Trial] = {
    "reserve": Trial(
        lambda _, name: name, hold_one, lambda it, name: settle_one(it, hold_one(it, name)), SPENT
    ),
    "extend": Trial(hold_one, extend, settle_one, SPENT),
    "settle": Trial(hold_one, settle_one, settle_one, SPENT),
    "settle, opening": Trial(hold_and_reopen, settle_one, settle_one, SPENT),
    "release": Trial(hold_one, release, release, 0),
    "sweep": Trial(hold_one, sweep, sweep, HELD),
    "read": Trial(hold_one, read, settle_one, SPENT),
    "open and close": Trial(hold_one, open_another, settle_one, SPENT),
}


class Usable:
    """
    Sees that others come in: a thread, and a ledger like another process's.
    """

    def __init__(self, ledger: SQLiteLedger) -> None:
        self.ledger = ledger
        self._other = SQLiteLedger(ledger.path, clock=SetClock())
        self._asker = FileLock(f"{ledger.path}.lock")
        self._thread = ThreadPoolExecutor(1)

    def check(self, name: str) -> None:
        assert self._asker.acquire(timeout_s=0)
        self._asker.release()
        self._thread.submit(self._call, self.ledger, f"{name}, a thread").result(60)
        self._call(self._other, f"{name}, another")

    def close(self) -> None:
        self._thread.shutdown()
        self._asker.close()
        self._other.close()
        self.ledger.close()

    @staticmethod
    def _call(ledger: SQLiteLedger, name: str) -> None:
        free = LedgerKey("free", "USD", (), 0)
        settle(ledger, hold(ledger, name, Line(free, None, 1)), 0)
        assert ledger.balances([free])[0].pending == 0


@pytest.fixture
def usable(tmp_path: Path) -> Iterator[Usable]:
    usable = Usable(SQLiteLedger(str(tmp_path / "ledger.db"), clock=SetClock()))
    yield usable
    usable.close()


def check_steps(usable: Usable, trial: Trial, first: int, every: int) -> int:
    """
    Interrupt at step *first*, and at each *every*-th after it; how many there were.
    """
    ledger, step = usable.ledger, first
    for number in count():
        name = f"{step}"
        spent, pending = books(ledger)
        given = trial.before(ledger, name)

        came = Interrupt(step)(partial(trial.work, ledger, given))

        usable.check(name)
        trial.after(ledger, given)
        assert books(ledger) == (spent + trial.spent, pending)
        newest = [entry.id for entry in ledger.entries(EntryFilter(), limit=20)[0]]
        assert newest.count(name) == (trial.spent > 0)
        if not came:
            return number
        step += every
    raise AssertionError


@pytest.mark.parametrize("name", TRIALS)
def test_an_interrupt_loses_neither_a_lock_nor_a_call(usable: Usable, name: str) -> None:
    """
    Who stops a notebook's cell goes on with the next, and its ledger must be there.
    """
    assert check_steps(usable, TRIALS[name], first=1 + len(name) % EVERY, every=EVERY) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_an_interrupt_at_every_single_step_loses_nothing(usable: Usable, name: str) -> None:
    """
    The gap that is left may be one step wide.
    """
    assert check_steps(usable, TRIALS[name], first=1, every=1) > 100
