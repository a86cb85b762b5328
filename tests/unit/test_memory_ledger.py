"""
What only the ledger in memory promises; the rest is in the contract.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Balance, LedgerKey, Line, Reservation, Settled
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import forgetting, memory_claims
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import (
    NOW,
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


def test_it_keeps_the_newest_entries_and_every_open_call() -> None:
    """
    A worker that runs for months must not grow with every call.
    """
    ledger = MemoryLedger.open("memory://?keep_entries=2", clock=SetClock())
    slow = hold(ledger, "slow", 10)
    for number in range(5):
        settle(ledger, hold(ledger, f"{number}", 10), 1)
    ledger.record(open_entry("refused", outcome="refused"))

    assert ids(ledger) == ["refused", "4"]
    assert books(ledger) == (5, 10), "balances forget nothing"
    assert ledger.settle(slow, {}, answered("slow")) == Settled("settled")


def test_the_same_url_twice_is_two_ledgers() -> None:
    """
    Tests that run side by side must not share a budget by accident.
    """
    first, second = (MemoryLedger.open("memory://", clock=SetClock()) for _ in range(2))
    hold(first, "one", 60)

    assert books(second) == (0, 0)
    assert second.entries(EntryFilter()) == ([], None)


class SlowLimit(int):
    """
    A limit that lets other threads in while an amount is compared with it.
    """

    def __lt__(self, other: int) -> bool:
        time.sleep(0.001)
        return int.__lt__(self, other)


def test_no_thread_comes_between_the_check_and_the_hold() -> None:
    """
    Threads rarely meet there by chance, and in production they do.
    """
    ledger = MemoryLedger.open("memory://", clock=SetClock())

    answers = together(lambda n: reserve(ledger, f"{n}", 60, limit=SlowLimit(100)), threads=8, times=8)

    assert [type(answer) for answer in answers].count(Reservation) == 1
    assert books(ledger) == (0, 60)


def test_a_call_from_inside_itself_is_an_error_and_no_dead_lock() -> None:
    """
    A stream that is collected while the ledger works may try to settle there and then.
    """
    clock = SetClock()
    ledger = MemoryLedger.open("memory://", clock=clock)
    reservation = hold(ledger, "one", 60)
    ledger._clock = lambda: settle(ledger, reservation, 40)  # called while the ledger holds its lock

    with pytest.raises(LedgerUnavailable, match="called from inside itself"):
        ledger.extend(reservation, hold_s=1)
    ledger._clock = clock
    assert settle(ledger, reservation, 40) == Settled("settled")
    assert books(ledger) == (40, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_a_thread_is_inside_finds_the_lock_free() -> None:
    """
    The thread is not in the child, and would never let go of it there.
    """
    ledger = MemoryLedger.open("memory://", clock=SetClock())
    is_inside, may_leave = threading.Event(), threading.Event()

    def work() -> None:
        with ledger._lock:
            is_inside.set()
            may_leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    is_inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # rather than for ever
        settle(ledger, hold(ledger, "one", 60), 40)
        os._exit(7)
    may_leave.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


# --- many balances -------------------------------------------------------------------

DAY_S = 86_400
TODAY = 20_000 * DAY_S


def spend(ledger: MemoryLedger, number: int, key: LedgerKey, amount: int = 1) -> Reservation:
    held = ledger.reserve(
        [Line(key, 100, amount)], entry=open_entry(f"{number}"), hold_s=60, on_expiry="charge"
    )
    assert isinstance(held, Reservation)
    ledger.settle(held, {key: amount}, answered(f"{number}"))
    return held


def of_user(user: int | str, start: int, rule: str = "USD/day@UTC") -> LedgerKey:
    return LedgerKey("user", rule, (("user", str(user)),), start)


def test_balances_of_windows_that_have_long_ended_are_forgotten() -> None:
    """
    A worker with a budget for each user and day must not grow with every day.
    """
    ledger = MemoryLedger.open("memory://?keep_entries=10", clock=SetClock())
    most = 0
    for day in range(12):
        for user in range(2_000):
            spend(ledger, day * 2_000 + user, of_user(user, TODAY + day * DAY_S))
        ledger.sweep(now=TODAY + day * DAY_S + 7_200)
        most = max(most, len(ledger.balances()))

    kept = {balance.key.window_start for balance in ledger.balances()}
    assert most <= forgetting.FEW + 2_000
    assert {TODAY + 10 * DAY_S, TODAY + 11 * DAY_S} <= kept
    assert TODAY not in kept
    assert all(balance.spent == 1 for balance in ledger.balances())


def test_what_calls_under_way_hold_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A reservation settles in the window it was reserved in, however late; after that it is of no use.
    """
    monkeypatch.setattr(forgetting, "FEW", 1)
    ledger = MemoryLedger.open("memory://", clock=SetClock())
    old = of_user("ann", TODAY)
    held = ledger.reserve([Line(old, 100, 5)], entry=open_entry("slow"), hold_s=10**9, on_expiry="charge")
    assert isinstance(held, Reservation)
    for day in range(1, 4):
        spend(ledger, day, of_user("ann", TODAY + day * DAY_S))
    now = TODAY + 4 * DAY_S

    ledger.sweep(now=now)
    assert [balance.key.window_start for balance in ledger.balances()] == [
        TODAY,
        TODAY + 2 * DAY_S,
        TODAY + 3 * DAY_S,
    ]
    assert ledger.settle(held, {old: 3}, answered("slow")) == Settled("settled")
    for day in range(5, 9):
        spend(ledger, day, of_user("ann", TODAY + day * DAY_S))
    ledger.sweep(now=now + 5 * DAY_S)
    assert ledger.balances([old]) == [Balance(old)]


