"""
Thousands of calls, each with a fault at random: what is left of the budget is usable to the last nano-dollar.

One thread, one seed: the same calls, faults and retries each time, and no clock but the simulation's.
"""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journeys.conftest import HELLO
from journeys.fault_cells import (
    LEDGERS,
    OPERATIONS,
    SHORT_S,
    Cell,
    close_after_some,
    close_unread,
    open_cell,
    read_all,
    read_some,
    run,
)

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import (
    broken_json,
    corrupt_frame,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    slow_answer,
    stream_error,
    truncated_body,
)

MODES = ("standard", "legacy", "adaptive")
FAULTS: tuple[Any, ...] = (
    *[None] * 6,
    400,
    403,
    408,
    424,
    429,
    503,
    error(424, billed=True),
    error(500),
    error(500, billed=True),
    lost_answer(),
    lost_answer(billed=False),
    broken_json(),
    truncated_body(),
    missing_usage(),
    missing_usage_headers(),
    cut_stream(after_events=0),
    cut_stream(after_events=5),
    stream_error(after_events=2),
    corrupt_frame(at_event=2),
)
# How a program consumes a reply; None leaves it lying about for a while.
CONSUME: tuple[Callable[[Any], None] | None, ...] = (
    *[read_all] * 6,
    read_some,
    close_unread,
    close_after_some,
    None,
)
# Where another tool, or Ctrl-C, may stop a call.
EVENTS = ("before-call", "before-sign", "before-send", "response-received", "needs-retry", "after-call")
LEFT_LYING = 20


class Chaos:
    """
    A program that calls a guarded client while everything that can go wrong goes wrong.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell = cell
        self.dice = random.Random(seed)
        self.refused = 0
        self.lying: deque[Any] = deque(maxlen=LEFT_LYING)
        self.raises: tuple[str, type[BaseException]] | None = None
        self.clients = [cell.guard.attach(cell.make_client(mode)) for mode in MODES]
        self.hasty = cell.guard.attach(cell.make_client("standard", SHORT_S))
        for client in (*self.clients, self.hasty):
            for event in EVENTS:
                client.meta.events.register(f"{event}.bedrock-runtime", self._stop_at(event))

    def _stop_at(self, event: str) -> Callable[..., None]:
        def stop(**_: Any) -> None:
            if self.raises is not None and self.raises[0] == event:
                raised = self.raises[1]
                self.raises = None
                raise raised

        return stop

    def call(self) -> None:
        """
        One call: a client, an operation, a fault each attempt, and a consumer, all thrown.
        """
        dice, cell = self.dice, self.cell
        cell.now[0] += 1
        is_late = dice.random() < 0.005
        client = self.hasty if is_late else dice.choice(self.clients)
        cell.server.always(slow_answer(60) if is_late else dice.choice(FAULTS))
        if dice.random() < 0.2:
            cell.server.will_answer(dice.choice(FAULTS) or 429)
        if dice.random() < 0.1:
            self.raises = dice.choice(EVENTS), dice.choice([RuntimeError, KeyboardInterrupt, SystemExit])
        consume = dice.choice(CONSUME) or self.lying.append
        try:
            run(replace(cell, client=client), dice.choice(OPERATIONS), consume)
        except BudgetExceeded:
            self.refused += 1
        self.raises = None

    def leave(self) -> None:
        """
        Let go of everything, as at the end of a program.
        """
        self.lying.clear()
        self.cell.server.reset()
        gc.collect()


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize(
    "calls", [500, pytest.param(10_000, marks=pytest.mark.slow)], ids=["500 calls", "10,000 calls"]
)
def test_after_any_faults_nothing_is_pinned_and_what_is_left_can_be_spent(
    tmp_path: Path, calls: int, ledger: str
) -> None:
    """
    A hold that is never ended takes its share of the budget away for ever, and nobody sees why.
    """
    with open_cell(ledger, tmp_path, budget="1000 USD") as cell:
        chaos = Chaos(cell, seed=20_261_122)
        for _ in range(calls):
            chaos.call()
            assert cell.server.bill.nanousd <= cell.spent_nanousd + cell.pending_nanousd
        bill = cell.server.bill.nanousd
        chaos.leave()

        assert chaos.refused == 0
        assert cell.pending_nanousd == 0
        assert cell.ledger.held == cell.ledger.ended
        assert all(entry.outcome != "pending" for entry in cell.guard.entries())
        assert 0 < bill <= cell.spent_nanousd

        # The same balance under a limit that leaves room for one call, to the nano-dollar.
        room = int(cell.guard.estimate("Converse", **HELLO).cost * 10**9)
        tight = f"{(cell.spent_nanousd + room) / 10**9:.9f} USD"
        last = Guard(budget=tight, ledger=cell.ledger, clock=lambda: cell.now[0])  # type: ignore[arg-type]
        client = last.attach(cell.make_client())
        assert client.converse(**HELLO)["usage"]
        assert last.status()[0].pending == 0
        with pytest.raises(BudgetExceeded):
            client.converse(**HELLO)
