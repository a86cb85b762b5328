"""
`bedrock-guard demo`, as a newcomer runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from bedrock_guard import Guard


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bedrock_guard", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=cwd,
    )


def test_the_demo_stops_the_incident_and_the_books_are_right(tmp_path: Path) -> None:
    """
    It is the first thing anyone sees, and its figures must be true.
    """
    done = run("demo", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    assert list(said) == [
        "calls",
        "refused",
        "limit_usd",
        "spent_usd",
        "server_billed_usd",
        "by_morning_usd",
        "ledger",
    ]
    assert (said["refused"], said["limit_usd"]) == (1, "5.00")
    assert said["spent_usd"] == said["server_billed_usd"]
    # The bound is four times the true input at most, so the last call is refused near the end.
    assert Decimal(4) < Decimal(said["spent_usd"]) <= Decimal(5)
    assert said["calls"] > 20
    # 6,000 turns of 6,000 to 150,000 tokens at 5.50 USD a million, and 200 out at 27.50
    assert Decimal(2_000) < Decimal(said["by_morning_usd"]) < Decimal(5_000)

    with Guard(budgets=["coding-agent: 5 USD/day"], ledger=said["ledger"]) as guard:
        answered = list(guard.entries(outcome="answered"))
        assert len(answered) == said["calls"]
        assert sum(entry.cost or 0 for entry in answered) == Decimal(said["spent_usd"])
        assert {entry.usage.get("cache_read_input_tokens", 0) for entry in answered} == {0}


def test_the_demo_prints_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    """
    In a log, a live view would be a page of control characters.
    """
    done = run("demo", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "BudgetExceeded: coding-agent (5 USD/day): the call may cost up to $" in done.stdout
    assert "(equal)" in done.stdout


def test_the_demo_needs_no_settings_of_the_users(tmp_path: Path) -> None:
    """
    A settings file that lies around must not change it.
    """
    (tmp_path / "bedrock-guard.toml").write_text("nonsense")

    assert run("demo", "--json", cwd=tmp_path).returncode == 0


def test_help_is_there(tmp_path: Path) -> None:
    """
    The first thing anyone types.
    """
    done = run("--help", cwd=tmp_path)

    assert done.returncode == 0
    assert "demo" in done.stdout
