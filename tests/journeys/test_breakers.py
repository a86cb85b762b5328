"""
Breakers, from the calls that break a condition to those that are stopped in another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dynamodb_engine
import pytest
from dynamodb_faults import Watched

from bedrock_guard import Guard, scope
from bedrock_guard.calls import tripping
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.ledger import Ledger, LedgerKey
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, Stopped
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import SetClock

from .conftest import HELLO, SONNET, Guarded, eventually

CACHE = "cache_hit >= 0.5 after 10K total_input_tokens"
THRASH = "cache_write / cache_read <= 5 after 10K total_input_tokens"
LOOP = "same_request <= 3/minute"
URLS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/ledger.db",
    "dynamodb": lambda _: dynamodb_engine.table_url(),
}
# The packaged prices are younger than a month then, or of later.
NOON = 1_795_305_600.0
POINT = {"cachePoint": {"type": "default"}}
KEYS = [
    LedgerKey(budget, rule, (), 0)
    for budget in ("breaker:cache (refuse)", "breaker:cache (refuse) judged")
    for rule in ("total_input_tokens", "cache_read_tokens")
]
PARAMS: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "x" * 20_000}, POINT]}],
    "inferenceConfig": {"maxTokens": 10},
}


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOON)


@pytest.fixture
def ledgers() -> Iterator[list[Ledger]]:
    opened: list[Ledger] = []
    yield opened
    for ledger in opened:
        ledger.close()


@pytest.fixture(params=sorted(URLS))
def ledger(request, ledgers: list[Ledger], clock: SetClock, tmp_path: Path) -> Ledger:
    ledger = open_ledger(URLS[request.param](tmp_path), clock=clock)
    if isinstance(ledger, DynamoDBLedger):
        Watched(ledger)  # each request is one that the policy of programs allows
    ledgers.append(ledger)
    return ledger


@pytest.fixture
def in_memory(clock: SetClock) -> Ledger:
    return open_ledger("memory://", clock=clock)


@pytest.fixture
def told() -> list[Alert]:
    return []


@pytest.fixture
def make(clock: SetClock, told: list[Alert], ledgers: list[Ledger]) -> Iterator[Callable[..., Guard]]:
    guards: list[Guard] = []

    def make(ledger: Ledger, *breakers: Breaker | str, **options: Any) -> Guard:
        given: dict[str, Any] = {"budgets": [], "settings": {}, "sinks": [told.append], **options}
        guards.append(Guard(breakers=breakers, ledger=ledger, clock=clock, **given))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def reply(uncached: int = 0, read: int = 0, written: int = 0) -> dict[str, Any]:
    """
    What AWS answers to a call of this input.
    """
    usage = {
        "inputTokens": uncached,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": written,
        "outputTokens": 1,
        "totalTokens": uncached + read + written + 1,
    }
    return {"usage": usage, "stopReason": "end_turn"}


def use(guard: Guard, uncached: int = 0, read: int = 0, written: int = 0, **tags: str) -> None:
    with scope(**tags), guard.hold("Converse", PARAMS, region="us-east-1") as hold:
        hold.settle(reply(uncached, read, written))


def nobody_looks(guard: Guard) -> None:
    """
    Until somebody flushes: beside the calls.
    """
    assert guard._pipeline.alerts is not None
    guard._pipeline.alerts._looks_at = float("inf")


def is_stopped(guard: Guard, **tags: str) -> bool:
    try:
        with scope(**tags), guard.hold("Converse", PARAMS, region="us-east-1") as hold:
            hold.rejected()
    except Stopped:
        return True
    return False


def outcomes(guard: Guard) -> list[tuple[str, str | None]]:
    return [
        (entry.outcome, entry.reason)
        for entry in reversed(list(guard.entries()))
        if entry.outcome not in ("answered", "rejected", "lost")
    ]


# What is counted, and judged


def test_a_cache_that_does_nothing_stops_the_calls_of_all(
    make: Callable[..., Guard], ledger: Ledger, told: list[Alert], clock: SetClock
) -> None:
    """
    After the first N tokens, not at the end of the month; and in the programs that did not notice.
    """
    one, other = make(ledger, f"cache: {CACHE}"), make(ledger, f"cache: {CACHE}")

    use(one, uncached=9000, read=900)
    assert not is_stopped(one)
    use(one, uncached=4000, read=100)

    with pytest.raises(Stopped) as caught:
        use(one, uncached=1000)
    clock.now += 2  # until every copy of what is stopped is too old, where there are copies
    assert is_stopped(other)
    assert caught.value.by == "breaker:cache"
    assert caught.value.reason.startswith("prompt caching does little: 7.1 % of 14K input tokens were read")
    assert one.flush(30)
    assert [(alert.kind, alert.budget, alert.text) for alert in told] == [
        ("breaker", "breaker:cache", caught.value.reason)
    ]
    assert outcomes(one) == [("stop", None), ("judged", "tripped"), ("refused", None)]
    judged = next(entry for entry in one.entries() if entry.outcome == "judged")
    assert judged.budget == "breaker:cache"
    assert judged.control is not None
    assert judged.control["figures"] == {"total_input_tokens": 14_000, "cache_read_tokens": 1000}


def test_who_resumes_is_judged_afresh(make: Callable[..., Guard], ledger: Ledger, told: list[Alert]) -> None:
    """
    A stop that comes back at once by the same figures would never be resumed, but switched off.
    """
    guard = make(ledger, f"cache: {CACHE}")
    use(guard, uncached=10_000)
    guard.resume(guard.controls().stops[0].id)

    use(guard, uncached=9000)
    assert not is_stopped(guard)
    guard.flush(30)
    assert not is_stopped(guard)
    use(guard, uncached=1000)

    assert is_stopped(guard)
    guard.resume(guard.controls().stops[0].id)
    use(guard, read=10_000)
    assert not is_stopped(guard), "what was mended is not what was broken"
    assert guard.flush(30)
    assert len({alert.id for alert in told}) == len(told) == 2
    assert [each for each in outcomes(guard) if each[0] == "judged"] == [
        ("judged", "tripped"),
        ("judged", "tripped"),
        ("judged", "kept"),
    ]


def test_a_healthy_past_hides_no_cache_that_stops_working(
    make: Callable[..., Guard], in_memory: Ledger
) -> None:
    """
    A share of all time would notice after as long as it had been well.
    """
    guard = make(in_memory, f"cache: {CACHE}")
    for _ in range(50):
        use(guard, uncached=100, read=9900)

    use(guard, uncached=9000)
    assert not is_stopped(guard)
    use(guard, uncached=9000)

    assert is_stopped(guard)


def test_what_other_processes_add_counts(make: Callable[..., Guard], ledger: Ledger) -> None:
    """
    Each alone would never have enough; what they have together is looked at beside the calls.
    """
    one, other = make(ledger, f"cache: {CACHE}"), make(ledger, f"cache: {CACHE}")

    use(one, uncached=6000)
    assert one.flush(30)
    assert not is_stopped(other)
    use(other, uncached=6000)
    assert other.flush(30)

    assert is_stopped(other)


def test_a_process_that_tells_nobody_looks_all_the_same(
    make: Callable[..., Guard], in_memory: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the breaker stops is one thing, and who hears of it another: that is left to whoever has sinks.
    """
    claims: list[AlertClaim] = []
    monkeypatch.setattr(MemoryLedger, "claim_alert", lambda _, claim, **__: claims.append(claim))
    one, other = (make(in_memory, f"cache: {CACHE}", sinks=[]) for _ in range(2))
    use(one, uncached=6000)
    assert one.flush(30)
    use(other, uncached=6000)
    assert other.flush(30)

    assert is_stopped(other)
    assert claims == []


