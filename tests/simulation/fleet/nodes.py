"""
A virtual process: its clocks, its files, and how it comes to its end.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from simulation.fleet.world import BEGIN_S, World


class Node:
    """
    One process of a fleet.

    Attributes:
        offset_s: How far its clock is from the true time.
        drift: How much faster it runs.
        frozen_until_s: It stands still until then.
        cut_until_s: It reaches nobody until then.
        is_leaving: It takes no more calls.
        least_sleep_s: It sleeps no shorter: who asks every 0.2 ms whether one that stands still goes on is no history.
    """

    def __init__(
        self, world: World, name: str, *, seed: int, offset_s: float = 0.0, drift: float = 0.0
    ) -> None:
        self.world, self.name = world, name
        self.dice = random.Random(f"{seed}/{name}")
        self.pid = self.dice.randrange(2, 2**22)
        self.offset_s, self.drift = offset_s, drift
        self.began_s = world.now
        self.is_dead = False
        self.is_leaving = False
        self.frozen_until_s = self.cut_until_s = 0.0
        self.least_sleep_s = 0.0
        self.messages = 0
        self.ledger: Any = None
        self.descriptors: set[int] = set()
        self.connections: list[sqlite3.Connection] = []
        # What runs in a fork of it.
        self.fork_hooks: list[Callable[[], None]] = []
        self._hooks: list[tuple[Callable[..., Any], Callable[[], Any]]] = []

    def clock(self) -> float:
        """
        Its wall clock.
        """
        return self.world.now + (self.world.now - BEGIN_S) * self.drift + self.offset_s

    def monotonic(self) -> float:
        """
        Its clock that nobody sets.
        """
        return (self.world.now - self.began_s) * (1 + self.drift) + 1000.0

    def sleep(self, seconds: float) -> None:
        """
        Wait, by its own clock.
        """
        self.world.park(self.world.now + max(self.least_sleep_s, seconds) / (1 + self.drift))

    def at_exit(self, work: Callable[..., Any], *args: Any, **named: Any) -> Callable[..., Any]:
        """
        As `atexit.register`.
        """
        self._hooks.append((work, lambda: work(*args, **named)))
        return work

    def not_at_exit(self, work: Callable[..., Any]) -> None:
        """
        As `atexit.unregister`.
        """
        self._hooks = [hook for hook in self._hooks if hook[0] != work]

    def leave(self) -> None:
        """
        Come to an end as a program does: what was registered runs, and what is open is closed.
        """
        for _, hook in reversed(self._hooks):
            hook()
        self.ledger.close()

    def kill(self, how: str = "killed") -> None:
        """
        Be dead at once, wherever its threads are.
        """
        if self.is_dead:
            return
        self.is_dead = True
        self.world.tell(f"{self.name} {how}")
        self.world.kill(self)
        # As the kernel does, once its threads have come to know.
        self.world.at(self.world.now + 1e-3, self._bury)

    def _bury(self) -> None:
        for connection in self.connections:
            with suppress(sqlite3.Error):
                sqlite3.Connection.close(connection)
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self.connections.clear()
        self.descriptors.clear()
