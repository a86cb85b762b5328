"""
Processes that share a budget on leases: to its very end, and killed on the way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dynamodb_engine
import leases_process
import pytest

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import LedgerKey, read_all_entries
from bedrock_guard.ledgers import open_ledger

PROCESS = Path(leases_process.__file__)


def start(url: str, limit: int, calls: int = 10**9) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    return subprocess.Popen(
        [sys.executable, PROCESS, f"{url}&mode=lease", str(limit), str(calls)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def in_table(url: str, key: LedgerKey) -> tuple[int, int, int]:
    ledger = open_ledger(url, clock=time.time)
    (balance,) = ledger.balances([key])
    ledger.close()
    return balance.spent, balance.pending, balance.leased


@pytest.mark.slow
def test_eight_processes_spend_a_budget_to_its_very_end() -> None:
    """
    What is left over is money that nobody can use.
    """
    url, limit = dynamodb_engine.table_url(), 800_000

    said = [told(process) for process in [start(url, limit) for _ in range(8)]]

    spent = sum(each["spent"] for each in said)
    sys.stdout.write(f"{said}\nspent {100 * spent / limit:.3f} %\n")
    assert spent <= limit
    assert spent >= 0.999 * limit
    for key in leases_process.KEYS:
        assert in_table(url, key) == (spent, 0, 0)
    ledger = open_ledger(url, clock=time.time)
    ids = [entry.id for entry in read_all_entries(ledger, EntryFilter())]
    assert len(ids) == len(set(ids)) == sum(each["admitted"] for each in said)
    ledger.close()


@pytest.mark.slow
def test_processes_that_are_killed_take_no_money_that_others_could_spend() -> None:
    """
    Their leases are charged whole: what they had spent, and what they had not, is gone for the others.
    """
    url, limit = dynamodb_engine.table_url(), 400_000
    killed = [start(url, limit) for _ in range(3)]
    living = [start(url, limit) for _ in range(2)]
    spent = 0
    for process in killed:
        time.sleep(1.0)
        process.kill()
        said, _ = process.communicate()
        spent += sum(int(line) for line in said.splitlines() if line.isdecimal())
    spent += sum(told(process)["spent"] for process in living)

    before = in_table(url, leases_process.KEYS[0])
    ledger = open_ledger(url, clock=time.time)
    ledger.close()
    late = open_ledger(f"{url}&mode=lease", clock=time.time)
    report = late.sweep(now=time.time() + 120)
    late.close()

    charged, pending, leased = in_table(url, leases_process.KEYS[0])
    assert spent <= sum(before) == charged <= limit
    assert (pending, leased) == (0, 0)
    assert report.charged <= 3
