"""
Which balances a call counts towards: every budget that matches, in its current window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from bedrock_guard.budgets.windows import Windows, open_zone
from bedrock_guard.domain.budget import Budget, Window
from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError

UNTAGGED = ""
"""The value, in a key, that stands for a tag the call did not carry."""


@dataclass(frozen=True, slots=True)
class Match:
    """
    A budget that a call counts towards, and the balance it is.
    """

    budget: Budget
    key: LedgerKey
    window: Window

    @property
    def unit(self) -> str:
        """
        What the balance counts.
        """
        return self.budget.limit.unit


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
        names = [budget.name for budget in self.budgets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"Two budgets are named {twice[0]!r}; names are unique in a guard, as balances go by them."
            )

    def match(self, tags: Mapping[str, str], now: float) -> list[Match]:
        """
        Every balance that a call with these *tags* counts towards at *now*.

        Raises:
            ConfigurationError: A `per` budget needs a tag that the call lacks,
                and `untagged` is `"refuse"`.
        """
        found = []
        for rule in self._rules:
            if rule.admits(tags):
                window = self._windows.at(rule.budget.limit.period, now)
                key = LedgerKey(rule.budget.name, rule.rule, self._per(rule.budget, tags), window.start)
                found.append(Match(rule.budget, key, window))
        return found

    def current(self, budget: Budget, now: float) -> tuple[str, Window]:
        """
        The rule of *budget*, and its window at *now*: what its balances are found by.
        """
        rule = next(rule.rule for rule in self._rules if rule.budget is budget)
        return rule, self._windows.at(budget.limit.period, now)

    def _per(self, budget: Budget, tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        if not budget.per:
            return ()
        missing = [tag for tag in budget.per if not tags.get(tag)]
        if missing and self._refuses_untagged:
            raise ConfigurationError(
                f"The call carries no tag {missing[0]!r}, which {budget} keeps its balances by. "
                f'Tag it with scope({missing[0]}=...), or set untagged = "shared".'
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
