"""
The command that makes a table, and the template that AWS makes it from.
"""

from __future__ import annotations

import json
import time

import dynamodb_engine
import pytest
from typer.testing import CliRunner

from bedrock_guard.cli import app
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import schema
from bedrock_guard.testing.ledger_calls import books, hold


def test_create_table_says_which_ledger_to_write() -> None:
    """
    The line it prints is the next thing a program needs.
    """
    endpoint, table = dynamodb_engine.endpoint(), f"made-{time.time_ns()}"
    arguments = ["dynamodb", "create-table", table, "--region", "us-east-1", "--endpoint-url", endpoint]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    ledger = open_ledger(done.output.split("'")[1], clock=time.time)
    hold(ledger, "one", 60)
    assert books(ledger) == (0, 60)
    ledger.close()
    assert CliRunner().invoke(app, arguments).exit_code == 0, "twice is once"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a b", "--region", "us-east-1"], 2, "names no table"),
        (["my-table"], 2, "You must specify a region"),
        (["my-table", "--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:9"], 1, "table my-table"),
    ],
)
def test_what_keeps_a_table_from_being_made_is_told(arguments: list[str], code: int, message: str) -> None:
    """
    Without a traceback, and with a code that a script can use.
    """
    done = CliRunner().invoke(app, ["dynamodb", "create-table", *arguments])

    assert done.exit_code == code
    assert message in done.output
    assert "Traceback" not in done.output


def test_the_template_is_a_table_as_create_table_makes_it_kept_whatever_happens_to_its_stack() -> None:
    """
    Who deletes a stack does not mean to forget what was spent.
    """
    done = CliRunner().invoke(app, ["dynamodb", "template", "budgets"])

    made = json.loads(done.output)["Resources"]
    table = made["Ledger"]["Properties"]
    assert {name: table[name] for name in schema.KEYS} == schema.KEYS
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert made["Ledger"]["DeletionPolicy"] == "Retain"
    assert {"WriterPolicy", "ReaderPolicy", "OperatorPolicy"} < set(made)
