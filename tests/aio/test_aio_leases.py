"""
Calls on leases: while a slice has room for them they never leave the event loop.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import dynamodb_engine
import pytest

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.hooks import aio, threads
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.testing.bedrock_server import BedrockServer

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.session import get_session  # noqa: E402

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
HELLO: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
CALLS = 20


class Hops:
    """
    How often something was done off the loop, and whether a request to the table ever was on it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ledger: LeasedLedger) -> None:
        self.count = 0
        self.was_on_loop = False
        send = ledger._table.send

        async def off_loop(work: Any) -> Any:
            self.count += 1
            return await threads.off_loop(work)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.was_on_loop = self.was_on_loop or threads.is_on_loop()
            return send(*args, **kwargs)

        monkeypatch.setattr(aio, "off_loop", off_loop)
        monkeypatch.setattr(ledger._table, "send", watched)


def test_only_what_must_ask_goes_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LeasedLedger(read_address(dynamodb_engine.table_url()), clock=time.time, keeps_itself=False)
    guard = Guard(budgets=["all: 5 USD", "calls: 100 requests"], ledger=ledger, control_refresh_s=3600)
    hops = Hops(monkeypatch, ledger)

    async def main(url: str) -> list[int]:
        found = []
        async with get_session().create_client(
            "bedrock-runtime", region_name="us-east-1", endpoint_url=url
        ) as client:
            guard.attach(client)
            await client.converse(**HELLO)
            keys = [balance.key for balance in await asyncio.to_thread(ledger.balances)]
            for key in keys:  # room for more than all of them
                ledger._local.grant(key, 10**9, 0)
            found.append(hops.count)
            for _ in range(CALLS):
                guard._pipeline.sweeper.due_at = time.time() + 3600
                await client.converse(**HELLO)
            found.append(hops.count)
            for key in keys:
                ledger._local._purses[key].granted = 0
            await client.converse(**HELLO)
            found.append(hops.count)
        return found

    with BedrockServer(rates=RATES) as server:
        first, then, last = asyncio.run(main(server.url))
        guard.close()
        bill = server.bill.nanousd

    assert first > 0
    assert (then - first, last - then) == (0, 1)
    assert not hops.was_on_loop
    assert bill > 0


def test_a_call_that_does_not_fit_is_refused_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LeasedLedger(read_address(dynamodb_engine.table_url()), clock=time.time, keeps_itself=False)
    first = Guard(budget="1000 requests", ledger="memory://")
    guard = Guard(budget="calls: 3 requests", ledger=ledger, control_refresh_s=3600)
    hops = Hops(monkeypatch, ledger)

    async def main(url: str) -> list[Any]:
        async with get_session().create_client(
            "bedrock-runtime", region_name="us-east-1", endpoint_url=url
        ) as client:
            guard.attach(first.attach(client))
            return [await each for each in [ask(client) for _ in range(5)]]

    async def ask(client: Any) -> Any:
        try:
            return await client.converse(**HELLO)
        except BudgetExceeded as error:
            return error

    with BedrockServer(rates=RATES) as server:
        answers = asyncio.run(main(server.url))
        (row,) = first.status()
        guard.close()
        first.close()

    assert [isinstance(answer, BudgetExceeded) for answer in answers] == [False] * 3 + [True] * 2
    assert not hops.was_on_loop
    assert (row.spent, row.pending) == (Decimal(3), 0)


def test_a_reply_comes_though_the_ledger_was_closed_meanwhile() -> None:
    ledger = LeasedLedger(read_address(dynamodb_engine.table_url()), clock=time.time, keeps_itself=False)
    guard = Guard(budget="all: 5 USD", ledger=ledger)

    async def main(url: str) -> Any:
        async with get_session().create_client(
            "bedrock-runtime", region_name="us-east-1", endpoint_url=url
        ) as client:
            guard.attach(client)
            client.meta.events.register_last("before-send", lambda **_: ledger.close())
            return await client.converse(**HELLO)

    with BedrockServer(rates=RATES) as server:
        assert asyncio.run(main(server.url))["output"]
    guard.close()
