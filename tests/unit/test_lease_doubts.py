"""
Leases whose first request was lost: what the table did is found out, and counted once. The simulation found these.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dynamodb_engine
import dynamodb_faults as faults
import pytest
from dynamodb_faults import Watched

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Line, Refusal, Reservation, read_all_entries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger, keeper
from bedrock_guard.testing.ledger_calls import (
    DAY,
    TEAM,
    SetClock,
    answered,
    books,
    hold,
    ids,
    open_entry,
    reserve,
    settle,
)
from bedrock_guard.testing.ledger_line_contract import rolling


def test_a_balance_that_a_lost_request_has_made_is_not_made_again() -> None:
    """
    Who took it for missing would count, with the next report, all that is leased of it once more.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        # The first finds no balance; the second makes it, and is not answered.
        watched = Watched(ledger, faults=iter([None, faults.lose_answer_and_token]))  # type: ignore[arg-type]

        settle(ledger, hold(ledger, "one", 60, limit=10_000), 40)
        ledger.close()

        assert watched.sent.count("transact_write_items") >= 3
        (balance,) = DynamoDBLedger(address, clock=clock).balances([DAY])
        assert (balance.spent, balance.pending, balance.leased) == (40, 0, 0)


def test_a_grant_that_comes_after_its_repetition_was_refused_is_not_had_for_ever() -> None:
    """
    Nobody would know of it: its process was refused, and no sweeper looks for slices of one that has left.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        exact = DynamoDBLedger(address, clock=clock)
        other = hold(exact, "other", 70)
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        late = faults.Delay()

        def is_late(send: object, operation: str, params: dict[str, object]) -> object:
            hold(exact, "quicker", 20)
            return late(send, operation, params)  # type: ignore[arg-type]

        watched = Watched(ledger, faults=iter([is_late]))  # type: ignore[arg-type]

        assert isinstance(reserve(ledger, "one", 30), Refusal)
        settle(exact, other, 0)
        ledger.look()
        late.arrive()
        ledger.close()

        assert watched.sent
        (balance,) = exact.balances([DAY])
        assert (balance.spent, balance.pending, balance.leased) == (0, 20, 0)


@pytest.mark.parametrize("number", [0, 1])
def test_who_is_interrupted_while_it_asks_does_not_keep_what_it_got(number: int) -> None:
    """
    Ctrl-C as the answer arrives: the program then ends properly, and nobody would look for that slice.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        for each in range(number):
            settle(ledger, hold(ledger, f"before {each}", 10), 10)
        ledger.flush()

        # A balance that is not there is made by the second request.
        plan = iter([interrupted_after] if number else [None, interrupted_after])
        watched = Watched(ledger, faults=plan)  # type: ignore[arg-type]

        with pytest.raises(KeyboardInterrupt):
            reserve(ledger, "one", 30)
        ledger.close()

        assert watched.sent
        (balance,) = DynamoDBLedger(address, clock=clock).balances([DAY])
        assert (balance.spent, balance.pending, balance.leased) == (10 * number, 0, 0)


def test_who_is_interrupted_while_a_call_holds_what_rolls_does_not_keep_that() -> None:
    """
    Ctrl-C as the table answers: what is held there is nobody's, and would be charged when it expires.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        settle(ledger, hold(ledger, "before", 30), 30)
        settle(ledger, hold(ledger, "leases", 30), 0)
        rolls = rolling(clock, 10)
        # The first finds no such balance.
        Watched(ledger, faults=iter([None, interrupted_after]))  # type: ignore[arg-type]

        with pytest.raises(KeyboardInterrupt):
            reserve(ledger, "one", Line(DAY, 100, 10), rolls)
        ledger.release(Reservation("one", (), 0.0), open_entry("one", outcome="not_sent", cost_nanousd=0))
        ledger.close()

        exact = DynamoDBLedger(address, clock=clock)
        assert [books(exact, key) for key in (DAY, rolls.key)] == [(30, 0), (0, 0)]
        assert sorted(ids(exact)) == ["before", "leases", "one"]


def test_what_is_charged_unexpectedly_while_that_is_reported_is_reported_next() -> None:
    """
    AWS billed what no call had expected, twice: the second comes while the first is on its way.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        first, second = (hold(ledger, name, 10) for name in ("first", "second"))

        def settle_meanwhile(send: Callable[[], object], operation: str, params: dict[str, object]) -> object:
            if not ledger._local._open.keys() - {"second"}:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(ledger.settle, second, {DAY: 4, TEAM: 2}, answered("second")).result()
            return send()

        ledger.settle(first, {DAY: 4, TEAM: 7}, answered("first"))
        # The entries, the balance that is not there, and the one that makes it.
        Watched(ledger, faults=iter([None, None, settle_meanwhile]))  # type: ignore[arg-type]
        ledger.flush()
        ledger.close()

        found = DynamoDBLedger(address, clock=clock).balances([DAY, TEAM])
        assert [(one.spent, one.pending, one.leased) for one in found] == [(8, 0, 0), (9, 0, 0)]


def test_what_is_counted_leaves_memory_only_once_the_table_has_it() -> None:
    """
    Of a refusal nothing but its entry tells.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        watched = Watched(ledger)  # type: ignore[arg-type]
        ledger.record(open_entry("refused", outcome="refused", cost_nanousd=0))
        watched.is_over = True
        with pytest.raises(LedgerUnavailable):
            ledger.flush()
        watched.is_over = False
        ledger.flush()
        ledger.flush()

        (entry,) = read_all_entries(DynamoDBLedger(address, clock=clock), EntryFilter())
        assert (entry.id, entry.count) == ("refused", 1)


def test_an_overrun_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is above what was granted, so that others would be let in to what is spent already.
    """
    monkeypatch.setattr(keeper, "REPORT_S", 3600.0)
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        settle(ledger, hold(ledger, "one", 10), 90)
        ledger.look()

        exact = DynamoDBLedger(address, clock=clock)
        assert books(exact) == (90, 0)
        assert isinstance(reserve(exact, "other", 11), Refusal)


def test_an_overrun_of_who_was_taken_for_dead_is_used_as_well() -> None:
    """
    What was charged is what was granted: the process that comes back has spent more.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger, other = (LeasedLedger(address, clock=clock, keeps_itself=False) for _ in range(2))
        settle(ledger, hold(ledger, "one", 10), 90)
        other.sweep(now=clock() + 1000.0)
        ledger.close()

        exact = DynamoDBLedger(address, clock=clock)
        assert books(exact) == (90, 0)
        assert isinstance(reserve(exact, "other", 11), Refusal)


def test_an_interrupt_while_entries_are_cut_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    They are in memory alone, until they are in a segment.
    """
    clock = SetClock()
    address = read_address(dynamodb_engine.table_url())
    with dynamodb_engine.quick():
        ledger = LeasedLedger(address, clock=clock, keeps_itself=False)
        settle(ledger, hold(ledger, "one", 10), 4)

        with monkeypatch.context() as patched:
            patched.setattr("bedrock_guard.ledgers.dynamodb.segments.item_of", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ledger.flush()
        ledger.close()

        exact = DynamoDBLedger(address, clock=clock)
        assert [entry.id for entry in read_all_entries(exact, EntryFilter())] == ["one"]


def interrupted_after(send: Callable[[], object], operation: str, params: dict[str, object]) -> object:
    """
    A fault: it is done, and Ctrl-C comes before anybody knows.
    """
    send()
    raise KeyboardInterrupt


def interrupt(*_: object, **__: object) -> object:
    raise KeyboardInterrupt