def test_only_the_calls_that_break_it_are_stopped(make: Callable[..., Guard], ledger: Ledger) -> None:
    """
    One team's mistake is no reason to stop another, nor what the breaker does not match.
    """
    breaker = Breaker("cache", CACHE, match={"workflow": "agent*"}, per="team")
    guard = make(ledger, breaker, untagged="refuse")

    for _ in range(2):
        use(guard, uncached=6000, workflow="agent-1", team="a*")
        use(guard, uncached=1000, read=5000, workflow="agent-1", team="ads")
        use(guard, uncached=6000, workflow="batch", team="a*")
        use(guard, uncached=4000, workflow="agent-2")

    assert is_stopped(guard, workflow="agent-2", team="a*")
    assert not is_stopped(guard, workflow="agent-2", team="ads")
    assert not is_stopped(guard, workflow="batch", team="a*")
    assert not is_stopped(guard, workflow="agent-1")
    use(guard, uncached=2000, workflow="agent-1")
    assert is_stopped(guard, workflow="agent-1"), "calls without the tag are a scope of their own"
    assert [dict(stop.match) for stop in guard.controls().stops] == [
        {"workflow": "agent*", "team": "a[*]"},
        {"workflow": "agent*", "team": ""},
    ]


def test_caches_that_are_written_and_not_read_stop_calls(make: Callable[..., Guard], ledger: Ledger) -> None:
    """
    A write costs a quarter more than no cache at all.
    """
    guard = make(ledger, f"thrash: {THRASH}")

    use(guard, written=8330, read=1670)
    assert not is_stopped(guard)
    use(guard, written=8340, read=1660)

    with pytest.raises(
        Stopped, match=r"caches are written and hardly read: 8\.34K tokens written, 1\.66K read"
    ):
        use(guard)


