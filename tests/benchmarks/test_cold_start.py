"""
What the first call of a new Lambda environment waits for, and what is done before it.

    pytest -m benchmark -s tests/benchmarks/test_cold_start.py

Fresh processes, each on a table of its own that nobody has swept yet, by turns in Lambda and not.
Figures are printed, never asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import dynamodb_engine
import pytest

import bedrock_guard
from bedrock_guard.testing.bedrock_server import BedrockServer

pytestmark = pytest.mark.benchmark

PROGRAM = Path(__file__).with_name("cold_start.py")
ROUNDS = 15


def start(bedrock: str, *, is_lambda: bool, bytecode: Path) -> dict[str, float]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(bytecode),
        "PYTHONPATH": str(Path(bedrock_guard.__file__).parents[1]),
        **({"AWS_LAMBDA_FUNCTION_NAME": "chat"} if is_lambda else {}),
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), dynamodb_engine.table_url(), bedrock],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(done.stdout)
    return times


def test_the_cold_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    What is made before it is needed shows as the difference of the first reserve.
    """
    with BedrockServer() as server:
        start(server.url, is_lambda=True, bytecode=tmp_path)  # compiles
        rounds = [
            [start(server.url, is_lambda=is_lambda, bytecode=tmp_path) for is_lambda in (False, True)]
            for _ in range(ROUNDS)
        ]

    with capsys.disabled():
        print(f"\n  {'median of ' + str(ROUNDS) + ', ms':<24}  {'elsewhere':>10}  {'in Lambda':>10}")
        for step in rounds[0][0]:
            plain, warmed = (statistics.median(each[at][step] for each in rounds) for at in (0, 1))
            print(f"  {step:<24}  {plain * 1e3:10.1f}  {warmed * 1e3:10.1f}")
