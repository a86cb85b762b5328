"""
A ledger that keeps its callers waiting must not keep an event loop waiting, nor all of its tasks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.memory import MemoryLedger
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
WAIT_S = 0.4
TASKS = 60


class HangingLedger(MemoryLedger):
    """
    Answers nobody, and lets everybody wait for that.
    """

    blocking = True
    is_gone = False
    asked: list[int]

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_gone:
            self.asked.append(threading.get_ident())
            time.sleep(WAIT_S)
            raise LedgerUnavailable("It hangs.")
        return super().reserve(*args, **kwargs)


@pytest.mark.parametrize("on_ledger_error", ["refuse", "allow"])
def test_tasks_do_not_wait_for_it_one_after_another(on_ledger_error: str) -> None:
    """
    Four threads call it; sixty tasks that wait for two seconds each would take half a minute.
    """
    ledger = HangingLedger(clock=time.time)
    ledger.asked = []
    settings = {} if on_ledger_error == "refuse" else {"allow_up_to": "1 USD"}
    guard = Guard(budget="5 USD", ledger=ledger, on_ledger_error=on_ledger_error, **settings)

    async def main(url: str) -> list[Any]:
        async with get_session().create_client(
            "bedrock-runtime", region_name="us-east-1", endpoint_url=url
        ) as client:
            guard.attach(client)
            await client.converse(**HELLO)
            ledger.is_gone = True
            work = asyncio.gather(*(client.converse(**HELLO) for _ in range(TASKS)), return_exceptions=True)
            await asyncio.wait([work])
            ledger.is_gone = False
            while guard._pipeline.outage.is_on:
                try:
                    await client.converse(**HELLO)
                except LedgerUnavailable:
                    await asyncio.sleep(0.05)
            return await work

    with BedrockServer(rates=RATES) as server:
        answers = asyncio.run(main(server.url))
        while guard._pipeline.upkeep._unwritten:
            time.sleep(0.01)
        guard.close()
        (row,) = guard.status()
        bill = server.bill.nanousd

    assert threading.main_thread().ident not in ledger.asked
    assert len(ledger.asked) < TASKS / 2
    refused = [each for each in answers if isinstance(each, LedgerUnavailable)]
    assert len(refused) == (TASKS if on_ledger_error == "refuse" else 0)
    assert (row.pending, row.spent) == (0, Decimal(bill).scaleb(-9))