def test_only_what_aws_has_reported_counts(make: Callable[..., Guard], in_memory: Ledger) -> None:
    """
    The estimate of a reply that was lost says that nothing was read from a cache, and does not know it.
    """
    guard = make(in_memory, f"cache: {CACHE}")

    for _ in range(5):
        with guard.hold("Converse", PARAMS, region="us-east-1") as hold:
            hold.lost()

    assert guard.flush(30)
    assert not is_stopped(guard)
    assert in_memory.balances() == []


@pytest.mark.parametrize(
    ("model_id", "uncached", "is_counted"),
    [
        ("meta.llama3-70b-instruct-v1:0", 10_000, False),
        ("mistral.mistral-large-2402-v1:0", 10_000, False),
        ("cohere.command-r-v1:0", 10_000, True),  # not in the list, so that nobody knows
        ("amazon.nova-2-lite-v1:0", 10_000, True),
        (SONNET, 1000, True),
        (SONNET, 999, False),
    ],
)
def test_what_no_cache_could_hold_trips_nothing(
    make: Callable[..., Guard], in_memory: Ledger, model_id: str, uncached: int, *, is_counted: bool
) -> None:
    """
    Models without a prompt cache, and prompts that are too short for one, read nothing from it and are well.
    """
    guard = make(in_memory, f"cache: {CACHE}", f"thrash: {THRASH}", on_unpriced="upper_bound")
    params = {**PARAMS, "modelId": model_id}

    for _ in range(11):
        with suppress(Stopped), guard.hold("Converse", params, region="us-east-1") as hold:
            hold.settle(reply(uncached))

    assert is_stopped(guard) == is_counted


def test_a_cache_that_nobody_knows_of_counts_by_what_it_reports(
    make: Callable[..., Guard], in_memory: Ledger
) -> None:
    """
    The price list may be older than the model's cache.
    """
    guard = make(in_memory, f"cache: {CACHE}")
    params = {**PARAMS, "modelId": "meta.llama3-70b-instruct-v1:0"}

    with guard.hold("Converse", params, region="us-east-1") as hold:
        hold.settle(reply(9999, read=1))

    assert is_stopped(guard)


def test_a_window_begins_afresh(make: Callable[..., Guard], in_memory: Ledger, clock: SetClock) -> None:
    """
    Whose calls are few is judged by a day of them, or not at all.
    """
    guard = make(in_memory, f"cache: {CACHE}/hour")

    use(guard, uncached=9000)
    clock.now += 3600
    use(guard, uncached=9000)
    assert not is_stopped(guard)
    use(guard, uncached=1000)

    assert is_stopped(guard)


