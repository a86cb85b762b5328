"""
What leases cost, as one table: microseconds of a call, write units, requests, and what is left of a budget.

    pytest -m benchmark -s tests/benchmarks/test_leases.py

Figures that are counted are asserted as they are promised. Those in microseconds are asserted with room, for
machines differ. They are of the calling thread's processor time, which calls that wait for nothing are, and
what else the machine does is not; and taken in turn with what they are compared with.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import dynamodb_engine
import leases_process
import pytest
from dynamodb_faults import Watched

from bedrock_guard import Guard
from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.testing.ledger_calls import answered, open_entry

from .test_overhead import BUDGETS, REQUEST, answer_in_process, make_client

pytestmark = pytest.mark.benchmark

# What a slow machine, or a busy one, may take of what is promised in microseconds.
ROOM: Final = 4.0
LOCAL_US: Final = 10.0
CALL_US: Final = 50.0
# What leases may take of what the ledger in memory takes: the same machine, and the same noise.
MEMORY_TIMES: Final = 1.25
ROUNDS: Final = 2000
WARM: Final = 100


class Row(NamedTuple):
    """
    A figure, and what it must reach.
    """

    what: str
    figure: str
    must: str


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """
    What was measured; printed as one table at the end.
    """
    rows: list[Row] = []
    yield rows
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print("\n")
    for row in rows:
        print("  " + "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


class Cost(NamedTuple):
    """
    What calls of one process cost, opened and closed.
    """

    without_request: float
    balances: float
    entries: float
    requests: float


def cost_of(calls: int) -> Cost:
    """
    Four budgets with room.
    """
    lines = [Line(key, 10**12, 60_000) for key in leases_process.KEYS]
    ledger = LeasedLedger(read_address(dynamodb_engine.table_url()), clock=time.time, keeps_itself=False)
    watched = Watched(ledger)  # type: ignore[arg-type]
    asked = 0
    for number in range(calls):
        before = len(watched.sent)
        make_call(ledger, lines, number)
        asked += len(watched.sent) > before
    before_entries = watched.capacity
    with ledger._desk.turn() as turn:
        ledger._journal.write(turn)
    entries = watched.capacity - before_entries
    ledger.close()
    return Cost(
        1 - asked / calls, (watched.capacity - entries) / calls, entries / calls, len(watched.sent) / calls
    )


def make_call(ledger: Any, lines: list[Line], number: int) -> float:
    """
    Reserve and settle; the seconds it took.
    """
    entry = open_entry(f"{int(time.time() * 1000):011x}-{os.urandom(8).hex()}", at_s=time.time())
    end = answered(entry.id, at_s=entry.at_s, duration_ms=number)
    amounts = {line.key: 40_000 for line in lines}
    began = time.thread_time()
    answer = ledger.reserve(lines, entry=entry, hold_s=300, on_expiry="charge", controls=0)
    ledger.settle(answer, amounts, end)
    took = time.thread_time() - began
    assert isinstance(answer, Reservation)
    return took


@pytest.mark.parametrize("calls", [1, 10, 100, 1000, 2000, 10_000])
def test_what_calls_of_one_process_cost(calls: int, table: list[Row]) -> None:
    cost = cost_of(calls)

    said = (
        f"{100 * cost.without_request:.2f} % ask nobody; {cost.balances:.3f} + {cost.entries:.3f} write units, "
        f"{cost.requests:.3f} requests a call"
    )
    must = {1000: ">= 98 % ask nobody", 2000: "<= 0.2 + 0.1 write units"}
    table.append(Row(f"{calls} calls, 4 budgets", said, must.get(calls, "")))
    if calls >= 1000:
        assert cost.without_request >= 0.98
    if calls >= 2000:
        assert cost.balances <= 0.2
        assert cost.entries <= 0.1


def test_what_eight_processes_leave_of_a_budget(table: list[Row]) -> None:
    """
    Each until nobody else gives anything back; 8,000 calls' worth.
    """
    url, limit = dynamodb_engine.table_url(), 8_000 * 100
    command = [sys.executable, leases_process.__file__, f"{url}&mode=lease", str(limit), str(10**9)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(8)
    ]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    ledger = open_ledger(url, clock=time.time)
    (balance,) = ledger.balances(leases_process.KEYS[:1])
    ledger.close()

    share = f"{100 * balance.spent / limit:.3f} % spent"
    table.append(Row("8 processes, to a budget's end", share, ">= 99.9 %, and no more than 100"))
    assert 0.999 * limit <= balance.spent <= limit
    assert (balance.pending, balance.leased) == (0, 0)


def test_what_a_local_call_takes(table: list[Row]) -> None:
    """
    Reserve and settle with four budgets, in turn with the ledger in memory.
    """
    lines = [Line(key, 10**13, 60_000) for key in leases_process.KEYS]
    ledgers = {
        "memory": open_ledger("memory://", clock=time.time),
        "leases": open_ledger(f"{dynamodb_engine.table_url()}&mode=lease", clock=time.time),
    }
    times: dict[str, list[float]] = {name: [] for name in ledgers}
    for number in range(ROUNDS):
        for name, ledger in ledgers.items():
            times[name].append(make_call(ledger, lines, number))
    for ledger in ledgers.values():
        ledger.close()
    for name, took in times.items():
        must = f"<= {LOCAL_US:g} us" if name == "leases" else ""
        said = f"{1e6 * statistics.median(took):.1f} us median, {1e6 * lowest(took):.1f} us lowest tenth"
        table.append(Row(f"reserve + settle, 4 budgets, {name}", said, must))
    assert 1e6 * lowest(times["leases"]) <= ROOM * LOCAL_US
    assert lowest(times["leases"]) <= MEMORY_TIMES * lowest(times["memory"])


def test_what_a_guarded_call_takes(table: list[Row]) -> None:
    """
    A Converse of 2 KB with three budgets, answered where it would be sent; in turn with a client that is not
    guarded.
    """
    clients = {name: make_client("http://127.0.0.1:9") for name in ("bare", "memory", "leases")}
    urls = {"memory": "memory://", "leases": f"{dynamodb_engine.table_url()}&mode=lease"}
    guards = {name: Guard(budgets=BUDGETS, ledger=url) for name, url in urls.items()}
    for name, guard in guards.items():
        guard.attach(clients[name])
    for client in clients.values():
        answer_in_process(client)
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(WARM + ROUNDS):
        for name, client in clients.items():
            took = duration(client)
            if number >= WARM:
                times[name].append(took)
    low: dict[str, float] = {}
    for name, guard in guards.items():
        guard.close()
        added = [1e6 * (own - bare) for own, bare in zip(times[name], times["bare"], strict=True)]
        low[name] = 1e6 * (lowest(times[name]) - lowest(times["bare"]))
        said = f"{statistics.median(added):.1f} us added, median; {low[name]:.1f} us between lowest tenths"
        must = f"<= {CALL_US:g} us" if name == "leases" else ""
        table.append(Row(f"a guarded call, 3 budgets, {name}", said, must))
    assert low["leases"] <= ROOM * CALL_US
    assert low["leases"] <= MEMORY_TIMES * low["memory"]


def duration(client: Any) -> float:
    began = time.thread_time()
    client.converse(**REQUEST)
    return time.thread_time() - began


def lowest(times: list[float]) -> float:
    """
    What a tenth of *times* is below: of the calls that nothing came in between of.
    """
    return statistics.quantiles(times, n=10)[0]
