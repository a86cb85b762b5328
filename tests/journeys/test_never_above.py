"""
With a fault always on, what the server bills stays within the limit, and nothing stays held.

Each generation uses exactly what was estimated, so that a budget of twenty calls pays for
twenty requests and for none besides: the bill touches the limit and does not pass it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded
from bedrock_guard.testing.bedrock_server import (
    Answer,
    converse_reply,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    stream_error,
)

from .conftest import HELLO
from .fault_cells import INVOKE, Cell, close_after_some, everywhere, open_cell, read_all, run

CALLS = 60
WORTH = 20

# The fault, and what the program does with what it gets.
FAULTS: dict[str, tuple[Answer, Callable[[Any], None]]] = {
    "every answer lost": (lost_answer(), read_all),
    "every answer a billed 500": (error(500, billed=True), read_all),
    "every stream cut": (cut_stream(after_events=3), read_all),
    "every stream ended by an error": (stream_error(after_events=3), read_all),
    "every client hanging up": (missing_usage_headers(), close_after_some),
    "every reply dropped": (missing_usage_headers(), lambda _: None),
    "usage missing": (missing_usage(), read_all),
}


def estimate(cell: Cell, operation: str) -> Any:
    asked = HELLO if operation in ("Converse", "ConverseStream") else INVOKE
    return cell.guard.estimate(operation, **asked)


def at_full_price(answer: Answer, input_tokens: int) -> Answer:
    """
    The same fault, of a generation as dear as it can be: its input as bounded, 100 tokens out.
    """
    return replace(answer, usage=converse_reply(input_tokens=input_tokens, output_tokens=100).usage)


@everywhere
@pytest.mark.parametrize("name", FAULTS)
def test_sixty_calls_on_a_budget_of_twenty_never_bill_more_than_the_limit(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    Peers billed 3.0 times their budget with answers lost, 2.1 times with streams cut.
    """
    fault, consume = FAULTS[name]
    with open_cell("memory", tmp_path) as probe:
        worst = estimate(probe, operation)
    # By hand: 3.30 and 16.50 USD a million.
    worst_nanousd = worst.usage["input_tokens"] * 3_300 + 100 * 16_500
    limit = WORTH * worst_nanousd
    with open_cell(ledger, tmp_path, budget=f"search: {limit / 10**9:.9f} USD") as cell:
        cell.server.always(at_full_price(fault, worst.usage["input_tokens"]))
        refused = 0

        for _ in range(CALLS):
            try:
                run(cell, operation, consume)
            except BudgetExceeded:
                refused += 1
            assert cell.server.bill.nanousd <= cell.spent_nanousd <= limit

        assert refused >= CALLS - WORTH
        assert cell.pending_nanousd == 0
        assert cell.ledger.held == cell.ledger.ended
        assert cell.server.bill.nanousd == cell.spent_nanousd == limit
        assert cell.server.bill.requests == WORTH
