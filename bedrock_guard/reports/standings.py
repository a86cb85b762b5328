"""
Where budgets stand: those that settings name, and balances that none of them does.

A program may name its budget in its code alone; the ledger then knows what is spent, not of how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Final, NamedTuple

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.status import BudgetStatus, count_would_refuse, read_status
from bedrock_guard.budgets.strangers import find_strangers
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import Budget, in_api_units, parse_limit
from bedrock_guard.domain.control import BREAKER
from bedrock_guard.domain.ledger import RATE_SUFFIX, Balance, Ledger
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.moments import moment_of

_STAND_IN: Final = "stand-in"


class Standing(NamedTuple):
    """
    One balance, now.

    Attributes:
        rule: Unit, period and zone, as the ledger has them.
        is_named: Whether settings name its budget; else nobody here knows its limit, and that in *status*
            means nothing.
    """

    status: BudgetStatus
    rule: str
    is_named: bool = True

    @property
    def used_share(self) -> Fraction | None:
        """
        Spent and pending over the limit; None where nobody knows that.
        """
        if not self.is_named:
            return None
        used, limit = self.status.spent + self.status.pending, self.status.limit
        return Fraction(used) / Fraction(limit) if limit else Fraction(1)


def read_standings(
    ledger: Ledger,
    matcher: Matcher,
    settings: Settings,
    *,
    now: float,
    prices_as_of: date,
    breakers: Iterable[Breaker] = (),
) -> list[Standing]:
    """
    One for each balance in its current window, and one of zeros for a budget without any; what no budget
    names is last.
    """
    balances, controls = ledger.balances(), ledger.controls()
    rows = read_status(
        matcher.budgets, matcher, balances, now=now, prices_as_of=prices_as_of, controls=controls
    )
    rules = {each.name: each.limit.rule(settings.time_zone) for each in matcher.budgets}
    named = [Standing(row, rules[row.budget]) for row in count_would_refuse(rows, matcher, ledger)]
    strangers = find_strangers(
        matcher.budgets, balances, time_zone=settings.time_zone, now=now, breakers=breakers
    )
    places = [(each.budget, each.rule) for each in strangers if not each.budget.startswith(BREAKER)]
    for place in places:
        own = [each for each in balances if (each.key.budget, each.key.rule) == place]
        named += _unnamed(*place, own, now=now, prices_as_of=prices_as_of)
    return named


def _unnamed(
    budget: str, rule: str, own: Sequence[Balance], *, now: float, prices_as_of: date
) -> Iterator[Standing]:
    """
    The balances of a budget of which only the name and the rule are known.
    """
    if rule.endswith(RATE_SUFFIX):  # how much of it is taken, only its burst and refill tell
        return
    text, _, zone = rule.partition("@")
    try:
        stand_in = Budget(_STAND_IN, parse_limit(f"1 {text}"))
        matcher = Matcher([stand_in], Settings(time_zone=zone or "UTC"))
    except ConfigurationError:  # a rule of a newer version
        yield from (_as_it_is(each, prices_as_of) for each in own)
        return
    key_rule = stand_in.limit.rule(zone or "UTC")
    renamed = [replace(each, key=each.key._replace(budget=_STAND_IN, rule=key_rule)) for each in own]
    for row in read_status([stand_in], matcher, renamed, now=now, prices_as_of=prices_as_of):
        yield Standing(replace(row, budget=budget, limit=0, remaining=0), rule, is_named=False)


def _as_it_is(balance: Balance, prices_as_of: date) -> Standing:
    key = balance.key
    unit = key.rule.partition("/")[0]
    status = BudgetStatus(
        budget=key.budget,
        per=key.per,
        unit=unit,
        limit=0,
        spent=in_api_units(balance.spent, unit),
        pending=in_api_units(balance.pending, unit),
        leased=in_api_units(balance.leased, unit),
        remaining=0,
        window_start=moment_of(key.window_start),
        resets_at=None,
        prices_as_of=prices_as_of,
    )
    return Standing(status, key.rule, is_named=False)
