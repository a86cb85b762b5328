"""
A table that fails in every way that a network knows: `LedgerUnavailable`, within the deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import dynamodb_engine
import pytest
import tcp_proxy

from bedrock_guard import Guard
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.testing.ledger_calls import books, hold, reserve

DEADLINE_S = 1.0
# Several deadlines, on a machine that is busy; attempts without one would take minutes.
AT_MOST_S = 8 * DEADLINE_S
LINES = [Line(LedgerKey(f"budget {n}", "USD", (), 0), 100, 1) for n in range(8)]

Break = Callable[[tcp_proxy.Proxy], None]
WAYS: dict[str, tuple[Break, Literal["not_done", "unknown"], str]] = {
    "nobody listens": (tcp_proxy.Proxy.close, "not_done", "Could not connect"),
    "silent": (tcp_proxy.Proxy.be_silent, "unknown", "Whether it was done is not known"),
    "500 for ever": (lambda proxy: proxy.answer(tcp_proxy.HTTP_500), "unknown", "500"),
    "throttled for ever": (
        lambda proxy: proxy.answer(tcp_proxy.THROTTLED),
        "not_done",
        "ThrottlingException",
    ),
}


@pytest.fixture
def proxy() -> Iterator[tcp_proxy.Proxy]:
    with tcp_proxy.Proxy(dynamodb_engine.endpoint()) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: tcp_proxy.Proxy) -> str:
    return dynamodb_engine.table_url(proxy.url, deadline_ms=int(1000 * DEADLINE_S))


def timed(work: Callable[[], Any]) -> tuple[LedgerUnavailable, float]:
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable) as caught:
        work()
    return caught.value, time.monotonic() - began


@pytest.mark.parametrize("way", WAYS)
def test_every_operation_ends_within_the_deadline(way: str, proxy: tcp_proxy.Proxy, url: str) -> None:
    """
    It is that of the whole operation, however many balances it has and however often it is sent.
    """
    fail, outcome, text = WAYS[way]
    ledger = open_ledger(url, clock=time.time)
    held = hold(ledger, "before", *LINES)
    fail(proxy)

    for work in (
        lambda: reserve(ledger, "one", *LINES),
        lambda: ledger.release(held),
    ):
        error, seconds = timed(work)
        assert seconds < AT_MOST_S
        assert error.outcome == outcome
        assert f"did not answer within {DEADLINE_S:g} s" in str(error)
        assert text in str(error)

    proxy.open()
    # Work that was taken for lost may come through; to end it as it was asked to is always right.
    ledger.release(held)
    if outcome == "unknown":
        ledger.release(held._replace(id="one"))
    assert all(books(ledger, line.key) == (0, 0) for line in LINES)
    ledger.close()


@pytest.mark.parametrize("way", ["nobody listens", "silent"])
def test_a_guarded_call_asks_once(way: str, proxy: tcp_proxy.Proxy, url: str) -> None:
    """
    Neither the sweep of every minute nor the release of what may have arrived adds to its wait.
    """
    budgets = [Budget(f"budget {n}", "5 USD") for n in range(4)]
    asked: list[str] = []
    with Guard(budgets=budgets, ledger=url, control_refresh_s=3600) as guard:
        ledger = guard.ledger
        ledger.controls()  # else these are what is asked for first, and nothing was held for sure
        assert isinstance(ledger, DynamoDBLedger)
        turn = ledger._table.turn

        def asks(share: float = 1.0) -> Any:
            if threading.current_thread() is threading.main_thread():  # alerts have a thread of their own
                asked.append("turn")
            return turn(share)

        ledger._table.turn = asks  # type: ignore[method-assign]
        WAYS[way][0](proxy)
        params = {
            "modelId": "amazon.nova-lite-v1:0",
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        }

        guard._pipeline.upkeep.put_off = lambda *_: None  # type: ignore[method-assign]
        error, seconds = timed(guard.hold("Converse", params, region="us-east-1").__enter__)

        assert asked == ["turn"]
        assert seconds < AT_MOST_S
        assert error.outcome == WAYS[way][1]
        proxy.open()


def test_the_deadline_is_two_seconds_where_nobody_says_otherwise() -> None:
    """
    A request of a user is waiting.
    """
    assert read_address("dynamodb://my-table").deadline_s == 2.0
