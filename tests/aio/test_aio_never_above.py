"""
Never above the limit, for aiobotocore: each fault always on, and six calls at a time.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from aiobotocore.config import AioConfig
from journeys.fault_cells import OPERATIONS, open_cell
from journeys.test_never_above import CALLS, WORTH, at_full_price, estimate
from journeys.test_never_above import FAULTS as SYNC_FAULTS

from bedrock_guard import BudgetExceeded

from .test_aio_matrix import (
    SESSION,
    Consume,
    all_told,
    close_after_some,
    never_read,
    open_async_cell,
    read_all,
    send,
)

AT_A_TIME = 6
LEAVES: dict[str, Consume] = {"every client hanging up": close_after_some, "every reply dropped": never_read}
FAULTS = {name: (fault, LEAVES.get(name, read_all)) for name, (fault, _) in SYNC_FAULTS.items()}


async def is_refused(client: Any, operation: str, consume: Consume) -> bool:
    try:
        await consume(await send(client, operation))
    except BudgetExceeded:
        return True
    except Exception:
        return False
    return False


@pytest.mark.parametrize(
    ("operation", "ledger"), [*[(each, "memory") for each in OPERATIONS], ("ConverseStream", "sqlite")]
)
@pytest.mark.parametrize("name", FAULTS)
def test_sixty_async_calls_on_a_budget_of_twenty_never_bill_more_than_the_limit(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    As the sync one, with calls that overlap.
    """
    fault, consume = FAULTS[name]
    with open_cell("memory", tmp_path) as probe:
        worst = estimate(probe, operation)
    # By hand: 3.30 and 16.50 USD a million.
    limit = WORTH * (worst.usage["input_tokens"] * 3_300 + 100 * 16_500)
    with open_async_cell(ledger, tmp_path, budget=f"search: {limit / 10**9:.9f} USD") as cell:
        cell.server.always(at_full_price(fault, worst.usage["input_tokens"]))

        async def main() -> int:
            refused = 0
            async with SESSION.create_client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=cell.client.meta.endpoint_url,
                verify=False,
                config=AioConfig(read_timeout=5.0),
            ) as client:
                cell.guard.attach(client)
                for _ in range(CALLS // AT_A_TIME):
                    calls = [is_refused(client, operation, consume) for _ in range(AT_A_TIME)]
                    refused += sum(await asyncio.gather(*calls))
                    await all_told(cell)
                    # Without a guard too, aiohttp keeps the connection of a stream that was cut until then.
                    gc.collect()
                    assert cell.server.bill.nanousd <= cell.spent_nanousd <= limit
            return refused

        refused = asyncio.run(main())

        assert refused >= CALLS - WORTH
        assert cell.pending_nanousd == 0
        assert cell.ledger.held == cell.ledger.ended
        assert cell.server.bill.nanousd == cell.spent_nanousd == limit
        assert cell.server.bill.requests == WORTH