def test_what_is_counted_is_no_overrun(make: Callable[..., Guard], ledger: Ledger, told: list[Alert]) -> None:
    """
    It was never held, and a call that kept to its bound must not be told of as one that did not.
    """
    guard = make(ledger, f"cache: {CACHE}", budgets=["all: 10M tokens/day"])
    alerts = guard._pipeline.alerts
    assert alerts is not None
    overran: list[bool] = []
    see = alerts.see
    alerts.see = lambda opened, entry, settled: (
        overran.append(settled.overrun),
        see(opened, entry, settled),
    )[1]  # type: ignore[func-returns-value, method-assign]

    use(guard, uncached=1000, read=4000)

    assert guard.flush(30)
    assert told == []
    assert overran == [False]
    assert {row.budget: row.spent for row in guard.status()} == {"all": 5001}
    use(guard, uncached=500_000)
    assert guard.flush(30)
    assert sorted({alert.kind for alert in told}) == ["anomaly", "breaker", "overrun"]


def test_two_who_judge_the_same_stop_once(
    make: Callable[..., Guard], ledger: Ledger, told: list[Alert]
) -> None:
    """
    Two stops would have to be resumed twice, and two judgements would take the next for judged.
    """
    guards = [make(ledger, f"cache: {CACHE}") for _ in range(4)]
    for guard in guards:
        use(guard, uncached=2300)
    held = [guard.hold("Converse", PARAMS, region="us-east-1").__enter__() for guard in guards]
    threads = [threading.Thread(target=hold.settle, args=(reply(1000),)) for hold in held]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for guard in guards:
        assert guard.flush(30)

    assert len(guards[0].controls().stops) == len(told) == 1
    counted, _, judged, _ = [balance.spent for balance in ledger.balances(KEYS)]
    assert counted == 13_200
    assert 10_000 <= judged <= 13_200
    late = ("judged", "stopped")  # of calls that ended in between
    assert [each for each in outcomes(guards[0]) if each != late] == [("stop", None), ("judged", "tripped")]


