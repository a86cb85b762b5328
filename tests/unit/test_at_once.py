"""
What is opened on an event loop without asking anybody, and what has to be asked for elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dynamodb_engine
import pytest
from dynamodb_faults import Watched

from bedrock_guard import Guard
from bedrock_guard.calls.edge import Waits
from bedrock_guard.domain.ledger import LedgerKey, Line, Reservation
from bedrock_guard.hooks.threads import is_on_loop
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.testing.ledger_calls import SetClock, open_entry

HELLO: dict[str, Any] = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
ENDLESS: dict[str, Any] = {**HELLO, "inferenceConfig": {}}
REPLY = {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}}


class Loop:
    """
    A guard whose calls come from an event loop, and whose slices have room for many of them.
    """

    def __init__(self, **settings: Any) -> None:
        self.clock = SetClock()
        address = read_address(dynamodb_engine.table_url())
        self.ledger = LeasedLedger(address, clock=self.clock, keeps_itself=False)
        self.watched = Watched(self.ledger)  # type: ignore[arg-type]
        settings = {"budgets": ["day: 5 USD/day"], "control_refresh_s": 600, **settings}
        self.guard = Guard(ledger=self.ledger, clock=self.clock, **settings)
        self.pipeline = self.guard._pipeline
        self._open = self.pipeline.open
        for _ in range(12):
            self.call()
        self.watched.sent.clear()
        self.pipeline.open = self.open  # type: ignore[method-assign]

    def open(self, call: Any) -> Any:
        opened = self._open(call)
        opened.may_wait = False
        return opened

    def call(self, request: dict[str, Any] = HELLO) -> None:
        with self.guard.hold("Converse", request, region="us-east-1") as hold:
            hold.settle(REPLY)

    def waits(self, request: dict[str, Any] = HELLO) -> bool:
        """
        Whether a call is to be opened elsewhere, so that nobody is asked by it.
        """
        try:
            self.call(request)
        except Waits:
            return True
        return False


@pytest.fixture
def loop() -> Iterator[Loop]:
    with dynamodb_engine.quick():
        made = Loop()
        yield made
        made.guard.close()


def test_a_call_that_fits_into_slices_asks_nobody(loop: Loop) -> None:
    assert not loop.waits()

    assert loop.watched.sent == []
    (balance,) = loop.ledger.balances()
    (entry, *_) = entries = list(loop.guard.entries())
    assert balance.spent == 13 * (entry.cost_nanousd or 0) > 0
    assert (balance.pending, len(entries)) == (0, 13)


def test_a_call_that_a_top_up_counts_for_asks_nobody(loop: Loop) -> None:
    loop.watched.as_operator(lambda: loop.guard.top_up("day", "1 USD"))()
    loop.ledger.controls()
    loop.pipeline.helm.read()

    assert not loop.waits()


def test_it_ends_at_once_while_all_of_it_is_held_here(loop: Loop) -> None:
    line = loop.pipeline.planner.matcher.match({}, loop.clock())[0].line(10)
    key = LedgerKey("rps", "requests/s rate", (), 0)
    rate = Line(key, 10, 1, kind="rate", span_s=1, refill=5)
    held = []
    for name, lines in (("here", [line]), ("beside", [line, rate])):
        answer = loop.ledger.reserve(lines, entry=open_entry(name), hold_s=60, on_expiry="charge")
        assert isinstance(answer, Reservation)
        held.append(answer)

    assert [loop.ledger.ends_at_once(each) for each in held] == [True, False]
    assert not loop.ledger.ends_at_once(held[0]._replace(id="unknown"))
    for each in held:
        loop.ledger.release(each)


def test_what_somebody_is_to_be_asked_for_holds_nothing(loop: Loop) -> None:
    """
    The slice has no room; a copy of the stops is old; a stop is in force, and may have been resumed since.
    """
    loop.ledger._local.give_up(loop.ledger.balances()[0].key)
    assert loop.waits()
    loop.ledger.forget_controls()
    assert loop.waits()
    loop.watched.as_operator(lambda: loop.guard.stop(match={}, reason="a loop"))()
    loop.pipeline.helm.read_anew()
    assert loop.waits()

    (balance,) = loop.ledger.balances()
    assert balance.pending == 0
    assert len(list(loop.guard.entries())) == 13  # and the stop's, which is no call's


@pytest.mark.parametrize("why", ["sweep", "queue", "outage", "no limit"])
def test_what_may_take_longer_is_not_tried(loop: Loop, why: str) -> None:
    pipeline = loop.pipeline
    assert not loop.waits()
    if why == "sweep":
        pipeline.sweeper.due_at = 0.0
    pipeline.edge.queue.is_any = why == "queue"
    pipeline.outage.is_on = why == "outage"
    pipeline.edge.clamp.is_on = why == "no limit"

    assert loop.waits(ENDLESS if why == "no limit" else HELLO)
    pipeline.outage.is_on = False


def test_a_guard_that_tells_first_or_watches_breakers_asks(loop: Loop) -> None:
    """
    So does a shadow, which writes what it would have refused.
    """
    others: list[dict[str, Any]] = [{"mode": "shadow"}, {"breakers": "loop: same_request <= 20/minute"}]
    for settings in others:
        guard = Guard(budget="day: 5 USD", ledger=loop.ledger, clock=loop.clock, **settings)
        assert guard._pipeline.edge.quick is None
    assert loop.pipeline.edge.quick is loop.ledger


def test_who_is_on_a_loop_knows_it() -> None:
    async def ask() -> bool:
        return is_on_loop()

    assert asyncio.run(ask())
    assert not is_on_loop()
