"""
A process that uses a SQLite ledger; the tests start it, watch it, and kill it.

    python sqlite_process.py COMMAND URL

It prints a line for each thing that the ledger has acknowledged.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path

from bedrock_guard.domain.ledger import Ledger, Refusal
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import open_ledger, sqlite  # noqa: F401 - imported while it may still be read
from bedrock_guard.testing.ledger_calls import hold, reserve, settle

LIMIT = 2000
NOBODY = 65_534


def say(*words: object) -> None:
    """
    In one write, for threads and forks share the pipe.
    """
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def spend_all(ledger: Ledger) -> None:
    """
    Reserve and settle 10 at a time until the budget is gone.
    """
    say("ready")
    sys.stdin.readline()
    for number in range(10_000):
        reservation = reserve(ledger, f"{os.getpid()}-{number}", 10, limit=LIMIT)
        if isinstance(reservation, Refusal):
            return
        say("admitted")
        if number % 2:
            settle(ledger, reservation, 10)


def call_for_ever(ledger: Ledger) -> None:
    """
    Reserve 10, settle 4, tell of both, until killed.
    """
    for number in range(10**9):
        name = f"{os.getpid()}-{number}"
        reservation = hold(ledger, name, 10, limit=None)
        say("reserved", name)
        settle(ledger, reservation, 4)
        say("settled", name)


def fork_while_busy(ledger: Ledger) -> None:
    """
    Fork five times while threads are inside the ledger; each child reserves 10, too.
    """
    is_over = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not is_over.is_set() and number < 10_000:
            hold(ledger, f"{thread}-{number}", 10, limit=None)
            number += 1
            say("admitted")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        child = os.fork()
        if not child:
            hold(ledger, f"child-{number}", 10, limit=None)
            say("admitted")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say("child ended", status)
    is_over.set()
    for thread in threads:
        thread.join()


def write_until_full(ledger: Ledger) -> None:
    """
    Reserve 10 on a disk that has room for a few more pages; then on one that has room again.
    """
    hold(ledger, "before", 10, limit=None)
    say("admitted")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path(f"{ledger.path}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, hard))
    try:
        for number in range(1000):
            hold(ledger, f"{number}", 10, limit=None)
            say("admitted")
    except LedgerUnavailable as error:
        say("unavailable", error.outcome, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    hold(ledger, "after", 10, limit=None)
    say("admitted")


def try_once(ledger: Ledger) -> None:
    """
    Reserve 10, as a user whom permissions bind.
    """
    hold(ledger, "one", 10)
    say("admitted")


def main(command: str, url: str) -> None:
    if command == "try_once" and os.geteuid() == 0:  # permissions do not bind root
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        ledger = open_ledger(url, clock=time.time)
        globals()[command](ledger)
        ledger.close()
    except LedgerUnavailable as error:
        say("unavailable", error.outcome, error)


if __name__ == "__main__":
    main(*sys.argv[1:])
