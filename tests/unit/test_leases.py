"""
Slices of balances: taken under the limit, spent without asking, given back, and charged when nobody comes back.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import dynamodb_engine
import dynamodb_faults as faults
import pytest
from dynamodb_faults import Watched

from bedrock_guard.domain.control import ControlsChanged, Stop
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import LedgerKey, Line, Refusal, Reservation, read_all_entries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, items
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger, journal, keeper
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
)

LONG_DEAD = NOW + 1000.0


class Fleet:
    """
    Processes on one table; none looks after itself, so that tests say when.
    """

    def __init__(self, clock: SetClock, deadline_ms: int = 10_000) -> None:
        self.clock = clock
        self.url = dynamodb_engine.table_url(deadline_ms=deadline_ms)
        self.exact = DynamoDBLedger(read_address(self.url), clock=clock)

    def process(self) -> LeasedLedger:
        return LeasedLedger(read_address(self.url), clock=self.clock, keeps_itself=False)

    def in_table(self, key: LedgerKey = DAY) -> tuple[int, int, int]:
        """
        What the table counts as spent, pending and leased.
        """
        (balance,) = self.exact.balances([key])
        return balance.spent, balance.pending, balance.leased


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def fleet(clock: SetClock) -> Iterator[Fleet]:
    with dynamodb_engine.quick():
        yield Fleet(clock)


def calls(
    ledger: LeasedLedger, name: str, times: int, *, amount: int = 10, cost: int = 4, limit: int = 10_000
) -> int:
    """
    So many calls, one after the other; how many were admitted.
    """
    count = 0
    for number in range(times):
        answer = reserve(ledger, f"{name}-{number}", amount, limit=limit)
        if isinstance(answer, Reservation):
            settle(ledger, answer, cost)
            count += 1
    return count


# Get, and give back


def test_most_calls_ask_nobody(fleet: Fleet) -> None:
    """
    Slices double while they are used up at once, so that a thousand calls are a handful of requests.
    """
    ledger = fleet.process()
    watched = Watched(ledger)  # type: ignore[arg-type]
    asked = 0

    for number in range(1000):
        before = len(watched.sent)
        settle(ledger, hold(ledger, f"{number}", 10, limit=1_000_000), 10)
        asked += len(watched.sent) > before

    assert asked <= 20
    assert books(ledger) == (10_000, 0)


def test_two_processes_spend_a_budget_to_its_end_and_not_beyond(fleet: Fleet) -> None:
    """
    Slices shrink as a budget ends: what one has taken and does not need is not refused to the other for long.
    """
    one, other = fleet.process(), fleet.process()
    admitted = 0
    for round_ in range(60):
        admitted += calls(one, f"one {round_}", 10, cost=10, limit=1000)
        admitted += calls(other, f"other {round_}", 10, cost=10, limit=1000)

    assert admitted * 10 <= 1000
    assert admitted >= 98
    for ledger in (one, other):
        ledger.close()
    assert fleet.in_table() == (admitted * 10, 0, 0)


def test_what_is_free_comes_back_when_nobody_uses_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A process that has nothing to do must not keep the money of those that have.
    """
    one, other = fleet.process(), fleet.process()
    calls(one, "one", 3, amount=30, cost=1, limit=100)
    assert isinstance(reserve(other, "other", 90), Refusal)

    monkeypatch.setattr(keeper, "IDLE_S", 0.0)
    one.look()
    one.look()

    assert fleet.in_table() == (3, 0, 0)
    assert isinstance(reserve(fleet.process(), "third", 90), Reservation)


