"""
Makes a scenario that fails smaller, while it still fails: fewer calls, processes, events and faults.

Half of them at a time, then a quarter, down to single ones (Zeller's delta debugging); for as long as there is time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from simulation.fleet.fleet import Fleet, Result
from simulation.fleet.scenario import Clock, Scenario

T = TypeVar("T")
WITHIN_S = 60.0


def shrink(failed: Result, *, within_s: float | None = None) -> Result:
    """
    The smallest scenario that was found to fail as *failed* did, and what came of it.
    """
    return _Shrinker(failed, time.monotonic() + (WITHIN_S if within_s is None else within_s)).run()


class _Shrinker:
    def __init__(self, failed: Result, until_s: float) -> None:
        self.best, self.until_s = failed, until_s
        self.kind = type(failed.failure)

    def run(self) -> Result:
        """
        Each way in turn, until none makes it smaller.
        """
        size = -1
        while size != _size(self.best) and time.monotonic() < self.until_s:
            size = _size(self.best)
            self._mute_kinds()
            self._fewer(
                lambda scenario: scenario.calls, lambda scenario, calls: replace(scenario, calls=calls)
            )
            self._fewer(
                lambda scenario: scenario.events, lambda scenario, events: replace(scenario, events=events)
            )
            self._mute_messages()
            self._right_clocks()
        return self.best

    def _try(self, scenario: Scenario) -> bool:
        if time.monotonic() >= self.until_s:
            return False
        result = Fleet(scenario).play()
        is_smaller = result.failure is not None and type(result.failure) is self.kind
        if is_smaller:
            self.best = result
        return is_smaller

    def _fewer(
        self,
        parts: Callable[[Scenario], Sequence[Any]],
        with_parts: Callable[[Scenario, tuple[Any, ...]], Scenario],
    ) -> None:
        step = max(1, len(parts(self.best.scenario)) // 2)
        while step:
            for kept in _without_each(parts, step, self):
                self._try(with_parts(self.best.scenario, kept))
            step //= 2

    def _mute_kinds(self) -> None:
        for kind in sorted({*self.best.faults.values()}):
            scenario = self.best.scenario
            self._try(replace(scenario, muted=scenario.muted | {kind}))

    def _mute_messages(self) -> None:
        step = max(1, len(self.best.faults) // 2)
        while step:
            found = sorted(self.best.faults)
            for first in range(0, len(found), step):
                scenario = self.best.scenario
                self._try(replace(scenario, muted=scenario.muted | {*found[first : first + step]}))
            step //= 2

    def _right_clocks(self) -> None:
        for slot in range(len(self.best.scenario.clocks)):
            clocks = list(self.best.scenario.clocks)
            clocks[slot] = Clock(0.0, 0.0)
            self._try(replace(self.best.scenario, clocks=tuple(clocks)))
        used = {each.slot for each in (*self.best.scenario.calls, *self.best.scenario.events)}
        self._try(replace(self.best.scenario, clocks=self.best.scenario.clocks[: max(used, default=0) + 1]))


def _without_each(
    parts: Callable[[Scenario], Sequence[T]], step: int, shrinker: _Shrinker
) -> Iterator[tuple[T, ...]]:
    """
    What is left without each *step* of them; where that failed too, they stay out.
    """
    first = 0
    while first < len(parts(shrinker.best.scenario)):
        now = parts(shrinker.best.scenario)
        yield (*now[:first], *now[first + step :])
        if len(parts(shrinker.best.scenario)) == len(now):
            first += step


def _size(result: Result) -> int:
    scenario = result.scenario
    return len(scenario.calls) + len(scenario.events) + len(result.faults) + len(scenario.clocks)


def story(result: Result) -> str:
    """
    A failing scenario, and its history, for people.
    """
    return "\n".join([str(result.scenario), "", *result.history])