def test_a_late_settle_in_a_forgotten_window_leaves_no_sum_below_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Its books are closed for good; a correction has nothing left to correct.
    """
    monkeypatch.setattr(forgetting, "FEW", 1)
    ledger = MemoryLedger.open("memory://", clock=SetClock())
    old = of_user("ann", TODAY)
    late = ledger.reserve([Line(old, 100, 50)], entry=open_entry("late"), hold_s=1, on_expiry="charge")
    assert isinstance(late, Reservation)
    for day in range(1, 4):
        spend(ledger, day, of_user("ann", TODAY + day * DAY_S))
    for _ in range(2):  # ends it, and forgets its window
        ledger.sweep(now=10**10)

    assert ledger.settle(late, {old: 5}, answered("late")) == Settled("corrected")
    assert ledger.balances([old]) == [Balance(old)]


@pytest.mark.parametrize(
    ("starts", "now", "over"),
    [
        ([0], 10**9, []),  # for all time
        ([0, 60], 10**9, []),
        ([0, 60, 120], 10**9, [0]),
        ([0, 60, 120], 60 + forgetting.KEPT_S - 1, []),  # it ended within the hour
        ([0, 60, 120], 60 + forgetting.KEPT_S, [0]),
        ([0, 60, 120, 7_200], 120 + forgetting.KEPT_S, [0, 60]),
        ([0, 60, 120, 7_200], 119 + forgetting.KEPT_S, [0]),
    ],
)
def test_windows_are_over_when_two_newer_ones_are_known_and_an_hour_has_passed(
    starts: list[int], now: float, over: list[int]
) -> None:
    """
    A clock that is set back a little must not find a full window empty.
    """
    keys = {of_user("ann", start, "USD/minute@UTC"): (0, 0, 0) for start in starts}

    assert [key.window_start for key in forgetting.find_over(keys, now)] == over
    keys[of_user("ann", 10**10, "USD/hour@UTC")] = 0, 0, 0
    assert [key.window_start for key in forgetting.find_over(keys, now)] == over


@pytest.mark.parametrize(("rule", "span_s"), [("USD/rolling hour", 3_600), ("USD/rolling 24 hours", DAY_S)])
def test_sub_windows_are_over_an_hour_after_they_have_left_the_span(rule: str, span_s: int) -> None:
    """
    All of those that count are looked at, and nobody looks at others.
    """
    newest = TODAY + 5 * DAY_S
    starts = range(newest - 2 * span_s, newest + 1, span_s // 30)
    keys = {of_user("ann", start, rule): (0, 0, 0) for start in starts}

    over = {key.window_start for key in forgetting.find_over(keys, newest)}
    assert over == {start for start in starts if start < newest - span_s - span_s // 30 - forgetting.KEPT_S}


def test_what_rolls_and_rates_of_many_are_forgotten_too() -> None:
    """
    A rate for each user must not keep all users there ever were; one that is not full again is kept.
    """
    clock = SetClock()
    clock.now = TODAY
    ledger = MemoryLedger.open("memory://", clock=clock)
    slow, quick = of_user("slow", 0, "requests/hour rate"), of_user("quick", 0, "requests/second rate")
    rolling = of_user("ann", TODAY, "USD/rolling minute")
    lines = [
        Line(slow, 10, 10, kind="rate", span_s=3_600, refill=5),
        Line(quick, 10, 10, kind="rate", span_s=1, refill=5),
        Line(rolling, 10, 5, kind="rolling", span_s=60),
    ]
    held = ledger.reserve(lines, entry=open_entry("one"), hold_s=10**6, on_expiry="charge")
    assert isinstance(held, Reservation)

    def left_at(now: float) -> set[LedgerKey]:
        ledger._forget(now)
        return {balance.key for balance in ledger.balances()}

    assert left_at(TODAY + DAY_S) == {slow, quick, rolling}  # a call holds them
    ledger.settle(held, {line.key: line.amount for line in lines}, answered("one"))
    assert left_at(TODAY + 2 * forgetting.KEPT_S) == {slow}  # full in an hour: not long enough ago
    forgetting.forget(ledger._balances, slow, TODAY + 2 * forgetting.KEPT_S)  # it was taken from since
    assert slow in ledger._balances
    assert left_at(TODAY + 3 * forgetting.KEPT_S) == set()
    assert ledger._balances == {}


def test_claims_of_alerts_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A budget for each user and day has thresholds without end; the newest are what is still told.
    """
    monkeypatch.setattr(memory_claims, "_MOST", 10)
    ledger = MemoryLedger(clock=SetClock())
    claims = [AlertClaim(str(number), "{}", NOW + number) for number in range(50)]
    for claim in claims[:25]:
        assert ledger.claim_alert(claim)
        ledger.confirm_alert(claim)
    for claim in claims[25:]:
        assert ledger.claim_alert(claim)

    assert ledger.unconfirmed_alerts() == claims[40:]
    assert not any(ledger.claim_alert(claim) for claim in [*claims[15:25], *claims[40:]])