def test_what_a_burst_took_comes_back_from_a_process_that_goes_on_slowly(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is never without use for seconds, and would keep a fifth of the budget for as long as it lives.
    """
    one, other = fleet.process(), fleet.process()
    calls(one, "burst", 300, cost=10)
    calls(other, "other", 700, cost=10)
    before = other.balances([DAY])[0].leased
    monkeypatch.setattr("bedrock_guard.ledgers.leases.slices.HURRY_S", 1e-9)
    monkeypatch.setattr(keeper, "REPORT_S", 0.0)

    for number in range(12):
        calls(one, f"slow {number}", 1, cost=10)
        one.look()

    assert before > 1500
    assert other.balances([DAY])[0].leased < 100


def test_what_others_lease_shows_apart(fleet: Fleet) -> None:
    """
    Status tells what is spent, what calls hold, and what processes have taken without having spent it.
    """
    one, other = fleet.process(), fleet.process()
    settle(one, hold(one, "ended", 60), 20)
    hold(one, "open", 10)

    (mine,), (seen) = one.balances([DAY]), fleet.in_table()
    assert (mine.spent, mine.pending, mine.leased) == (20, 10, 30)
    assert seen == (0, 0, 60)
    (theirs,) = other.balances([DAY])
    assert (theirs.spent, theirs.pending, theirs.leased) == (0, 0, 60)
    one.flush()
    assert fleet.in_table() == (20, 0, 40)


def test_a_call_of_exact_mode_shares_the_limit(fleet: Fleet) -> None:
    """
    A fleet is not changed from one mode to the other in one moment.
    """
    leased = fleet.process()
    settle(leased, hold(leased, "one", 60), 20)
    leased.flush()

    refused = reserve(fleet.exact, "two", 41)
    assert isinstance(refused, Refusal)
    assert (refused.lines[0].spent, refused.lines[0].room) == (20, 40)
    assert isinstance(reserve(fleet.exact, "three", 40), Reservation)
    assert isinstance(reserve(leased, "four", 40), Reservation)
    assert isinstance(reserve(leased, "five", 1), Refusal)


def test_who_was_refused_asks_again_a_moment_later_only(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    To refuse needs no authority; a program that tries again and again must cost nothing.
    """
    one, other = fleet.process(), fleet.process()
    hold(one, "all", 100)
    watched = Watched(other)  # type: ignore[arg-type]
    first = reserve(other, "first", 10)
    asked = len(watched.sent)

    answers = [reserve(other, f"again {number}", 10) for number in range(20)]

    assert isinstance(first, Refusal)
    assert all(answer == first for answer in answers)
    assert len(watched.sent) == asked


# Entries


def test_entries_of_many_calls_are_few_writes_and_each_is_read_once(fleet: Fleet) -> None:
    """
    A write for each call would be most of what a call costs.
    """
    ledger = fleet.process()
    calls(ledger, "call", 250, limit=1_000_000)
    watched = Watched(ledger)  # type: ignore[arg-type]

    assert sorted(ids(ledger)) == sorted(f"call-{number}" for number in range(250))
    assert watched.sent.count("put_item") == 3
    assert sorted(ids(fleet.process())) == sorted(f"call-{number}" for number in range(250))


def test_entries_leave_memory_only_once_the_table_has_them(fleet: Fleet) -> None:
    """
    An answer that is lost is asked for again; the same segment twice is once.
    """
    ledger = fleet.process()
    calls(ledger, "call", 5)
    watched = Watched(ledger, iter([faults.lose_answer]))  # type: ignore[arg-type]
    watched.operations = {"put_item"}
    ledger.flush()
    assert len(ids(ledger)) == 5

    calls(ledger, "more", 5)
    watched.is_over = True
    with pytest.raises(LedgerUnavailable):
        ledger.flush()
    watched.is_over = False
    ledger.flush()

    assert len(ids(ledger)) == 10


def test_what_is_put_right_later_replaces_what_was_told(fleet: Fleet, clock: SetClock) -> None:
    """
    A call that was taken for lost, and told as such in a segment, ends after all, or was never sent.
    """
    ledger = fleet.process()
    first, second = hold(ledger, "first", 10), hold(ledger, "second", 10)
    ledger.sweep(now=NOW + HOLD_S)
    assert {entry.basis for entry in read_all_entries(ledger, EntryFilter())} == {"expired"}

    settle(ledger, first, 4)
    ledger.release(second)

    (entry,) = read_all_entries(ledger, EntryFilter())
    assert (entry.id, entry.basis) == ("first", "reported")
    assert ids(ledger, EntryFilter(basis="expired")) == []
    page, after = ledger.entries(EntryFilter(), limit=1)
    assert ([one.id for one in page], after) == (["first"], None)
    assert books(ledger) == (4, 0)


# Jobs


def test_a_hold_for_a_job_is_the_tables_and_whoever_comes_settles_it(fleet: Fleet) -> None:
    """
    A batch goes on for a day, and the process that began it does not.
    """
    one, other = fleet.process(), fleet.process()
    began = hold(one, "job", 60, Line(TEAM, None, 5))
    job = one.extend(began, hold_s=86_400.0)
    assert isinstance(job, Reservation)
    assert {line.key: line.amount for line in job.lines} == {DAY: 60, TEAM: 5}

    assert isinstance(reserve(one, "more", 41), Refusal)
    one.flush()
    one.close()

    assert fleet.in_table() == (0, 60, 0)
    assert isinstance(reserve(other, "fits not", 41), Refusal)
    assert other.sweep(now=LONG_DEAD).charged == 0
    assert other.settle(job, {DAY: 20, TEAM: 3}, answered("job")).how == "settled"
    assert (fleet.in_table(), fleet.in_table(TEAM)) == ((20, 0, 0), (3, 0, 0))
    assert ids(other) == ["job"]


# Dead, and not dead


def test_what_a_dead_process_had_leased_is_charged_once(fleet: Fleet, clock: SetClock) -> None:
    """
    Nobody knows what it has spent; that it is not spent again is what counts.
    """
    dead, living = fleet.process(), fleet.process()
    settle(dead, hold(dead, "told", 60, Line(TEAM, None, 60)), 20)
    dead.flush()
    hold(dead, "open", 40)

    assert living.sweep(now=NOW + 1).charged == 0
    report = living.sweep(now=LONG_DEAD)
    assert (report.charged, report.keys) == (1, {DAY, TEAM})
    assert fleet.exact.sweep(now=LONG_DEAD + 100).charged == 0
    assert living.sweep(now=LONG_DEAD + 100).charged == 0

    assert fleet.in_table() == (60, 0, 0)
    told = next(read_all_entries(living, EntryFilter(basis="expired")))
    assert (told.outcome, told.cost_nanousd) == ("lost", 60)
    assert ids(living, EntryFilter(basis="reported")) == ["told"]
    assert isinstance(reserve(living, "next", 41), Refusal)


def test_what_is_reported_while_a_sweep_looks_is_not_charged_once_more(fleet: Fleet) -> None:
    """
    What the sweep has read is old by then.
    """
    slow, living = fleet.process(), fleet.process()
    settle(slow, hold(slow, "one", 60), 20)
    reports = iter([slow.flush])

    def report_first(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        if operation == "transact_write_items":
            next(reports, lambda: None)()
        return send()

    Watched(living, itertools.repeat(report_first))  # type: ignore[arg-type]

    assert living.sweep(now=LONG_DEAD).charged == 1

    assert next(reports, None) is None
    assert fleet.in_table() == (60, 0, 0)


def test_a_process_that_was_taken_for_dead_takes_back_what_it_has_not_spent(
    fleet: Fleet, clock: SetClock
) -> None:
    """
    It was frozen: its calls go on, its books are right in the end, and nothing is counted twice.
    """
    frozen, living = fleet.process(), fleet.process()
    settle(frozen, hold(frozen, "ended", 60), 20)
    open_call = hold(frozen, "open", 30)
    living.sweep(now=LONG_DEAD)
    assert fleet.in_table() == (60, 0, 0)

    settle(frozen, open_call, 25)
    frozen.flush()

    assert fleet.in_table() == (45, 0, 15)
    assert isinstance(reserve(frozen, "next", 55), Reservation)
    frozen.look()
    (told,) = read_all_entries(living, EntryFilter(basis="expired"))
    assert told.cost_nanousd == 0
    assert sorted(ids(living, EntryFilter(basis="reported"))) == ["ended", "open"]


@pytest.mark.parametrize("fault", [faults.lose_answer_and_token, faults.lose_request, faults.send_twice])
def test_who_comes_back_does_so_once(fleet: Fleet, fault: faults.Fault) -> None:
    """
    The request by which it does may be lost, too.
    """
    frozen, living = fleet.process(), fleet.process()
    settle(frozen, hold(frozen, "ended", 60), 20)
    living.sweep(now=LONG_DEAD)
    Watched(frozen, iter([None, fault]))  # type: ignore[arg-type]

    frozen.flush()
    frozen.flush()

    assert fleet.in_table() == (20, 0, 40)
    frozen.close()
    assert fleet.in_table() == (20, 0, 0)


def test_who_is_taken_for_dead_leases_nothing_by_that_name(fleet: Fleet) -> None:
    """
    Nobody would look for it again.
    """
    frozen, living = fleet.process(), fleet.process()
    hold(frozen, "one", 10)
    name = frozen._desk.owner
    living.sweep(now=LONG_DEAD)

    hold(frozen, "two", Line(TEAM, 100, 10))

    assert frozen._desk.owner != name
    assert fleet.in_table(TEAM) == (0, 0, 10)
    frozen.flush()
    assert fleet.in_table() == (0, 0, 10)


# What a network does


@pytest.mark.parametrize(
    "fault",
    [
        faults.lose_answer,
        faults.lose_answer_and_token,
        faults.lose_request,
        faults.send_twice,
        faults.conflict,
        faults.throttle,
        faults.fail_inside,
    ],
)
def test_a_slice_is_had_once_whatever_becomes_of_the_request(fleet: Fleet, fault: faults.Fault) -> None:
    """
    What was granted and is not known of is found with the next request; what is known of was granted.
    """
    ledger = fleet.process()
    hold(ledger, "before", 10)
    Watched(ledger, iter([fault]))  # type: ignore[arg-type]

    hold(ledger, "one", 50)

    assert books(ledger) == (0, 60)
    assert sum(fleet.in_table()) == 60
    assert isinstance(reserve(ledger, "two", 41), Refusal)
    assert isinstance(reserve(ledger, "three", 40), Reservation)


def test_what_comes_late_changes_nothing(fleet: Fleet) -> None:
    """
    A return that was taken for lost must not free money that is spent again by then.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 60), 10)
    late = faults.Delay()
    watched = Watched(ledger, iter([late]))  # type: ignore[arg-type]
    with ledger._desk.turn() as turn:
        ledger._desk.send(turn, [DAY], give_back=True)
    assert fleet.in_table() == (10, 0, 0)

    late.arrive()

    assert fleet.in_table() == (10, 0, 0)
    assert "transact_write_items" in watched.sent


def test_while_the_table_is_gone_slices_are_spent_and_no_more(fleet: Fleet) -> None:
    """
    What was taken is this process's own; what is not is unknown, and is said to be.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 60), 10)
    version = ledger.controls().version
    watched = Watched(ledger)  # type: ignore[arg-type]
    watched.is_over = True
    ledger.forget_controls()
    fleet.clock.now += 60

    with pytest.raises(LedgerUnavailable):
        reserve(ledger, "two", 51)
    with pytest.raises(LedgerUnavailable):  # nobody has ever told it of stops, as far as it knows now
        ledger.reserve(
            [Line(DAY, 100, 50)], entry=open_entry("x"), hold_s=60, on_expiry="charge", controls=version
        )
    settle(ledger, hold(ledger, "three", 50), 50)
    watched.is_over = False
    assert books(ledger) == (60, 0)


def test_entries_of_calls_that_no_budget_counts_are_bounded(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Money bounds the others: while the table is gone nobody is granted more.
    """
    monkeypatch.setattr(journal, "MOST_WAITING", 5)
    ledger = fleet.process()
    watched = Watched(ledger)  # type: ignore[arg-type]
    watched.is_over = True

    def call(name: str) -> None:
        answer = ledger.reserve([], entry=open_entry(name), hold_s=60, on_expiry="charge")
        assert isinstance(answer, Reservation)
        ledger.settle(answer, {}, answered(name))

    for number in range(5):
        call(f"call-{number}")
    with pytest.raises(LedgerUnavailable, match="5 entries wait"):
        call("one more")
    with pytest.raises(LedgerUnavailable, match="5 entries wait"):
        ledger.record(open_entry("refused", outcome="refused"))

    watched.is_over = False
    ledger.flush()
    call("later")
    ledger.close()
    assert len(ids(fleet.exact)) == 6


def test_two_lines_of_a_balance_are_held_as_one(fleet: Fleet) -> None:
    """
    Also where the slice has room for them.
    """
    ledger = fleet.process()
    calls(ledger, "before", 4, amount=60, cost=10)

    answer = reserve(ledger, "two", Line(DAY, 10_000, 20), Line(DAY, 10_000, 30))

    assert isinstance(answer, Reservation)
    assert answer.lines == (Line(DAY, 10_000, 50),)
    assert ledger._local.sums(DAY) == (40, 50)
    ledger.release(answer)
    ledger.close()


def test_the_last_word_on_stops_holds_while_the_table_is_gone(fleet: Fleet) -> None:
    """
    And a stop is heard with the first call after `control_refresh_s`, when it is there.
    """
    ledger = fleet.process()
    ledger.refresh_controls(2.0)
    settle(ledger, hold(ledger, "one", 60), 10)
    version = ledger.controls().version
    watched = Watched(ledger)  # type: ignore[arg-type]

    def ask(name: str) -> object:
        line = Line(DAY, 100, 10)
        return ledger.reserve([line], entry=open_entry(name), hold_s=60, on_expiry="charge", controls=version)

    watched.is_over = True
    fleet.clock.now += 60
    assert isinstance(ask("two"), Reservation)

    watched.is_over = False
    stop = Stop(id="stop", match={}, reason="a loop", by="anna", at_s=NOW)
    fleet.exact.write_control(stop, open_entry("told", outcome="stop"))
    ledger._hearing._gone_until = 0.0
    assert isinstance(ask("three"), ControlsChanged)


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_leases_for_itself(fleet: Fleet) -> None:
    """
    A slice that parent and child both spend is spent twice.
    """
    parent = fleet.process()
    settle(parent, hold(parent, "parent", 60), 10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"failed"
        with suppress(BaseException):
            fits = (
                isinstance(reserve(parent, "child", 41), Refusal),
                isinstance(reserve(parent, "other", 40), Reservation),
            )
            answer = repr((fits, books(parent))).encode()
        os.write(writing, answer)
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reading, 1000).decode() == repr(((True, True), (0, 40)))
    assert isinstance(reserve(parent, "next", 50), Reservation)
    assert books(parent) == (10, 50)


def test_close_gives_back_hundreds_of_slices_in_batches(fleet: Fleet) -> None:
    """
    A process that ends has two seconds, not one for each user.
    """
    ledger = fleet.process()
    keys = [DAY._replace(per=(("user", f"{number}"),)) for number in range(120)]
    for first in range(0, 120, 30):
        lines = [Line(key, 100, 10) for key in keys[first : first + 30]]
        held = hold(ledger, f"{first}", *lines)
        ledger.settle(held, {line.key: 3 for line in lines}, answered(f"{first}"))
    watched = Watched(ledger)  # type: ignore[arg-type]

    ledger.close()

    assert watched.sent.count("transact_write_items") == 3
    assert {(one.spent, one.pending, one.leased) for one in fleet.exact.balances(keys)} == {(3, 0, 0)}


def test_what_was_charged_without_being_leased_is_booked(fleet: Fleet) -> None:
    """
    AWS may bill a meter that no one expected, of many users at once.
    """
    ledger = fleet.process()
    keys = [DAY._replace(per=(("user", f"{number}"),)) for number in range(60)]
    ledger.settle(hold(ledger, "one", 10), dict.fromkeys(keys, 7), answered("one"))

    ledger.flush()

    assert {(one.spent, one.pending, one.leased) for one in fleet.exact.balances(keys)} == {(7, 0, 0)}


def forget(ledger: LeasedLedger) -> None:
    """
    Report what is spent of the day, and know nothing of its slice any more, as after a while without calls.
    """
    with ledger._desk.turn() as turn:
        ledger._desk.send(turn, [DAY], give_back=True)
    ledger._desk.forget(DAY)
    assert DAY not in ledger._desk.slices


@pytest.mark.parametrize("is_asked", [False, True])
def test_what_is_charged_to_a_slice_that_was_forgotten_comes_to_what_it_had(
    fleet: Fleet, is_asked: bool
) -> None:
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 100), 100)
    forget(ledger)

    other = Line(DAY._replace(budget="other"), 10_000, 10)
    ledger.settle(reserve(ledger, "two", other), {other.key: 10, DAY: 50}, answered("two"))  # type: ignore[arg-type]
    if is_asked:
        assert calls(ledger, "three", 1, amount=5, cost=5) == 1
    ledger.close()

    assert fleet.in_table() == (155 if is_asked else 150, 0, 0)


@pytest.mark.parametrize(("cost", "spent"), [(150, 150), (40, 100)])
def test_what_ends_late_charges_a_slice_that_was_forgotten_what_it_lacks(
    fleet: Fleet, cost: int, spent: int
) -> None:
    """
    What it was charged too much at its expiry stays charged.
    """
    ledger = fleet.process()
    held = hold(ledger, "one", 100)
    ledger.sweep(now=LONG_DEAD)
    forget(ledger)

    settle(ledger, held, cost)
    ledger.close()

    assert fleet.in_table() == (spent, 0, 0)


def test_a_balance_that_somebody_deleted_is_made_anew(fleet: Fleet) -> None:
    """
    What it counted is gone with it; what is leased and spent from then on is not.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 60), 10)
    ledger.flush()
    client, table = dynamodb_engine.client(dynamodb_engine.endpoint()), fleet.exact.table.name
    client.delete_item(TableName=table, Key=items.place_item(items.place_of_balance(DAY)))

    settle(ledger, hold(ledger, "two", 50), 20)
    ledger.flush()
    assert fleet.in_table() == (20, 0, 30)

    client.delete_item(TableName=table, Key=items.place_item(items.place_of_lease(ledger._desk.owner, DAY)))
    settle(ledger, hold(ledger, "three", 10), 5)
    ledger.flush()
    assert fleet.in_table() == (25, 0, 25), "what is left of the lease that was deleted stays taken"


FAULTS = [
    faults.lose_answer,
    faults.lose_answer_and_token,
    faults.lose_request,
    faults.send_twice,
    faults.conflict,
    faults.throttle,
    faults.fail_inside,
]


class Storm:
    """
    Three processes, and a network that loses, delays and repeats: all from one seed.
    """

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.chance = random.Random(number)
        self.delays = faults.Delay()
        self.processes = [fleet.process() for _ in range(3)]
        self.watched = [Watched(process, self.network()) for process in self.processes]  # type: ignore[arg-type]
        self.spent = 0
        self.held: list[tuple[LeasedLedger, Reservation]] = []

    def network(self) -> Iterator[faults.Fault | None]:
        while True:
            draw = self.chance.random()
            yield None if draw > 0.3 else self.delays if draw < 0.05 else self.chance.choice(FAULTS)

    def step(self, number: int) -> None:
        process, what = self.chance.choice(self.processes), self.chance.random()
        if what < 0.5:
            answer = reserve(process, f"call {number}", self.chance.randrange(1, 60), limit=1500)
            if isinstance(answer, Reservation):
                self.held.append((process, answer))
        elif what < 0.8 and self.held:
            owner, reservation = self.held.pop(self.chance.randrange(len(self.held)))
            cost = self.chance.randrange(reservation.lines[0].amount + 1)
            settle(owner, reservation, cost)
            self.spent += cost
        elif what < 0.9:
            process.flush()
        elif what < 0.95:
            with process._desk.turn() as turn:
                process._desk.send(turn, list(process._desk.slices), give_back=True)
        else:
            process.sweep(now=self.fleet.clock.now)

    def end(self) -> None:
        for each in self.watched:
            each.faults = None
        for process, reservation in self.held:
            settle(process, reservation, 0)
        for process in self.processes * 3:
            process.flush()
            process._keeper.finish()
        self.delays.arrive()


@pytest.mark.parametrize(
    "number", [*range(2), *(pytest.param(number, marks=pytest.mark.slow) for number in range(2, 60))]
)
def test_whatever_a_network_does_the_limit_holds_and_the_books_are_right_at_rest(
    fleet: Fleet, clock: SetClock, number: int
) -> None:
    """
    Requests that are lost, late or twice, and sweeps that come too early, in any order.
    """
    storm = Storm(fleet, number)
    for step in range(150):
        clock.now += storm.chance.choice([0, 1, 40])
        with suppress(LedgerUnavailable):
            storm.step(step)
        if storm.chance.random() < 0.2:
            storm.delays.arrive()
        pending = sum(reservation.lines[0].amount for _, reservation in storm.held)
        assert storm.spent + pending <= sum(fleet.in_table()) <= 1500

    storm.end()

    assert fleet.in_table() == (storm.spent, 0, 0)
    told = ids(fleet.exact, EntryFilter(basis="reported"))
    assert len(told) == len(set(told))


# What must not stand in the way of the rest


def test_an_entry_that_is_too_large_leaves_its_tags_out_and_stops_no_other(fleet: Fleet) -> None:
    """
    The table would refuse its segment again and again, and each that comes after it would wait for ever.
    """
    ledger = fleet.process()
    held = hold(ledger, "large", 10)
    ledger.settle(held, {DAY: 4}, answered("large", tags={"document": os.urandom(500_000).hex()}))
    settle(ledger, hold(ledger, "small", 10), 4)

    ledger.flush()

    found = {entry.id: entry for entry in read_all_entries(fleet.exact, EntryFilter())}
    assert found.keys() == {"large", "small"}
    assert found["large"].tags == {}


def test_who_cannot_write_entries_is_not_taken_for_dead(
    fleet: Fleet, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It reports, and says that it lives, whatever else does not work.
    """
    monkeypatch.setattr(keeper, "RENEW_S", 0.0)
    monkeypatch.setattr(keeper, "REPORT_S", 0.0)
    ledger = fleet.process()
    calls(ledger, "one", 100)
    held = hold(ledger, "open", 10, limit=10_000)

    def refuse(turn: object) -> None:
        raise LedgerUnavailable("It is not taken.")

    monkeypatch.setattr(ledger._journal, "write", refuse)
    clock.now += 50
    ledger.look()
    clock.now += 50

    assert fleet.exact.balances([DAY])[0].spent == 400
    assert fleet.process().sweep(now=clock.now).charged == 0
    settle(ledger, held, 10)


def test_what_ends_while_a_ledger_closes_is_charged_once(fleet: Fleet, clock: SetClock) -> None:
    """
    Its slice is given back already but for what it holds: taken for settled, it would be told twice, or never.
    """
    ledger = fleet.process()
    held = hold(ledger, "late", 10)
    watched = Watched(ledger)  # type: ignore[arg-type]
    refused: list[LedgerUnavailable] = []

    def end_meanwhile(send: Callable[[], object], operation: str, params: dict[str, object]) -> object:
        answer = send()
        with pytest.raises(LedgerUnavailable) as raised:
            run_in_thread(lambda: settle(ledger, held, 4))
        refused.append(raised.value)
        return answer

    settle(ledger, hold(ledger, "one", 10), 4)
    watched.faults = iter([end_meanwhile])  # type: ignore[list-item]
    ledger.close()

    assert len(refused) == 1
    assert fleet.in_table() == (4, 0, 10)
    clock.now += 100
    assert fleet.process().sweep(now=clock.now).charged == 1
    assert fleet.in_table() == (14, 0, 0)
    found = {entry.id: entry.basis for entry in read_all_entries(fleet.exact, EntryFilter())}
    assert len(found) == 2
    assert "late" not in found


def test_who_closes_second_waits_for_the_first(fleet: Fleet) -> None:
    """
    The end of the interpreter comes second after SIGTERM, and would stop what is being given back.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 10), 4)
    second: list[threading.Thread] = []

    def close_meanwhile(send: Callable[[], object], operation: str, params: dict[str, object]) -> object:
        second.append(threading.Thread(target=ledger.close))
        second[0].start()
        second[0].join(0.05)
        assert second[0].is_alive()
        return send()

    Watched(ledger, faults=iter([close_meanwhile]))  # type: ignore[arg-type]
    ledger.close()
    second[0].join()

    assert fleet.in_table() == (4, 0, 0)


