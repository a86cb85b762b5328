"""
A process that spends a budget on leases; the tests start several at once.

    python leases_process.py URL LIMIT CALLS

Until it is refused for seconds, or after so many calls. It prints what became of them, a line of JSON; with
each call's cost before, so that a process that is killed has told what it spent.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

import dynamodb_engine  # noqa: F401 - each request is one that real DynamoDB takes
from dynamodb_faults import Watched

from bedrock_guard.domain.ledger import LedgerKey, Line, Refusal
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.ledger_calls import answered, open_entry

KEYS = [LedgerKey(name, "USD/day@UTC", (), 0) for name in ("org", "team", "model", "user")]
# How long a process asks on that is refused: longer than others keep what they do not use.
PATIENCE_S = 8.0


def main() -> None:
    url, limit, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ledger = open_ledger(url, clock=time.time)
    watched = Watched(ledger)  # type: ignore[arg-type]
    chance = random.Random(os.getpid())
    lines = [Line(key, limit * (1 if key is KEYS[0] else 100), 100) for key in KEYS]
    admitted = spent = asked = 0
    refused_at: float | None = None
    while admitted < most and (refused_at is None or time.monotonic() - refused_at < PATIENCE_S):
        entry_id = f"{int(time.time() * 1000):011x}-{os.urandom(8).hex()}"
        entry = open_entry(entry_id, at_s=time.time())
        before = len(watched.sent)
        answer = ledger.reserve(lines, entry=entry, hold_s=300, on_expiry="charge", controls=0)
        asked += len(watched.sent) > before
        if isinstance(answer, Refusal):
            refused_at = refused_at or time.monotonic()
            time.sleep(0.1)
            continue
        refused_at = None
        cost = chance.randint(50, 100) // 10 * 10
        sys.stdout.write(f"{cost}\n")
        sys.stdout.flush()
        ledger.settle(answer, dict.fromkeys(KEYS, cost), answered(entry_id, at_s=entry.at_s))  # type: ignore[union-attr]
        admitted, spent = admitted + 1, spent + cost
    ledger.close()
    told = {"admitted": admitted, "spent": spent, "asked": asked, "capacity": watched.capacity}
    sys.stdout.write(json.dumps({**told, "requests": len(watched.sent)}) + "\n")


if __name__ == "__main__":
    main()
