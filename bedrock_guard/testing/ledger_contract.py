"""
What every ledger promises, as tests: subclass it to prove one of your own.

    class TestMyLedger(LedgerContract):
        @pytest.fixture
        def ledger(self, clock):
            ledger = MyLedger(clock=clock)
            yield ledger
            ledger.close()

Each test gets an empty ledger on a clock that stands still. For readable
failures, call `pytest.register_assert_rewrite("bedrock_guard.testing")` in your
`conftest.py` before this is imported.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.ledger import EntryFilter, Ledger, Line, Refusal, Reservation, read_all_entries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.testing.ledger_calls import (
    DAY,
    NOW,
    TEAM,
    SetClock,
    answered,
    books,
    hold,
    ids,
    open_entry,
    reserve,
    settle,
    together,
)
from bedrock_guard.testing.ledger_money_contract import MoneyContract


class LedgerContract(MoneyContract):
    """
    Every promise of `Ledger`; override `ledger`.
    """

    @pytest.fixture
    def clock(self) -> SetClock:
        """
        The ledger's clock; tests move it.
        """
        return SetClock()

    @pytest.fixture
    def ledger(self, clock: SetClock) -> Iterator[Ledger]:
        """
        An empty ledger on *clock*.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no ledger: override the fixture `ledger`.")

    # Entries

    def test_an_entry_is_read_as_it_was_written(self, ledger: Ledger) -> None:
        """
        The journal is what reports and bills are made of.
        """
        attempts = (
            Attempt("lost", error_code="ReadTimeoutError", cost_nanousd=60, basis="estimated"),
            Attempt("answered", 200, usage={"output_tokens": 5}, cost_nanousd=None),
        )
        entry = answered(
            "one",
            tags={"team": "Zoë", "odd": 'a"b\\c\x00\udc80', "empty": ""},
            attempts=attempts,
            basis="estimated",
            duration_ms=1200,
            reported_usage={"output_tokens": 5},
            cost_nanousd=None,
        )

        ledger.settle(hold(ledger, "one", 60), {DAY: 40}, entry)

        assert ledger.entries(EntryFilter()) == ([entry], None)

    def test_an_open_call_has_no_entry_yet(self, ledger: Ledger) -> None:
        """
        Entries are records, and do not change; what is under way shows as pending.
        """
        hold(ledger, "open", 60)

        assert ids(ledger) == []

    def test_a_release_without_an_entry_leaves_none(self, ledger: Ledger) -> None:
        """
        A hold that another guard's refusal undid is no call.
        """
        ledger.release(hold(ledger, "undone", 10))
        ledger.release(hold(ledger, "not sent", 10), open_entry("not sent", outcome="not_sent"))

        assert ids(ledger) == ["not sent"]

    def test_entries_come_newest_first_by_the_time_of_the_call(self, ledger: Ledger) -> None:
        """
        A long call ends after shorter ones, and still began before them.
        """
        for name, at_s in (("second", NOW + 1), ("third", NOW + 2), ("same", NOW + 2), ("first", NOW - 9.5)):
            ledger.record(open_entry(name, at_s=at_s, outcome="refused"))

        assert ids(ledger) == ["same", "third", "second", "first"]

    def test_pages_hold_every_entry_once(self, ledger: Ledger) -> None:
        """
        Calls go on while someone reads; what is new must not push others off their page.
        """
        for number in range(7):
            ledger.record(open_entry(f"{number}", at_s=NOW + number // 3, outcome="refused"))

        one, after = ledger.entries(EntryFilter(), limit=3)
        ledger.record(open_entry("new", at_s=NOW + 99, outcome="refused"))
        two, then = ledger.entries(EntryFilter(), after=after, limit=3)
        three, end = ledger.entries(EntryFilter(), after=then, limit=1)

        assert [entry.id for entry in (*one, *two, *three)] == ["6", "5", "4", "3", "2", "1", "0"]
        assert end is None

    @pytest.mark.parametrize(
        "where",
        [
            {"outcome": "refused"},
            {"operation": "InvokeModel"},
            {"model": "other"},
            {"model_id": "other"},
            {"family": "other"},
            {"region": "eu-central-1"},
            {"basis": "estimated"},
            {"tags": {"team": "other", "user": "x"}},
            {"since": NOW + 1},
            {"until": NOW - 1},
        ],
    )
    def test_a_filter_admits_what_equals_it(self, ledger: Ledger, where: dict[str, Any]) -> None:
        """
        A report about one team must not hold another's calls.
        """
        changes = {
            "since": {"at_s": NOW + 1},
            "until": {"at_s": NOW - 2},
            "tags": {"tags": {"team": "other", "user": "x", "more": "y"}},
        }
        (name,) = where
        wanted = answered("wanted", **changes.get(name, where))
        ledger.record(wanted)
        ledger.record(answered("other"))
        ledger.record(answered("half", tags={"team": "other"}))

        assert list(read_all_entries(ledger, EntryFilter(**where))) == [wanted]

    def test_refusals_that_are_alike_are_one_entry_with_a_count(self, ledger: Ledger) -> None:
        """
        A program that retries for an hour must not fill the disk.
        """
        refused = open_entry("refused", outcome="refused", budget="default")
        ledger.record(refused)
        ledger.record(refused)
        ledger.record(replace(refused, count=3))

        assert ledger.entries(EntryFilter()) == ([replace(refused, count=5)], None)
        assert ledger.balances() == []

    # Threads

    def test_threads_are_admitted_exactly_as_often_as_fits(self, ledger: Ledger) -> None:
        """
        The check and the hold are one step, whoever comes between.
        """
        lines = (Line(DAY, 1000, 10), Line(TEAM, 5000, 10))

        results = together(lambda n: reserve(ledger, f"{n}", *lines), threads=32, times=160)

        admitted = [result for result in results if isinstance(result, Reservation)]
        assert len(admitted) == 100
        assert (books(ledger), books(ledger, TEAM)) == ((0, 1000), (0, 1000))

    def test_threads_that_come_and_go_leave_exact_books(self, ledger: Ledger) -> None:
        """
        A lost update is lost money.
        """

        def call(number: int) -> int:
            reservation = reserve(ledger, f"{number}", 10, limit=200)
            if isinstance(reservation, Refusal):
                return 0
            if number % 3 == 0:
                ledger.release(reservation)
                return 0
            settle(ledger, reservation, number % 7)
            return number % 7

        spent = sum(together(call, threads=16, times=160))

        assert books(ledger) == (spent, 0)
        assert spent <= 200

    def test_one_id_from_many_threads_is_held_and_settled_once(self, ledger: Ledger) -> None:
        """
        A retry may overtake what it repeats.
        """
        reservations = together(lambda _: reserve(ledger, "one", 60), threads=16, times=32)
        settled = together(lambda _: settle(ledger, reservations[0], 40).how, threads=16, times=32)

        assert set(reservations) == {reservations[0]}
        assert sorted(settled) == ["replayed"] * 31 + ["settled"]
        assert books(ledger) == (40, 0)

    # Close

    def test_a_closed_ledger_says_so(self, ledger: Ledger) -> None:
        """
        A call after the end must not be taken for one within budget.
        """
        reservation = hold(ledger, "one", 60)
        ledger.close()
        ledger.close()

        for use in (
            lambda: reserve(ledger, "two", 1),
            lambda: settle(ledger, reservation, 40),
            lambda: ledger.balances([DAY]),
            lambda: ids(ledger),
        ):
            with pytest.raises(LedgerUnavailable, match="closed"):
                use()
