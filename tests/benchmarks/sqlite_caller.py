"""
A process that makes calls on a SQLite ledger as fast as it can, and tells how it went.

    python sqlite_caller.py URL SECONDS

A call is a reserve and a settle over four budgets, with an entry as a real call has one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, Reservation
from bedrock_guard.ledgers import open_ledger

BUDGETS = [
    LedgerKey("day", "USD/day@UTC", (), 1_800_000_000),
    LedgerKey("month", "USD/month@UTC", (), 1_799_971_200),
    LedgerKey("teams", "USD/month@UTC", (("team", "search"),), 1_799_971_200),
    LedgerKey("calls", "requests/day@UTC", (), 1_800_000_000),
]
LINES = [Line(key, 10**15, 60_000) for key in BUDGETS]
AMOUNTS = dict.fromkeys(BUDGETS, 40_000)
USAGE = {"input_tokens": 600, "output_tokens": 200}
ANSWERED: dict[str, Any] = {
    "outcome": "answered",
    "usage": USAGE,
    "reported_usage": USAGE,
    "cost_nanousd": 40_000,
    "duration_ms": 1200,
    "attempts": (Attempt("answered", 200, usage=USAGE, cost_nanousd=40_000),),
}


def open_entry(entry_id: str) -> Entry:
    return Entry.opened(
        {
            "id": entry_id,
            "at_s": time.time(),
            "operation": "Converse",
            "model_id": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "model": "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "family": "anthropic",
            "region": "us-east-1",
            "service_tier": "default",
            "latency": "standard",
            "tags": {"team": "search", "bedrock_guard.program": "worker"},
            "estimated_cost_nanousd": 60_000,
        }
    )


def main(url: str, seconds: float) -> None:
    ledger = open_ledger(url, clock=time.time)
    print("ready", flush=True)
    sys.stdin.readline()
    waits: list[float] = []
    clock = time.perf_counter
    now = clock()
    end = now + seconds
    while now < end:
        # As a guard names its calls: by their time.
        entry = open_entry(f"{int(time.time() * 1000):011x}-{os.urandom(8).hex()}")
        before = clock()
        reservation = ledger.reserve(LINES, entry=entry, hold_s=300, on_expiry="charge")
        between = clock()
        assert isinstance(reservation, Reservation)
        ledger.settle(reservation, AMOUNTS, entry.changed(**ANSWERED))
        now = clock()
        waits += [between - before, now - between]
    ledger.close()
    print(json.dumps(waits))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
