"""
`kill -9`, again and again, of processes that share one SQLite file.

The writers are guarded clients against a loopback Bedrock. Each tells of a call as soon as it
has returned; what was told must be in the books, once, whatever became of who told it.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Budget, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, RATES
from .fault_cells import INVOKE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and kill are POSIX")

PROGRAM = Path(__file__).with_name("crash_writer.py")
KILLS = "BEDROCK_GUARD_TEST_KILLS"
WRITERS = 4
FOR_EVER = 10**9
# Ten calls in flight fill it, or some twenty-five that are settled: they may write 100 tokens, and write 40.
LIMIT = "0.02 USD"
LIMIT_NANOUSD = 20_000_000
POT = Budget("pot", LIMIT, per="pot")
# So short that sweeps end the holds of the dead while others write, and of the slow, who come late.
HOLD_S = 0.5
# A call takes some milliseconds: a kill may come anywhere in it.
MOST_CALLS, MOST_DELAY_S = 8, 0.015
# The ledger's code takes some hundred steps for a call.
MOST_STEPS = 1000
CALLS: dict[str, Any] = {
    "converse": HELLO,
    "converse_stream": HELLO,
    "invoke_model": INVOKE,
    "invoke_model_with_response_stream": INVOKE,
}


class Reader(threading.Thread):
    """
    Reads every balance and sweeps, for as long as others write.
    """

    def __init__(self, ledger: str) -> None:
        super().__init__()
        self._ledger = ledger
        self._is_over = threading.Event()
        self.reads = 0
        self.over: list[Any] = []

    def run(self) -> None:
        with Guard(budgets=[POT], ledger=self._ledger) as guard:
            while not self._is_over.wait(0.001):
                self.over += [row for row in guard.status() if row.spent + row.pending > row.limit]
                self.reads += 1
                guard.sweep()

    def stop(self) -> None:
        self._is_over.set()
        self.join()


class Writers:
    """
    The forks that are alive, and what all of them have told.

    Attributes:
        settled: Id and cost of each call that returned, in the order in which it was told.
        exit_codes: How often a fork ended so; a signal is below 0.
        pot: The last that anybody has paid from.
    """

    def __init__(self, program: subprocess.Popen[str], choose: random.Random) -> None:
        self.settled: list[tuple[str, Decimal]] = []
        self.exit_codes: Counter[int] = Counter()
        self.pot = 0
        self._program = program
        self._choose = choose
        self._calls_left: dict[int, int] = {}
        self._lines: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def kill(self, kills: int) -> None:
        """
        Keep writers alive, each until a moment of its own, until so many have been killed.
        """
        for _ in range(WRITERS):
            self._start()
        started, buried = WRITERS, 0
        while buried < kills:
            word, *numbers = self._lines.get(timeout=60)
            if word == "born":
                is_fused = int(numbers[1]) > 0
                self._calls_left[int(numbers[0])] = (
                    FOR_EVER if is_fused else self._choose.randint(0, MOST_CALLS)
                )
            elif word == "settled":
                self._note(*numbers)
            elif word == "dying":
                self._calls_left[int(numbers[0])] = 0
            else:
                assert word == "buried", "the writers' parent has died"
                self.exit_codes[int(numbers[1])] += 1
                buried += 1
            for process in [each for each, left in self._calls_left.items() if left <= 0]:
                self._kill_one(process)
                if started < kills:
                    self._start()
                    started += 1

    def end(self) -> None:
        """
        Leave nobody behind, not even when a test fails.
        """
        for process in self._calls_left:
            os.kill(process, signal.SIGKILL)
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(60)
        self._listener.join(60)

    def _start(self) -> None:
        fuse = self._choose.choice([0, self._choose.randint(1, MOST_STEPS)])
        self._say("start", self._choose.randrange(10**9), self.pot, fuse)

    def _kill_one(self, process: int) -> None:
        time.sleep(self._choose.uniform(0, MOST_DELAY_S))
        os.kill(process, signal.SIGKILL)
        del self._calls_left[process]
        self._say("bury", process)

    def _note(self, process: str, entry_id: str, cost: str, pot: str) -> None:
        self.settled.append((entry_id, Decimal(cost)))
        self.pot = max(self.pot, int(pot))
        if int(process) in self._calls_left:  # else it was told just before the kill
            self._calls_left[int(process)] -= 1

    def _say(self, *words: object) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write(" ".join(map(str, words)) + "\n")
        self._program.stdin.flush()

    def _listen(self) -> None:
        assert self._program.stdout is not None
        with self._program.stdout as lines:
            for line in lines:
                self._lines.put(line.split())
        self._lines.put(["over"])


def run_and_kill(ledger: str, *, kills: int, seed: int) -> tuple[Writers, Reader, BedrockServer]:
    """
    Everything that happens before the books are looked at.
    """
    with BedrockServer(RATES, output_tokens=40) as server:
        work = {"server": server.url, "ledger": ledger, "limit": LIMIT, "hold_s": HOLD_S, "calls": CALLS}
        program = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        writers, reader = Writers(program, random.Random(seed)), Reader(ledger)
        reader.start()
        try:
            writers.kill(kills)
        finally:
            writers.end()
            reader.stop()
    return writers, reader, server


def check_books(ledger: str, *, kills: int, seed: int) -> str:
    """
    Kill so many writers, look at what they left, and say what was looked at.
    """
    writers, reader, server = run_and_kill(ledger, kills=kills, seed=seed)
    assert writers.exit_codes == {-signal.SIGKILL: kills}

    with Guard(budgets=[POT], ledger=ledger, clock=lambda: time.time() + 10 * HOLD_S) as guard:
        held = [row for row in guard.status() if row.pending]
        guard.sweep()
        rows, entries = guard.status(), list(guard.entries())

    assert reader.reads > 0
    assert reader.over == []
    assert [row for row in rows if row.spent > row.limit] == []
    assert [row.pending for row in rows] == [0] * len(rows)

    calls = {entry.id: entry for entry in entries if entry.outcome != "refused"}
    refusals = sum(entry.count for entry in entries if entry.outcome == "refused")
    assert len(calls) + len({entry.id for entry in entries} - calls.keys()) == len(entries)
    told = [(calls[id_].outcome, calls[id_].basis, calls[id_].cost) for id_, _ in writers.settled]
    assert told == [("answered", "reported", cost) for _, cost in writers.settled]
    assert len({id_ for id_, _ in writers.settled}) == len(writers.settled)

    spent = sum(row.spent for row in rows)
    assert spent == sum(entry.cost or 0 for entry in calls.values())
    assert server.bill.nanousd <= spent * 10**9

    # Or all this has proven little.
    assert refusals > 0
    assert max(row.spent for row in rows) * 10**9 > LIMIT_NANOUSD // 2
    expired = sum(entry.basis == "expired" for entry in calls.values())
    return (
        f"{kills} kills, {len(writers.settled)} calls acknowledged of {len(calls)}, {expired} swept"
        f" ({len(held)} pots at the end), {refusals} refusals, {len(rows)} pots, {reader.reads} reads"
    )


def test_nothing_acknowledged_is_lost_or_doubled_when_writers_are_killed(tmp_path: Path) -> None:
    """
    The kernel's out-of-memory killer sends no notice; a budget must neither forget nor stay blocked.
    """
    check_books(f"sqlite:///{tmp_path / 'ledger.db'}", kills=15, seed=1)


@pytest.mark.slow
def test_hundreds_of_kills_leave_the_books_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The gap between two statements is microseconds wide; a few kills would miss it.
    """
    kills = int(os.environ.get(KILLS, "200"))
    said = check_books(f"sqlite:///{tmp_path / 'ledger.db'}", kills=kills, seed=2)

    with capsys.disabled():
        print(f"\n{said}")
