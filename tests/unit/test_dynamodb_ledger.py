"""
What a network does to a ledger: answers that are lost, requests that come twice, or late.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dynamodb_engine
import dynamodb_faults as faults
import dynamodb_rules
import pytest
from botocore.exceptions import ClientError
from dynamodb_faults import Fault, Watched

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import (
    Balance,
    LedgerKey,
    Line,
    Refusal,
    Reservation,
    Settled,
    SweepReport,
    read_all_entries,
)
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, items, reading, sweeping
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
    together,
)
from bedrock_guard.testing.ledger_line_contract import HOUR, SUB, held, make, refused, rolling

# A fault that happens once and one that has no effect; after each the books must be as if nothing had been.
ONCE: dict[str, Callable[[], Fault]] = {
    "answer lost": lambda: faults.lose_answer,
    "answer and token lost": lambda: faults.lose_answer_and_token,
    "request lost": lambda: faults.lose_request,
    "sent twice": lambda: faults.send_twice,
    "late": faults.Delay,
    "conflict": lambda: faults.conflict,
    "throttled": lambda: faults.throttle,
    "over its throughput": lambda: faults.exceed_throughput,
    "internal error": lambda: faults.fail_inside,
    "in progress": lambda: faults.in_progress,
}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def url() -> str:
    return dynamodb_engine.table_url()


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[DynamoDBLedger]:
    ledger = DynamoDBLedger.open(url, clock=clock)
    yield ledger
    ledger.close()


@pytest.fixture
def watched(ledger: DynamoDBLedger) -> Watched:
    return Watched(ledger)


def own_id(at_s: float, number: int = 0) -> str:
    """
    An id as a guard makes it: its time first.
    """
    return f"{int(at_s * 1000):011x}-{number:016x}"


# Faults


def run_step(ledger: DynamoDBLedger, clock: SetClock, step: str, inject: Callable[[], None]) -> None:
    """
    One call up to *step*, with the fault in it; every answer is as if there had been none.
    """
    if step == "record":
        inject()
        ledger.record(open_entry("one", outcome="refused"))
        return
    if step == "reserve":
        inject()
    one = hold(ledger, "one", 40, Line(TEAM, 50, 20))
    assert one == Reservation("one", (Line(DAY, 100, 40), Line(TEAM, 50, 20)), NOW + HOLD_S)
    if step in {"sweep", "correct"}:
        if step == "sweep":
            inject()
        assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(charged=1)
    if step != "sweep":
        inject()
    if step == "extend":
        more = ledger.extend(one, [Line(DAY, 100, 10), Line(CALLS, 9, 1)])
        assert isinstance(more, Reservation)
        assert [line.amount for line in more.lines] == [50, 20, 1]
    elif step == "longer":
        clock.now += 10
        assert ledger.extend(one, hold_s=HOLD_S) == one._replace(expires_at_s=NOW + HOLD_S + 10)
    elif step in {"settle", "correct"}:
        assert settle(ledger, one, 30) == Settled("settled" if step == "settle" else "corrected")
    elif step == "release":
        assert ledger.release(one, open_entry("one", outcome="not_sent")) == Settled("released")


# What is spent and pending of DAY and TEAM after each, where 5 of DAY had been spent before.
BOOKS = {
    "reserve": ((5, 40), (0, 20)),
    "extend": ((5, 50), (0, 20)),
    "longer": ((5, 40), (0, 20)),
    "settle": ((35, 0), (0, 0)),
    "release": ((5, 0), (0, 0)),
    "sweep": ((45, 0), (20, 0)),
    "record": ((5, 0), (0, 0)),
    "correct": ((35, 0), (0, 0)),
}


# Which write of a step it is: a sweeper claims its turn first, an extension finds that a balance is missing,
# and a late settle that it is late.
WRITES = [*((step, 0) for step in BOOKS), ("sweep", 1), ("extend", 1), ("correct", 1)]


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(("step", "number"), WRITES)
def test_one_fault_changes_nothing(
    ledger: DynamoDBLedger, watched: Watched, clock: SetClock, step: str, number: int, name: str
) -> None:
    """
    What a caller cannot tell apart from success or failure must come out as one of them, exactly.
    """
    settle(ledger, hold(ledger, "before", 5, Line(TEAM, 50, 5)), 5)
    fault = ONCE[name]()
    left: list[Fault | None] = []

    def inject() -> None:
        if not left:
            left[:] = [*[None] * number, fault]
            watched.faults = iter(left)

    run_step(ledger, clock, step, inject)

    assert watched.faults is not None
    assert next(watched.faults, "used") == "used"
    if isinstance(fault, faults.Delay):
        fault.arrive()
    assert (books(ledger), books(ledger, TEAM)) == BOOKS[step]
    ended = [] if step in {"reserve", "extend", "longer"} else ["one"]
    assert sorted(ids(ledger)) == sorted([*ended, "before"])
    assert all(entry.count == 1 for entry in read_all_entries(ledger, EntryFilter()))


@pytest.mark.parametrize("seed", range(6))
def test_any_mix_of_faults_leaves_exact_books(
    ledger: DynamoDBLedger, watched: Watched, clock: SetClock, seed: int
) -> None:
    """
    Threads, and a network on its worst day: what the callers were told is what the books say.
    """
    chance = random.Random(seed)
    delays: list[faults.Delay] = []

    def any_fault() -> Iterator[Fault | None]:
        while True:
            name = chance.choice([*ONCE, *[None] * 8])
            fault = None if name is None else ONCE[name]()
            if isinstance(fault, faults.Delay):
                delays.append(fault)
            yield fault

    watched.faults = any_fault()

    def call(number: int) -> int:
        reservation = reserve(ledger, f"{number}", Line(DAY, 200, 10), Line(TEAM, 300, 10))
        if isinstance(reservation, Refusal):
            return 0
        if number % 4 == 0:
            ledger.extend(reservation, [Line(DAY, 200, 3)])
        if number % 5 == 0:
            ledger.release(reservation)
            return 0
        spent = number % 11
        ledger.settle(reservation, {DAY: spent, TEAM: spent}, answered(f"{number}"))
        return spent

    spent = sum(together(call, threads=4, times=48))
    watched.faults = None
    for delay in delays:
        delay.arrive()

    assert books(ledger) == books(ledger, TEAM) == (spent, 0)


def test_a_reserve_that_nobody_answers_is_unknown_and_its_release_bars_it(url: str, clock: SetClock) -> None:
    """
    A request that arrives when its caller has given up must not hold money that no one will free.
    """
    ledger = DynamoDBLedger.open(url.replace("deadline_ms=10000", "deadline_ms=1500"), clock=clock)
    late = faults.Delay()
    watched = Watched(ledger, itertools.repeat(late))

    with pytest.raises(LedgerUnavailable, match=r"did not answer within 1\.5 s") as caught:
        hold(ledger, "one", 60)
    assert caught.value.outcome == "unknown"
    watched.faults = None
    ledger._table.address = replace(ledger._table.address, deadline_s=10.0)  # this machine may be slow
    ended = ledger.release(Reservation("one", (), NOW), open_entry("one", outcome="not_sent"))
    late.arrive()

    assert ended == Settled("released")
    assert ledger.balances() == []
    assert ids(ledger) == ["one"]
    ledger.close()


def test_a_refusal_after_a_lost_request_bars_what_may_still_come(
    ledger: DynamoDBLedger, watched: Watched
) -> None:
    """
    The caller was told that nothing is held.
    """
    rival = hold(ledger, "rival", 60)
    late = faults.Delay()
    watched.faults = iter([late])

    answer = reserve(ledger, "one", 60)
    ledger.release(rival)
    late.arrive()

    assert isinstance(answer, Refusal)
    assert books(ledger) == (0, 0)


def test_more_money_never_shortens_what_another_thread_made_longer(
    ledger: DynamoDBLedger, watched: Watched
) -> None:
    """
    A retry holds more by the copy it has, while the background renews the hold.
    """
    first = hold(ledger, "one", 10)
    ledger.extend(first, hold_s=10 * HOLD_S)

    more = ledger.extend(first, [Line(DAY, 100, 10)])

    assert isinstance(more, Reservation)
    assert more.expires_at_s == NOW + 10 * HOLD_S
    assert ledger.sweep(now=NOW + 9 * HOLD_S) == SweepReport()


def test_two_that_make_a_balance_at_once_share_its_room(
    ledger: DynamoDBLedger, watched: Watched, url: str, clock: SetClock
) -> None:
    """
    Both have seen that it was not there; only one of them is right.
    """
    rival = DynamoDBLedger.open(url, clock=clock)

    def come_between(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        hold(rival, "rival", 60)
        return send()

    watched.faults = iter([None, come_between])

    answer = reserve(ledger, "one", 60)

    assert isinstance(answer, Refusal)
    assert (answer.lines[0].spent, answer.lines[0].pending, answer.lines[0].pending_calls) == (0, 60, 1)
    assert books(ledger) == (0, 60)
    rival.close()


def test_what_left_a_rolling_window_is_taken_off_once(
    ledger: DynamoDBLedger, watched: Watched, url: str, clock: SetClock
) -> None:
    """
    Two that come first to a new sub-window have both seen the old sum; twice off, and it had room for a third.
    """
    old = held(ledger, clock, "old", rolling(clock, 100))
    ledger.settle(old, {old.lines[0].key: 100}, answered("old"))
    clock.now += HOUR + 2 * SUB
    rival = DynamoDBLedger.open(url, clock=clock)

    def meanwhile(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        held(rival, clock, "rival", rolling(clock, 60))
        return send()

    watched.faults = iter([None, meanwhile])  # the first request learns what is there

    assert refused(make(ledger, clock, "one", rolling(clock, 60))).lines[0].pending == 60
    rival.close()


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_request_of_long_ago_brings_no_sub_window_back(url: str, clock: SetClock, is_behind: bool) -> None:
    """
    A network may bring it minutes later. Another call's hold had left with its sub-window, and would be ended
    in what was brought back.
    """
    ledger = DynamoDBLedger.open(url.replace("deadline_ms=10000", "deadline_ms=500"), clock=clock)
    kept: list[dict[str, Any]] = []

    def keep(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        kept.append(params)
        return faults.lose_request(send, operation, params)

    began = clock.now
    open_ = held(ledger, clock, "open", rolling(clock, 41))
    clock.now += (HOUR + 2 * SUB) * is_behind
    held(ledger, clock, "new", rolling(clock, 7))
    clock.now = began  # a clock far behind learns from the first answer that it is
    Watched(ledger, itertools.chain([None] * is_behind, itertools.repeat(keep)))
    with pytest.raises(LedgerUnavailable):
        make(ledger, clock, "late", rolling(clock, 51))
    ledger.close()
    ledger = DynamoDBLedger.open(url, clock=clock)
    clock.now += HOUR + 2 * SUB
    held(ledger, clock, "newest", rolling(clock, 5))

    assert arrives_again(ledger, kept[-1]) == "TransactionCanceledException"
    ledger.settle(open_, {open_.lines[0].key: 41}, answered("open"))
    found = [each for each in ledger.balances() if each.spent or each.pending]
    assert sum(each.pending for each in found) == (12 if is_behind else 5)
    assert sum(each.spent for each in found) == 0
    ledger.close()


def arrives_again(ledger: DynamoDBLedger, params: dict[str, Any]) -> str:
    """
    What the table says to a request that it has seen before, when that has been forgotten.
    """
    params = {**params, "ClientRequestToken": os.urandom(16).hex()}
    try:
        ledger._table.clients.within(5).transact_write_items(**params)  # type: ignore[union-attr]
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(faults.throttle, "not_done"), (faults.conflict, "not_done"), (faults.lose_request, "unknown")],
)
def test_a_deadline_is_kept_whatever_fails(url: str, clock: SetClock, fault: Fault, outcome: str) -> None:
    """
    A thread that hangs is worse than a refusal.
    """
    ledger = DynamoDBLedger.open(url.replace("deadline_ms=10000", "deadline_ms=500"), clock=clock)
    Watched(ledger, itertools.repeat(fault))
    began = time.monotonic()

    with pytest.raises(LedgerUnavailable, match="test-") as caught:
        hold(ledger, "one", 60)

    assert caught.value.outcome == outcome
    assert time.monotonic() - began < 5
    ledger.close()


def test_a_finalizer_inside_the_ledger_is_turned_away(ledger: DynamoDBLedger, watched: Watched) -> None:
    """
    The collector may end a stream while its thread waits in a connection pool; it would wait for itself.
    """
    seen: list[str] = []

    def collect(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        try:
            books(ledger)
        except LedgerUnavailable as error:
            seen.append(str(error))
        return send()

    watched.faults = iter([collect])
    hold(ledger, "one", 60)

    assert "from inside itself" in seen[0]
    assert books(ledger) == (0, 60)


# What it costs


@pytest.mark.parametrize("budgets", [0, 1, 3, 6])
def test_a_call_is_two_requests_and_four_write_units_for_each_budget_and_itself(
    ledger: DynamoDBLedger, watched: Watched, budgets: int
) -> None:
    """
    4(n + 1) write units are the price of a call that is exact; a hidden index would double it.
    """
    keys = [LedgerKey(f"budget-{n}", "USD/day@UTC", (("team", "search"),), 86_400) for n in range(budgets)]

    def call(number: int) -> None:
        entry_id = own_id(NOW, number)
        reservation = hold(ledger, entry_id, *[Line(key, 10**12, 10**9) for key in keys])
        ledger.settle(reservation, dict.fromkeys(keys, 10**8), realistic(entry_id))

    call(0)  # the first call of a window makes its balances
    watched.sent.clear()
    watched.capacity = 0

    call(1)

    assert watched.sent == ["transact_write_items"] * 2
    assert watched.capacity == 4 * (budgets + 1)


def realistic(entry_id: str) -> Any:
    entry = answered(
        entry_id,
        at_s=1_800_000_000.123456,
        model_id="arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/a1b2c3d4e5f6",
        tags={
            "team": "search-and-discovery",
            "user": "7d9f0c1e-5d6b-4f0a-9d57-6a1f0b8f7c21",
            "model": "anthropic.claude-opus-4-6-v1",
            "model_id": "us.anthropic.claude-opus-4-6-v1",
            "family": "anthropic",
            "region": "us-east-1",
            "operation": "ConverseStream",
            "service_tier": "default",
        },
        usage={"input_tokens": 12_345, "output_tokens": 5_678, "cache_read_input_tokens": 99_999},
        reported_usage={"input_tokens": 12_345, "output_tokens": 5_678, "cache_read_input_tokens": 99_999},
        cost_nanousd=123_456_789,
        estimated_cost_nanousd=987_654_321,
        duration_ms=12_345,
    )
    return replace(entry, attempts=entry.attempts * 3)


def test_an_entry_with_six_budgets_stays_under_a_kilobyte(ledger: DynamoDBLedger, watched: Watched) -> None:
    """
    One byte more is two write units more for every call.
    """
    keys = [LedgerKey(f"budget-{n}", "USD/month@UTC", (("team", "search"),), 1_799_000_000) for n in range(6)]
    entry_id = own_id(NOW)
    sizes: list[int] = []

    def weigh(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        body = params["TransactItems"][0]
        item = body["Put"]["Item"] if "Put" in body else body["Update"]["ExpressionAttributeValues"]
        sizes.append(dynamodb_rules.size_of(item))
        return send()

    watched.faults = itertools.repeat(weigh)
    lines = [Line(key, 250 * 10**9, 987_654_321) for key in keys]
    reservation = ledger.reserve(lines, entry=realistic(entry_id), hold_s=HOLD_S, on_expiry="charge")
    assert isinstance(reservation, Reservation)
    ledger.settle(reservation, dict.fromkeys(keys, 123_456_789), realistic(entry_id))

    assert max(sizes) < 900
    assert list(read_all_entries(ledger, EntryFilter())) == [realistic(entry_id)]


# Rules


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"ConditionExpression": "#used <= :limit - :amount"}, "arithmetic"),
        ({"ConditionExpression": "used <= :limit"}, "'used' stands bare"),
        ({"UpdateExpression": "SET ttl = :limit"}, "'ttl' stands bare"),
        ({"ConditionExpression": "#used <= :other"}, "used and defined differ"),
    ],
)
def test_the_rules_see_what_only_real_dynamodb_refuses(params: dict[str, Any], why: str) -> None:
    """
    The engine of these tests takes them all.
    """
    base = {"Key": items.place_item(("a", "b")), "ExpressionAttributeNames": {"#used": "used"}}
    values = {":limit": {"N": "1"}, ":amount": {"N": "1"}}
    with pytest.raises(dynamodb_rules.Refused, match=why):
        dynamodb_rules.check("update_item", {**base, "ExpressionAttributeValues": values, **params})


def test_the_rules_see_a_transaction_that_is_too_large() -> None:
    """
    A hundred actions, each item once and up to 400 KB, and 4 MB of all.
    """
    action = [{"Put": {"Item": items.place_item((f"{n}", "x"))}} for n in range(101)]
    large = [{"Put": {"Item": {**each["Put"]["Item"], "e": {"B": bytes(390_000)}}}} for each in action[:11]]
    larger = [{"Put": {"Item": {**action[0]["Put"]["Item"], "e": {"B": bytes(400_000)}}}}]
    for actions, why in (
        (action, "101 actions"),
        (action[:1] * 2, "two actions on one item"),
        (larger, "item too large"),
        (large, "more than 4 MB"),
    ):
        with pytest.raises(dynamodb_rules.Refused, match=why):
            params = {"TransactItems": actions, "ClientRequestToken": "t"}
            dynamodb_rules.check("transact_write_items", params)


def test_more_balances_than_a_transaction_takes_are_named(ledger: DynamoDBLedger, watched: Watched) -> None:
    """
    DynamoDB would refuse it with a text about actions.
    """
    lines = [Line(DAY._replace(budget=f"{n}"), None, 1) for n in range(50)]

    assert isinstance(reserve(ledger, "most", *lines[:49]), Reservation)
    with pytest.raises(LedgerUnavailable, match=r"50 balances; .* 49 are the most"):
        reserve(ledger, "too many", *lines)
    assert len(ledger.balances()) == 49


def test_a_name_longer_than_a_key_is_a_balance_all_the_same(ledger: DynamoDBLedger, watched: Watched) -> None:
    """
    A tag's value is a user's text.
    """
    long = DAY._replace(per=(("user", "ü" * 900),))
    other = DAY._replace(per=(("user", "ü" * 899),))

    hold(ledger, "one", Line(long, 100, 60))
    hold(ledger, "x" * 1500, Line(other, 100, 50))

    assert sorted(ledger.balances()[:], key=lambda one: one.pending) == [
        Balance(other, 0, 50),
        Balance(long, 0, 60),
    ]


def test_a_balance_that_somebody_deleted_comes_back_right(ledger: DynamoDBLedger, url: str) -> None:
    """
    An ADD to what is not there begins at zero, and would end below it.
    """
    reservation = hold(ledger, "one", 60)
    delete_balance(url)

    assert settle(ledger, reservation, 40) == Settled("settled")
    assert books(ledger) == (40, 0)


def delete_balance(url: str) -> None:
    client = dynamodb_engine.client(dynamodb_engine.endpoint())
    table = url.removeprefix("dynamodb://").partition("?")[0]
    client.delete_item(TableName=table, Key=items.place_item(items.place_of_balance(DAY)))


# Sweep


def test_sweepers_at_once_end_each_reservation_once(url: str, clock: SetClock) -> None:
    """
    Every process of a fleet sweeps.
    """
    ledgers = [DynamoDBLedger.open(url, clock=clock) for _ in range(4)]
    for number in range(24):
        hold(ledgers[0], own_id(NOW, number), 10, limit=None)

    reports = together(lambda n: ledgers[n % 4].sweep(now=NOW + HOLD_S), threads=4, times=8)

    assert sum(report.charged for report in reports) == 24
    assert books(ledgers[1]) == (240, 0)
    for ledger in ledgers:
        ledger.close()


def test_a_fleet_reads_what_is_new_once_not_each_process_all_of_it(
    ledger: DynamoDBLedger, watched: Watched
) -> None:
    """
    A hundred processes that sweep each minute must not read the journal a hundred times.
    """
    ledger.sweep(now=NOW)
    watched.sent.clear()

    ledger.sweep(now=NOW + 60)

    assert watched.sent == ["get_item"]


def test_a_call_that_lasts_is_remembered_when_the_sweepers_have_passed_it(
    ledger: DynamoDBLedger, watched: Watched, clock: SetClock
) -> None:
    """
    They do not read the same hour again and again, and must not forget who was open in it.
    """
    lasting, ended = own_id(NOW, 1), own_id(NOW, 2)
    long = hold(ledger, lasting, 60)
    ledger.extend(long, hold_s=7200)
    settle(ledger, hold(ledger, ended, 10), 10)
    for minute in range(0, 120, 5):
        assert ledger.sweep(now=NOW + 60 * minute) == SweepReport()

    assert ledger.sweep(now=NOW + 7199) == SweepReport()
    assert ledger.sweep(now=NOW + 7200) == SweepReport(charged=1)
    assert books(ledger) == (70, 0)


def test_more_lasting_calls_than_are_remembered_are_found_again(
    ledger: DynamoDBLedger, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The memory has a bound, and what does not fit is read through once more.
    """
    monkeypatch.setattr(sweeping, "MOST_KNOWN", 3)
    for number in range(8):
        hold(ledger, own_id(NOW + number, number), 10, limit=None)
        ledger.extend(Reservation(own_id(NOW + number, number), (), 0), hold_s=3600)
    for minute in range(0, 60, 10):
        assert ledger.sweep(now=NOW + 60 * minute) == SweepReport()

    assert ledger.sweep(now=NOW + 3600) == SweepReport(charged=8)
    assert books(ledger) == (80, 0)


