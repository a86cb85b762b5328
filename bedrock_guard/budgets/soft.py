"""
What becomes of lines that did not fit and are not enforced: soft limits, and budgets that are tried out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.refusing import record_would_refuse
from bedrock_guard.budgets.verdict import show, show_per
from bedrock_guard.domain.budget import REQUESTS, in_api_units
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Ledger, LedgerKey, Line, RefusedLine

log = logging.getLogger("bedrock_guard")

_MOST_TOLD: Final = 4096


class SoftLimits:
    """
    Tells once of each balance and window that a soft limit is reached; keeps what a shadow would refuse.
    """

    def __init__(self, ledger: Ledger, *, is_shadow: bool) -> None:
        self._ledger = ledger
        self._is_shadow = is_shadow
        self._told: set[LedgerKey] = set()

    def note(
        self, entry: Entry, matches: Sequence[Match], over: Sequence[RefusedLine], *, reason: str = "budget"
    ) -> Entry:
        """
        *entry* with the budgets that had no room for the call; *reason* is what they would have done.
        """
        by_key = {match.key: match for match in matches}
        names = list(entry.exceeded)
        for refused in over:
            match = by_key[refused.line.key]
            if match.budget.name not in names:
                names.append(match.budget.name)
            if not (self._is_shadow or match.budget.mode == "shadow"):
                self._warn(match, refused)
            elif match.budget.on_exceed == "refuse":  # a soft limit that is tried out would refuse nobody
                record_would_refuse(
                    self._ledger, entry, reason=reason, budget=match.budget.name, per=match.key.per
                )
        return entry.changed(exceeded=tuple(names))

    def _warn(self, match: Match, refused: RefusedLine) -> None:
        if match.key in self._told:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told.add(match.key)
        figures = [
            show(in_api_units(amount, match.unit), match.unit)
            for amount in (refused.spent, refused.pending, refused.line.amount)
        ]
        log.warning(
            "Soft limit %s%s is reached: %s spent, %s pending, and a call may add %s. Calls go on.",
            match.budget,
            show_per(match.key.per),
            *figures,
        )


def lines_of_retry(
    matches: Sequence[Match], rolled: Sequence[Match], lines: Sequence[Line], held: Mapping[LedgerKey, int]
) -> list[Line]:
    """
    What another attempt of a call holds: all but requests once more.

    In a sub-window that is new since the call began, the whole call: it counts there from now on.
    """
    found = []
    for match, now, line in zip(matches, rolled, lines, strict=True):
        more = 0 if match.unit == REQUESTS else line.amount
        if now is not match:
            found.append(now.line(more + held.get(match.key, 0)))
        elif match.unit != REQUESTS:
            found.append(line)
    return found
