"""
Frameworks that ask Bedrock by themselves: the real packages, over real sockets, against the loopback Bedrock.

They are heavy, and some exclude each other: a file skips where its package is not installed.
`.ci/run test-frameworks` makes environments in which none does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest

from bedrock_guard import BudgetExceeded, Guard, guard_process
from bedrock_guard.testing.bedrock_server import BedrockServer

# Read when the packages are imported: they tell nobody of these tests, and fetch nothing.
os.environ.update(
    ANONYMIZED_TELEMETRY="False",
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TESTING="true",
    CREWAI_TRACING_ENABLED="false",
    HAYSTACK_TELEMETRY_ENABLED="False",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
)

HERE = Path(__file__).parent
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
EMBEDDER = "amazon.titan-embed-text-v2:0"
# USD a token, from AWS's price page: 3.30 / 16.50 a million for the us. profile, 0.02 for embeddings.
RATES = {
    SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"},
    "amazon.nova-lite-v1:0": {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
    EMBEDDER: {"input_tokens": "0.00000002"},
}
TINY = "0.0001 USD"  # less than any call may come to


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    What other people's packages warn of is theirs; a coroutine that nobody awaited is not.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::Warning", "error::RuntimeWarning"))


@dataclass
class Loopback:
    """
    A Bedrock that keeps its own bill, and guards to hold against it.
    """

    server: BedrockServer
    guards: list[Guard] = field(default_factory=list)

    def guard(self, budget: str = "5 USD", **settings: Any) -> Guard:
        guard = Guard(**{"budget": budget, "ledger": "memory://", "settings": {}, **settings})
        self.guards.append(guard)
        return guard

    def client(self, guard: Guard) -> Any:
        return guard.client("bedrock-runtime")

    def process(self, budget: str = "5 USD", **settings: Any) -> Guard:
        """
        For those that make clients of their own; until the test ends.
        """
        return guard_process(guard=self.guard(budget, **settings))

    def assert_settled(self, guard: Guard, calls: int) -> None:
        """
        The books are the server's to the nano-dollar, and at rest.
        """
        (row,) = guard.status()
        assert self.server.bill.requests == calls
        assert int(row.spent * 10**9) == self.server.bill.nanousd > 0
        assert row.pending == 0
        assert {(entry.outcome, entry.basis) for entry in guard.entries()} == {("answered", "reported")}

    def assert_refused(
        self, guard: Guard, ask: Callable[[], object], wrapped_in: str = "", *, tries: int = 1
    ) -> Exception:
        """
        *ask* ends with the refusal, or with *wrapped_in* that has it in its chain; the server saw nothing that bills.

        It was asked for once, or up to *tries* times: threads of a pool may be called off.
        """
        before = self.refusals(guard)
        with pytest.raises(Exception) as raised:
            ask()
        refusal = BudgetExceeded.find(raised.value)
        assert refusal is not None
        assert type(raised.value).__name__ == (wrapped_in or "BudgetExceeded")
        assert 1 <= self.refusals(guard) - before <= tries
        assert self.server.bill.requests == 0
        self.assert_at_rest(guard)
        return raised.value

    def assert_stopped(
        self, guard: Guard, ask: Callable[[], object], wrapped_in: str = "", *, tries: int = 1
    ) -> None:
        """
        A loop that nothing else would end: it does, with every call before it settled, and after *tries* refusals.
        """
        with pytest.raises(Exception) as raised:
            ask()
        assert BudgetExceeded.find(raised.value) is not None
        assert type(raised.value).__name__ == (wrapped_in or "BudgetExceeded")
        (row,) = guard.status()
        assert int(row.spent * 10**9) == self.server.bill.nanousd > 0
        assert self.server.bill.requests > 1
        assert row.spent <= row.limit
        assert row.pending == 0
        assert self.refusals(guard) == tries

    def assert_left(self, guard: Guard) -> None:
        """
        A stream that was left early is charged, at no less than the bill.
        """
        assert eventually(lambda: bool(list(guard.entries())))
        (row,) = guard.status()
        (entry,) = guard.entries()
        assert int(row.spent * 10**9) >= self.server.bill.nanousd > 0
        assert entry.outcome in ("abandoned", "answered")
        assert row.pending == 0

    @staticmethod
    def refusals(guard: Guard) -> int:
        """
        How many calls were refused: one entry stands for those that are alike.
        """
        return sum(entry.count for entry in guard.entries() if entry.outcome == "refused")

    @staticmethod
    def assert_at_rest(guard: Guard) -> None:
        (row,) = guard.status()
        assert (row.spent, row.pending) == (0, 0)

    @staticmethod
    def users(guard: Guard) -> list[str | None]:
        """
        The tag `user` of every call, the newest first.
        """
        return [entry.tags.get("user") for entry in guard.entries()]


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
    with BedrockServer(RATES, output_tokens=50) as running:
        yield running


@pytest.fixture
def loopback(server: BedrockServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterable[Loopback]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.url)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(botocore, "_INITIALIZERS", [])  # where guard_process() stays
    loopback = Loopback(server)
    yield loopback
    for guard in loopback.guards:
        guard.close()
