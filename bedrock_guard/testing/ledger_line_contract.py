"""
What every ledger promises of lines that roll, are a rate, or are not enforced.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from typing import Final, cast

import pytest

from bedrock_guard.domain.ledger import Ledger, LedgerKey, Line, Refusal, Reservation
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
    NOW,
    SetClock,
    answered,
    books,
    hold,
    open_entry,
    reserve,
    together,
)

HOUR: Final = 3600
SUB: Final = HOUR // 30
RPS: Final = LedgerKey("rps", "requests/second rate", (), 0)


def rolling(clock: SetClock, amount: int, *, limit: int | None = 100, enforce: bool = True) -> Line:
    """
    A line of 100 an hour, rolling, in the sub-window that it is now.
    """
    key = LedgerKey("hour", "USD/rolling hour", (), int(clock() // SUB) * SUB)
    return Line(key, limit, amount, "rolling", enforce, HOUR)


def rate(amount: int, *, burst: int | None = 10, enforce: bool = True) -> Line:
    """
    A line of 5 a second, and 10 at once.
    """
    return Line(RPS, burst, amount, "rate", enforce, 1, 5)


def make(ledger: Ledger, clock: SetClock, name: str, *lines: Line) -> Reservation | Refusal:
    """
    Reserve, for a call that is made now.
    """
    entry = open_entry(name, at_s=clock())
    answer = ledger.reserve(lines, entry=entry, hold_s=HOLD_S, on_expiry="charge")
    return cast("Reservation | Refusal", answer)  # no version was named that could have changed


def held(ledger: Ledger, clock: SetClock, name: str, *lines: Line) -> Reservation:
    """
    Reserve what is known to fit.
    """
    reservation = make(ledger, clock, name, *lines)
    assert isinstance(reservation, Reservation), reservation
    return reservation


def refused(answer: Reservation | Refusal) -> Refusal:
    """
    What is known not to fit.
    """
    assert isinstance(answer, Refusal), answer
    return answer


class LineContract:
    """
    What rolls holds in any run of its span, a bucket refills by time alone, and what is not enforced tells.
    """

    # Rolling

    def test_what_rolls_counts_until_all_of_its_sub_window_is_too_old(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        Too much may be counted at the old end, never too little.
        """
        clock.now += SUB - 1
        first = held(ledger, clock, "first", rolling(clock, 60))
        ledger.settle(first, {first.lines[0].key: 60}, answered("first"))
        clock.now = NOW + HOUR + SUB - 1  # an hour after it was spent, to the second

        refusal = refused(make(ledger, clock, "second", rolling(clock, 41)))

        assert [(one.spent, one.pending, one.room) for one in refusal.lines] == [(60, 0, 40)]
        assert refusal.lines[0].frees_at_s == NOW + HOUR + SUB
        assert isinstance(make(ledger, clock, "fits", rolling(clock, 40)), Reservation)
        clock.now = NOW + HOUR + SUB
        assert isinstance(make(ledger, clock, "third", rolling(clock, 60)), Reservation)

    def test_what_is_pending_in_earlier_sub_windows_counts(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A long call is money, too, whenever it began.
        """
        held(ledger, clock, "first", rolling(clock, 60))
        clock.now += 5 * SUB

        refusal = refused(make(ledger, clock, "second", rolling(clock, 41)))

        assert [(one.spent, one.pending) for one in refusal.lines] == [(0, 60)]
        assert isinstance(make(ledger, clock, "fits", rolling(clock, 40)), Reservation)

    def test_what_an_earlier_sub_window_gives_back_is_free_again(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        Estimates are several times what calls cost; an hour of them held would be an hour lost.
        """
        first = held(ledger, clock, "first", rolling(clock, 60))
        second = held(ledger, clock, "second", rolling(clock, 40))
        clock.now += 2 * SUB
        refused(make(ledger, clock, "third", rolling(clock, 1)))

        ledger.settle(first, {first.lines[0].key: 10}, answered("first"))
        ledger.release(second)

        assert isinstance(make(ledger, clock, "fourth", rolling(clock, 90)), Reservation)
        refused(make(ledger, clock, "fifth", rolling(clock, 1)))

    def test_an_end_that_comes_when_its_sub_window_has_left_changes_nothing_else(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        Money that is no longer counted must not be given back a second time.
        """
        first = held(ledger, clock, "first", rolling(clock, 60))
        clock.now += HOUR + 2 * SUB
        held(ledger, clock, "second", rolling(clock, 80))

        ledger.settle(first, {first.lines[0].key: 5}, answered("first"))

        assert isinstance(make(ledger, clock, "third", rolling(clock, 21)), Refusal)
        assert isinstance(make(ledger, clock, "fourth", rolling(clock, 20)), Reservation)

    def test_what_a_dead_process_held_rolls_out_as_what_was_spent(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        A sweep knows a line by its key alone.
        """
        held(ledger, clock, "dead", rolling(clock, 60))
        clock.now += 5 * SUB
        ledger.sweep(now=NOW + 2 * HOLD_S)

        (refusal,) = refused(make(ledger, clock, "second", rolling(clock, 41))).lines
        assert (refusal.spent, refusal.pending) == (60, 0)
        clock.now = NOW + HOUR + SUB
        assert isinstance(make(ledger, clock, "third", rolling(clock, 100)), Reservation)

    def test_when_there_is_room_is_told_for_each_amount(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A caller that waits for the whole window would wait for nothing.
        """
        for number in range(3):
            held(ledger, clock, f"{number}", rolling(clock, 30))
            clock.now += SUB

        frees = {}
        for amount in (11, 41, 71, 100, 101):
            (line,) = refused(make(ledger, clock, f"asks {amount}", rolling(clock, amount))).lines
            frees[amount] = None if line.frees_at_s is None else (line.frees_at_s - NOW - HOUR) / SUB
        assert frees == {11: 1, 41: 2, 71: 3, 100: 3, 101: None}

    def test_each_sub_window_has_a_balance(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Status adds up those that count.
        """
        one = held(ledger, clock, "one", rolling(clock, 30)).lines[0].key
        clock.now += SUB
        other = held(ledger, clock, "other", rolling(clock, 40))
        ledger.settle(other, {other.lines[0].key: 35}, answered("other"))

        assert books(ledger, one) == (0, 30)
        assert books(ledger, other.lines[0].key) == (35, 0)
        assert sorted((each.key, each.spent, each.pending) for each in ledger.balances()) == [
            (one, 0, 30),
            (other.lines[0].key, 35, 0),
        ]

    def test_a_hold_is_extended_in_the_sub_window_that_it_is_now(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        What a retry may cost is spent now, not when its call began.
        """
        first = held(ledger, clock, "first", rolling(clock, 40))
        clock.now += SUB
        more = ledger.extend(first, [rolling(clock, 50)])

        assert isinstance(more, Reservation)
        assert isinstance(ledger.extend(more, [rolling(clock, 11)]), Refusal)
        ledger.settle(more, {more.lines[1].key: 70}, answered("first"))
        assert books(ledger, more.lines[0].key) == (0, 0)
        assert books(ledger, more.lines[1].key) == (70, 0)

    def test_threads_cannot_share_the_last_of_what_rolls(self, ledger: Ledger, clock: SetClock) -> None:
        """
        The sum of all sub-windows and the hold are one step.
        """
        held(ledger, clock, "before", rolling(clock, 50))
        clock.now += SUB
        line = rolling(clock, 10)

        answers = together(lambda number: make(ledger, clock, f"{number}", line), threads=4, times=12)

        assert sum(isinstance(answer, Reservation) for answer in answers) == 5

    # Rates

    def test_a_rate_allows_its_burst_and_then_what_time_refills(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        Five a second, ten at once: what is refilled is exact, and so is when.
        """
        for number in range(10):
            held(ledger, clock, f"{number}", rate(1))

        (line,) = refused(make(ledger, clock, "eleventh", rate(1))).lines
        assert (line.spent, line.room) == (10, 0)
        assert line.frees_at_s == pytest.approx(NOW + 0.2, abs=1e-6)
        clock.now = NOW + 0.19
        refused(make(ledger, clock, "too soon", rate(1)))
        clock.now = NOW + 0.21
        assert isinstance(make(ledger, clock, "then", rate(1)), Reservation)
        refused(make(ledger, clock, "and no more", rate(1)))

    def test_a_bucket_holds_no_more_than_its_burst(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A night without calls does not allow a thousand at once in the morning.
        """
        held(ledger, clock, "one", rate(1))
        clock.now += 10 * HOUR

        (line,) = refused(make(ledger, clock, "eleven", rate(11))).lines
        assert line.frees_at_s is None
        assert isinstance(make(ledger, clock, "ten", rate(10)), Reservation)
        refused(make(ledger, clock, "one more", rate(1)))

    def test_a_clock_that_is_set_back_refills_nothing(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Else a burst could be had again and again.
        """
        held(ledger, clock, "all", rate(10))
        clock.now -= HOUR

        refused(make(ledger, clock, "more", rate(1)))

    @pytest.mark.parametrize(
        ("after_s", "spent", "free"), [(0.0, 4, 6), (1.0, 4, 6), (0.0, 10, 0), (2.5, 0, 10)]
    )
    def test_what_was_held_in_vain_comes_back_as_far_as_time_has_not_refilled_it(
        self, ledger: Ledger, clock: SetClock, after_s: float, spent: int, free: int
    ) -> None:
        """
        Given back in full, it would be refilled twice: once by time, once by the settle.
        """
        first = held(ledger, clock, "first", rate(10))
        clock.now += after_s
        taken = int(after_s * 5)
        if taken:
            held(ledger, clock, "meanwhile", rate(min(taken, 10)))

        ledger.settle(first, {RPS: spent}, answered("first"))

        left = max(0, free - taken) if after_s < 2 else 0
        if left:
            assert isinstance(make(ledger, clock, "left", rate(left)), Reservation)
        refused(make(ledger, clock, "one more", rate(1)))

    def test_a_release_gives_a_rate_back(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A call that was never sent took nothing.
        """
        ledger.release(held(ledger, clock, f"{int(NOW * 1000):011x}-0", rate(10)))

        assert isinstance(make(ledger, clock, "again", rate(10)), Reservation)

    def test_more_than_was_held_is_taken_from_a_rate(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Who overran waits.
        """
        first = held(ledger, clock, "first", rate(5))
        ledger.settle(first, {RPS: 10}, answered("first"))

        refused(make(ledger, clock, "second", rate(1)))
        clock.now += 1
        assert isinstance(make(ledger, clock, "third", rate(5)), Reservation)

    def test_a_rate_says_when_it_is_full(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Status works out from it what is free at the moment.
        """
        held(ledger, clock, "five", rate(5))

        (balance,) = ledger.balances([RPS])
        assert (balance.spent, balance.pending) == (0, 5)
        assert balance.full_at_s == pytest.approx(NOW + 1, abs=1e-6)
        assert ledger.balances() == [balance]
        assert [each.full_at_s for each in ledger.balances([DAY])] == [None]

    def test_threads_cannot_take_more_than_a_bucket_holds(self, ledger: Ledger, clock: SetClock) -> None:
        """
        The look and the taking are one step.
        """
        answers = together(lambda number: make(ledger, clock, f"{number}", rate(1)), threads=4, times=14)

        assert sum(isinstance(answer, Reservation) for answer in answers) == 10

    # All or none, and what is not enforced

    def test_a_line_that_does_not_fit_takes_nothing_from_the_others(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        A bucket or an hour that pays for refused calls would starve those that fit.
        """
        hold(ledger, "full", 100)

        answer = refused(make(ledger, clock, "refused", rate(10), rolling(clock, 100), Line(DAY, 100, 1)))

        assert [one.line.key for one in answer.lines] == [DAY]
        assert isinstance(make(ledger, clock, "fits", rate(10), rolling(clock, 100)), Reservation)

    def test_every_line_that_does_not_fit_is_named(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Of several reasons the caller is told all.
        """
        held(ledger, clock, "full", rate(10), rolling(clock, 100), Line(DAY, 100, 100))

        answer = refused(make(ledger, clock, "refused", rate(1), rolling(clock, 1), Line(DAY, 100, 1)))

        assert [one.line.kind for one in answer.lines] == ["rate", "rolling", "window"]

    def test_what_is_not_enforced_is_counted_and_told(self, ledger: Ledger, clock: SetClock) -> None:
        """
        A soft limit, and a budget that is only tried out, show what they would have refused.
        """
        soft = [Line(DAY, 100, 60, enforce=False), rolling(clock, 60, enforce=False), rate(6, enforce=False)]
        first = held(ledger, clock, "first", *soft)
        second = held(ledger, clock, "second", *soft)

        assert first.over == ()
        assert [(one.line.kind, one.spent + one.pending) for one in second.over] == [
            ("window", 60),
            ("rolling", 60),
            ("rate", 6),
        ]
        assert books(ledger) == books(ledger, soft[1].key) == (0, 120)
        ledger.settle(second, {line.key: line.amount for line in soft}, answered("second"))
        assert books(ledger) == books(ledger, soft[1].key) == (60, 60)

    def test_an_enforced_line_refuses_beside_one_that_is_not(self, ledger: Ledger) -> None:
        """
        The soft limit of a team must not open the hard one of the company.
        """
        hold(ledger, "full", 95)
        soft = Line(LedgerKey("soft", "USD", (), 0), 5, 10, enforce=False)

        answer = refused(reserve(ledger, "one", soft, Line(DAY, 100, 10)))

        assert [one.line.key for one in answer.lines] == [DAY]
        assert books(ledger, soft.key) == (0, 0)

    def test_an_extension_tells_what_it_did_not_enforce(self, ledger: Ledger) -> None:
        """
        A retry may be what goes over.
        """
        soft = Line(DAY, 100, 60, enforce=False)
        first = hold(ledger, "one", soft)

        more = ledger.extend(first, [soft])

        assert isinstance(more, Reservation)
        assert [(one.spent, one.pending) for one in more.over] == [(0, 60)]
        assert books(ledger) == (0, 120)

    def test_lines_without_a_limit_only_count(self, ledger: Ledger, clock: SetClock) -> None:
        """
        What breakers and reports look at refuses nobody.
        """
        lines = [rolling(clock, 500, limit=None), rate(500, burst=None)]

        reservation = held(ledger, clock, "one", *lines)

        assert reservation.over == ()
        assert books(ledger, lines[0].key) == (0, 500)
        assert isinstance(make(ledger, clock, "two", rolling(clock, 1)), Refusal)
        assert isinstance(make(ledger, clock, "three", rate(1)), Refusal)
