"""
A process that calls Bedrock and tells alerts; the tests start it, watch it, and kill it.

    python alert_process.py COMMAND BEDROCK_URL LEDGER_URL CALLS

`exit` tells its alerts, `hang` and `wait` never come to the end of that; `wait` does not end by itself.
`eight` is eight processes, forks of one, that each do as `exit` does. A line is printed for each alert.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import boto3

from bedrock_guard import Budget, Guard
from bedrock_guard.domain.alert import Alert

NOVA = "amazon.nova-lite-v1:0"
LIMIT = "25 requests/day"


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
    if command == "eight":
        fork_eight(bedrock_url, ledger_url, calls)
        return
    client = make_client(bedrock_url, ledger_url, hangs=command != "exit")
    say("ready")
    sys.stdin.readline()
    call(client, calls)
    if command == "wait":
        sys.stdin.readline()


def fork_eight(bedrock_url: str, ledger_url: str, calls: str) -> None:
    """
    Forked before there is a guard or a thread, they share nothing but what is imported, and botocore's models.
    """
    boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock_url)
    begins, begin = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os.close(begin)
            client = make_client(bedrock_url, ledger_url, hangs=False)
            os.read(begins, 1)  # until the parent closes it
            call(client, calls)
            return
        children.append(child)
    say("ready")
    sys.stdin.readline()
    os.close(begin)
    sys.exit(max(os.waitpid(child, 0)[1] for child in children))


def make_client(bedrock_url: str, ledger_url: str, *, hangs: bool) -> Any:
    sink = hang if hangs else tell
    guard = Guard(budgets=[Budget("all", LIMIT, alerts=(0.8,))], ledger=ledger_url, sinks=[sink])
    return guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock_url))


def call(client: Any, calls: str) -> None:
    for _ in range(int(calls)):
        client.converse(
            modelId=NOVA,
            messages=[{"role": "user", "content": [{"text": "hi"}]}],
            inferenceConfig={"maxTokens": 10},
        )
    say("called")


main(*sys.argv[1:])
