"""
Ctrl-C inside a ledger on leases: at each point where Python looks for one, in turn.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import dynamodb_engine
import dynamodb_memory
import pytest
from interrupts import Interrupted

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import LedgerKey, Line, Reservation, read_all_entries
from bedrock_guard.errors import ReservationClosed
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, segments, table
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import (
    LeasedLedger,
    desk,
    in_hand,
    journal,
    keeper,
    ledger,
    local,
    purses,
    slices,
    store,
)
from bedrock_guard.testing.ledger_calls import DAY, TEAM, SetClock, answered, hold, ids, open_entry
from bedrock_guard.testing.ledger_calls import books as books_of

from .test_memory_interrupts import in_a_thread

_MODULES: Final = (
    ledger,
    local,
    in_hand,
    purses,
    desk,
    journal,
    keeper,
    store,
    slices,
    table,
    segments,
    books,
)
_FILES: Final = tuple(module.__file__ for module in _MODULES)
_IN_MEMORY: Final = tuple(module.__file__ for module in (ledger, local, in_hand, purses, books))
_MOST: Final = 2000
# What is spent and pending once a step has been done again.
_AFTER: Final = {"reserve": (0, 60), "settle": (40, 0), "release": (0, 0)}


class Fleet:
    """
    For each interrupt a process, a balance and a call of their own, on one table.
    """

    def __init__(self) -> None:
        self.clock = SetClock()
        self.address = read_address(dynamodb_engine.table_url())
        self.exact = DynamoDBLedger(self.address, clock=self.clock)

    def interrupt(self, nth: int) -> bool:
        """
        Have a call reserved, settled and reported, interrupted at the point *nth*; whether there is one.
        """
        process = LeasedLedger(self.address, clock=self.clock, keeps_itself=False)
        process._table.clients = self.exact._table.clients
        key, id_ = DAY._replace(per=(("user", f"{nth}"),)), f"call-{nth}"
        held: list[Reservation] = []

        def work() -> None:
            line = Line(key, 10_000, 60)
            answer = process.reserve([line], entry=open_entry(id_), hold_s=60.0, on_expiry="charge")
            assert isinstance(answer, Reservation)
            held.append(answer)
            process.settle(answer, {key: 40}, answered(id_))
            process.flush()

        def end() -> None:
            if held:
                process.settle(held[0], {key: 40}, answered(id_))
            else:
                with suppress(ReservationClosed):
                    process.release(Reservation(id_, (), 0.0))
            process._keeper.finish()

        struck = Interrupted(work, nth, files=_FILES)
        in_a_thread(end)
        self.check(key, id_, cost=40 if held else 0)
        return struck.has_struck

    def check(self, key: LedgerKey, id_: str, *, cost: int) -> None:
        (found,) = self.exact.balances([key])
        assert (found.spent, found.pending, found.leased) == (cost, 0, 0)
        entries = [entry.id for entry in read_all_entries(self.exact, EntryFilter())]
        assert entries.count(id_) == bool(cost)


@pytest.mark.parametrize(
    "step", [pytest.param(29, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_an_interrupt_leaves_nothing_leased_and_nothing_locked(step: int) -> None:
    """
    Whoever is interrupted ends the call, and the program ends as it should.
    """
    with dynamodb_engine.quick():
        fleet = Fleet()
        points = next(nth for nth in range(0, _MOST, step) if not fleet.interrupt(nth))

    assert points > 300


@pytest.mark.parametrize("step", ["reserve", "settle", "release"])
def test_an_interrupted_step_is_done_or_not_done_and_can_be_done_again(step: str) -> None:
    """
    At every point, where it asks nobody: a sum that is changed and a call that is not would be charged twice.
    """

    def interrupt(nth: int) -> bool:
        process = LeasedLedger(
            read_address(dynamodb_memory.table_url()), clock=SetClock(), keeps_itself=False
        )
        lines = [Line(key, 1000, 60) for key in (DAY, TEAM)]
        process.settle(hold(process, "before", *lines), {}, answered("before"))
        reservation = (
            Reservation("call", tuple(lines), 0.0) if step == "reserve" else hold(process, "call", *lines)
        )
        work = {
            "reserve": lambda: hold(process, "call", *lines),
            "settle": lambda: process.settle(reservation, dict.fromkeys((DAY, TEAM), 40), answered("call")),
            "release": lambda: process.release(reservation),
        }[step]
        struck = Interrupted(work, nth, files=_IN_MEMORY)

        def end() -> None:
            work()
            assert books_of(process, DAY) == books_of(process, TEAM) == _AFTER[step]
            assert ids(process).count("call") == (step == "settle")

        in_a_thread(end)
        return struck.has_struck

    with dynamodb_memory.installed():
        points = next(nth for nth in range(_MOST) if not interrupt(nth))

    assert points > 10
