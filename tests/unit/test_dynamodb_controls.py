"""
Stops and top-ups in a table: lost answers, late requests, and who may write them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import dynamodb_engine
import pytest
from botocore.exceptions import ClientError
from dynamodb_faults import (
    Delay,
    Watched,
    conflict,
    fail_inside,
    lose_answer,
    lose_answer_and_token,
    lose_request,
    send_twice,
    throttle,
)

from bedrock_guard.domain.control import Controls
from bedrock_guard.domain.ledger import Reservation
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, items
from bedrock_guard.testing.ledger_calls import SetClock, ids, open_entry
from bedrock_guard.testing.ledger_controls_contract import STOP, TOP_UP, TRIP, reserve_by


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


def watch(ledger: DynamoDBLedger, *faults: Any) -> Watched:
    watched = Watched(ledger, iter(faults))
    ledger.write_control = watched.as_operator(ledger.write_control)  # type: ignore[method-assign]
    return watched


@pytest.mark.parametrize(
    "fault", [lose_answer, lose_answer_and_token, lose_request, send_twice, conflict, throttle, fail_inside]
)
def test_a_control_is_written_once_whatever_becomes_of_the_request(
    ledger: DynamoDBLedger, fault: Any
) -> None:
    """
    A stop that is written twice would be told twice in the journal.
    """
    ledger.write_control(TOP_UP, open_entry("told-0", outcome="top_up"))
    watch(ledger, fault)

    assert ledger.write_control(STOP, open_entry("told-1", outcome="stop")) == 2

    assert ledger.controls() == Controls(2, (STOP,), (TOP_UP,))
    assert sorted(ids(ledger)) == ["told-0", "told-1"]


def test_nothing_but_stops_of_breakers_is_read_from_where_programs_write(
    ledger: DynamoDBLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A program that is taken over may stop calls, and neither speak for an operator nor top up.
    """
    ledger.write_control(TRIP, open_entry("told-1", outcome="stop"))
    monkeypatch.setattr(items, "CONTROLS_PLACE", items.TRIPS_PLACE)
    for number, control in enumerate((STOP, TOP_UP)):
        ledger.write_control(control, open_entry(f"forged-{number}", outcome="stop"))
    monkeypatch.undo()

    found = ledger.controls()

    assert (found.stops, found.top_ups) == ((TRIP,), ())


def test_no_two_states_of_the_two_records_have_one_version(clock: SetClock) -> None:
    """
    They are not read in one moment: who has seen a trip and not a stop knows another record than who has seen
    a stop and not a trip.
    """
    versions = []
    for control in (STOP, TRIP):
        ledger = DynamoDBLedger.open(dynamodb_engine.table_url(), clock=clock)
        versions.append(ledger.write_control(control, open_entry("told", outcome="stop")))
        ledger.close()

    assert versions[0] != versions[1]


def test_a_late_request_does_not_bring_back_what_was_resumed(ledger: DynamoDBLedger) -> None:
    """
    It meets another version, and its own entry.
    """
    late = Delay()
    watch(ledger, late)
    ledger.write_control(STOP, open_entry("told-1", outcome="stop"))
    ended = type(STOP)(id=STOP.id, match={}, reason="x", by="x", at_s=STOP.at_s, until_s=STOP.at_s)
    ledger.write_control(ended, open_entry("told-2", outcome="resume"))

    late.arrive()

    assert ledger.controls() == Controls(2)


def test_a_writer_that_another_was_before_writes_on_top_of_it(
    ledger: DynamoDBLedger, url: str, clock: SetClock
) -> None:
    """
    Between its look and its write, somebody else has stopped something.
    """
    other = DynamoDBLedger.open(url, clock=clock)

    def be_quicker(send: Any, _operation: str, _params: Any) -> Any:
        other.write_control(TOP_UP, open_entry("told-0", outcome="top_up"))
        return send()

    watch(ledger, be_quicker)

    assert ledger.write_control(STOP, open_entry("told-1", outcome="stop")) == 2
    assert ledger.controls() == Controls(2, (STOP,), (TOP_UP,))
    other.close()


def test_a_program_that_may_not_write_controls_is_told_who_may(ledger: DynamoDBLedger) -> None:
    """
    That it may not is what the policy is for.
    """

    def deny(_send: Any, operation: str, _params: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

    watch(ledger, deny)

    with pytest.raises(LedgerUnavailable, match=r"are an operator's to write.*OperatorPolicy"):
        ledger.write_control(STOP, open_entry("told", outcome="stop"))
    assert ledger.controls() == Controls()


def test_a_table_that_throttles_is_no_table_to_ask_for_stops(url: str, clock: SetClock) -> None:
    """
    Who cannot read them does not know, and must not call.
    """
    ledger = DynamoDBLedger.open(url.replace("deadline_ms=10000", "deadline_ms=100"), clock=clock)
    watched = Watched(ledger, itertools.repeat(throttle))
    watched.operations = frozenset(["batch_get_item"])

    with pytest.raises(LedgerUnavailable) as caught:
        reserve_by(ledger, "one", 0)
    assert caught.value.outcome == "not_done"
    ledger.close()

    ledger = DynamoDBLedger.open(url, clock=clock)  # of a deadline that a busy machine meets
    assert isinstance(reserve_by(ledger, "one", 0), Reservation)
    ledger.close()


@pytest.mark.parametrize(
    "damaged", [{"v": {"N": "9"}}, {"rec": {"S": "{}"}}, {"v": {"N": "9"}, "rec": {"S": "no json"}}]
)
def test_an_item_that_cannot_be_read_lets_nobody_through(
    ledger: DynamoDBLedger, url: str, damaged: items.Item
) -> None:
    """
    As one that says that all are stopped.
    """
    item = {**items.place_item(items.CONTROLS_PLACE), **damaged}
    table = url.removeprefix("dynamodb://").partition("?")[0]
    dynamodb_engine.client(dynamodb_engine.endpoint()).put_item(TableName=table, Item=item)

    with pytest.raises(LedgerUnavailable, match="record of stops and top-ups cannot be read"):
        reserve_by(ledger, "one", 0)
    with pytest.raises(LedgerUnavailable, match="record of stops and top-ups cannot be read"):
        ledger.write_control(STOP, open_entry("told", outcome="stop"))


def test_the_shortest_wish_holds_and_both_clocks_are_asked(
    ledger: DynamoDBLedger, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One clock may be set back, and the other stands still while a process is frozen.
    """
    watched = Watched(ledger)
    began, ahead = time.monotonic(), SetClock(0.0)
    monkeypatch.setattr(time, "monotonic", lambda: began + ahead())
    ledger.refresh_controls(1.0)
    ledger.refresh_controls(5.0)

    def reads() -> int:
        ledger.controls()
        return watched.partitions.count("C#controls")

    assert [reads(), reads()] == [1, 1]
    clock.now += 0.9
    assert reads() == 1
    clock.now += 0.1
    assert [reads(), reads()] == [2, 2]
    clock.now -= 0.1
    assert reads() == 3
    ahead.now += 1.0
    assert reads() == 4
    ledger.forget_controls()
    assert [reads(), reads()] == [5, 5]
