"""
Alerts of what rolls, of rates, of limits of one's own, of top-ups, and of what is not enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bedrock_guard import Budget, BudgetExceeded, scope
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.entry import Entry
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, Stopped
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.telling import noticing
from bedrock_guard.testing.bedrock_server import converse_reply
from bedrock_guard.testing.ledger_calls import SetClock, open_entry

from .conftest import HELLO, NOVA, Guarded

# A whole day, so that runs of hours begin with it.
START = 1_795_305_600.0 // 86_400 * 86_400
HOUR_S = 3600
SMALL: dict[str, Any] = {**HELLO, "modelId": NOVA, "inferenceConfig": {"maxTokens": 10}}


class Seen(list[Alert]):
    """
    A sink that remembers, and is told of every call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []

    def send(self, alert: Alert) -> None:
        self.append(alert)

    def observe(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def names(self) -> list[tuple[str | None, str, float | None]]:
        return [(alert.budget, alert.kind, alert.threshold) for alert in self]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(START)


@pytest.fixture
def make(make_guarded: Callable[..., Guarded], seen: Seen, clock: SetClock) -> Callable[..., Guarded]:
    def make(*budgets: Budget, **options: Any) -> Guarded:
        return make_guarded(budgets=list(budgets), sinks=[seen], clock=clock, **options)

    return make


def call(guarded: Guarded, times: int = 1, **tags: str) -> None:
    with scope(**tags):
        for _ in range(times):
            guarded.client.converse(**SMALL)
    assert guarded.guard.flush(30)


def refused(guarded: Guarded) -> None:
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**SMALL)
    assert guarded.guard.flush(30)


def test_what_rolls_is_added_up_and_told_once_in_a_run_of_its_period(
    make: Callable[..., Guarded], seen: Seen, clock: SetClock
) -> None:
    """
    No sub-window alone comes to half of the limit; and of each of thirty nobody wants to hear.
    """
    guarded = make(Budget("hour", "4 requests/rolling hour", alerts=(0.5,)))
    call(guarded)
    clock.now += 10 * 60
    assert seen == []
    call(guarded)
    clock.now += 10 * 60
    call(guarded)

    (alert,) = seen
    assert (alert.threshold, alert.spent, alert.limit) == (0.5, 2, 4)
    assert alert.text == (
        "hour (4 requests/rolling hour): 50 % is reached · spent 2 requests of 4 requests in rolling hour"
    )
    assert alert.window_end is not None
    assert (alert.window_start.timestamp(), alert.window_end.timestamp()) == (START, START + HOUR_S)
    clock.now = START + HOUR_S + 180
    call(guarded)
    assert len(seen) == 2, "in the next hour it is told again, as two calls still count"
    assert seen[1].spent == 3


def test_the_first_refusal_of_what_rolls_is_told_once_in_a_run_of_its_period(
    make: Callable[..., Guarded], seen: Seen, clock: SetClock
) -> None:
    """
    A loop goes on being refused in one sub-window after the other.
    """
    guarded = make(Budget("hour", "1 requests/rolling hour", alerts=(1.0,)))
    call(guarded)
    for _ in range(5):
        clock.now += 5 * 60
        refused(guarded)

    assert sorted(seen.names, key=str) == [("hour", "refused", None), ("hour", "threshold", 1.0)]


def test_a_rate_tells_its_first_refusal_of_a_day_and_nothing_else(
    make: Callable[..., Guarded], seen: Seen, clock: SetClock
) -> None:
    """
    It is full again and again: a share of it is no news.
    """
    guarded = make(Budget("rps", "1 requests/minute", burst=2))
    for _ in range(3):
        call(guarded, 2)
        refused(guarded)
        clock.now += 600
    assert seen.names == [("rps", "refused", None)]
    assert seen[0].text == (
        "rps (1 requests/minute): a call was refused, it may come to 1 requests and 0 requests is free · "
        "2 requests of a burst of 2 requests taken"
    )
    clock.now = START + 86_400
    call(guarded, 2)
    refused(guarded)

    assert seen.names == [("rps", "refused", None)] * 2
    with pytest.raises(ConfigurationError, match="a rate, which time refills, has no share"):
        Budget("rps", "1 requests/second", alerts=(0.5,))
    assert Budget("rps", "1 requests/second").alerts == ()


