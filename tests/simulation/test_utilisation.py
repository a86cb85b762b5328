"""
How much of a budget is spent when its calls are refused, and what each step at its edge brings.

    pytest -m slow -s tests/simulation/test_utilisation.py

Workloads are seeded; the loopback Bedrock keeps the bill. Every program calls until it is refused, so
that what is left then was of no use to any of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore_versions import needs_newer_model

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.hooks import counting
from bedrock_guard.testing.bedrock_server import BedrockServer

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
# USD a token, from AWS's price page.
RATES = {
    SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"},
    NOVA: {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
}
LEAST = 256


class Asked(NamedTuple):
    """
    A call of a workload: what it sends, how much the model wants to write, and whose it is.
    """

    model: str
    text: str
    writes: int
    max_tokens: int | None = None
    user: str = "one"

    @property
    def least_cost(self) -> Decimal:
        """
        Of its exact input, by the server's rule of four bytes a token, and the least output; by hand.
        """
        rates = RATES[self.model]
        least = LEAST if self.max_tokens is None else min(LEAST, self.max_tokens)
        tokens = -(-len(self.text) // 4)
        return tokens * Decimal(rates["input_tokens"]) + least * Decimal(rates["output_tokens"])


def agents(seed: int) -> Iterator[Asked]:
    """
    An agent: each step sends all before it again, and sets no limit.
    """
    dice = random.Random(seed)
    while True:
        text = "goal " * dice.randint(50, 200)
        for _ in range(dice.randint(5, 25)):
            yield Asked(SONNET, text, dice.randint(50, 600))
            text += "observation " * dice.randint(20, 200)


def greedy(seed: int) -> Iterator[Asked]:
    """
    A framework that always sends `maxTokens=64000`.
    """
    dice = random.Random(seed)
    while True:
        yield Asked(SONNET, "word " * dice.randint(100, 3000), dice.randint(20, 1500), 64_000)


def mixed(seed: int) -> Iterator[Asked]:
    """
    Two models, small and large prompts, limits of all kinds.
    """
    dice = random.Random(seed)
    while True:
        limit = dice.choice([None, 100, 1_000, 4_000])
        yield Asked(
            dice.choice([SONNET, NOVA]), "word " * dice.choice([10, 500, 8_000]), dice.randint(10, 800), limit
        )


def users(seed: int) -> Iterator[Asked]:
    """
    One user of many, each with a small budget.
    """
    dice = random.Random(seed)
    while True:
        yield Asked(SONNET, "word " * dice.randint(20, 800), dice.randint(50, 900), 4_096, f"user-{seed}")


class Workload(NamedTuple):
    """
    Programs that run at once, and their budget.
    """

    programs: int
    calls: Callable[[int], Iterator[Asked]]
    limit: str
    per: tuple[str, ...] = ()

    @property
    def usd(self) -> Decimal:
        """
        All that its balances may come to.
        """
        return Decimal(self.limit.split()[0]) * (self.programs if self.per else 1)


WORKLOADS = {
    "8 agents, no maxTokens": Workload(8, agents, "4 USD"),
    "20 threads, maxTokens=64000": Workload(20, greedy, "25 USD"),
    "mixed models and sizes": Workload(8, mixed, "3 USD"),
    "10 users of 0.50 USD": Workload(10, users, "0.50 USD", ("user",)),
}
PLAIN: dict[str, Any] = {"clamp": "never"}
MODES: dict[str, dict[str, Any]] = {
    "plain worst case": PLAIN,
    "defaults": {},
    "refine alone": {**PLAIN, "refine": "count_tokens"},
    "clamp alone": {"clamp": "always"},
    "wait alone": {**PLAIN, "wait_s": 20},
    "all on": {"clamp": "always", "refine": "count_tokens", "wait_s": 20},
}


class Run(NamedTuple):
    """
    What became of a workload.

    Attributes:
        left: What nobody has spent, of each balance, by whose it is.
    """

    calls: int
    billed: Decimal
    left: dict[str, Decimal]
    refusals: list[tuple[Asked, BudgetExceeded]]


def run(workload: Workload, wait_s: float = 0, **settings: Any) -> Run:
    """
    Every program of *workload* until it is refused.
    """
    budget = Budget("all", workload.limit, per=workload.per, wait_s=wait_s)
    with (
        BedrockServer(RATES, keep_requests=0) as server,
        Guard(budgets=[budget], ledger="memory://", sinks=(), **settings) as guard,
    ):
        client = guard.attach(
            boto3.client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=server.url,
                config=Config(max_pool_connections=workload.programs, retries={"total_max_attempts": 1}),
            )
        )

        def call_until_refused(seed: int) -> tuple[Asked, BudgetExceeded]:
            for asked in workload.calls(seed):
                server.output_tokens = asked.writes  # of whoever is served next: the seeds are many enough
                try:
                    with scope(user=asked.user):
                        client.converse(**request(asked))
                except BudgetExceeded as refusal:
                    return asked, refusal
            raise AssertionError

        with ThreadPoolExecutor(workload.programs) as pool:
            refusals = list(pool.map(call_until_refused, range(workload.programs)))
        balances = guard.status()
        assert all(not row.pending for row in balances)
        assert server.bill.usd == sum(Decimal(row.spent) for row in balances)
        left = {dict(row.per).get("user", ""): Decimal(row.limit) - Decimal(row.spent) for row in balances}
        return Run(server.bill.requests, server.bill.usd, left, refusals)


def request(asked: Asked) -> dict[str, Any]:
    made: dict[str, Any] = {
        "modelId": asked.model,
        "messages": [{"role": "user", "content": [{"text": asked.text}]}],
    }
    if asked.max_tokens is not None:
        made["inferenceConfig"] = {"maxTokens": asked.max_tokens}
    return made


@pytest.mark.slow
@needs_newer_model
@pytest.mark.parametrize("name", WORKLOADS)
def test_with_all_on_what_is_left_of_a_balance_is_less_than_a_call_costs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Peers blocked keys at a fraction of their budgets, for worst cases that never came.
    """
    monkeypatch.setattr(counting, "_PATIENCE_S", 30.0)  # of a server that is this busy process
    workload, wasted = WORKLOADS[name], {}
    limit = Decimal(workload.limit.split()[0])
    for mode, settings in MODES.items():
        done = run(workload, **settings)
        wasted[mode] = sum(done.left.values())
        print(
            f"\n{name:<28} {mode:<17} {done.calls:>5} calls   spent {done.billed / workload.usd:8.3%}   "
            f"left {wasted[mode]:.6f} USD, of a balance {max(done.left.values()) / limit:8.3%} at most   "
            f"overspent {-min(Decimal(0), *done.left.values())}",
            end="",
        )
        assert min(done.left.values()) >= 0

    for asked, refusal in done.refusals:
        assert Decimal(refusal.remaining) < asked.least_cost
        left = done.left[asked.user if workload.per else ""]
        assert left <= max(limit / 1000, asked.least_cost)
    assert wasted["all on"] < min(wasted["plain worst case"], wasted["defaults"])
