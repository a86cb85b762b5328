"""
Ctrl-C inside a ledger: at a point of its code, or while it waits for an answer, a lock or its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from interrupts import Interrupted
from simulation.fleet.world import World

from bedrock_guard import ledgers

_HERE = Path(__file__).parent
_LEDGERS = Path(ledgers.__file__).parent
# One in so many strikes in a wait, a few milliseconds after the ledger is asked: before an answer, and after.
_IN_A_WAIT = 3
_LONGEST_S = 0.03


def interrupted(world: World, work: Callable[[], Any], strike: int) -> Any:
    """
    What *work* returns, if it is over before it is struck: where, the number *strike* says.

    Raises:
        KeyboardInterrupt: It was struck.
    """
    found: list[Any] = []

    def run() -> None:
        found.append(work())

    if strike % _IN_A_WAIT == 0:
        _strike_in_a_wait(world, run, _LONGEST_S * (strike % 97) / 97)
    elif Interrupted(run, strike, files=_files(), may_strike=_is_the_ledger_s).has_struck:
        raise KeyboardInterrupt
    return found[0]


def _strike_in_a_wait(world: World, run: Callable[[], None], after_s: float) -> None:
    task = world.task()
    is_over: list[bool] = []

    def strike() -> Any:
        return None if is_over else world.waker(task, KeyboardInterrupt())()

    world.at(world.now + after_s, strike)
    try:
        run()
    finally:
        is_over.append(True)


def _is_the_ledger_s(frame: FrameType | None) -> bool:
    """
    Whether a frame was called by a ledger, and not by the simulation to look into the books.
    """
    while frame is not None:
        path = frame.f_code.co_filename
        if path == __file__:
            return True
        if path.startswith(str(_HERE)):
            return False
        frame = frame.f_back
    return False


@cache
def _files() -> frozenset[str]:
    return frozenset(str(path) for path in _LEDGERS.rglob("*.py"))
