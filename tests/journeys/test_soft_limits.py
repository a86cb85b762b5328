"""
Soft limits, rates, what rolls, and shadows, through a real client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.domain.budget import Mode
from bedrock_guard.domain.ledger import Refusal, Reservation
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import SetClock

from .conftest import HELLO, Guarded
from .test_one_call import speak

# 3 x 3.30 + 100 x 16.50 USD a million, and what is held before: a bound of the input, and the output in full.
COST = Decimal("0.0016599")
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC).timestamp()


def call(guarded: Guarded, times: int = 1) -> None:
    for _ in range(times):
        guarded.client.converse(**HELLO)


# Rates and what rolls


def test_a_rate_refuses_and_says_to_the_moment_when_to_come_back(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    Who waits for `retry_after_s` is let through, and who asks before that is not.
    """
    clock = SetClock(START)
    guarded = make_guarded(budgets=[Budget("rps", "5 requests/second", burst=2)], clock=clock)
    call(guarded, 2)

    with pytest.raises(BudgetExceeded) as caught:
        call(guarded)

    refusal = caught.value
    assert str(refusal).splitlines() == [
        "rps (5 requests/second): the call may use up to 1 requests, 0 requests is free",
        "rate: 2 requests of a burst of 2 requests taken · frees in 0.2 s",
    ]
    assert refusal.retry_after_s == pytest.approx(0.2, abs=1e-6)
    assert (refusal.refusals[0].reason, refusal.limit, refusal.remaining) == ("rate", 2, 0)
    clock.now += 0.199
    with pytest.raises(BudgetExceeded):
        call(guarded)
    clock.now += 0.002
    call(guarded)
    assert len(guarded.server.requests) == 3


@pytest.mark.parametrize(
    ("limit", "burst", "most", "taken", "retry_after_s"),
    [
        ("60 output_tokens/minute", 150, 140, 20, 10),  # 10 too many, and one a second is refilled
        ("60 output_tokens/minute", 150, 151, 20, None),
        ("150 output_tokens/rolling minute", None, 140, 30, 50),  # once the sub-window of the 30 has left
        ("150 output_tokens/rolling minute", None, 151, 30, None),
    ],
)
def test_a_request_that_grew_on_its_way_is_told_as_one_that_was_asked_for(
    limit: str, burst: int | None, most: int, taken: int, retry_after_s: float | None
) -> None:
    """
    What the call itself holds is not in its way, and when to come back is told as of any other.
    """
    clock = SetClock(START)
    budget = Budget("pace", limit, burst=burst)
    sizes = [{**HELLO, "inferenceConfig": {"maxTokens": each}} for each in (30, 100, most)]
    with Guard(budgets=[budget], ledger="memory://", settings={}, clock=clock) as guard:
        other, asked, grown = [guard.hold("Converse", each, region="us-east-1") for each in sizes]
        with other:
            clock.now += 10
            with asked as hold:
                with pytest.raises(BudgetExceeded) as caught:
                    guard._pipeline.rebound(hold._opened, grown._call)
                hold.rejected()
            other.rejected()

    refusal = caught.value
    assert (refusal.requested, int(refusal.spent) + int(refusal.pending)) == (most, taken)
    assert refusal.pending >= 0
    assert refusal.remaining == 150 - taken
    assert refusal.retry_after_s == (retry_after_s and pytest.approx(retry_after_s, abs=2))
    assert (refusal.refusals[0].reason == "larger_than_limit") is (most > 150)


def test_status_of_a_rate_shows_what_is_taken_now(make_guarded: Callable[..., Guarded]) -> None:
    """
    A bucket has no window; it is full again at a moment that can be told.
    """
    clock = SetClock(START)
    guarded = make_guarded(budgets=[Budget("rps", "5 requests/second", burst=4)], clock=clock)
    call(guarded, 3)

    (taken,) = guarded.guard.status()
    clock.now += 0.3
    (later,) = guarded.guard.status()
    clock.now += 1
    (full,) = guarded.guard.status()

    assert (taken.limit, taken.spent, taken.pending, taken.remaining) == (4, 3, 0, 1)
    assert taken.resets_at is not None
    assert taken.resets_at.timestamp() == pytest.approx(START + 0.6, abs=1e-5)
    assert (later.spent, full.spent, full.remaining, full.resets_at) == (2, 0, 4, None)


