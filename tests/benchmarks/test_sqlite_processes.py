"""
How many calls a second the processes of one host get out of a SQLite ledger, and how fairly.

    pytest -m benchmark -s tests/benchmarks/test_sqlite_processes.py

Every process calls as fast as it can: reserve and settle, four budgets a call. Figures are
printed beside the machine's load, never asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bedrock_guard

pytestmark = pytest.mark.benchmark

PROGRAM = Path(__file__).with_name("sqlite_caller.py")
SECONDS = 10
COLUMNS = "sync    processes   calls/s   slowest   fastest   ratio   p50 ms   p99 ms   longest ms"


def run(url: str, processes: int) -> list[list[float]]:
    """
    How long each reserve and each settle of each process took, in seconds.
    """
    root = Path(bedrock_guard.__file__).parents[1]
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), url, str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=300)[0]) for process in started]


@pytest.mark.parametrize("sync", ["normal", "full"])
@pytest.mark.parametrize("processes", [1, 8])
def test_calls_a_second(sync: str, processes: int, tmp_path: Path, capsys) -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")

    told = run(f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}?sync={sync}", processes)

    rates = sorted(len(waits) / 2 / SECONDS for waits in told)
    waits = sorted(wait * 1000 for each in told for wait in each)
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    with capsys.disabled():
        print(f"\n{COLUMNS}   (load before: {load:.1f}, {os.cpu_count()} cores)")
        print(
            f"{sync:6}  {processes:9}  {sum(rates):8,.0f}  {rates[0]:8,.0f}  {rates[-1]:8,.0f}"
            f"  {rates[0] / rates[-1]:6.2f}  {p50:7.2f}  {p99:7.2f}  {waits[-1]:11.1f}"
        )
