"""
Stops and top-ups, ready to be asked: whether a call is stopped, and what its balances may come to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from bedrock_guard.budgets.verdict import cut, one_line
from bedrock_guard.domain.budget import MAX_LIMIT
from bedrock_guard.domain.control import Controls, Stop, TopUp, is_in_force
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.globs import compile_match, show_globs
from bedrock_guard.domain.ledger import ROLLING_PART, LedgerKey, Line
from bedrock_guard.errors import Stopped


class Steering:
    """
    One version of a ledger's controls.

    Attributes:
        version: Which.
        stops: All of them, also what has passed.
        is_active: Whether there is anything to ask.
    """

    __slots__ = ("_stops", "_top_ups", "is_active", "stops", "version")

    def __init__(self, controls: Controls) -> None:
        self.version = controls.version
        self.stops = controls.stops
        self.is_active = bool(controls.stops or controls.top_ups)
        self._stops = [(stop, compile_match(stop.match)) for stop in controls.stops]
        self._top_ups: dict[tuple[str, str, object], list[TopUp]] = defaultdict(list)
        for top_up in controls.top_ups:
            self._top_ups[top_up.budget, top_up.rule, top_up.per].append(top_up)

    def find_stop(self, tags: Mapping[str, str], now: float) -> Stop | None:
        """
        The first stop that a call with these *tags* meets.
        """
        for stop, is_meant in self._stops:
            if is_in_force(stop, now) and is_meant(tags):
                return stop
        return None

    def topped_up(self, key: LedgerKey, now: float) -> int:
        """
        By how much the limit of a balance is topped up.
        """
        top_ups = self._top_ups.get((key.budget, key.rule, key.per), ())
        # A call that was opened in the window before is none of this one's; nor is one of the next, which a
        # clock that was set back since takes for early. What rolls has many, of which later ones count.
        rolls = ROLLING_PART in key.rule
        return sum(
            top_up.amount
            for top_up in top_ups
            if is_in_force(top_up, now)
            and (
                key.window_start == top_up.window_start or (rolls and key.window_start > top_up.window_start)
            )
        )

    def top_up(self, lines: Sequence[Line], now: float) -> list[Line]:
        """
        *lines* with the limits that hold now.
        """
        if not self._top_ups:
            return list(lines)
        return [
            line
            if line.limit is None
            else line._replace(limit=min(MAX_LIMIT, line.limit + self.topped_up(line.key, now)))
            for line in lines
        ]


def stopped(stop: Stop, entry: Entry, *, now: float) -> Stopped:
    """
    The error for a call that met *stop*.
    """
    until = None if stop.until_s is None else datetime.fromtimestamp(stop.until_s, UTC)
    since = datetime.fromtimestamp(stop.at_s, UTC)
    ends = "somebody resumes them" if until is None else f"{until:%Y-%m-%d %H:%M:%S} UTC"
    return Stopped(
        text=(
            f"{show_stop(stop)} are stopped: {stop.reason}\n"
            f"by {stop.by} since {since:%Y-%m-%d %H:%M:%S} UTC, until {ends}\n"
            f"bedrock-guard resume {stop.id}"
        ),
        id=stop.id,
        reason=stop.reason,
        by=stop.by,
        since=since,
        until=until,
        model_id=entry.model_id,
        operation=entry.operation,
        tags=dict(entry.tags),
        retry_after_s=None if stop.until_s is None else max(0.0, stop.until_s - now),
    )


def show_stop(stop: Stop) -> str:
    """
    Whose calls are stopped, for people: `calls with workflow=nightly*`.
    """
    globs = ", ".join(f"{tag}={one_line(cut(show_globs(globs)))}" for tag, globs in stop.match.items())
    return f"Calls with {globs}" if globs else "All calls"
