"""
What a budget has left, balance by balance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.steering import Steering
from bedrock_guard.domain.budget import Budget, in_api_units
from bedrock_guard.domain.control import Controls, is_in_force
from bedrock_guard.domain.ledger import Balance, LedgerKey

_NONE: Final = Controls()


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """
    One balance of a budget, in its current window.

    Attributes:
        budget: The budget's name.
        per: The tag values of the balance, sorted; empty when the budget keeps one.
        unit: `"USD"`, or what is counted.
        limit, spent, pending, remaining: USD as `Decimal`, counts as `int`; the limit has *topped_up* in it.
        window_start: Aware UTC.
        resets_at: Aware UTC; None for a lifetime budget.
        prices_as_of: The day that the price list is of, by which it was spent.
        topped_up: What top-ups that are in force add to the limit.
    """

    budget: str
    per: tuple[tuple[str, str], ...]
    unit: str
    limit: Decimal | int
    spent: Decimal | int
    pending: Decimal | int
    remaining: Decimal | int
    window_start: datetime
    resets_at: datetime | None
    prices_as_of: date
    topped_up: Decimal | int = 0


def read_status(
    budgets: Iterable[Budget],
    matcher: Matcher,
    balances: Iterable[Balance],
    *,
    now: float,
    prices_as_of: date,
    controls: Controls = _NONE,
) -> list[BudgetStatus]:
    """
    One row for each of *balances* in the current windows, and one of zeros for a budget without any.
    """
    steering = Steering(controls)
    grouped: dict[tuple[str, str, int], list[Balance]] = defaultdict(list)
    for balance in _with_topped_up(balances, controls, now):
        grouped[balance.key.budget, balance.key.rule, balance.key.window_start].append(balance)
    return [
        row
        for budget in budgets
        for row in _rows(budget, matcher, grouped, steering, now=now, prices_as_of=prices_as_of)
    ]


def _with_topped_up(balances: Iterable[Balance], controls: Controls, now: float) -> list[Balance]:
    """
    *balances*, and those of zeros that are topped up before their first call.
    """
    found = list(balances)
    known = {balance.key for balance in found}
    topped_up = {
        LedgerKey(each.budget, each.rule, each.per, each.window_start)
        for each in controls.top_ups
        if is_in_force(each, now)
    }
    return found + [Balance(key) for key in sorted(topped_up - known)]


def _rows(
    budget: Budget,
    matcher: Matcher,
    grouped: dict[tuple[str, str, int], list[Balance]],
    steering: Steering,
    *,
    now: float,
    prices_as_of: date,
) -> Iterator[BudgetStatus]:
    rule, window = matcher.current(budget, now)
    own = grouped.get((budget.name, rule, window.start), [])
    unit = budget.limit.unit
    figures = sorted((balance.key.per, balance.spent, balance.pending) for balance in own)
    for per, spent, pending in figures or [((), 0, 0)]:
        extra = steering.topped_up(LedgerKey(budget.name, rule, per, window.start), now)
        limit = budget.limit.amount + extra
        yield BudgetStatus(
            budget=budget.name,
            per=per,
            unit=unit,
            limit=in_api_units(limit, unit),
            spent=in_api_units(spent, unit),
            pending=in_api_units(pending, unit),
            remaining=in_api_units(max(0, limit - spent - pending), unit),
            window_start=datetime.fromtimestamp(window.start, UTC),
            resets_at=None if window.end is None else datetime.fromtimestamp(window.end, UTC),
            prices_as_of=prices_as_of,
            topped_up=in_api_units(extra, unit),
        )
