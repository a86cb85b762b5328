"""
What one process knows of a breaker's scope: what the ledger had counted, and what it added since.
"""

from __future__ import annotations

from bedrock_guard.budgets.breakers import Keys
from bedrock_guard.budgets.matching import Match
from bedrock_guard.domain.breaker import MEASURES, Breaker
from bedrock_guard.domain.budget import UNITS
from bedrock_guard.domain.entry import Entry


class Scope:
    """
    The calls of one breaker with the same `per` values, in one window.

    Attributes:
        meters: What is added up for each of the keys that are counted; input tokens first.
        known: What the ledger had counted, and nobody judged, when it was last looked at; input tokens.
        own: What this process has added, ever.
        seen: How much of that was there when it was last looked at.
        entry: Of the last call.
        has_failed: Whether the ledger could not be asked, so that a call does not try again.
    """

    __slots__ = (
        "breaker",
        "entry",
        "has_failed",
        "key",
        "keys",
        "known",
        "meters",
        "own",
        "seen",
        "verdict",
        "window",
    )

    def __init__(self, breaker: Breaker, match: Match, keys: Keys, verdict: str, entry: Entry) -> None:
        self.breaker = breaker
        self.key = match.key
        self.window = match.window
        self.keys = keys
        units = MEASURES[breaker.condition.measure].units
        self.meters = [(key, UNITS[unit]) for key, unit in zip(keys.counted, units, strict=True)]
        self.verdict = verdict
        self.entry = entry
        self.known = 0
        self.own = 0
        self.seen = 0
        self.has_failed = False

    @property
    def has_news(self) -> bool:
        """
        Whether something was added that nobody has looked at.
        """
        return self.own != self.seen

    @property
    def most(self) -> int:
        """
        What there is to judge, as far as this process knows.
        """
        return self.known + self.own - self.seen
