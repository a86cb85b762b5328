"""
Writers that are there to be killed: forks that make guarded calls, and tell of each that returned.

    python crash_writer.py '{"server": URL, "ledger": URL, "limit": LIMIT, "hold_s": SECONDS, "calls": …}'

A process of its own takes a second to import boto3; a fork of one that has, next to nothing.
Commands come a line each, and so goes what is told:

    start SEED POT FUSE  ->  born PID FUSE
    bury PID             ->  buried PID EXIT_CODE
                             settled PID ID COST POT    by the fork itself, before its next call
                             dying PID                  by the fork itself, with its last breath

With a FUSE above 0 a fork kills itself at that step inside the ledger's code; from outside, no
clock hits the gap between two statements often enough.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
from botocore.config import Config

from bedrock_guard import Budget, BudgetExceeded, Guard, guarded_client, ledgers, scope

Work = dict[str, Any]

LEDGERS = str(Path(ledgers.__file__).parent)


def tell(*words: object) -> None:
    """
    In one write: all forks share the pipe, and what has been told outlives who told it.
    """
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def light(fuse: int) -> None:
    """
    Die when the ledger's code has called, or returned from, so many functions.
    """
    left = fuse

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if not frame.f_code.co_filename.startswith(LEDGERS):
            return
        left -= 1
        if left == 0:
            tell("dying", os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def write_until_killed(work: Work, *, seed: int, pot: int, fuse: int) -> None:
    """
    Call, tell, and call again; from the next pot when one is used up.
    """
    choose = random.Random(seed)
    client = guarded_client(
        budgets=[Budget("pot", work["limit"], per="pot")],
        ledger=work["ledger"],
        settings={"hold_s": work["hold_s"]},
        region_name="us-east-1",
        endpoint_url=work["server"],
        config=Config(retries={"mode": "standard"}),
    )
    if fuse:
        light(fuse)
    while True:
        method = choose.choice(sorted(work["calls"]))
        try:
            with scope(pot=f"{pot:04}") as tally:
                reply = getattr(client, method)(**work["calls"][method])
                for part in ("stream", "body"):
                    for _ in reply.get(part, ()):
                        pass
        except BudgetExceeded:
            pot += 1
            continue
        said = reply["ResponseMetadata"]["BedrockGuard"]
        tell("settled", os.getpid(), said["ReservationId"], said.get("CostUSD", tally.cost), pot)


def start(work: Work, seed: int, pot: int, fuse: int) -> None:
    """
    Fork a writer.
    """
    process = os.fork()
    if process:
        tell("born", process, fuse)
        return
    try:
        write_until_killed(work, seed=seed, pot=pot, fuse=fuse)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def bury(process: int) -> None:
    """
    Take leave of a writer: until then nobody else gets its id.
    """
    _, status = os.waitpid(process, 0)
    tell("buried", process, os.waitstatus_to_exitcode(status))


def main(work: Work) -> None:
    # What every writer would otherwise load by itself.
    boto3.client("bedrock-runtime", region_name="us-east-1").close()
    Guard(budget="1 USD", ledger="memory://").close()
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "start":
            start(work, *map(int, numbers))
        else:
            bury(int(numbers[0]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
