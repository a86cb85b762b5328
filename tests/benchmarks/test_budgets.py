"""
What budgets add to a call: many that match it, and many values that one keeps balances by.

    pytest -m benchmark -s tests/benchmarks/test_budgets.py

Figures are printed, never asserted.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bedrock_guard import Budget, Guard
from bedrock_guard.domain.ledger import Refusal
from bedrock_guard.operations import OPERATIONS
from bedrock_guard.resolving import read_call

pytestmark = pytest.mark.benchmark

NOW = 1_800_000_000.0
CALL = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": "word " * 410}]}],
    "inferenceConfig": {"maxTokens": 512},
}
MATCHES: list[dict[str, Any]] = [
    {},
    {"model": "anthropic.*"},
    {"region": ["us-*", "eu-*"]},
    {"operation": "Converse"},
    {"user": "u*"},
    {"family": "anthropic"},
    {"service_tier": "!flex"},
    {"model": ["*sonnet*", "*opus*"]},
    {"model_id": "us.*"},
    {"workflow": "!nightly*"},
]
ROUNDS = 4000


@contextmanager
def opened(budgets: list[Budget]) -> Iterator[Guard]:
    with Guard(budgets=budgets, ledger="memory://?keep_entries=1000", clock=lambda: NOW) as guard:
        yield guard


def one_call(guard: Guard, user: str) -> float:
    """
    Seconds for plan, reserve and settle: all that budgets have a part in.
    """
    pipeline, operation = guard._pipeline, OPERATIONS["bedrock-runtime", "Converse"]
    call = read_call([pipeline.planner], operation, CALL, region="us-east-1")._replace(  # type: ignore[arg-type]
        request_tags={"user": user}
    )
    began = time.perf_counter()
    opened = pipeline.open(call)
    pipeline.reserve(opened, hold_s=300)
    pipeline.end(opened, (), None)
    return time.perf_counter() - began


def test_ten_budgets_that_match() -> None:
    """
    Beside one budget, in turns.
    """
    budgets = [Budget(f"b{n}", "1000 USD/day", match=match) for n, match in enumerate(MATCHES)]
    with opened([]) as none, opened(budgets[:1]) as one, opened(budgets) as ten:
        times = [[one_call(guard, "u1") for guard in (none, one, ten)] for _ in range(ROUNDS)][200:]
        assert len(ten.status()) == 10
        assert all(row.spent == 0 for row in ten.status())
    middle = [statistics.median(column) * 1e6 for column in zip(*times, strict=True)]
    added = statistics.median(row[2] - row[0] for row in times) * 1e6
    print(
        f"\n  none {middle[0]:.1f} us, one {middle[1]:.1f} us, ten {middle[2]:.1f} us: ten add {added:.1f} us"
    )


@pytest.mark.parametrize("values", [1, 100_000])
def test_a_budget_for_each_of_many_users(values: int) -> None:
    """
    Every user's first call, and then again.
    """
    with opened([Budget("user", "1000 USD/day", per="user")]) as guard:
        tracemalloc.start()
        first = [one_call(guard, f"u{n}") for n in range(values)]
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        again = [one_call(guard, f"u{n % values}") for n in range(ROUNDS)][200:]
        assert len(guard.status()) == values
    print(
        f"\n  {values} users: first calls {statistics.median(first) * 1e6:.1f} us (traced), "
        f"later {statistics.median(again) * 1e6:.1f} us, {held / values / 1000:.2f} kB a user"
    )


def test_a_reserve_beside_many_balances() -> None:
    """
    The ledger alone: a dictionary does not mind how many keys it has.
    """
    for values in (1, 100_000):
        with opened([Budget("user", "1000 USD/day", per="user")]) as guard:
            for n in range(values):
                one_call(guard, f"u{n}")
            pipeline = guard._pipeline
            operation = OPERATIONS["bedrock-runtime", "Converse"]
            call = read_call([pipeline.planner], operation, CALL, region="us-east-1")  # type: ignore[arg-type]
            times = []
            for _ in range(ROUNDS):
                call = call._replace(request_tags={"user": "u0"})
                each = pipeline.open(call)
                lines = each.plan.lines()
                began = time.perf_counter()
                held = guard.ledger.reserve(lines, entry=each.entry, hold_s=300, on_expiry="charge")
                times.append(time.perf_counter() - began)
                assert not isinstance(held, Refusal)
                guard.ledger.release(held)
        print(f"\n  {values} balances: reserve {statistics.median(times) * 1e6:.2f} us")