def run_in_thread(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def test_a_limit_that_is_lowered_holds_for_what_was_granted_before(fleet: Fleet) -> None:
    """
    Of a slice there is more than the new limit allows.
    """
    ledger = fleet.process()
    calls(ledger, "before", 4, amount=60, cost=10, limit=1_000)
    assert ledger._local.granted(DAY) >= 100

    assert isinstance(reserve(ledger, "fits", 10, limit=50), Reservation)
    refused = reserve(ledger, "more", 10, limit=59)

    assert isinstance(refused, Refusal)
    ledger.close()


def test_a_slice_of_which_something_is_pending_is_not_forgotten(fleet: Fleet) -> None:
    """
    Whoever forgot it would give back more than it held.
    """
    ledger = fleet.process()
    held = hold(ledger, "one", 60)
    ledger._local.give_up(DAY)
    assert ledger._local.sums(DAY)[1] == ledger._local.granted(DAY) == 60

    assert not ledger._local.forget(DAY)

    settle(ledger, held, 60)
    assert ledger._local.sums(DAY) == (60, 0)
    assert ledger._local.forget(DAY)
    ledger.close()


def test_a_slice_that_was_forgotten_is_spent_no_second_time(fleet: Fleet) -> None:
    """
    It is found in the table when it is asked for again, with what was spent of it.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "one", 60), 60)
    ledger.flush()
    ledger._desk.forget(DAY)
    assert DAY not in ledger._desk.slices

    refused = reserve(ledger, "two", 60)

    assert isinstance(refused, Refusal)
    assert books(ledger) == (60, 0)
    ledger.close()


def test_what_a_call_is_extended_by_of_another_balance_ends_with_it(fleet: Fleet) -> None:
    ledger = fleet.process()
    held = hold(ledger, "one", 10)
    longer = ledger.extend(held, [Line(TEAM, 100, 20)])
    assert isinstance(longer, Reservation)
    assert ledger._local.sums(TEAM) == (0, 20)

    ledger.settle(longer, {DAY: 10, TEAM: 5}, answered("one"))

    assert [ledger._local.sums(key) for key in (DAY, TEAM)] == [(10, 0), (5, 0)]
    ledger.close()


def test_a_slice_that_a_call_holds_nothing_of_is_not_forgotten(fleet: Fleet) -> None:
    """
    The call may yet be charged, and nobody would report that.
    """
    ledger = fleet.process()
    settle(ledger, hold(ledger, "first", 60), 50)
    assert not ledger._local.forget(DAY)
    ledger._local.give_up(DAY)
    held = hold(ledger, "nothing", 0)

    assert not ledger._local.forget(DAY)

    settle(ledger, held, 7)
    ledger.close()
    assert fleet.in_table() == (57, 0, 0)
