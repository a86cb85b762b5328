"""
A budget used to its end while everything goes wrong, with every step at its edge: never overspent, nothing
left held, and nothing sent that asks for more than its caller did.
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bedrock_guard import Budget, BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
)

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
RATES = {
    SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"},
    NOVA: {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
}
FAULTS: tuple[Any, ...] = (
    *[None] * 5,
    400,
    429,
    error(500, billed=True),
    lost_answer(),
    missing_usage(),
    cut_stream(after_events=3),
)
STEPS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "clamp": {"clamp": "always"},
    "refine": {"clamp": "never", "refine": "count_tokens"},
    "fallback": {"clamp": "never", "fallback": [NOVA]},
    "wait": {"clamp": "never", "wait_s": 0.2},
    "all": {"clamp": "always", "refine": "count_tokens", "fallback": [NOVA], "wait_s": 0.2},
}


def call(client: Any, dice: random.Random) -> None:
    asked = dice.choice([None, 50, 300, 5_000, 64_000])
    params: dict[str, Any] = {
        "modelId": SONNET,
        # What was asked for goes with the prompt, so that what was sent can be held against it.
        "messages": [{"role": "user", "content": [{"text": f"{asked} " + "word " * dice.randint(1, 400)}]}],
    }
    if asked is not None:
        params["inferenceConfig"] = {"maxTokens": asked}
    if dice.random() < 0.5:
        client.converse(**params)
        return
    for event in client.converse_stream(**params)["stream"]:
        if "contentBlockDelta" in event and dice.random() < 0.02:
            return  # left early


def program(client: Any, server: BedrockServer, seed: int, calls: int) -> int:
    dice, refused = random.Random(seed), 0
    for _ in range(calls):
        server.output_tokens = dice.choice([5, 100, 1_000, 3_000])
        if dice.random() < 0.3:
            server.will_answer(dice.choice(FAULTS) or 429)
        try:
            call(client, dice)
        except BudgetExceeded:
            refused += 1
        except Exception:
            continue
    return refused


@pytest.mark.parametrize("ledger", ["memory", "sqlite"])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("calls", [25, pytest.param(400, marks=pytest.mark.slow)], ids=["short", "long"])
def test_no_step_overspends_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ledger: str, calls: int
) -> None:
    """
    The decisive promise: with these on the limit holds, and a clamp never raises what was asked for.
    """
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    fields = {key: value for key, value in STEPS[name].items() if key in ("fallback", "wait_s")}
    settings = {key: value for key, value in STEPS[name].items() if key not in fields}
    usd = Decimal("0.25") * calls / 25
    budget = Budget("x", f"{usd} USD", **fields)
    url = "memory://" if ledger == "memory" else f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    with BedrockServer(RATES) as server, Guard(budgets=[budget], ledger=url, sinks=(), **settings) as guard:
        server.keep_requests = 100_000
        client = guard.attach(
            boto3.client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=server.url,
                config=Config(max_pool_connections=4, retries={"mode": "standard"}),
            )
        )
        with ThreadPoolExecutor(4) as pool:
            refused = sum(pool.map(lambda seed: program(client, server, seed, calls), range(4)))

        assert refused
        (row,) = guard.status()
        assert row.pending == 0
        assert server.bill.usd <= row.spent <= usd
        for request in server.requests:
            if request.operation == "CountTokens":
                continue
            body = json.loads(request.body)
            asked = body["messages"][0]["content"][0]["text"].split()[0]
            sent = body.get("inferenceConfig", {}).get("maxTokens")
            assert asked == "None" or sent <= int(asked)
            assert name != "refine" or str(sent) == asked
