"""
Processes that share a budget on leases: to its very end, and killed on the way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamodb_engine
import leases_process
import pytest

from bedrock_guard import Budget, BudgetExceeded
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Balance, LedgerKey, read_all_entries
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers import leased, open_ledger
from bedrock_guard.testing.ledger_calls import DAY

from .conftest import HELLO, Guarded, eventually

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


# A guard on leases


def test_a_guarded_client_on_leases_is_charged_as_ever(make_guarded: Callable[..., Guarded]) -> None:
    """
    What is spent, who spent it, and the end of the budget: all the same, in one process and for the next.
    """
    url = dynamodb_engine.table_url()
    guarded = make_guarded(budgets=["day: 1 USD/day", "calls: 20 requests/day"], ledger=f"{url}&mode=lease")
    for _ in range(20):
        guarded.client.converse(**HELLO)

    with pytest.raises(BudgetExceeded, match="calls"):
        guarded.client.converse(**HELLO)

    assert guarded.guard.flush(20)
    rows = {row.budget: row for row in guarded.guard.status()}
    assert (rows["calls"].spent, rows["calls"].pending, rows["calls"].remaining) == (20, 0, 0)
    answered = list(guarded.guard.entries(outcome="answered"))
    assert len(answered) == 20
    assert rows["day"].spent == sum(entry.cost or 0 for entry in answered) > 0
    assert [entry.count for entry in guarded.guard.entries(outcome="refused")] == [1]
    other = make_guarded(budgets=["day: 1 USD/day", "calls: 20 requests/day"], ledger=url)
    seen = {row.budget: row for row in other.guard.status()}
    assert (seen["calls"].spent, seen["day"].spent) == (20, rows["day"].spent)


def test_calls_without_budgets_leave_their_entries(make_guarded: Callable[..., Guarded]) -> None:
    """
    Record only takes no slices, and has a journal.
    """
    url = dynamodb_engine.table_url()
    guarded = make_guarded(budgets=[], ledger=f"{url}&mode=lease")
    guarded.client.converse(**HELLO)
    assert guarded.guard.ledger._thread._thread is not None, "nobody would write it before the process ends"

    assert guarded.guard.flush(20)

    assert len(list(make_guarded(budgets=[], ledger=url).guard.entries())) == 1


def test_a_threshold_that_two_processes_reach_together_is_told(
    make_guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Neither has reached it alone, and neither makes another call.
    """
    told: list[str] = []
    url = f"{dynamodb_engine.table_url()}&mode=lease"
    guards = [
        make_guarded(
            budgets=[Budget("calls", limit="20 requests/day", alerts=(0.5,))], ledger=url, sinks=[told.append]
        )
        for _ in range(2)
    ]
    for guarded in guards:
        for _ in range(5):
            guarded.client.converse(**HELLO)

    assert all(guarded.guard.flush(20) for guarded in guards)

    eventually(lambda: len(told) == 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("way", ["exit", "sigterm", "dropped"])
def test_a_process_that_goes_gives_back_what_it_leased(way: str) -> None:
    """
    Who closes nothing, and who is told to go by an orchestrator, must not be charged for it.
    """
    url = dynamodb_engine.table_url()
    program = f"""
import gc, os, signal, sys, time
import dynamodb_engine
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.leases import keeper
from bedrock_guard.testing.ledger_calls import hold, settle
keeper.IDLE_S = 0.1
ledger = open_ledger({url!r} + "&mode=lease", clock=time.time)
for number in range(5):
    settle(ledger, hold(ledger, str(number), 10, limit=10_000), 4)
way = {way!r}
if way == "sigterm":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
if way == "dropped":
    table = ledger._exact
    del ledger
    gc.collect()
    end = time.time() + 20
    from bedrock_guard.testing.ledger_calls import DAY
    while table.balances([DAY])[0].leased and time.time() < end:
        time.sleep(0.1)
    os._exit(0)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=100, check=False)

    assert done.returncode == {"exit": 0, "sigterm": -signal.SIGTERM, "dropped": 0}[way]
    ledger = open_ledger(url, clock=time.time)
    assert ledger.balances([DAY]) == [Balance(DAY, 20)]
    ledger.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no forks there")
@pytest.mark.parametrize("opens", ["parent", "child"])
def test_a_worker_of_multiprocessing_gives_back_what_it_leased(opens: str) -> None:
    """
    Such a process ends without `atexit`: it would be charged for its slice, and its entries would be lost.
    """
    url = dynamodb_engine.table_url()
    program = f"""
import multiprocessing, threading, time
import dynamodb_engine
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.ledger_calls import hold, settle
opened = open_ledger({url!r} + "&mode=lease", clock=time.time) if {opens!r} == "parent" else None
def work():
    global ledger
    ledger = opened or open_ledger({url!r} + "&mode=lease", clock=time.time)
    held = hold(ledger, "one", 10, limit=10_000)
    worker = threading.Thread(target=lambda: (time.sleep(0.2), settle(ledger, held, 4)))
    worker.start()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=100, check=True)

    ledger = open_ledger(url, clock=time.time)
    assert ledger.balances([DAY]) == [Balance(DAY, 4)]
    assert [entry.id for entry in read_all_entries(ledger, EntryFilter())] == ["one"]
    ledger.close()


def test_a_lambda_function_without_an_extension_is_told_why_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Its environments end without a word, and every one would leave its leases to be charged.
    """
    url = f"{dynamodb_engine.table_url()}&mode=lease"
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "answer")
    monkeypatch.setattr(leased, "EXTENSIONS", tmp_path)
    with pytest.raises(ConfigurationError, match="not for a Lambda function without an extension"):
        open_ledger(url, clock=time.time)

    (tmp_path / "insights").touch()
    open_ledger(url, clock=time.time).close()
