"""
What every ledger promises, as tests: subclass it to prove one of your own.

    class TestMyLedger(LedgerContract):
        @pytest.fixture
        def ledger(self, clock):
            ledger = MyLedger(clock=clock)
            yield ledger
            ledger.close()

Each test gets an empty ledger on a clock that stands still. For readable failures, call
`pytest.register_assert_rewrite("bedrock_guard.testing")` in your `conftest.py` first.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import (
    Ledger,
    Line,
    OnExpiry,
    Refusal,
    Reservation,
    Settled,
    SweepReport,
    read_all_entries,
)
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.testing.ledger_alert_contract import AlertContract
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
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
from bedrock_guard.testing.ledger_controls_contract import ControlsContract
from bedrock_guard.testing.ledger_line_contract import LineContract
from bedrock_guard.testing.ledger_reservation_contract import ReservationContract


class LedgerContract(LineContract, ControlsContract, AlertContract, ReservationContract):
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

    # Sweep

    @pytest.mark.parametrize(
        ("on_expiry", "spent", "report"),
        [("charge", 60, SweepReport(charged=1)), ("release", 0, SweepReport(released=1))],
    )
    def test_a_dead_process_is_charged_or_released_as_it_asked(
        self, ledger: Ledger, on_expiry: OnExpiry, spent: int, report: SweepReport
    ) -> None:
        """
        AWS may have billed the call; what to assume is the reservation's own choice.
        """
        opened = open_entry("one", has_own_prices=True, list_cost_nanousd=60)
        ledger.reserve([Line(DAY, 100, 60)], entry=opened, hold_s=HOLD_S, on_expiry=on_expiry)

        assert ledger.sweep(now=NOW + HOLD_S - 0.001) == SweepReport()
        assert ledger.sweep(now=NOW + HOLD_S) == report
        assert ledger.sweep(now=NOW + HOLD_S) == SweepReport()
        assert books(ledger) == (spent, 0)
        (entry,) = ledger.entries(EntryFilter())[0]
        assert (entry.id, entry.outcome, entry.basis) == ("one", "lost", "expired")
        assert (entry.cost_nanousd, entry.list_cost_nanousd) == (spent, spent)

    def test_a_sweep_ends_the_oldest_first_and_no_more_than_asked(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        After an outage the rest is left for the next sweep, not for one long lock.
        """
        for name in ("first", "second", "third"):
            hold(ledger, name, 10)
            clock.now += 1

        assert ledger.sweep(now=NOW + 10 * HOLD_S, limit=2) == SweepReport(charged=2)
        assert sorted(ids(ledger)) == ["first", "second"]
        assert books(ledger) == (20, 10)

    @pytest.mark.parametrize("on_expiry", ["charge", "release"])
    @pytest.mark.parametrize(
        ("late", "spent", "overrun"),
        [(0, 0, False), (40, 40, False), (60, 60, False), (150, 150, True)],
    )
    def test_a_late_settle_puts_the_books_right_once(
        self, ledger: Ledger, on_expiry: OnExpiry, late: int, spent: int, overrun: bool
    ) -> None:
        """
        The process was slow, not dead, and knows what the call did cost.
        """
        reservation = hold(ledger, "one", 60, on_expiry=on_expiry)
        ledger.sweep(now=NOW + HOLD_S)

        assert settle(ledger, reservation, late) == Settled("corrected", overrun=overrun)
        assert settle(ledger, reservation, late).how == "replayed"
        assert books(ledger) == (spent, 0)
        assert [entry.outcome for entry in ledger.entries(EntryFilter())[0]] == ["answered"]

    def test_a_late_settle_may_bring_a_key_that_was_not_reserved(self, ledger: Ledger) -> None:
        """
        What AWS billed unexpectedly is counted late, too, and once.
        """
        reservation = hold(ledger, "one", 60)
        ledger.sweep(now=NOW + HOLD_S)

        how = [ledger.settle(reservation, {DAY: 40, TEAM: 5}, answered("one")).how for _ in range(2)]

        assert how == ["corrected", "replayed"]
        assert (books(ledger), books(ledger, TEAM)) == ((40, 0), (5, 0))

    @pytest.mark.parametrize("on_expiry", ["charge", "release"])
    def test_a_late_release_gives_back_what_an_expiry_charged(
        self, ledger: Ledger, on_expiry: OnExpiry
    ) -> None:
        """
        A call that never reached AWS is free, however late that is known.
        """
        reservation = hold(ledger, "one", 60, on_expiry=on_expiry)
        ledger.sweep(now=NOW + HOLD_S)

        assert ledger.release(reservation) == Settled("corrected")
        assert books(ledger) == (0, 0)
        with pytest.raises(ReservationClosed, match="already released"):
            settle(ledger, reservation, 40)

    def test_an_expired_reservation_is_not_extended(self, ledger: Ledger) -> None:
        """
        Its money is spent or given back; more of it would be held for a call that is over.
        """
        reservation = hold(ledger, "one", 60)
        ledger.sweep(now=NOW + HOLD_S)

        with pytest.raises(ReservationClosed, match="already expired"):
            ledger.extend(reservation, hold_s=HOLD_S)

    def test_a_settle_after_its_time_but_before_a_sweep_is_in_time(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        Only a sweep ends what is late; until then the money is held.
        """
        reservation = hold(ledger, "one", 60)
        clock.now += 10 * HOLD_S

        assert settle(ledger, reservation, 40) == Settled("settled")
        assert ledger.sweep(now=clock()) == SweepReport()

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
            {"service_tier": "flex"},
            {"basis": "estimated"},
            {"tags": {"team": "other", "user": "x"}},
            {"since": NOW + 1},
            {"until": NOW},
        ],
    )
    def test_a_filter_admits_what_equals_it(self, ledger: Ledger, where: dict[str, Any]) -> None:
        """
        A report about one team must not hold another's calls.
        """
        changes: dict[str, dict[str, Any]] = {
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

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            ({"cost_nanousd_min": 40}, ["dear", "usual"]),
            ({"cost_nanousd_min": 41}, ["dear"]),
            ({"cost_nanousd_max": 0}, ["refused"]),
            ({"cost_nanousd_max": 40}, ["refused", "usual"]),
            ({"cost_nanousd_min": 1, "cost_nanousd_max": 40}, ["usual"]),
            ({"tokens_min": 15}, ["unpriced", "dear", "usual"]),
            ({"tokens_min": 16}, ["dear"]),
            ({"tokens_max": 0}, ["refused"]),
            ({"attempts_min": 0}, ["refused", "unpriced", "dear", "usual"]),
            ({"attempts_min": 2}, ["dear"]),
            ({"status": 200}, ["unpriced", "dear", "usual"]),
            ({"status": 429}, ["dear"]),
            ({"error_code": "ThrottlingException"}, ["dear"]),
            ({"error_code": "ThrottlingException", "outcome": "refused"}, []),
            ({"outcome": "refused", "since": NOW}, ["refused"]),
        ],
    )
    def test_figures_and_attempts_narrow_what_is_read(
        self, ledger: Ledger, where: dict[str, Any], found: list[str]
    ) -> None:
        """
        What cost most, and what went wrong, are the first two questions after a bill.
        """
        attempts = (
            Attempt("rejected", 429, error_code="ThrottlingException"),
            Attempt("answered", 200, cost_nanousd=900),
        )
        usage = {"input_tokens": 100, "cache_read_input_tokens": 60, "prompt_router_requests": 1}
        ledger.record(answered("usual"))
        ledger.record(answered("dear", cost_nanousd=900, usage=usage, attempts=attempts))
        ledger.record(answered("unpriced", cost_nanousd=None))
        ledger.record(open_entry("refused", outcome="refused"))

        assert ids(ledger, EntryFilter(**where)) == found

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

    def test_the_id_of_a_refusal_is_no_reservation(self, ledger: Ledger) -> None:
        """
        A call that took it would be sent without money held.
        """
        ledger.record(open_entry("one", outcome="refused"))

        with pytest.raises(ReservationClosed, match="one is already recorded"):
            reserve(ledger, "one", 60)
        assert ledger.balances() == []

    # Threads

    def test_threads_are_admitted_exactly_as_often_as_fits(self, ledger: Ledger) -> None:
        """
        The check and the hold are one step, whoever comes between.
        """
        lines = (Line(DAY, 5000, 10), Line(TEAM, 6000, 10))

        results = together(lambda n: reserve(ledger, f"{n}", *lines), threads=32, times=800)

        admitted = [result for result in results if isinstance(result, Reservation)]
        assert len(admitted) == 500
        assert (books(ledger), books(ledger, TEAM)) == ((0, 5000), (0, 5000))

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
