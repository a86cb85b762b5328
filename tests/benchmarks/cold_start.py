"""
What a new environment of a Lambda function does, timed: `python cold_start.py LEDGER_URL BEDROCK_URL`.

Prints, as JSON, how long each step took, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

TIMES: dict[str, float] = {}


def timed(name: str, work: Callable[[], object]) -> object:
    began = time.perf_counter()
    result = work()
    TIMES[name] = time.perf_counter() - began
    return result


def main(ledger: str, bedrock: str) -> None:
    timed("import boto3", lambda: __import__("boto3"))
    timed("import bedrock_guard", lambda: __import__("bedrock_guard"))
    from bedrock_guard import Guard
    from bedrock_guard.ledgers.dynamodb import schema
    from bedrock_guard.ledgers.dynamodb.clients import Clients

    prepare, connect = Clients.prepare, schema._read
    Clients.prepare = lambda self: timed("DynamoDB clients", lambda: prepare(self))  # type: ignore[method-assign]
    schema._read = lambda *args: timed("first connection", lambda: connect(*args))  # type: ignore[assignment]
    guard = timed("Guard(...)", lambda: Guard(budget="chat: 5 USD/day", ledger=ledger))
    assert isinstance(guard, Guard)
    client = guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock)
    request = {
        "modelId": "us.amazon.nova-lite-v1:0",
        "messages": [{"role": "user", "content": [{"text": "Say hello."}]}],
        "inferenceConfig": {"maxTokens": 50},
    }
    for name in ("first", "second"):
        hold = guard.hold("Converse", request, region="us-east-1")
        timed(f"{name} reserve", hold.__enter__)
        hold.rejected()
        timed(f"{name} call", lambda: client.converse(**request))
    print(json.dumps(TIMES))


if __name__ == "__main__":
    main(*sys.argv[1:])
