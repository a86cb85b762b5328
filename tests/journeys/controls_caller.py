"""
A process that makes a call when it is told to, on a clock that it is told; it prints what the call came to.

    python controls_caller.py URL
"""

from __future__ import annotations

import sys
import time

from bedrock_guard import Guard, GuardError

PARAMS = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}


def main() -> None:
    began = time.time()
    now = [began]
    with Guard(budgets=["day: 5 USD/day"], ledger=sys.argv[1], settings={}, clock=lambda: now[0]) as guard:
        for line in sys.stdin:
            now[0] = began + float(line)
            try:
                with guard.hold("Converse", PARAMS, region="us-east-1") as hold:
                    hold.rejected()
                    said = "held"
            except GuardError as error:
                said = type(error).__name__
            sys.stdout.write(f"{said}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
