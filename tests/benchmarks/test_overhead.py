"""
What the guard adds to a call: guarded and bare alternately, in one process.

    pytest -m benchmark -s tests/benchmarks

Figures are printed, never asserted: machines differ, and ratios are what to quote.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import dynamodb_engine
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from bedrock_guard import Guard

pytestmark = pytest.mark.benchmark

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
REQUEST: dict[str, Any] = {
    "modelId": MODEL,
    "system": [{"text": "You are a helpful assistant. " * 17}],
    "messages": [{"role": "user", "content": [{"text": "word " * 410}]}],
    "inferenceConfig": {"maxTokens": 512},
}
BUDGETS = ["a: 1000 USD/day", "b: 9000 USD/month", "c: 100M requests/day"]
REPLY = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "bed " * 200}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 600, "outputTokens": 200, "totalTokens": 800},
        "metrics": {"latencyMs": 5},
    }
).encode()
ROUNDS = 1500


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "bedrock_guard.testing.bedrock_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.kill()
    server.communicate()


@pytest.fixture
def clients(url: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    ledgers = {
        "memory": "memory://",
        "sqlite": f"sqlite:///{(tmp_path / 'normal.db').as_posix()}",
        "sqlite full": f"sqlite:///{(tmp_path / 'full.db').as_posix()}?sync=full",
        "lease": f"{dynamodb_engine.table_url()}&mode=lease",
    }
    made: dict[str, Any] = {"bare": make_client(url)}
    guards = []
    for name, ledger in ledgers.items():
        guards.append(Guard(budgets=BUDGETS, ledger=ledger))
        made[name] = guards[-1].attach(make_client(url))
    yield made
    for guard in guards:
        guard.close()


def make_client(url: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        config=Config(retries={"mode": "standard"}),
    )


def answer_in_process(client: Any) -> None:
    def answer(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {"content-type": "application/json"}, Raw(REPLY))

    client.meta.events.register("before-send.bedrock-runtime", answer)


class Raw:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._data


def measure(clients: dict[str, Any], call: Callable[[Any], object], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(rounds + 50):
        for name, client in clients.items():
            began = time.perf_counter()
            call(client)
            if number >= 50:
                times[name].append(time.perf_counter() - began)
    bare = times.pop("bare")
    middle = statistics.median(bare)
    print(f"\n  bare          {middle * 1e6:8.1f} us")
    for name, own in times.items():
        added = statistics.median(mine - other for mine, other in zip(own, bare, strict=True))
        print(
            f"  {name:<12}  {statistics.median(own) * 1e6:8.1f} us   added {added * 1e6:7.1f} us   "
            f"ratio {statistics.median(own) / middle:.3f}"
        )


def test_converse_over_loopback_http(clients: dict[str, Any]) -> None:
    """
    2 KB Converse over a real socket, three budgets.
    """
    measure(clients, lambda client: client.converse(**REQUEST), ROUNDS)


def test_converse_answered_in_process(clients: dict[str, Any]) -> None:
    """
    The same without a socket: less noise, the same code of ours.
    """
    for client in clients.values():
        answer_in_process(client)

    measure(clients, lambda client: client.converse(**REQUEST), ROUNDS * 2)


def test_a_stream_of_36_events(clients: dict[str, Any]) -> None:
    """
    What a stream pays for being watched.
    """
    measure(clients, lambda client: list(client.converse_stream(**REQUEST)["stream"]), ROUNDS // 3)


def test_what_importing_adds() -> None:
    """
    `import bedrock_guard` beside `import boto3`.
    """
    program = (
        "import time, boto3; b = time.perf_counter(); import bedrock_guard; print(time.perf_counter() - b)"
    )
    times = [
        float(
            subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(9)
    ]
    print(f"\n  import bedrock_guard adds {statistics.median(times) * 1000:.1f} ms to import boto3")