def test_what_rolls_says_when_enough_has_rolled_out(make_guarded: Callable[..., Guarded]) -> None:
    """
    Not when the whole window is over, for there is no such moment.
    """
    clock = SetClock(START)
    guarded = make_guarded(budgets=[Budget("roll", "0.004 USD/rolling 24 hours")], clock=clock)
    call(guarded)
    clock.now += 3600
    call(guarded)

    with pytest.raises(BudgetExceeded) as caught:
        call(guarded)

    # Sub-windows of 48 minutes from 1970: that of 10:00 is 09:36 to 10:24.
    frees = datetime(2026, 11, 23, 10, 24, tzinfo=UTC)
    assert caught.value.resets_at == frees
    assert caught.value.retry_after_s == frees.timestamp() - clock.now
    assert "frees 10:24 UTC (in 23 h 24 m)" in str(caught.value)
    (row,) = guarded.guard.status()
    assert (row.spent, row.pending, row.resets_at) == (2 * COST, 0, frees)
    assert row.window_start == datetime(2026, 11, 21, 10, 24, tzinfo=UTC)
    clock.now = frees.timestamp()
    call(guarded)
    assert guarded.guard.status()[0].spent == 2 * COST


def test_a_retry_in_a_later_sub_window_counts_the_whole_call_there(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    Counted where the call began, it would be forgotten too early.
    """
    clock = SetClock(START)
    budgets = [Budget("roll", "1 USD/rolling minute"), Budget("calls", "9 requests/rolling minute")]
    guarded = make_guarded(budgets=budgets, clock=clock)
    guarded.client.meta.events.register(
        "needs-retry.bedrock-runtime", lambda **_: setattr(clock, "now", clock.now + 2)
    )
    guarded.server.will_answer(500)

    call(guarded)

    held = {balance.key.budget: {} for balance in guarded.guard.ledger.balances()}
    for balance in guarded.guard.ledger.balances():
        held[balance.key.budget][balance.key.window_start - START] = balance.spent, balance.pending
    entry = guarded.entry
    assert held["roll"] == {0: (0, 0), 2: (entry.cost_nanousd, 0)}
    assert held["calls"] == {0: (0, 0), 2: (1, 0)}


# Soft limits


def test_a_soft_limit_is_told_once_and_never_refuses(
    make_guarded: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    """
    Somebody wants to know, and nobody to be stopped.
    """
    clock = SetClock(START)
    guarded = make_guarded(budgets=[Budget("soft", "0.002 USD/day", on_exceed="warn")], clock=clock)

    with caplog.at_level(logging.WARNING, "bedrock_guard"):
        call(guarded, 4)
        clock.now += 86_400
        call(guarded, 2)

    told = [
        record.getMessage() for record in caplog.records if record.name == "bedrock_guard"
    ]  # alerts come when they come
    assert [text.partition(" is reached")[0] for text in told] == ["Soft limit soft (0.002 USD/day)"] * 2
    entries = list(guarded.guard.entries())
    assert {entry.outcome for entry in entries} == {"answered"}
    assert [entry.exceeded for entry in reversed(entries)] == [
        (),
        ("soft",),
        ("soft",),
        ("soft",),
        (),
        ("soft",),
    ]
    (row,) = guarded.guard.status()
    assert (row.spent, row.remaining, row.enforced, row.would_refuse) == (2 * COST, 0, False, None)


def test_a_soft_limit_beside_a_hard_one(make_guarded: Callable[..., Guarded]) -> None:
    """
    A team is warned at its share; the company's limit holds.
    """
    budgets = [Budget("team", "0.001 USD/day", on_exceed="warn"), Budget("all", "0.004 USD/day")]
    guarded = make_guarded(budgets=budgets)
    call(guarded, 2)

    with pytest.raises(BudgetExceeded) as caught:
        call(guarded)

    assert [refused.budget for refused in caught.value.refusals] == ["all"]


# Shadows


def test_a_shadow_refuses_nothing_and_counts_what_it_would_have(make_guarded: Callable[..., Guarded]) -> None:
    """
    Before a limit is rolled out, one wants to know whom it would hit, and how often.
    """
    budgets = [Budget("tried", "0.002 USD/day", mode="shadow"), Budget("all", "1 USD/day")]
    guarded = make_guarded(budgets=budgets, clock=SetClock(START))

    call(guarded, 4)

    (would,) = guarded.guard.entries(outcome="would_refuse")
    assert (would.budget, would.reason, would.count, would.cost) == ("tried", "budget", 3, 0)
    tried, enforced = guarded.guard.status()
    assert (tried.spent, tried.would_refuse, tried.enforced) == (4 * COST, 3, False)
    assert (enforced.spent, enforced.would_refuse, enforced.enforced) == (4 * COST, None, True)
    assert guarded.server.bill.usd == 4 * COST


def test_each_balance_of_a_shadow_has_its_own_count(make_guarded: Callable[..., Guarded]) -> None:
    """
    The question is who would be hit.
    """
    budgets = [Budget("user", "0.002 USD/day", per="user", mode="shadow")]
    guarded = make_guarded(budgets=budgets, clock=SetClock(START))
    for user, times in (("alice", 3), ("bob", 1)):
        with scope(user=user):
            call(guarded, times)

    rows = {row.per: row.would_refuse for row in guarded.guard.status()}
    assert rows == {(("user", "alice"),): 2, (("user", "bob"),): 0}


def test_calls_without_the_tag_and_rates_are_counted_too(make_guarded: Callable[..., Guarded]) -> None:
    """
    Who is hit most may be who carries no tag; and a rate has no window that a call could be in.
    """
    budgets = [
        Budget("user", "0.002 USD/day", per=("user", "team"), mode="shadow"),
        Budget("pace", "1 requests/minute", burst=1, per="team", mode="shadow"),
    ]
    clock = SetClock(START)
    guarded = make_guarded(budgets=budgets, clock=clock)
    call(guarded, 3)
    with scope(team="search"):
        call(guarded, 4)
    clock.now += 120

    counted = {(row.budget, dict(row.per).get("team")): row.would_refuse for row in guarded.guard.status()}
    assert counted == {("user", ""): 2, ("user", "search"): 3, ("pace", ""): 2, ("pace", "search"): 3}
    clock.now += 86_400
    assert {row.would_refuse for row in guarded.guard.status()} == {0}


@pytest.mark.parametrize("options", [{"mode": "shadow"}, {}])
def test_a_soft_limit_that_is_tried_out_would_have_refused_nobody(
    make_guarded: Callable[..., Guarded], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """
    In a shadow nobody is warned either; the entries say which limits were passed.
    """
    mode: Mode = "enforce" if options else "shadow"
    budgets = [Budget("soft", "0.002 USD/day", on_exceed="warn", mode=mode)]
    guarded = make_guarded(budgets=budgets, clock=SetClock(START), sinks=[], **options)

    call(guarded, 3)

    assert [entry.exceeded for entry in guarded.guard.entries()] == [("soft",), ("soft",), ()]
    assert guarded.guard.status()[0].would_refuse is None
    assert "Soft limit" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "change", "reason"),
    [
        ({}, {"modelId": "nobody.knows-this-v1:0"}, "unpriced"),
        ({"max_price_age_days": 1}, {}, "unpriced"),
        ({"untagged": "refuse"}, {}, "untagged"),
    ],
)
def test_a_shadow_raises_nothing_and_says_what_would_have_been(
    make_guarded: Callable[..., Guarded], settings: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """
    It is put round programs that run, to see; the day it breaks one, nobody tries it again.
    """
    budgets = [Budget("user", "9 USD/day", per="user")]
    is_old = "max_price_age_days" in settings
    clock = SetClock(START + (40 * 86_400 if is_old else 0))
    guarded = make_guarded(budgets=budgets, mode="shadow", clock=clock, **settings)

    guarded.client.converse(**{**HELLO, **change})

    entries = {entry.outcome: entry for entry in guarded.guard.entries()}
    assert set(entries) == {"answered", "would_refuse"}
    assert entries["would_refuse"].reason == reason
    assert guarded.guard.status()[0].would_refuse == 0  # of the budget's limit


@needs_newer_model
def test_a_shadow_lets_unmetered_operations_through(make_guarded: Callable[..., Guarded]) -> None:
    """
    They cannot be counted, and that they were called is kept.
    """
    guarded = make_guarded(mode="shadow")

    with pytest.raises(ClientError):  # the loopback server does not know it; it was sent
        speak(guarded.client)

    (would,) = guarded.guard.entries(outcome="would_refuse")
    assert (would.operation, would.reason) == ("InvokeModelWithBidirectionalStream", "unmetered")


class GoneLedger(MemoryLedger):
    """
    One that does nothing while it is gone.
    """

    is_gone = False

    def reserve(self, *args: Any, **kwargs: Any) -> Reservation | Refusal:
        self._check()
        return super().reserve(*args, **kwargs)

    def extend(self, *args: Any, **kwargs: Any) -> Reservation | Refusal:
        self._check()
        return super().extend(*args, **kwargs)

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return super().settle(*args, **kwargs)

    def _check(self) -> None:
        if self.is_gone:
            raise LedgerUnavailable("gone")


def test_a_shadow_without_a_ledger_goes_on_and_books_later(make_guarded: Callable[..., Guarded]) -> None:
    """
    There is no amount to stop at, for a shadow stops nobody.
    """
    clock = SetClock(START)
    ledger = GoneLedger(clock=clock)
    guarded = make_guarded(budget="all: 0.001 USD/day", mode="shadow", ledger=ledger, clock=clock)
    ledger.is_gone = True
    call(guarded, 3)

    ledger.is_gone = False
    assert guarded.guard.flush(30)
    assert guarded.guard.status()[0].spent == 3 * COST
    assert [entry.allowed_by for entry in guarded.guard.entries(outcome="answered")] == ["shadow"] * 3


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_shadow_vetoes_no_retry(make_guarded: Callable[..., Guarded], is_gone: bool) -> None:
    """
    Neither for want of room nor of a ledger.
    """
    clock = SetClock(START)
    ledger = GoneLedger(clock=clock)
    guarded = make_guarded(
        budget="all: 0.001 USD/day", mode="shadow", ledger=ledger, clock=clock, config={"read_timeout": 5}
    )
    guarded.client.meta.events.register(
        "needs-retry.bedrock-runtime", lambda **_: setattr(ledger, "is_gone", is_gone)
    )
    guarded.server.will_answer(500)

    call(guarded)

    ledger.is_gone = False
    assert guarded.guard.flush(30)
    assert len(guarded.server.requests) == 2
    assert [attempt.outcome for attempt in next(guarded.guard.entries(outcome="answered")).attempts] == [
        "lost",
        "answered",
    ]
    assert guarded.spent_nanousd == guarded.guard.entries(outcome="answered").__next__().cost_nanousd


def test_a_shadow_of_a_closed_guard_lets_calls_through(make_guarded: Callable[..., Guarded]) -> None:
    """
    A program that closes it too early is still a program that runs.
    """
    guarded = make_guarded(mode="shadow")
    guarded.guard.close()

    call(guarded)

    assert len(guarded.server.requests) == 1


def test_a_file_says_all_of_it(make_guarded: Callable[..., Guarded]) -> None:
    """
    The keys of a settings file are the arguments of `Budget`.
    """
    table = {"limit": "5 requests/second", "burst": 10, "mode": "shadow"}
    soft = {"limit": "10 USD/rolling 24 hours", "on_exceed": "warn"}
    guarded = make_guarded(
        budgets=None, settings={"mode": "shadow", "budgets": {"rate": table, "soft": soft}}, budget=None
    )

    assert guarded.guard.budgets == (
        Budget("rate", "5 requests/second", burst=10, mode="shadow"),
        Budget("soft", "10 USD/rolling 24 hours", on_exceed="warn"),
    )
    assert guarded.guard.resolved.settings.mode == "shadow"