def test_a_sweep_that_has_no_time_goes_on_the_next_time(
    ledger: DynamoDBLedger, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A caller waits for it, and is not to wait for a whole outage's remains.
    """
    for number in range(5):
        hold(ledger, own_id(NOW, number), 10, limit=None)
    has_left = sweeping._Round.has_left
    turns = itertools.count()
    monkeypatch.setattr(
        sweeping._Round, "has_left", lambda this, share: next(turns) % 3 != 2 and has_left(this, share)
    )

    reports = [ledger.sweep(now=NOW + HOLD_S).charged for _ in range(4)]

    assert (max(reports), sum(reports)) == (2, 5)


@pytest.mark.parametrize(
    ("what", "spent", "pending"), [("longer", 0, 60), ("settle", 40, 0), ("release", 0, 0), ("sweep", 60, 0)]
)
def test_what_happens_while_a_sweeper_looks_is_stronger_than_what_it_saw(
    ledger: DynamoDBLedger, watched: Watched, url: str, clock: SetClock, what: str, spent: int, pending: int
) -> None:
    """
    The process it took for dead was slow, and comes between its reading and its writing.
    """
    rival = DynamoDBLedger.open(url, clock=clock)
    lasting = own_id(NOW)
    reservation = hold(ledger, lasting, 60)

    def come_between(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        clock.now = NOW + HOLD_S
        if what == "longer":
            rival.extend(reservation, hold_s=7200)
        elif what == "settle":
            settle(rival, reservation, 40)
        elif what == "release":
            rival.release(reservation)
        else:
            DynamoDBLedger.sweep(rival, now=NOW + HOLD_S + 120)  # the claim has grown old
        return send()

    watched.faults = iter([None, come_between])

    report = ledger.sweep(now=NOW + HOLD_S)

    assert report == SweepReport()
    assert books(ledger) == (spent, pending)
    later = ledger.sweep(now=NOW + HOLD_S + 7200)
    assert later == SweepReport(charged=1 if what == "longer" else 0)
    rival.close()


def test_a_sweep_makes_a_deleted_balance_anew(ledger: DynamoDBLedger, url: str) -> None:
    """
    As a settle does: what is charged must be somewhere.
    """
    hold(ledger, "one", 60)
    delete_balance(url)

    assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(charged=1)
    assert books(ledger) == (60, 0)


def test_a_sweeper_that_dies_half_way_stops_no_other(
    ledger: DynamoDBLedger, watched: Watched, clock: SetClock
) -> None:
    """
    Its claim is good for two minutes.
    """
    hold(ledger, own_id(NOW), 60)
    watched.faults = iter([None, *[_die] * 1])
    with pytest.raises(KeyboardInterrupt):
        ledger.sweep(now=NOW + HOLD_S)
    watched.faults = None

    assert ledger.sweep(now=NOW + HOLD_S + 1) == SweepReport()
    assert ledger.sweep(now=NOW + HOLD_S + 120) == SweepReport(charged=1)


def test_a_claim_that_comes_late_does_not_forget_what_its_sweep_has_found(
    ledger: DynamoDBLedger, watched: Watched
) -> None:
    """
    It was taken for lost, and the sweep is over: what is due next must still be known.
    """
    ledger.reserve([Line(DAY, 100, 60)], entry=open_entry(own_id(NOW)), hold_s=60, on_expiry="charge")
    late = faults.Delay()
    watched.faults = iter([late])
    assert ledger.sweep(now=NOW) == SweepReport()

    late.arrive()

    assert ledger.sweep(now=NOW + 60) == SweepReport(charged=1)


def _die(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    raise KeyboardInterrupt


# The journal


def test_entries_of_all_partitions_come_in_order_a_page_at_a_time(
    ledger: DynamoDBLedger, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Ids of guards, of refusals, and of others, each kept in another way.
    """
    monkeypatch.setattr(reading, "_PAGE", (2, 3))
    chance = random.Random(7)
    times = [NOW + chance.uniform(0, 7200) for _ in range(60)]
    for number, at_s in enumerate(times):
        kind = number % 3
        minute = int(at_s // 60) * 60
        name = [own_id(at_s + 0.05, number), f"refused-{minute:x}-{number:x}", f"other {number}"][kind]
        ledger.record(open_entry(name, at_s=at_s, outcome="refused"))

    found, after = [], None
    while True:
        page, after = ledger.entries(EntryFilter(), after=after, limit=7)
        found += [entry.at_s for entry in page]
        if after is None:
            break
    some = ledger.entries(EntryFilter(since=NOW + 1000, until=NOW + 2000))[0]

    assert found == sorted(times, reverse=True)
    assert [entry.at_s for entry in some] == [at for at in found if NOW + 1000 <= at < NOW + 2000]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_calls_of_one_instant_are_all_listed(
    ledger: DynamoDBLedger, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """
    A clock is as fine as its machine has it, and a fleet has many: two may say the same, to the last digit.
    """
    monkeypatch.setattr(items, "new_sequence", lambda: {"N": "7"})
    names = [*[own_id(NOW, number) for number in range(9)], "other 1", "other 2"]
    for name in names:
        ledger.record(open_entry(name, at_s=NOW, outcome="refused"))

    found: list[str] = []
    after = None
    while True:
        page, after = ledger.entries(EntryFilter(), after=after, limit=limit)
        found += [entry.id for entry in page]
        if after is None:
            break

    assert sorted(found) == sorted(names)


def test_an_item_lasts_long_after_its_end_and_never_goes_while_it_holds(
    ledger: DynamoDBLedger, watched: Watched
) -> None:
    """
    DynamoDB deletes by TTL when it likes; money that is held must not hang on that.
    """
    expiries: list[str | None] = []

    def look(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        body = params["TransactItems"][0]
        values = body.get("Put", {}).get("Item") or body["Update"]["ExpressionAttributeValues"]
        expiries.append((values.get("ttl") or values.get(":ttl") or {}).get("N"))
        return send()

    watched.faults = itertools.repeat(look)
    settle(ledger, hold(ledger, "one", 60), 40)

    assert expiries[0] is None
    assert int(expiries[-1] or 0) - NOW == 90 * 86_400


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_connections_of_its_own(ledger: DynamoDBLedger) -> None:
    """
    Two processes on one socket read each other's answers.
    """
    hold(ledger, "parent", 10)
    child = os.fork()
    if child == 0:
        try:
            for number in range(20):
                settle(ledger, hold(ledger, f"child {number}", 1, limit=None), 1)
            os._exit(0)
        except BaseException:
            os._exit(1)
    for number in range(20):
        settle(ledger, hold(ledger, f"parent {number}", 1, limit=None), 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert books(ledger) == (40, 10)


def test_a_closed_ledger_is_named(ledger: DynamoDBLedger) -> None:
    """
    Which of several tables it was.
    """
    ledger.close()

    with pytest.raises(LedgerUnavailable, match=r"DynamoDB table test-.* is closed"):
        hold(ledger, "one", 1)


def test_threads_do_not_wait_for_one_another(ledger: DynamoDBLedger, watched: Watched) -> None:
    """
    A lock round a network would make a fleet's throughput one thread's.
    """
    meeting = threading.Barrier(4, timeout=20)

    def meet(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        meeting.wait()
        return send()

    watched.faults = iter([meet] * 4)

    together(lambda n: hold(ledger, f"{n}", 1, limit=None), threads=4, times=4)

    assert books(ledger) == (0, 4)


def test_what_is_unknown_is_closed(ledger: DynamoDBLedger) -> None:
    """
    To hold more for a stranger would hold it for ever.
    """
    stranger = Reservation("elsewhere", (Line(DAY, 100, 60),), NOW)

    for more in ({"lines": [Line(DAY, 100, 1)]}, {"hold_s": 10.0}):
        with pytest.raises(ReservationClosed, match="elsewhere is not in this ledger"):
            ledger.extend(stranger, **more)
