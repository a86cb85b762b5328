"""
`bedrock-guard sweep`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import dynamodb_engine
import pytest
from journal import made_entry
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry
from bedrock_guard.ledgers import open_ledger

KEY = LedgerKey("search", "USD", (), 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """
    A ledger whose programs have died: two calls are overdue, and one may still be under way.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    ledger = open_ledger(url, clock=time.time)
    held: tuple[tuple[str, int, OnExpiry, float], ...] = (
        ("a", 30, "charge", -1.0),
        ("b", 5, "release", -1.0),
        ("c", 7, "charge", 900.0),
    )
    for id_, amount, on_expiry, hold_s in held:
        entry = made_entry(
            id_,
            at_s=time.time(),
            outcome="pending",
            attempts=(),
            cost_nanousd=0,
            estimated_cost_nanousd=amount,
        )
        ledger.reserve([Line(KEY, 100, amount)], entry=entry, hold_s=hold_s, on_expiry=on_expiry)
    ledger.close()
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *arguments])


def balance(url: str) -> tuple[int, int]:
    ledger = open_ledger(url, clock=time.time)
    (found,) = ledger.balances([KEY])
    ledger.close()
    return found.spent, found.pending


def test_calls_of_dead_processes_are_ended_each_by_its_own_rule(url: str) -> None:
    """
    What nobody uses is swept by nobody, and looks held for ever.
    """
    done = run("--ledger", url)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "Calls of dead processes that are ended: 2. Charged at the estimate: 1; given back: 1.\n"
    )
    assert balance(url) == (30, 7)
    assert run("--ledger", url).stdout == "Nothing is overdue.\n"


def test_a_dry_run_says_the_same_and_changes_nothing(url: str) -> None:
    """
    Whoever looks after others' money looks twice.
    """
    told = json.loads(run("--ledger", url, "--dry-run", "--json").stdout)
    assert told == {"ledger": url, "charged": 1, "released": 1, "damaged": 0, "dry_run": True}
    assert run("--ledger", url, "--dry-run").stdout.startswith(
        "Calls of dead processes that would be ended: 2."
    )
    assert balance(url) == (0, 42)

    done = json.loads(run("--ledger", url, "--json").stdout)
    assert done == told | {"dry_run": False}


@pytest.mark.parametrize("look", [["--dry-run"], []])
def test_a_call_whose_row_is_damaged_is_told(url: str, look: list[str]) -> None:
    """
    It is left as it is, so "done" would not be so.
    """
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE reservation SET lines = '[[1' WHERE id = 'a'")
    db.close()

    done = run("--ledger", url, *look)

    assert (done.exit_code, "Charged at the estimate: 0; given back: 1." in done.stdout) == (1, True)
    assert done.stderr.startswith("Overdue, and damaged: 1. What they hold stays pending;")
    if not look:
        again = run("--ledger", url)
        assert (again.exit_code, again.stdout) == (1, "Nothing that is overdue can be ended.\n")


def test_a_table_that_hosts_share_is_swept_too() -> None:
    """
    One that no program uses just now is where dead holds stay longest.
    """
    url = dynamodb_engine.table_url()
    ledger = open_ledger(url, clock=time.time)
    entry = made_entry("a", at_s=time.time() - 900, outcome="pending", attempts=(), cost_nanousd=0)
    ledger.reserve([Line(KEY, 100, 30)], entry=entry, hold_s=-600.0, on_expiry="charge")
    ledger.close()

    assert run("--ledger", url).stdout.startswith("Calls of dead processes that are ended: 1.")
    assert balance(url) == (30, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--ledger", "memory://"], 2, "is in the memory of a program; ask its Guard."),
        (["--ledger", "dynamodb://x", "--dry-run"], 2, "--dry-run is for sqlite:// ledgers"),
        (["--ledger", "sqlite:////nonexistent/ledger.db"], 1, "no program has used it yet"),
        (["--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
    ],
)
def test_what_cannot_be_swept_is_named(arguments: list[str], code: int, message: str) -> None:
    """
    A file that is mistyped must not be made, nor taken for one that is swept.
    """
    done = run(*arguments)

    assert done.exit_code == code
    assert message in done.stderr
