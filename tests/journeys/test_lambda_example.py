"""
The Lambda function of the examples, as Lambda runs it: a table, an HTTP API's events, one environment after another.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import dynamodb_engine
import pytest

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.testing.bedrock_server import BedrockServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# USD a token, from AWS's price page: 1.10 / 5.50 a million for the us. profile.
RATES = {
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": {"input_tokens": "0.0000011", "output_tokens": "0.0000055"}
}


def load(name: str) -> ModuleType:
    """
    A module of the examples, anew: as a new environment imports it.
    """
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture
def local() -> ModuleType:
    return load("05_lambda_handler")


@pytest.fixture
def start(
    local: ModuleType, server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], ModuleType]]:
    """
    An environment of the function, on a table that is new.
    """
    for name, value in local.environment(server.url, dynamodb_engine.table_url()).items():
        monkeypatch.setenv(name, value)
    functions = []

    def start() -> ModuleType:
        functions.append(load("lambda_function"))
        return functions[-1]

    yield start
    for function in functions:
        function.my_guard.close()


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_users_are_answered_until_their_budget_ends_and_then_told_when_to_come_again(
    start: Callable[[], ModuleType],
    local: ModuleType,
    server: BedrockServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    All that such a function is for: answers, a 429, metrics, tags, and books that are the bill.
    """
    function = start()

    replies = [local.invoke(function, "ann") for _ in range(40)]
    other = local.invoke(function, "bob", "legal")
    out = printed(capsys)

    answered = [reply for reply in replies if reply["statusCode"] == 200]
    refused = replies[len(answered) :]
    assert len(answered) + 1 == server.bill.requests
    assert "answer" in json.loads(answered[0]["body"])
    assert {reply["statusCode"] for reply in refused} == {429}
    assert json.loads(refused[0]["body"]) == {
        "message": "The usage limit of this service is reached for now. Try again later."
    }
    assert 0 < int(refused[0]["headers"]["Retry-After"]) <= 86_400
    assert other["statusCode"] == 200

    guard = function.my_guard
    rows = {(row.budget, row.per): row for row in guard.status()}
    bill = Decimal(server.bill.nanousd).scaleb(-9)
    assert [row.pending for row in rows.values()] == [0] * 4
    assert (
        rows["chat-team", (("team", "search"),)].spent + rows["chat-team", (("team", "legal"),)].spent == bill
    )
    assert Decimal("0.02") < rows["chat-user", (("user", "ann"),)].spent < Decimal("0.03")
    entries = list(guard.entries(outcome="answered"))
    assert {(entry.tags["user"], entry.tags["team"]) for entry in entries} == {
        ("ann", "search"),
        ("bob", "legal"),
    }
    assert sum(entry.cost for entry in entries) == bill
    assert sum(entry.count for entry in guard.entries(outcome="refused")) == len(refused)

    metrics = [line for line in out if "_aws" in line]
    assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in metrics} == {"Chat"}
    assert sum(line.get("Refused", [0])[0] for line in metrics) == len(refused)
    assert sum(Decimal(str(line.get("CostUSD", [0])[0])) for line in metrics) == bill
    assert sum("ColdStart" in line for line in metrics) == 1
    logged = [line for line in out if line.get("message") == "refused"]
    assert len(logged) == len(refused)
    assert logged[0]["budget"] == "chat-user"
    assert logged[0]["tags"]["user"] == "ann"


def test_environments_share_the_budget_of_the_table(
    start: Callable[[], ModuleType], local: ModuleType, server: BedrockServer
) -> None:
    """
    Lambda starts as many as there are requests at a time; a budget for each would be none.
    """
    first, second = start(), start()

    answered = 0
    while local.invoke((first, second)[answered % 2], "ann")["statusCode"] == 200:
        answered += 1

    assert [local.invoke(each, "ann")["statusCode"] for each in (first, second)] == [429, 429]
    assert answered == server.bill.requests > 10
    assert second.my_guard.status()[0].pending == 0


def test_without_a_ledger_it_does_not_start(
    start: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The deployment fails, and says what to write; not the first call of the month that should have been refused.
    """
    monkeypatch.delenv("BEDROCK_GUARD_LEDGER")

    with pytest.raises(ConfigurationError, match="dynamodb://my-budgets"):
        start()
