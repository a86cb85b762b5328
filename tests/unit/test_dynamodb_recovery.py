"""
Whatever becomes of one request, and of the process that made it: the books come right, and nothing is held for ever.

A process asks once, hears nothing, and has no time left. Then it tries again as `Upkeep` does, or dies and is
swept; and a request that is on its way arrives before that, or after.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import dynamodb_engine
import dynamodb_faults as faults
import pytest
from dynamodb_faults import Watched

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Line, Reservation, SweepReport, read_all_entries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, table
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
)

After: TypeAlias = Literal["again", "dies"]

# A guard's id, and one of another maker: they are kept, and swept, in two ways.
IDS = (f"{int(NOW * 1000):011x}-0", "one")
COST = {DAY: 30, TEAM: 7}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDBLedger]:
    monkeypatch.setattr(table, "_LONGEST_SLEEP_S", 0.001)
    with dynamodb_engine.quick():
        ledger = DynamoDBLedger.open(dynamodb_engine.table_url(), clock=clock)
        yield ledger
        ledger.close()


class Cut:
    """
    One request, of which nobody hears; its sender has no time for another.

    Attributes:
        is_sent: Whether the request is carried out at once.
    """

    def __init__(self, watched: Watched, *, is_sent: bool, writes_before: int) -> None:
        self._watched = watched
        self.is_sent = is_sent
        self.late = faults.Delay()
        watched.faults = iter([*[None] * writes_before, self])

    def __call__(self, send: Any, operation: str, params: dict[str, Any]) -> Any:
        self._watched.is_over = True
        if self.is_sent:
            return faults.lose_answer(send, operation, params)
        return self.late(send, operation, params)

    def heal(self) -> None:
        """
        The next operation has all its time, and no fault.
        """
        self._watched.is_over = False
        self._watched.faults = None


class Call:
    """
    One call of a program, as its guard makes it, up to the step that fails.
    """

    def __init__(self, ledger: DynamoDBLedger, clock: SetClock, id_: str) -> None:
        self.ledger, self.clock, self.id = ledger, clock, id_
        self.reservation = Reservation(id_, (), NOW + HOLD_S)

    def reserve(self) -> None:
        self.reservation = hold(self.ledger, self.id, 40, Line(TEAM, 50, 20))

    def extend(self) -> None:
        answer = self.ledger.extend(self.reservation, [Line(DAY, 100, 10), Line(CALLS, 9, 1)], hold_s=HOLD_S)
        assert isinstance(answer, Reservation)
        self.reservation = answer

    def settle(self) -> None:
        self.ledger.settle(self.reservation, COST, answered(self.id))

    def release(self) -> None:
        self.ledger.release(self.reservation, open_entry(self.id, outcome="not_sent"))

    def sweep(self) -> None:
        self.ledger.sweep(now=self.clock())


# What a program does before the step, and what may stand in the books when all is over. A call whose reserve or
# extension is not answered is released by its guard; whoever dies is charged what was held, or had not begun.
BEFORE: dict[str, list[str]] = {
    "reserve": [],
    "extend": ["reserve"],
    "settle": ["reserve"],
    "settle more": ["reserve", "extend"],
    "release": ["reserve"],
    "sweep": ["reserve"],
    "correct": ["reserve", "sweep"],
}
STEP = {"settle more": "settle", "correct": "settle"}
# A sweeper claims its turn first; a late settle finds out first that it is late.
WRITES_BEFORE = {"sweep": 1, "correct": 1}
NOTHING, HELD, MORE, PAID = (0, 0, 0), (40, 20, 0), (50, 20, 1), (30, 7, 0)
# By whether the request came through in the end: (it did, it did not).
DIED: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "reserve": (HELD, NOTHING),
    "extend": (MORE, HELD),
    "settle": (PAID, HELD),
    "settle more": (PAID, MORE),
    "release": (NOTHING, HELD),
    "sweep": (HELD, HELD),
    "correct": (PAID, HELD),
}
AGAIN = {
    "reserve": NOTHING,
    "extend": NOTHING,
    "settle": PAID,
    "settle more": PAID,
    "release": NOTHING,
    "sweep": PAID,
    "correct": PAID,
}


def go_on(call: Call, step: str) -> None:
    """
    What the same process does next: a call that was not admitted is released, an end is written again.
    """
    if step in {"reserve", "extend", "release"}:
        call.release()
    else:
        call.settle()  # of the sweep: by the process that was taken for dead


@pytest.mark.parametrize("arrives", ["at once", "before", "after", "never"])
@pytest.mark.parametrize("after", ["again", "dies"])
@pytest.mark.parametrize(("step", "id_"), [(step, IDS[n % 2]) for n, step in enumerate(BEFORE)])
def test_the_books_come_right_after_a_request_that_nobody_answered(
    ledger: DynamoDBLedger, clock: SetClock, step: str, after: After, arrives: str, id_: str
) -> None:
    """
    None lost, none twice, nothing pending for ever; *arrives* tells when the request is carried out.
    """
    make_balances(ledger)
    call = Call(ledger, clock, id_)
    for each in BEFORE[step]:
        clock.now += HOLD_S if each == "sweep" else 0
        getattr(call, each)()
    clock.now += HOLD_S if step == "sweep" else 0
    watched = Watched(ledger)
    cut = Cut(watched, is_sent=arrives == "at once", writes_before=WRITES_BEFORE.get(step, 0))

    with pytest.raises(LedgerUnavailable) as caught:
        getattr(call, STEP.get(step, step))()
    cut.heal()
    if arrives == "before":
        cut.late.arrive()
    if after == "again":
        go_on(call, step)
    else:
        clock.now += HOLD_S
        call.sweep()
    if arrives == "after":
        cut.late.arrive()
    for _ in range(3):  # past every claim, and every hold that was made longer
        clock.now += HOLD_S
        call.sweep()

    assert caught.value.outcome == "unknown"
    # Of the dead, the sweeper was quicker than what came after it, unless there was nothing to sweep.
    is_done = arrives in {"at once", "before"} or (arrives == "after" and step in {"reserve", "correct"})
    expected = AGAIN[step] if after == "again" else DIED[step][0 if is_done else 1]
    assert [books(ledger, key) for key in (DAY, TEAM, CALLS)] == [(spent, 0) for spent in expected]
    entries = list(read_all_entries(ledger, EntryFilter()))
    has_begun = is_done or after == "again" or step != "reserve"
    assert sorted(entry.id for entry in entries) == sorted(["other", *([id_] if has_begun else [])])
    assert all(entry.count == 1 for entry in entries)


def make_balances(ledger: DynamoDBLedger) -> None:
    """
    By another call: those of this one find them.
    """
    other = hold(ledger, "other", 5, Line(TEAM, 50, 5), Line(CALLS, 9, 1))
    ledger.settle(other, {}, answered("other"))


READ_FAULTS = {
    "answer lost": faults.lose_answer,
    "request lost": faults.lose_request,
    "throttled": faults.throttle,
    "over its throughput": faults.exceed_throughput,
    "internal error": faults.fail_inside,
}


@pytest.mark.parametrize("name", READ_FAULTS)
def test_reads_that_fail_are_made_again(ledger: DynamoDBLedger, clock: SetClock, name: str) -> None:
    """
    A sweep or a report that took half a page for all of it would be wrong and not say so.
    """
    make_balances(ledger)
    for id_ in IDS:
        hold(ledger, id_, 40)
    watched = Watched(ledger)
    watched.operations = {"get_item", "query", "batch_get_item"}
    watched.faults = itertools.cycle([READ_FAULTS[name], None])

    report = ledger.sweep(now=NOW + HOLD_S)

    assert report == SweepReport(charged=2)
    assert books(ledger) == (80, 0)
    assert len(ledger.balances()) == 3
    assert sorted(ids(ledger)) == sorted([*IDS, "other"])


def test_balances_that_are_not_all_read_at_once_are_asked_for_again(ledger: DynamoDBLedger) -> None:
    """
    DynamoDB answers with a part when it is throttled, and with no error.
    """
    make_balances(ledger)
    watched = Watched(ledger)
    watched.operations = {"batch_get_item"}

    def answer_one(send: Any, operation: str, params: dict[str, Any]) -> Any:
        ((name, wanted),) = params["RequestItems"].items()
        first, *others = wanted["Keys"]
        params["RequestItems"] = {name: {**wanted, "Keys": [first]}}
        rest = {name: {**wanted, "Keys": others}} if others else {}
        return {**send(), "UnprocessedKeys": rest}

    watched.faults = itertools.repeat(answer_one)

    assert {balance.key for balance in ledger.balances()} == {DAY, TEAM, CALLS}
    assert watched.sent.count("batch_get_item") == 3
