"""
Which balances a call counts towards: every budget that matches, in its current window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NamedTuple

from bedrock_guard.budgets.windows import Windows
from bedrock_guard.domain.budget import Budget, Window
from bedrock_guard.domain.globs import compile_match
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError

_MOST_REMEMBERED: Final = 4096

_NEVER: Final = Window(0, -1)

UNTAGGED = ""
"""The value, in a key, that stands for a tag the call did not carry."""


@dataclass(frozen=True, slots=True)
class Match:
    """
    A budget that a call counts towards, and the balance it is; *limit* is that balance's, in *unit*.

    Attributes:
        special: The line to hold, of no amount, where it is not that of an enforced window.
    """

    budget: Budget
    key: LedgerKey
    window: Window
    unit: str
    limit: int
    special: Line | None = None

    def line(self, amount: int) -> Line:
        """
        What a call that may come to *amount* holds.
        """
        if self.special is None:
            return Line(self.key, self.limit, amount)
        return self.special._replace(amount=amount)


class Matched(NamedTuple):
    """
    The balances that calls with the same tags count towards, from *since* until *until*, seconds since 1970.
    """

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
        self._is_shadow = settings.mode == "shadow"
        self._rules = [_Rule(budget, settings.time_zone) for budget in self.budgets]
        self._matched = tuple({tag for budget in self.budgets for tag in budget.match})
        self._seen = tuple({tag for budget in self.budgets for tag in (*budget.match, *budget.per)})
        self._remembered: dict[tuple[str | None, ...], Matched] = {}
        # Users are many, and what budgets match by is the same for most of them.
        self._admitting: dict[tuple[str | None, ...], Sequence[_Rule]] = {}
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
            ConfigurationError: A `per` budget that is enforced needs a tag that the call lacks, and
                `untagged` is `"refuse"`.
        """
        return self.look(tags, now).matches

    def look(self, tags: Mapping[str, str], now: float) -> Matched:
        """
        As `match`, with when that holds.
        """
        # The same tags give the same balances until the first of their windows ends.
        values = tuple([tags.get(tag) for tag in self._seen]) if self._seen else ()
        known = self._remembered.get(values)
        if known is not None and known.since <= now < known.until:
            return known
        matches = self._match(tags, now)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        known = self._remembered[values] = Matched(
            matches,
            max((match.window.start for match in matches), default=0),
            min((match.window.end or inf for match in matches), default=inf),
        )
        return known

    def current(self, budget: Budget, now: float) -> tuple[str, Window]:
        """
        The rule of *budget*, and its window at *now*: what its balances are found by.
        """
        rule = next(rule.rule for rule in self._rules if rule.budget is budget)
        return rule, self._windows.at(budget.limit.period, now)

    def enforces(self, budget: Budget) -> bool:
        """
        Whether *budget* refuses.
        """
        return not (self._is_shadow or budget.mode == "shadow" or budget.on_exceed == "warn")

    def is_shadow(self, budget: Budget) -> bool:
        """
        Whether *budget* would refuse, and is only tried out.
        """
        return budget.on_exceed == "refuse" and (self._is_shadow or budget.mode == "shadow")

    def find(self, key: LedgerKey) -> Match | None:
        """
        The balance of *key*, in whatever window; None where it is no budget's of this guard.
        """
        for rule in self._rules:
            budget = rule.budget
            if budget.name == key.budget and rule.rule == key.rule:
                limit = budget.limit_of(key.per)
                window = self._windows.at(limit.period, key.window_start)
                most = limit.amount if budget.burst is None else budget.burst
                return Match(budget, key, window, limit.unit, most, self._special(budget, key, most))
        return None

    def _match(self, tags: Mapping[str, str], now: float) -> Sequence[Match]:
        found = []
        for rule in self._rules_for(tags):
            budget = rule.budget
            per = self._per(rule, tags) if rule.per else ()
            limit = budget.limit_of(per) if budget.limits else budget.limit
            window = rule.window
            if not window.start <= now < (window.end or inf):
                window = rule.window = self._windows.at(limit.period, now)
            key = LedgerKey(budget.name, rule.rule, per, window.start)
            most = limit.amount if budget.burst is None else budget.burst
            found.append(Match(budget, key, window, limit.unit, most, self._special(budget, key, most)))
        return tuple(found)

    def roll(self, matches: Sequence[Match], now: float) -> Sequence[Match]:
        """
        *matches* with what rolls in its sub-window at *now*: what is held later counts later.
        """
        rolled = []
        for match in matches:
            window = self._windows.at(match.budget.limit.period, now) if match.special else match.window
            if (
                match.special is None
                or match.special.kind != "rolling"
                or window.start <= match.key.window_start
            ):
                rolled.append(match)
                continue
            key = match.key._replace(window_start=window.start)
            rolled.append(replace(match, key=key, window=window, special=match.special._replace(key=key)))
        return tuple(rolled)

    def _special(self, budget: Budget, key: LedgerKey, most: int) -> Line | None:
        period = budget.limit.period
        enforce = self.enforces(budget)
        if enforce and period.kind == "window":
            return None
        refill = budget.limit.amount if period.kind == "rate" else 0
        span_s = 0 if period.kind == "window" else period.seconds
        return Line(key, most, 0, period.kind, enforce, span_s, refill)

    def _rules_for(self, tags: Mapping[str, str]) -> Sequence[_Rule]:
        """
        Those whose budgets count a call with these *tags*.
        """
        values = tuple([tags.get(tag) for tag in self._matched])
        known = self._admitting.get(values)
        if known is None:
            if len(self._admitting) >= _MOST_REMEMBERED:
                self._admitting.clear()
            known = self._admitting[values] = [rule for rule in self._rules if rule.admits(tags)]
        return known

    def _per(self, rule: _Rule, tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        pairs = tuple([(tag, tags.get(tag) or UNTAGGED) for tag in rule.per])
        if self._refuses_untagged and self.enforces(rule.budget):
            for tag in rule.budget.per:
                if not tags.get(tag):
                    raise ConfigurationError(
                        f"The call carries no tag {tag!r}, which {rule.budget} keeps its balances by. "
                        f'Tag it with scope(**{{{tag!r}: ...}}), or set untagged = "shared".'
                    )
        return pairs


class _Rule:
    """
    A budget with its globs compiled, its rule spelled out, and the tags of its balances as keys have them.
    """

    def __init__(self, budget: Budget, time_zone: str) -> None:
        self.budget = budget
        self.rule = budget.limit.rule(time_zone)
        self.per = sorted(budget.per)
        self.window = _NEVER
        self.admits = compile_match(budget.match)