def test_what_is_noticed_before_midnight_is_told_as_of_then(
    make: Callable[..., Guarded], seen: Seen, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However long it waits for the ledger; the next day has a first refusal of its own.
    """
    monkeypatch.setattr(noticing, "_LOOK_EVERY_S", 3600.0)
    guarded = make(Budget("rps", "1 requests/minute", burst=1))
    clock.now = START + 86_400 - 1
    call(guarded)
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**SMALL)
    clock.now += 2
    assert guarded.guard.flush(30)
    refused(guarded)

    assert [(alert.at.timestamp(), alert.window_start.timestamp()) for alert in seen] == [
        (START + 86_399, START), (START + 86_401, START + 86_400),
    ]  # fmt: skip


def test_an_overrun_of_a_rate_tells_what_is_taken(make: Callable[..., Guarded], seen: Seen) -> None:
    """
    What it has ever spent says nothing.
    """
    guarded = make(Budget("tokens", "60 output_tokens/minute", burst=500))
    guarded.server.will_answer(converse_reply(input_tokens=20, output_tokens=100))
    call(guarded)

    overrun = next(alert for alert in seen if alert.kind == "overrun")
    assert (overrun.spent, overrun.limit) == (100, 500)


def test_a_share_is_one_of_the_balances_own_limit_and_of_what_it_is_topped_up_to(
    make: Callable[..., Guarded], seen: Seen
) -> None:
    """
    Half of Alice's is not half of Bob's, and 20 more make half of it later.
    """
    limits = {"alice": "10 requests/day", "*": "2 requests/day"}
    guarded = make(Budget("users", limits=limits, per="user", alerts=(0.5,)))
    call(guarded, 1, user="alice")
    assert seen == []
    call(guarded, 1, user="bob")
    assert [(alert.per, alert.limit) for alert in seen] == [((("user", "bob"),), 2)]

    guarded.guard.top_up("users", "4 requests", per={"user": "alice"})
    call(guarded, 5, user="alice")
    assert len(seen) == 1, "six of fourteen"
    call(guarded, 1, user="alice")

    assert (seen[1].spent, seen[1].limit) == (7, 14)


def test_a_refusal_shows_the_limit_with_its_top_up(make: Callable[..., Guarded], seen: Seen) -> None:
    """
    As the error does.
    """
    guarded = make(Budget("day", "1 requests/day", alerts=()))
    guarded.guard.top_up("day", "1 requests")
    call(guarded, 2)
    refused(guarded)

    assert [(alert.kind, alert.spent, alert.limit) for alert in seen] == [("refused", 2, 2)]


@pytest.mark.parametrize("how", [{"on_exceed": "warn"}, {"mode": "shadow"}])
def test_a_limit_that_is_not_enforced_tells_its_shares_and_no_refusal(
    make: Callable[..., Guarded], seen: Seen, how: dict[str, Any]
) -> None:
    """
    Nothing was refused.
    """
    guarded = make(Budget("soft", "2 requests/day", **how))
    call(guarded, 4)

    assert sorted(seen.names, key=str) == [
        ("soft", "threshold", 0.5), ("soft", "threshold", 0.8), ("soft", "threshold", 1.0),
    ]  # fmt: skip
    assert [entry.outcome for entry in seen.entries] == ["answered"] * 4


class Gone(MemoryLedger):
    """
    One whose disk can be taken away.
    """

    is_gone = False

    def reserve(self, *args: Any, **options: Any) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("The disk is away.")
        return super().reserve(*args, **options)


def test_a_shadow_tells_and_raises_nothing(make: Callable[..., Guarded], seen: Seen, clock: SetClock) -> None:
    """
    Neither a limit that is passed, nor a stop, nor a ledger that is gone.
    """
    ledger = Gone(clock=clock)
    guarded = make(Budget("day", "1 requests/day", alerts=(1.0,)), ledger=ledger, mode="shadow")
    guarded.guard.stop(reason="a test", by="anna")
    call(guarded, 2)
    ledger.is_gone = True
    guarded.client.converse(**SMALL)
    ledger.is_gone = False
    call(guarded)

    assert sorted(seen.names, key=str) == [("day", "threshold", 1.0), (None, "ledger", None)]


def test_who_sees_each_call_sees_those_that_are_stopped_and_nobody_else_is_told(
    make: Callable[..., Guarded], seen: Seen
) -> None:
    """
    Calls that are refused are counted; who stopped them need not be told of it.
    """
    guarded = make(Budget("day", "5 requests/day"))
    guarded.guard.stop(reason="a test", by="anna")
    with pytest.raises(Stopped):
        guarded.client.converse(**SMALL)
    assert guarded.guard.flush(30)

    assert seen == []
    assert [(entry.outcome, entry.budget) for entry in seen.entries] == [("refused", None)]


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_what_a_sweep_charges_to_what_rolls_is_told(
    make: Callable[..., Guarded], seen: Seen, clock: SetClock, scheme: str, tmp_path: Any
) -> None:
    """
    The sweep names the sub-window, and the others count with it.
    """
    url = "memory://" if scheme == "memory" else f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    guarded = make(Budget("hour", "4 requests/rolling hour", alerts=(0.5,)), ledger=url)
    call(guarded)
    clock.now += 300
    (match,) = guarded.guard._matcher.match({}, clock.now)
    guarded.guard.ledger.reserve(
        [match.line(1)], entry=open_entry("dead", at_s=clock.now), hold_s=60, on_expiry="charge"
    )
    clock.now += 61
    guarded.guard.sweep()
    assert guarded.guard.flush(30)

    assert [(alert.threshold, alert.spent) for alert in seen] == [(0.5, 2)]
