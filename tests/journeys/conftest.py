"""
A real client, over real sockets, against a loopback Bedrock that keeps its own bill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bedrock_guard.domain.entry import Entry
from bedrock_guard.testing.bedrock_server import BedrockServer
from bedrock_guard.wiring import Guard

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
# USD a token, from AWS's price page: 3.30 / 16.50 a million for the us. profile, 0.06 / 0.24.
RATES = {
    SONNET: {
        "input_tokens": "0.0000033",
        "output_tokens": "0.0000165",
        "cache_read_input_tokens": "0.00000033",
        "cache_write_5m_input_tokens": "0.000004125",
        "cache_write_1h_input_tokens": "0.0000066",
    },
    NOVA: {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
}
HELLO: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}


@dataclass
class Guarded:
    """
    A guarded client, its guard, and the server it talks to.
    """

    client: Any
    guard: Guard
    server: BedrockServer

    @property
    def entry(self) -> Entry:
        return next(self.guard.entries())

    @property
    def pending(self) -> list[Any]:
        return [row.pending for row in self.guard.status()]

    @property
    def spent_nanousd(self) -> int:
        return sum(int(row.spent * 10**9) for row in self.guard.status() if row.unit == "USD")


def eventually(is_so: Callable[[], bool]) -> bool:
    """
    Whether it comes true beside the calls; only a test that fails waits for the end.
    """
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture
def make_client(server: BedrockServer) -> Callable[..., Any]:
    def make(**config: Any) -> Any:
        return boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            config=Config(**{"read_timeout": 5, "retries": {"mode": "standard"}, **config}),
        )

    return make


@pytest.fixture
def make_guarded(server: BedrockServer, make_client: Callable[..., Any]) -> Iterator[Callable[..., Guarded]]:
    guards: list[Guard] = []

    def make(budget: str = "5 USD/day", config: dict[str, Any] | None = None, **settings: Any) -> Guarded:
        if "budgets" not in settings:
            settings["budget"] = budget
        guard = Guard(**{"ledger": "memory://", **settings})
        guards.append(guard)
        return Guarded(guard.attach(make_client(**(config or {}))), guard, server)

    yield make
    for guard in reversed(guards):  # the ledger may be that of the first
        guard.close()


@pytest.fixture
def guarded(make_guarded: Callable[..., Guarded]) -> Guarded:
    return make_guarded()
