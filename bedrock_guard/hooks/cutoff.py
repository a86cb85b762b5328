"""
Closing a stream that is being read when its calls are stopped.

Nothing ends at AWS by that: it may bill the whole generation all the same, so the charge is that of a
stream which its reader has left. What ends is the reading, and whatever would be done with the answer.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from bedrock_guard.budgets.steering import stopped
from bedrock_guard.domain.control import as_mapping
from bedrock_guard.hooks.calls import CallState
from bedrock_guard.hooks.streams import Grows

LOOK_EVERY_S: Final = 1.0
"""How often the stops of the ledger are looked at for one stream, in seconds."""


class Cutoff:
    """
    Called after each event of one stream. It holds no stream.

    Where *grow* holds more as the stream goes, it is called, too.
    """

    __slots__ = ("_grow", "_looks_at", "_state")

    def __init__(self, state: CallState, grow: Grows | None) -> None:
        self._state = state
        self._grow = grow
        self._looks_at = monotonic() + LOOK_EVERY_S

    @property
    def is_due(self) -> bool:
        """
        Whether it is time to look, or to hold more.
        """
        return monotonic() >= self._looks_at or (self._grow is not None and self._grow.is_due)

    def __call__(self) -> None:
        """
        Look whether its calls are stopped by now.

        Raises:
            GuardError: They are, or what it has used does not fit; who reads the stream must leave it.
        """
        if (
            self._grow is not None and self._grow.is_due
        ):  # first: what it has used is charged, however it ends
            self._grow()
        if monotonic() >= self._looks_at:
            self._look()
            self._looks_at = monotonic() + LOOK_EVERY_S

    def _look(self) -> None:
        for pipeline, opened in self._state.opened:
            if pipeline.settings.stream_cutoff == "off":
                continue
            stop = pipeline.helm.stop_of(opened.plan, is_gone=pipeline.outage.is_on)
            if stop is not None:
                opened.entry = opened.entry.changed(reason="stopped", control=as_mapping(stop))
                raise stopped(stop, opened.entry, now=pipeline.clock())
