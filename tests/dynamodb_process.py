"""
A process that spends a DynamoDB ledger's budget to its end; the tests start several at once.

    python dynamodb_process.py URL LIMIT

It prints how many calls it had admitted, and what they cost.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from bedrock_guard.domain.ledger import LedgerKey, Line, Refusal
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.ledger_calls import answered, open_entry

KEYS = [
    LedgerKey("all", "USD/month@UTC", (), 0),
    LedgerKey("team", "USD/day@UTC", (("team", "search"),), 0),
]


def main() -> None:
    url, limit = sys.argv[1], int(sys.argv[2])
    ledger = open_ledger(url, clock=time.time)
    chance = random.Random(os.getpid())
    admitted = spent = refused = 0
    while refused < 3:
        entry_id = f"{int(time.time() * 1000):011x}-{os.urandom(8).hex()}"
        # The first budget binds; whole tens, so that it can be used up to the last unit.
        amount = 10 * chance.randint(1, 3) if refused == 0 else 10
        answer = ledger.reserve(
            [Line(KEYS[0], limit, amount), Line(KEYS[1], 10 * limit, amount)],
            entry=open_entry(entry_id, at_s=time.time()),
            hold_s=300,
            on_expiry="charge",
        )
        if isinstance(answer, Refusal):
            refused += 1
            time.sleep(0.05 * refused)  # what others hold may come back
            continue
        cost = 10 * chance.randint(0, amount // 10)
        ledger.settle(answer, dict.fromkeys(KEYS, cost), answered(entry_id, at_s=time.time()))
        admitted, spent = admitted + 1, spent + cost
    ledger.close()
    sys.stdout.write(json.dumps([admitted, spent]))


if __name__ == "__main__":
    main()
