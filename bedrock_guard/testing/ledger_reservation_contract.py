"""
What every ledger promises of one reservation: to reserve, extend, settle, release.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from bedrock_guard.domain.ledger import (
    Balance,
    Ledger,
    LedgerKey,
    Line,
    Refusal,
    Reservation,
    Settled,
    SweepReport,
)
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.testing.ledger_calls import (
    CALLS,
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
)

# The ends of a reservation, for the tests of what may follow what.
ENDS: Final[dict[str, Callable[[Ledger, Reservation], Settled]]] = {
    "settle": lambda ledger, reservation: settle(ledger, reservation, 40),
    "settle_other_amount": lambda ledger, reservation: settle(ledger, reservation, 41),
    "release": lambda ledger, reservation: ledger.release(reservation, open_entry(reservation.id)),
}


class ReservationContract:
    """
    No interleaving brings `spent + pending` above a limit, and every reservation ends once.
    """

    # Reserve

    def test_what_is_reserved_is_pending(self, ledger: Ledger) -> None:
        """
        Nothing is spent before AWS has answered.
        """
        reservation = hold(ledger, "one", 60)

        assert reservation == Reservation("one", (Line(DAY, 100, 60),), NOW + HOLD_S)
        assert books(ledger) == (0, 60)

    @pytest.mark.parametrize(("second", "fits"), [(39, True), (40, True), (41, False)])
    def test_a_call_may_use_the_limit_to_the_last_unit(self, ledger: Ledger, second: int, fits: bool) -> None:
        """
        What is pending counts as if it were spent, and the last dollar is usable.
        """
        hold(ledger, "first", 60)

        assert isinstance(reserve(ledger, "second", second), Reservation if fits else Refusal)
        assert books(ledger) == (0, 60 + second * fits)

    def test_all_lines_are_held_or_none(self, ledger: Ledger) -> None:
        """
        A call that one budget refuses must not use up the others.
        """
        refusal = reserve(ledger, "one", Line(DAY, 100, 60), Line(TEAM, 50, 60), Line(CALLS, 9, 1))

        assert isinstance(refusal, Refusal)
        assert ledger.balances([DAY, TEAM, CALLS]) == [Balance(DAY), Balance(TEAM), Balance(CALLS)]
        assert ids(ledger) == []

    def test_a_refusal_names_every_line_that_did_not_fit(self, ledger: Ledger) -> None:
        """
        A caller who raises one limit should not meet the next one at the next try.
        """
        settle(ledger, hold(ledger, "spent", 30), 30)
        hold(ledger, "pending", Line(DAY, 100, 60), Line(TEAM, 70, 60))
        lines = [Line(DAY, 100, 11), Line(CALLS, 1, 1), Line(TEAM, 70, 11)]

        refusal = ledger.reserve(lines, entry=open_entry("new"), hold_s=HOLD_S, on_expiry="charge")

        assert isinstance(refusal, Refusal)
        assert [refused.line for refused in refusal.lines] == [lines[0], lines[2]]
        assert [(one.spent, one.pending, one.room) for one in refusal.lines] == [(30, 60, 10), (0, 60, 10)]
        assert {one.pending_calls for one in refusal.lines} <= {1, None}

    def test_a_call_larger_than_the_limit_is_refused_by_an_empty_budget(self, ledger: Ledger) -> None:
        """
        The first call of a window is where a missing balance could be taken for room.
        """
        assert isinstance(reserve(ledger, "one", 101), Refusal)
        assert ledger.balances() == []

    def test_without_a_limit_nothing_is_refused(self, ledger: Ledger) -> None:
        """
        Record only counts, and stops no one.
        """
        hold(ledger, "one", 60, limit=None)
        hold(ledger, "two", 10**15, limit=None)

        assert books(ledger) == (0, 60 + 10**15)

    @pytest.mark.parametrize(("spent", "fits"), [(100, True), (101, False)])
    def test_a_free_call_fits_unless_the_limit_is_overrun(
        self, ledger: Ledger, spent: int, fits: bool
    ) -> None:
        """
        A budget that is overspent blocks what follows, whatever it costs.
        """
        settle(ledger, hold(ledger, "first", 60), spent)

        assert isinstance(reserve(ledger, "free", 0), Reservation if fits else Refusal)

    def test_a_changed_limit_keeps_what_is_spent(self, ledger: Ledger) -> None:
        """
        A configuration change must not open the till again.
        """
        settle(ledger, hold(ledger, "first", 60), 60)

        assert isinstance(reserve(ledger, "second", 1, limit=60), Refusal)
        assert isinstance(reserve(ledger, "second", 40, limit=100), Reservation)

    @pytest.mark.parametrize(
        "other",
        [
            DAY._replace(budget="other"),
            DAY._replace(rule="USD/day@Europe/Berlin"),
            DAY._replace(per=(("user", 'Zoë "z" [1], \x00\udc80'),)),
            DAY._replace(window_start=DAY.window_start + 86_400),
        ],
    )
    def test_each_part_of_a_key_is_another_balance(self, ledger: Ledger, other: LedgerKey) -> None:
        """
        Yesterday's money, or another user's, is not this one's.
        """
        hold(ledger, "one", 60)
        hold(ledger, "two", Line(other, 100, 70))

        assert ledger.balances([other, DAY]) == [Balance(other, 0, 70), Balance(DAY, 0, 60)]
        assert sorted(ledger.balances(), key=lambda one: one.key) == sorted(
            [Balance(other, 0, 70), Balance(DAY, 0, 60)], key=lambda one: one.key
        )

    def test_two_lines_of_one_key_are_held_as_their_sum(self, ledger: Ledger) -> None:
        """
        Each alone would fit where both do not.
        """
        assert isinstance(reserve(ledger, "one", 60, 60), Refusal)
        assert hold(ledger, "two", 60, 40).lines == (Line(DAY, 100, 100),)
        assert books(ledger) == (0, 100)

    def test_the_same_id_again_is_the_same_reservation(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A reserve whose answer was lost is sent again; the money is held once, and given back as the first's.
        """
        rate = LedgerKey("rps", "requests/second rate", (), 0)
        lines = (60, Line(TEAM, None, 60), Line(rate, 10, 1, kind="rate", span_s=1, refill=5))
        first = hold(ledger, "one", *lines)
        clock.now += 1

        assert reserve(ledger, "one", *lines) == first
        assert books(ledger) == (0, 60)

        settle(ledger, first, 40)

        assert reserve(ledger, "one", *lines) == first
        assert books(ledger) == (40, 0)

    def test_a_call_without_budgets_leaves_its_entry(self, ledger: Ledger) -> None:
        """
        Record only has no lines, and still a journal.
        """
        assert ledger.settle(hold(ledger, "one"), {}, answered("one")) == Settled("settled")
        assert ids(ledger) == ["one"]

    @pytest.mark.parametrize("amount", [-1, 2**63])
    def test_an_amount_that_cannot_be_counted_is_an_error(self, ledger: Ledger, amount: int) -> None:
        """
        A sum that wraps around, or goes back, would open a budget.
        """
        reservation = hold(ledger, "one", 60)

        for limit in (100, None):
            with pytest.raises(LedgerUnavailable, match=f"cannot count {amount}"):
                reserve(ledger, "two", amount, limit=limit)
        with pytest.raises(LedgerUnavailable, match=f"cannot count {amount}"):
            settle(ledger, reservation, amount)
        assert books(ledger) == (0, 60)

    def test_a_sum_beyond_64_bits_is_an_error_that_changes_nothing(self, ledger: Ledger) -> None:
        """
        Without a limit nothing else would stop it before the integers end.
        """
        hold(ledger, "one", 2**63 - 10, limit=None)

        with pytest.raises(LedgerUnavailable, match="a ledger counts whole numbers") as caught:
            reserve(ledger, "two", Line(TEAM, None, 1), Line(DAY, None, 10))
        assert caught.value.outcome == "not_done"
        assert isinstance(reserve(ledger, "two", 10, limit=2**63 - 1), Refusal)
        assert ledger.balances() == [Balance(DAY, 0, 2**63 - 10)]

    # Extend

    def test_an_extension_is_held_with_the_rest(self, ledger: Ledger) -> None:
        """
        A retry after a lost answer is paid from the same budgets, under the same id.
        """
        first = hold(ledger, "one", 30)

        extended = ledger.extend(first, [Line(DAY, 100, 20), Line(TEAM, 50, 5)])

        assert extended == Reservation("one", (Line(DAY, 100, 50), Line(TEAM, 50, 5)), first.expires_at_s)
        assert (books(ledger), books(ledger, TEAM)) == ((0, 50), (0, 5))

    def test_an_extension_that_does_not_fit_changes_nothing(self, ledger: Ledger, clock: SetClock) -> None:
        """
        The retry is vetoed; the attempt before it still holds its money, for its time.
        """
        first = hold(ledger, "one", 60)

        refusal = ledger.extend(first, [Line(TEAM, 50, 5), Line(DAY, 100, 41)], hold_s=10 * HOLD_S)

        assert isinstance(refusal, Refusal)
        assert [(one.line, one.room) for one in refusal.lines] == [(Line(DAY, 100, 41), 40)]
        assert (books(ledger), books(ledger, TEAM)) == ((0, 60), (0, 0))
        clock.now += HOLD_S
        assert ledger.sweep(now=clock()) == SweepReport(charged=1)

    def test_an_older_copy_of_a_reservation_ends_all_of_it(self, ledger: Ledger) -> None:
        """
        Whoever ends a call may not have seen its last extension.
        """
        first = hold(ledger, "one", 30)
        ledger.extend(first, [Line(DAY, 100, 20), Line(TEAM, 50, 5)])

        assert settle(ledger, first, 40) == Settled("settled")
        assert (books(ledger), books(ledger, TEAM)) == ((40, 0), (0, 0))

    def test_an_extension_of_time_counts_from_now_and_never_shortens(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        A long stream is not taken for dead.
        """
        reservation = hold(ledger, "one", 60)
        clock.now += 100

        longer = ledger.extend(reservation, hold_s=HOLD_S)
        shorter = ledger.extend(reservation, hold_s=1)

        assert isinstance(longer, Reservation)
        assert longer.expires_at_s == NOW + 100 + HOLD_S
        assert shorter == longer
        assert ledger.sweep(now=NOW + HOLD_S) == SweepReport()

    @pytest.mark.parametrize("end", ["settle", "release"])
    def test_what_has_ended_is_not_extended(self, ledger: Ledger, end: str) -> None:
        """
        Money held for a call that is over would never be given back.
        """
        reservation = hold(ledger, "one", 60)
        ENDS[end](ledger, reservation)

        with pytest.raises(ReservationClosed, match=r"one is already \w+; a reservation ends once"):
            ledger.extend(reservation, [Line(DAY, 100, 1)])
        assert books(ledger)[1] == 0

    # Settle and release

    def test_a_settle_spends_what_the_call_cost_and_frees_the_rest(self, ledger: Ledger) -> None:
        """
        Estimates are upper bounds; what was not used is for the next call.
        """
        reservation = hold(ledger, "one", 60, Line(TEAM, None, 60))

        assert settle(ledger, reservation, 40) == Settled("settled")
        assert books(ledger) == (40, 0)
        assert books(ledger, TEAM) == (0, 0), "a key that is absent from the amounts is settled at 0"
        assert isinstance(reserve(ledger, "two", 60), Reservation)

    def test_a_settle_above_the_reservation_is_never_refused(self, ledger: Ledger) -> None:
        """
        The money is gone; a ledger that refused would only be wrong.
        """
        assert settle(ledger, hold(ledger, "as held", 40), 40) == Settled("settled", overrun=False)
        assert settle(ledger, hold(ledger, "by one", 9), 10) == Settled("settled", overrun=True)
        assert settle(ledger, hold(ledger, "by far", 50), 100) == Settled("settled", overrun=True)
        assert books(ledger) == (150, 0)
        assert isinstance(reserve(ledger, "two", 0), Refusal)

    def test_a_settle_of_a_key_that_was_not_reserved_is_counted(self, ledger: Ledger) -> None:
        """
        AWS may bill a meter that no one expected.
        """
        reservation = hold(ledger, "one", 60)
        amounts = {DAY: 60, TEAM: 5, CALLS: 0}

        assert ledger.settle(reservation, amounts, answered("one")) == Settled("settled", overrun=True)
        assert ledger.settle(reservation, amounts, answered("one")).how == "replayed"
        assert (books(ledger), books(ledger, TEAM)) == ((60, 0), (5, 0))

    def test_pending_calls_are_counted_once_each_if_at_all(self, ledger: Ledger) -> None:
        """
        A refusal says how many calls hold what is pending.
        """

        def pending_calls(key: LedgerKey) -> int | None:
            refusal = reserve(ledger, "refused", Line(key, 0, 1))
            assert isinstance(refusal, Refusal)
            return refusal.lines[0].pending_calls

        first, second = hold(ledger, "first", 10), hold(ledger, "second", 10, Line(TEAM, None, 1))
        ledger.extend(first, [Line(DAY, 100, 10), Line(CALLS, None, 1)])
        assert (pending_calls(DAY), pending_calls(TEAM), pending_calls(CALLS)) in {(2, 1, 1), (None,) * 3}

        ledger.settle(first, {DAY: 20, TEAM: 5}, answered("first"))
        assert (pending_calls(DAY), pending_calls(TEAM), pending_calls(CALLS)) in {(1, 1, 0), (None,) * 3}

        ledger.release(second)
        assert (pending_calls(DAY), pending_calls(TEAM)) in {(0, 0), (None, None)}

    def test_a_release_gives_everything_back(self, ledger: Ledger) -> None:
        """
        A call that did not reach AWS costs nothing.
        """
        reservation = hold(ledger, "one", 60, Line(TEAM, None, 60))

        assert ledger.release(reservation) == Settled("released")
        assert (books(ledger), books(ledger, TEAM)) == ((0, 0), (0, 0))

    @pytest.mark.parametrize("end", ["settle", "release"])
    def test_the_same_end_twice_is_one(self, ledger: Ledger, end: str) -> None:
        """
        An end whose answer was lost is sent again; the money is spent once.
        """
        reservation = hold(ledger, "one", 60)
        ENDS[end](ledger, reservation)
        after_one = books(ledger)

        assert ENDS[end](ledger, reservation) == Settled("replayed")
        assert books(ledger) == after_one
        assert ids(ledger) == ["one"]

    @pytest.mark.parametrize(
        ("first", "again"),
        [("settle", "settle_other_amount"), ("settle", "release"), ("release", "settle")],
    )
    def test_a_reservation_ends_once(self, ledger: Ledger, first: str, again: str) -> None:
        """
        Two ends of one call would count its money twice, or forget it.
        """
        reservation = hold(ledger, "one", 60)
        ENDS[first](ledger, reservation)
        after_one = books(ledger)

        with pytest.raises(ReservationClosed, match=f"one is already {first}d; a reservation ends once"):
            ENDS[again](ledger, reservation)
        assert books(ledger) == after_one

    def test_a_reservation_of_another_ledger_is_not_known(self, ledger: Ledger) -> None:
        """
        To settle what was never held means that the wrong file or table is open.
        """
        stranger = Reservation("elsewhere", (Line(DAY, 100, 60),), NOW)

        for end in ENDS.values():
            with pytest.raises(ReservationClosed, match="elsewhere is not in this ledger"):
                end(ledger, stranger)
        assert ledger.balances() == []
