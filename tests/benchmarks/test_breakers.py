"""
What breakers add to a call: its figures, and whether its request was made before.

    pytest -m benchmark -s tests/benchmarks/test_breakers.py

Figures are printed, never asserted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.budgets.loops import fingerprint
from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.operations import OPERATIONS
from bedrock_guard.resolving import read_call

pytestmark = pytest.mark.benchmark

NOW = 1_795_305_600.0
CALL: dict[str, Any] = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": "word " * 410}]}],
    "inferenceConfig": {"maxTokens": 512},
}
USED = UsageReport({"input_tokens": 100, "cache_read_input_tokens": 400, "output_tokens": 50})
CACHE = "cache: cache_hit >= 0.5 after 1B total_input_tokens"
OFTEN = "often: cache_hit >= 0.5 after 10K total_input_tokens"
LOOP = "loop: same_request <= 1000000/minute"
ROUNDS = 4000


@contextmanager
def opened(*breakers: str) -> Iterator[Guard]:
    url = "memory://?keep_entries=1000"
    with Guard(
        budget="all: 1M USD", breakers=breakers, ledger=url, clock=lambda: NOW, sinks=[], settings={}
    ) as guard:
        yield guard


def one_call(guard: Guard, body: bytes) -> float:
    """
    Seconds for plan, reserve and settle, and the look at the request where there is one.
    """
    pipeline, operation = guard._pipeline, OPERATIONS["bedrock-runtime", "Converse"]
    call = read_call([pipeline.planner], operation, CALL, region="us-east-1")  # type: ignore[arg-type]
    began = time.perf_counter()
    each = pipeline.open(call)
    if pipeline.loops is not None:
        pipeline.loops.see_request(each, fingerprint(b"/model/x/converse", body))
    pipeline.reserve(each, hold_s=300)
    pipeline.end(each, (Attempt("answered", 200),), USED)
    return time.perf_counter() - began


def test_breakers_beside_none() -> None:
    """
    In turns. `often` is judged every twentieth call.
    """
    kinds = {"none": (), "cache": (CACHE,), "often": (OFTEN,), "loop": (LOOP,)}
    with ExitStack() as stack:
        guards = [stack.enter_context(opened(*breakers)) for breakers in kinds.values()]
        body = b"x" * 2000
        times = [[one_call(guard, body) for guard in guards] for _ in range(ROUNDS)][200:]
    none = [row[0] for row in times]
    print(f"\n  none {statistics.median(none) * 1e6:.1f} us")
    for column, name in enumerate(kinds):
        if column:
            median = statistics.median(row[column] - row[0] for row in times) * 1e6
            mean = (statistics.fmean(row[column] for row in times) - statistics.fmean(none)) * 1e6
            print(f"  {name} adds {median:.1f} us (mean {mean:.1f} us)")


@pytest.mark.parametrize("size", [2_000, 100_000, 600_000])
def test_a_fingerprint(size: int) -> None:
    """
    It grows with the request, as sending it does.
    """
    body, times = b"x" * size, []
    for _ in range(500):
        began = time.perf_counter()
        fingerprint(b"/model/x/converse", body)
        times.append(time.perf_counter() - began)
    print(f"\n  {size} bytes: {statistics.median(times) * 1e6:.1f} us")
