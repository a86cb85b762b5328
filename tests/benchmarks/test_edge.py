"""
What the steps at the edge of a budget add to a call whose bound fits, sync and async: switched on and off
alternately, in one process, answered without a socket.

    pytest -m benchmark -s tests/benchmarks/test_edge.py

Figures are printed, never asserted; `tests/journeys/test_edge_cost.py` asserts that nothing of them runs.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from bedrock_guard import Budget, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

from .test_overhead import REQUEST, answer_in_process, make_client

pytestmark = pytest.mark.benchmark

PATIENT: dict[str, Any] = {"fallback": ["us.amazon.nova-lite-v1:0"], "wait_s": 30}
# Settings of the guard, and of its budget.
MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "all off": ({"clamp": "never"}, {}),
    "defaults": ({}, {}),
    "clamp, refine": ({"clamp": "always", "refine": "count_tokens"}, {}),
    "fall back, wait": ({"clamp": "never"}, PATIENT),
    "all on": ({"clamp": "always", "refine": "count_tokens"}, PATIENT),
    "all off again": ({"clamp": "never"}, {}),
}
UNSET = {name: value for name, value in REQUEST.items() if name != "inferenceConfig"}
ROUNDS = 3000


@contextmanager
def guards() -> Iterator[dict[str, Guard]]:
    made = {}
    for name, (settings, budget) in MODES.items():
        budgets = [Budget("day", "9000000 USD/day", **budget)]
        made[name] = Guard(budgets=budgets, ledger="memory://?keep_entries=1000", sinks=(), **settings)
    yield made
    for guard in made.values():
        guard.close()


def show(times: dict[str, list[float]]) -> None:
    bare = times.pop("bare")
    print(f"\n  bare              {statistics.median(bare) * 1e6:8.1f} us")
    off = times["all off"]
    for name, own in times.items():
        added = statistics.median(mine - other for mine, other in zip(own, bare, strict=True))
        more = statistics.median(mine - other for mine, other in zip(own, off, strict=True))
        print(f"  {name:<16}  added {added * 1e6:7.1f} us   beside all off {more * 1e6:+7.1f} us")


@pytest.mark.parametrize("asked", [REQUEST, UNSET], ids=["maxTokens=512", "no maxTokens"])
def test_converse(asked: dict[str, Any]) -> None:
    """
    A call of 2 KB; without a limit it is looked up that there is plenty.
    """
    with guards() as made:
        clients = {"bare": make_client("http://127.0.0.1:9")}
        for name, guard in made.items():
            clients[name] = guard.attach(make_client("http://127.0.0.1:9"))
        for client in clients.values():
            answer_in_process(client)
        times: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(ROUNDS + 50):
            for name, client in clients.items():
                began = time.perf_counter()
                client.converse(**asked)
                if number >= 50:
                    times[name].append(time.perf_counter() - began)
    show(times)


def test_converse_with_aiobotocore() -> None:
    """
    Over a loopback socket; a call that may be kept waiting is opened in a thread of its own.
    """
    pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
    from aiobotocore.session import get_session

    async def measure(url: str, made: dict[str, Guard]) -> dict[str, list[float]]:
        async with AsyncExitStack() as opened:
            clients = {}
            for name in ("bare", *made):
                made_client = get_session().create_client(
                    "bedrock-runtime",
                    region_name="us-east-1",
                    endpoint_url=url,
                    aws_access_key_id="any",
                    aws_secret_access_key="any",
                )
                client = await opened.enter_async_context(made_client)
                clients[name] = client if name == "bare" else made[name].attach(client)
            times: dict[str, list[float]] = {name: [] for name in clients}
            for number in range(ROUNDS // 5):
                for name, client in clients.items():
                    began = time.perf_counter()
                    await client.converse(**REQUEST)
                    if number >= 50:
                        times[name].append(time.perf_counter() - began)
            return times

    with BedrockServer(keep_requests=0, output_tokens=10) as server, guards() as made:
        show(asyncio.run(measure(server.url, made)))