def test_two_who_have_read_the_same_write_it_once(
    make: Callable[..., Guard], in_memory: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Both have looked before either has written.
    """
    guards = [make(in_memory, f"cache: {CACHE}") for _ in range(2)]
    have_read, balances = threading.Barrier(2), in_memory.balances

    def read(keys: Any = None) -> Any:
        found = balances(keys)
        have_read.wait(30)
        return found

    for guard in guards:
        nobody_looks(guard)
    held = [guard.hold("Converse", PARAMS, region="us-east-1").__enter__() for guard in guards]
    threads = [threading.Thread(target=hold.settle, args=(reply(10_000),)) for hold in held]
    monkeypatch.setattr(in_memory, "balances", read)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()

    assert outcomes(guards[0]) == [("stop", None), ("judged", "tripped")]
    assert len(guards[0].controls().stops) == 1


def test_a_look_that_is_overtaken_forgets_nothing(
    make: Callable[..., Guard], in_memory: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What it has read is old by the time it says so.
    """
    guard = make(in_memory, f"cache: {CACHE}")
    breakers, balances = guard._pipeline.upkeep._breakers, in_memory.balances
    assert breakers is not None
    nobody_looks(guard)
    use(guard, uncached=4000)

    def be_overtaken(keys: Any = None) -> Any:
        found = balances(keys)
        monkeypatch.undo()
        use(guard, uncached=3000)
        breakers.look()
        return found

    monkeypatch.setattr(in_memory, "balances", be_overtaken)
    breakers.look()
    assert not is_stopped(guard)
    use(guard, uncached=3000)

    assert is_stopped(guard)


# What a trip does


def test_calls_that_were_under_way_trip_no_second_time(
    make: Callable[..., Guard], ledger: Ledger, told: list[Alert]
) -> None:
    """
    Two stops would have to be resumed, and two alerts be read, for one broken cache.
    """
    guards = [make(ledger, f"cache: {CACHE}") for _ in range(4)]
    held = [guard.hold("Converse", PARAMS, region="us-east-1").__enter__() for guard in guards * 2]
    for guard in guards:
        nobody_looks(guard)

    for hold in held:
        hold.settle(reply(10_000))
    for guard in guards:
        assert guard.flush(30)

    assert len(told) == len(guards[0].controls().stops) == 1
    assert [each for each in outcomes(guards[0]) if each[0] == "stop"] == [("stop", None)]


def test_what_was_under_way_trips_nobody_who_has_resumed(
    make: Callable[..., Guard], ledger: Ledger, clock: SetClock
) -> None:
    """
    It is what was broken, not what was mended.
    """
    guard, other = make(ledger, f"cache: {CACHE}"), make(ledger, f"cache: {CACHE}")
    late = [each.hold("Converse", PARAMS, region="us-east-1").__enter__() for each in (guard, other)]
    use(guard, uncached=10_000)

    clock.now += 2
    for hold in late:
        hold.settle(reply(4500))
    assert guard.flush(30)
    assert other.flush(30)
    guard.resume(guard.controls().stops[0].id)
    use(guard, uncached=100, read=1900)

    assert not is_stopped(guard)
    assert ("judged", "stopped") in outcomes(guard)
    use(guard, uncached=8000)
    assert is_stopped(guard), "from there on it is judged as ever"


@pytest.mark.parametrize("condition", [CACHE, LOOP])
def test_what_goes_on_is_told_once_a_day(
    make: Callable[..., Guard], in_memory: Ledger, told: list[Alert], clock: SetClock, condition: str
) -> None:
    """
    A condition that is broken trips again and again where nothing is stopped.
    """
    guard = make(in_memory, Breaker("broken", condition, on_trip="warn"))

    for day in (1, 2):
        for _ in range(20):
            use(guard, uncached=10_000)
        assert guard.flush(30)
        assert len(told) == day
        clock.now += 86_400


def test_a_shadow_sees_loops_of_calls_that_are_stopped(make: Callable[..., Guard], in_memory: Ledger) -> None:
    """
    They are sent all the same.
    """
    guard = make(in_memory, f"loop: {LOOP}", mode="shadow")
    guard.stop(reason="for others")

    for _ in range(4):
        use(guard, uncached=10)

    assert ("would_refuse", "breaker") in outcomes(guard)


def test_whatever_a_tag_says_is_told_in_one_line(
    make: Callable[..., Guard], in_memory: Ledger, told: list[Alert]
) -> None:
    """
    It may be an end user's, and as long as they like.
    """
    guard = make(in_memory, Breaker("cache", CACHE, per="user"))
    user = "!\n\x1b[31m" + "x" * 5000
    use(guard, uncached=10_000, user=user)

    with pytest.raises(Stopped) as caught:
        use(guard, user=user)

    assert "\n" not in caught.value.reason
    first, *others = str(caught.value).splitlines()
    assert first.isprintable()
    assert len(first) < 1000
    assert [line.partition(" ")[0] for line in others] == ["by", "bedrock-guard"]
    assert guard.flush(30)
    assert len(told[0].to_json()) < 2000


def test_a_stop_may_pass_by_itself(make: Callable[..., Guard], ledger: Ledger, clock: SetClock) -> None:
    """
    At night nobody resumes.
    """
    guard = make(ledger, Breaker("cache", CACHE, resume_after_s=600))
    use(guard, uncached=10_000)

    with pytest.raises(Stopped) as caught:
        use(guard)
    assert caught.value.retry_after_s == 600
    clock.now += 600

    assert not is_stopped(guard)


@pytest.mark.parametrize(
    ("breaker", "options", "left", "alerts"),
    [
        (Breaker("cache", CACHE, on_trip="warn"), {}, [("judged", "tripped")], 1),
        (Breaker("cache", CACHE, mode="shadow"), {}, [("judged", "tripped"), ("would_refuse", "breaker")], 0),
        (
            Breaker("cache", CACHE),
            {"mode": "shadow"},
            [("judged", "tripped"), ("would_refuse", "breaker")],
            0,
        ),
    ],
)
def test_calls_go_on_where_a_breaker_only_tells(
    make: Callable[..., Guard],
    ledger: Ledger,
    told: list[Alert],
    breaker: Breaker,
    options: dict[str, Any],
    left: list[tuple[str, str]],
    alerts: int,
) -> None:
    """
    A breaker is tried out before it stops a fleet.
    """
    guard = make(ledger, breaker, **options)

    use(guard, uncached=10_000)

    assert not is_stopped(guard)
    assert guard.flush(30)
    assert guard.controls().stops == ()
    assert sorted(outcomes(guard)) == left
    assert len(told) == alerts
    if not alerts:
        would = next(entry for entry in guard.entries() if entry.outcome == "would_refuse")
        assert (would.budget, would.model_id) == ("breaker:cache", SONNET)


def test_a_shadow_and_who_enforces_have_figures_of_their_own(
    make: Callable[..., Guard], in_memory: Ledger
) -> None:
    """
    Neither takes the other's tokens for judged, and what a trial found stops nobody once it is over.
    """
    shadow = make(in_memory, Breaker("cache", CACHE), mode="shadow")
    for _ in range(5):
        use(shadow, uncached=10_000)

    guard = make(in_memory, f"cache: {CACHE}")
    use(guard, uncached=100, read=9900)
    assert guard.flush(30)
    assert not is_stopped(guard), "it was mended before it was enforced"
    use(guard, uncached=10_000)

    assert is_stopped(guard)
    assert not is_stopped(shadow)


def test_no_two_breakers_count_in_one_balance(make: Callable[..., Guard], in_memory: Ledger) -> None:
    """
    Whatever they are called.
    """
    names = ["cache", "cache judged refuse", "cache judged", "cache refuse"]
    guard = make(in_memory, *(Breaker(name, CACHE) for name in names))

    use(guard, uncached=10_000)

    assert {stop.by for stop in guard.controls().stops} == {f"breaker:{name}" for name in names}


def test_a_stop_that_the_ledger_does_not_take_is_written_later(
    make: Callable[..., Guard], in_memory: Ledger, told: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The reply has been paid for, and the caller gets it.
    """
    guard = make(in_memory, Breaker("cache", CACHE, per="team"))
    write, failures = in_memory.write_control, [LedgerUnavailable("It is gone.")] * 2

    def fail(control: Any, entry: Any) -> int:
        if failures:
            raise failures.pop()
        if control.match == {"team": "ads"}:
            raise LedgerUnavailable("200 are in force.")
        return write(control, entry)

    monkeypatch.setattr(in_memory, "write_control", fail)
    nobody_looks(guard)

    for team in ("ads", "search"):
        use(guard, uncached=10_000, team=team)
        assert not is_stopped(guard, team=team)
    assert not guard.flush(0.1)

    assert is_stopped(guard, team="search")
    assert not is_stopped(guard, team="ads"), "and keeps no other from it"
    assert outcomes(guard)[:2] == [("stop", None), ("judged", "tripped")]
    assert eventually(lambda: len(told) == 2), "somebody is told all the same"
    monkeypatch.undo()
    assert guard.flush(30)
    assert is_stopped(guard, team="ads")


def test_nobody_is_called_as_breakers_are(make: Callable[..., Guard], in_memory: Ledger) -> None:
    """
    Who stopped must be true.
    """
    with pytest.raises(ConfigurationError, match="which is how breakers are named"):
        make(in_memory).stop(reason="x", by="breaker:cache")


def test_on_dynamodb_a_call_costs_no_request_more(
    make: Callable[..., Guard], ledgers: list[Ledger], clock: SetClock
) -> None:
    """
    Figures ride on the end of the call; they are read once they are enough.
    """
    ledger = open_ledger(dynamodb_engine.table_url(), clock=clock)
    ledgers.append(ledger)
    assert isinstance(ledger, DynamoDBLedger)
    guard = make(ledger, "cache: cache_hit >= 0.5 after 100K total_input_tokens")
    nobody_looks(guard)
    guard._pipeline.sweeper.due_at = float("inf")
    use(guard, read=1000)  # its balances are there now
    watched = Watched(ledger)

    for _ in range(8):
        use(guard, read=10_000)

    assert watched.sent == ["transact_write_items"] * 16
    use(guard, read=20_000)
    settled, looked = ["transact_write_items"] * 2, ["batch_get_item"]
    booked = ["transact_write_items"] * 3  # to new balances: the first try finds none
    assert watched.sent[16:] == settled + looked + booked


def test_many_scopes_are_read_together(
    make: Callable[..., Guard], ledgers: list[Ledger], clock: SetClock
) -> None:
    """
    A request for each team and second would be a bill of its own.
    """
    ledger = open_ledger(dynamodb_engine.table_url(), clock=clock)
    ledgers.append(ledger)
    assert isinstance(ledger, DynamoDBLedger)
    guard = make(ledger, Breaker("cache", CACHE, per="team"))
    nobody_looks(guard)
    for number in range(16):
        use(guard, uncached=9000, team=str(number))
    breakers = guard._pipeline.upkeep._breakers
    assert breakers is not None
    watched = Watched(ledger)

    breakers.look()

    assert watched.sent.count("batch_get_item") <= 2  # and the copy of what is stopped
    assert not breakers.has_news


def test_more_breakers_than_a_transaction_takes_keep_no_call_open(
    make: Callable[..., Guard], ledgers: list[Ledger], clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The call has been answered, and its budgets are charged.
    """
    ledger = open_ledger(dynamodb_engine.table_url(), clock=clock)
    ledgers.append(ledger)
    guard = make(ledger, *(f"{number}: {THRASH}" for number in range(17)), budgets=["all: 1M tokens"])

    use(guard, uncached=2000, read=2000, written=2000)

    assert [(row.spent, row.pending) for row in guard.status()] == [(6001, 0)]
    assert "Breakers do not count call" in caplog.text
    assert "52 balances; on DynamoDB" in caplog.text


# Through botocore


def test_streams_count_too(make_guarded: Callable[..., Guarded]) -> None:
    """
    They settle where all calls do.
    """
    guarded = make_guarded(breakers=["cache: cache_hit >= 0.5 after 1K total_input_tokens"])
    text = {"modelId": SONNET, "messages": [{"role": "user", "content": [{"text": "hello " * 1000}]}]}

    with pytest.raises(Stopped, match=r"prompt caching does nothing: 0\.0 % of"):
        for _ in range(20):
            list(guarded.client.converse_stream(**text)["stream"])

    assert guarded.server.bill.requests == 1


def test_a_request_that_comes_again_and_again_is_stopped_before_it_is_sent(
    make_guarded: Callable[..., Guarded], clock: SetClock, told: list[Alert]
) -> None:
    """
    A loop is money by the second; what it asks is nobody's business.
    """
    breaker = Breaker("loop", LOOP, per="team")
    guarded = make_guarded(breakers=[breaker], clock=clock, sinks=[told.append])
    client, other = (
        guarded.client,
        {**HELLO, "messages": [{"role": "user", "content": [{"text": "another"}]}]},
    )

    with scope(team="ads"):
        for _ in range(3):
            client.converse(**HELLO)
            client.converse(**other)
        with pytest.raises(Stopped, match="a loop: one request was made 4 times in one minute") as caught:
            client.converse(**HELLO)
        with pytest.raises(Stopped):
            client.converse(**other)

    assert guarded.server.bill.requests == 6
    assert guarded.pending == [0]
    assert "hello" not in str(caught.value)
    with scope(team="search"):
        client.converse(**HELLO)
    assert guarded.guard.flush(30)
    assert [alert.text for alert in told] == [caught.value.reason]


def test_a_loop_is_counted_afresh_once_it_is_resumed(
    make_guarded: Callable[..., Guarded], clock: SetClock
) -> None:
    """
    What was refused meanwhile was not sent, and is no loop.
    """
    guarded = make_guarded(breakers=[f"loop: {LOOP}"], clock=clock)
    for _ in range(3):
        guarded.client.converse(**HELLO)
    for _ in range(10):
        with pytest.raises(Stopped):
            guarded.client.converse(**HELLO)
    (stop,) = guarded.guard.controls().stops
    guarded.guard.resume(stop.id)

    for _ in range(3):
        guarded.client.converse(**HELLO)
    with pytest.raises(Stopped):
        guarded.client.converse(**HELLO)

    assert guarded.server.bill.requests == 6


@pytest.mark.parametrize(
    ("breaker", "outcome"),
    [(Breaker("loop", LOOP, on_trip="warn"), None), (Breaker("loop", LOOP, mode="shadow"), "would_refuse")],
)
def test_a_loop_goes_on_where_its_breaker_only_tells(
    make: Callable[..., Guard], ledger: Ledger, told: list[Alert], breaker: Breaker, outcome: str | None
) -> None:
    """
    And is told once in so many, not once for each.
    """
    guard = make(ledger, breaker)

    for _ in range(7):
        use(guard, uncached=10)

    assert guard.flush(30)
    assert guard.controls().stops == ()
    assert len(told) == (0 if outcome else 1)
    assert [name for name, _ in outcomes(guard)] == ([outcome] if outcome else [])


def test_a_loop_stops_all_processes(make: Callable[..., Guard], ledger: Ledger, clock: SetClock) -> None:
    """
    Each counts for itself; what one finds holds for all, and a second stop is not written beside the first.
    """
    one, other = make(ledger, f"loop: {LOOP}"), make(ledger, f"loop: {LOOP}")

    for guard in (one, other):
        for _ in range(3):
            use(guard, uncached=10)
    assert is_stopped(one)
    assert is_stopped(other)

    assert len(one.controls().stops) == 1
    clock.now += 2


def test_a_loop_that_the_ledger_cannot_stop_is_told_in_the_log(
    make: Callable[..., Guard],
    in_memory: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    The next of them tries again.
    """
    guard = make(in_memory, f"loop: {LOOP}")
    for _ in range(3):
        use(guard, uncached=10)

    def fail(*_: Any) -> int:
        raise LedgerUnavailable("It is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(in_memory, "write_control", fail)
        assert not is_stopped(guard)

    assert "Breaker loop has tripped and could not stop calls: It is gone." in caplog.text
    for _ in range(3):
        use(guard, uncached=10)
    assert is_stopped(guard)


def test_scopes_that_are_known_are_bounded(
    make: Callable[..., Guard], in_memory: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Tags are a caller's strings; who is forgotten is judged by what the ledger has, a call later.
    """
    monkeypatch.setattr(tripping, "_MOST_SCOPES", 2)
    guard = make(in_memory, Breaker("cache", CACHE, per="team"))
    breakers = guard._pipeline.upkeep._breakers
    assert breakers is not None
    nobody_looks(guard)

    for team in ("a", "b", "c"):
        use(guard, uncached=9000, team=team)
        assert len(breakers._scopes) <= 2
    use(guard, uncached=2000, team="a")
    assert guard.flush(30)

    assert is_stopped(guard, team="a")


def test_what_a_fork_inherits_is_its_parents_to_judge(make: Callable[..., Guard], in_memory: Ledger) -> None:
    """
    A child would look at what it never added.
    """
    guard = make(in_memory, f"cache: {CACHE}")
    breakers = guard._pipeline.upkeep._breakers
    assert breakers is not None
    nobody_looks(guard)
    use(guard, uncached=1000)
    assert breakers.has_news

    guard._pipeline.alerts.forget()

    assert not breakers.has_news
