"""
What the steps at the edge of a budget cost a call that fits: nothing, or one look at what is remembered.

By what is run, not by a clock: `tests/benchmarks/test_edge.py` has the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bedrock_guard import Budget
from bedrock_guard.ledgers.memory import MemoryLedger

from .conftest import HELLO, NOVA, Guarded
from .frames import run_by
from .test_streams import BOTH, open_stream

MakeGuarded = Callable[..., Guarded]

EDGE = (
    "calls.edge",
    "calls.clamping",
    "calls.drafting",
    "calls.waiting",
    "estimators.count_tokens",
    "hooks.changes",
    "hooks.counting",
    "hooks.cutoff",
    "operations.output_limit",
)
ALL_ON: dict[str, Any] = {"clamp": "always", "refine": "count_tokens"}
PATIENT = Budget("x", "500 USD", fallback=[NOVA], wait_s=3600)


class CountingLedger(MemoryLedger):
    """
    A ledger that counts what it is asked in the thread that calls.
    """

    asked: Counter[str]

    def __getattribute__(self, name: str) -> Any:
        if name in {"reserve", "balances", "controls", "extend"}:
            type(self).asked[name] += 1
        return super().__getattribute__(name)


def run_of_edge(work: Callable[[], object]) -> set[str]:
    """
    The functions of the edge's modules that *work* runs in this thread.
    """
    modules = {name: name.rpartition(".")[0] for name in run_by(work)}
    return {name for name, module in modules.items() if module in EDGE and "<" not in name}


@pytest.mark.parametrize("settings", [{}, ALL_ON], ids=["defaults", "all on"])
def test_a_call_that_fits_runs_none_of_it(make_guarded: MakeGuarded, settings: dict[str, Any]) -> None:
    """
    From its opening to its end, whatever is switched on.
    """
    guarded = make_guarded(budgets=[PATIENT], sinks=(), **settings)
    guarded.client.converse(**HELLO)

    assert run_of_edge(lambda: guarded.client.converse(**HELLO)) == set()


@BOTH
def test_nor_does_a_stream_that_fits(make_guarded: MakeGuarded, operation: str) -> None:
    """
    And with no stream to be cut, nobody looks for a reason.
    """
    guarded = make_guarded(budgets=[PATIENT], sinks=(), **ALL_ON)
    list(open_stream(guarded, operation))

    assert run_of_edge(lambda: list(open_stream(guarded, operation))) == set()


def test_a_call_without_a_limit_only_remembers_that_there_is_plenty(make_guarded: MakeGuarded) -> None:
    """
    Of what is free it has to know; a ledger is asked for that once a second, and not for each call.
    """
    now = [1_795_334_400.0]
    CountingLedger.asked = Counter()
    ledger = CountingLedger(clock=lambda: now[0])
    guarded = make_guarded(budgets=[PATIENT], ledger=ledger, clock=lambda: now[0], sinks=(), **ALL_ON)
    unset = {name: HELLO[name] for name in ("modelId", "messages")}
    guarded.client.converse(**unset)
    CountingLedger.asked.clear()

    ran = run_of_edge(lambda: guarded.client.converse(**unset))

    assert ran == {
        "calls.clamping.take_share",
        "calls.clamping._has_plenty",
        "operations.output_limit.takes_limit",
    }
    assert CountingLedger.asked == {"reserve": 1}


def test_a_call_that_does_not_fit_runs_them(make_guarded: MakeGuarded) -> None:
    """
    Or the others would prove nothing.
    """
    guarded = make_guarded("0.0015 USD", sinks=(), **ALL_ON, min_output_tokens=10)

    ran = run_of_edge(lambda: guarded.client.converse(**HELLO))

    assert {"calls.edge.fit", "calls.clamping.lower", "hooks.counting.count"} <= ran
