"""
Which balances a call counts towards: every budget that matches, in its current window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from math import inf
from typing import Final, NamedTuple

from bedrock_guard.budgets.windows import Windows, open_zone
from bedrock_guard.domain.budget import Budget, Window
from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError

_MOST_REMEMBERED: Final = 4096

UNTAGGED = ""
"""The value, in a key, that stands for a tag the call did not carry."""


@dataclass(frozen=True, slots=True)
class Match:
    """
    A budget that a call counts towards, and the balance it is; *limit* is in *unit*.
    """

    budget: Budget
    key: LedgerKey
    window: Window
    unit: str
    limit: int


class _Remembered(NamedTuple):
    matches: Sequence[Match]
    since: float
    until: float


class Matcher:
    """
    The budgets of one guard, ready to be asked.

    Raises:
        ConfigurationError: Two budgets share a name, or the zone is unknown.
    """

    def __init__(self, budgets: Iterable[Budget], settings: Settings) -> None:
        self.budgets = tuple(budgets)
        self.zone = open_zone(settings.time_zone)
        self._windows = Windows(self.zone)
        self._refuses_untagged = settings.untagged == "refuse"
        self._rules = [_Rule(budget, settings.time_zone) for budget in self.budgets]
        self._seen = tuple({tag for budget in self.budgets for tag in (*budget.match, *budget.per)})
        self._remembered: dict[tuple[str | None, ...], _Remembered] = {}
        names = [budget.name for budget in self.budgets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"Two budgets are named {twice[0]!r}; names are unique in a guard, as balances go by them."
            )

    def match(self, tags: Mapping[str, str], now: float) -> Sequence[Match]:
        """
        Every balance that a call with these *tags* counts towards at *now*.

        Raises:
            ConfigurationError: A `per` budget needs a tag that the call lacks,
                and `untagged` is `"refuse"`.
        """
        # The same tags give the same balances until the first of their windows ends.
        values = tuple([tags.get(tag) for tag in self._seen])
        known = self._remembered.get(values)
        if known is not None and known.since <= now < known.until:
            return known.matches
        matches = self._match(tags, now)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[values] = _Remembered(
            matches,
            max((match.window.start for match in matches), default=0),
            min((match.window.end or inf for match in matches), default=inf),
        )
        return matches

    def current(self, budget: Budget, now: float) -> tuple[str, Window]:
        """
        The rule of *budget*, and its window at *now*: what its balances are found by.
        """
        rule = next(rule.rule for rule in self._rules if rule.budget is budget)
        return rule, self._windows.at(budget.limit.period, now)

    def find(self, key: LedgerKey) -> Match | None:
        """
        The balance of *key*, in whatever window; None where it is no budget's of this guard.
        """
        for rule in self._rules:
            limit = rule.budget.limit
            if rule.budget.name == key.budget and rule.rule == key.rule:
                window = self._windows.at(limit.period, key.window_start)
                return Match(rule.budget, key, window, limit.unit, limit.amount)
        return None

    def _match(self, tags: Mapping[str, str], now: float) -> Sequence[Match]:
        found = []
        for rule in self._rules:
            if rule.admits(tags):
                limit = rule.budget.limit
                window = self._windows.at(limit.period, now)
                key = LedgerKey(rule.budget.name, rule.rule, self._per(rule.budget, tags), window.start)
                found.append(Match(rule.budget, key, window, limit.unit, limit.amount))
        return tuple(found)

    def _per(self, budget: Budget, tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        if not budget.per:
            return ()
        missing = [tag for tag in budget.per if not tags.get(tag)]
        if missing and self._refuses_untagged:
            raise ConfigurationError(
                f"The call carries no tag {missing[0]!r}, which {budget} keeps its balances by. "
                f'Tag it with scope(**{{{missing[0]!r}: ...}}), or set untagged = "shared".'
            )
        return tuple(sorted((tag, tags.get(tag) or UNTAGGED) for tag in budget.per))


class _Rule:
    """
    A budget with its globs compiled and its rule spelled out.
    """

    def __init__(self, budget: Budget, time_zone: str) -> None:
        self.budget = budget
        self.rule = budget.limit.rule(time_zone)
        self._globs: Sequence[tuple[str, re.Pattern[str]]] = [
            (tag, re.compile(translate(glob))) for tag, glob in budget.match.items()
        ]

    def admits(self, tags: Mapping[str, str]) -> bool:
        return all(glob.match(tags.get(tag, "")) for tag, glob in self._globs)
