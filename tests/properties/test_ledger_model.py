"""
Every ledger does what a model of thirty lines does, whatever the order of the calls.
"""

from __future__ import annotations

import os
import subprocess
import sys

import ledger_model
import pytest

from bedrock_guard.ledgers import LEDGERS

# Examples, and steps of each, of every run and of those behind the marker: fewer steps where one is a few requests.
EXAMPLES = {"memory": (100, 40), "sqlite": (100, 40), "dynamodb": (10, 20), "dynamodb, leased": (10, 20)}
MANY = 2000


@pytest.mark.parametrize("scheme", sorted({*LEDGERS, *ledger_model.URLS}))
def test_a_ledger_does_what_the_model_does(scheme: str) -> None:
    """
    The orders that lose money are those that no one thought of.
    """
    assert scheme in ledger_model.URLS, f"{scheme}:// has no line in URLS, so nothing proves it"
    ledger_model.run(scheme, *EXAMPLES.get(scheme, (100, 40)))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted({*LEDGERS, *ledger_model.URLS}))
def test_a_ledger_does_what_the_model_does_for_long(scheme: str) -> None:
    """
    The same, until the rare orders have come too: in a process for each processor.
    """
    processes = os.cpu_count() or 1
    examples, steps = -(-MANY // processes), EXAMPLES.get(scheme, (100, 40))[1]
    workers = [
        subprocess.Popen(
            [sys.executable, ledger_model.__file__, scheme, str(examples), str(steps), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(1, processes + 1)
    ]
    said = [worker.communicate()[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0] * processes, "\n".join(said)
