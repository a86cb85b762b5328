"""
Whether the garbage collector is at work in this thread.

It may end a stream wherever it is called, even in the middle of a backend's own code, whose locks cannot be
taken twice. What is told then must be told elsewhere.
"""

from __future__ import annotations

import gc
import threading
from functools import cache
from typing import Any


class Collecting:
    """
    The threads that collect.
    """

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def __call__(self, phase: str, _: dict[str, Any]) -> None:
        """
        As the collector calls it.
        """
        change = self._threads.add if phase == "start" else self._threads.discard
        change(threading.get_ident())

    @property
    def is_here(self) -> bool:
        """
        Whether it is this thread.
        """
        return threading.get_ident() in self._threads


@cache
def watch_collector() -> Collecting:
    """
    Know of the collector from now on; one for the process.
    """
    collecting = Collecting()
    gc.callbacks.append(collecting)
    return collecting
