"""
A process that calls Bedrock and tells alerts; the tests start it, watch it, and kill it.

    python alert_process.py COMMAND BEDROCK_URL LEDGER_URL CALLS

`exit` tells its alerts, `hang` and `wait` never come to the end of that; `wait` does not end by itself.
It prints a line for each alert.
"""

from __future__ import annotations

import os
import sys
import threading

import boto3

from bedrock_guard import Budget, Guard
from bedrock_guard.domain.alert import Alert

NOVA = "amazon.nova-lite-v1:0"
LIMIT = "80 requests/day"


def say(*words: object) -> None:
    """
    In one write, for threads share the pipe.
    """
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def tell(alert: Alert) -> None:
    say("told", alert.kind, alert.threshold, alert.id)


def hang(alert: Alert) -> None:
    say("hangs", alert.kind, alert.threshold, alert.id)
    threading.Event().wait()


def main(command: str, bedrock_url: str, ledger_url: str, calls: str) -> None:
    sink = tell if command == "exit" else hang
    guard = Guard(budgets=[Budget("all", LIMIT, alerts=(0.8,))], ledger=ledger_url, sinks=[sink])
    client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock_url))
    say("ready")
    sys.stdin.readline()
    for _ in range(int(calls)):
        client.converse(
            modelId=NOVA,
            messages=[{"role": "user", "content": [{"text": "hi"}]}],
            inferenceConfig={"maxTokens": 10},
        )
    say("called")
    if command == "wait":
        sys.stdin.readline()


main(*sys.argv[1:])
