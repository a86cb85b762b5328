"""
What leases cost: microseconds of a call, write units, requests.

    pytest -m benchmark -s tests/benchmarks/test_leases.py

Figures are printed, never asserted.
"""

from __future__ import annotations

import os
import statistics
import time

import dynamodb_engine
import leases_process
import pytest
from dynamodb_faults import Watched

from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.testing.ledger_calls import answered, open_entry

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("calls", [1, 10, 100, 1000, 2000, 10_000])
def test_what_calls_of_one_process_cost(calls: int) -> None:
    """
    Four budgets with room; opened, and closed again.
    """
    lines = [Line(key, 10**12, 60_000) for key in leases_process.KEYS]
    ledger = LeasedLedger(read_address(dynamodb_engine.table_url()), clock=time.time, keeps_itself=False)
    watched = Watched(ledger)  # type: ignore[arg-type]
    entries = [
        open_entry(f"{int(time.time() * 1000):011x}-{os.urandom(8).hex()}", at_s=time.time())
        for _ in range(calls)
    ]
    ends = [answered(entry.id, at_s=entry.at_s, duration_ms=number) for number, entry in enumerate(entries)]
    amounts = dict.fromkeys(leases_process.KEYS, 40_000)
    times, asked = [], 0
    for entry, end in zip(entries, ends, strict=True):
        before, began = len(watched.sent), time.perf_counter()
        answer = ledger.reserve(lines, entry=entry, hold_s=300, on_expiry="charge", controls=0)
        assert isinstance(answer, Reservation)
        ledger.settle(answer, amounts, end)
        times.append(time.perf_counter() - began)
        asked += len(watched.sent) > before
    before_entries = watched.capacity
    with ledger._desk.turn() as turn:
        ledger._journal.write(turn)
    entries_cost = watched.capacity - before_entries
    ledger.close()

    print(
        f"\n  {calls:>6} calls: {statistics.median(times) * 1e6:7.1f} us, {100 * (1 - asked / calls):6.2f} % without a request, "
        f"{(watched.capacity - entries_cost) / calls:7.3f} write units a call for balances, {entries_cost / calls:6.3f} for "
        f"entries, {len(watched.sent) / calls:6.3f} requests"
    )
