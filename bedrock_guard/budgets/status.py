"""
What a budget has left, balance by balance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from bedrock_guard.budgets.matching import UNTAGGED, Matcher
from bedrock_guard.budgets.steering import Steering
from bedrock_guard.budgets.windows import taken
from bedrock_guard.domain.budget import Budget, Window, in_api_units
from bedrock_guard.domain.control import Controls, is_in_force
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Balance, Ledger, LedgerKey, read_all_entries

_NONE: Final = Controls()
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """
    One balance of a budget, in its current window.

    Attributes:
        budget: The budget's name.
        per: The tag values of the balance, sorted; empty when the budget keeps one.
        unit: `"USD"`, or what is counted.
        limit, spent, pending, remaining: USD as `Decimal`, counts as `int`; the limit is this balance's own,
            and has *topped_up* in it.
        window_start: Aware UTC; of a rolling window, since when what is spent counts; of a rate, now.
        resets_at: Aware UTC; None for a lifetime budget. Of a rolling window, when the oldest that is counted
            leaves it, and of a rate, when it is refilled; None while nothing is counted.
        prices_as_of: The day that the price list is of, by which it was spent.
        enforced: False for a soft limit, and in a shadow: it counts and never refuses.
        would_refuse: Calls in the window, of a rate in the last day, that a shadow would have refused; None
            where the budget is none, or would refuse nobody.
        topped_up: What top-ups that are in force add to the limit.
        leased: What processes have taken to spend without asking, of a ledger on leases; not in *remaining*,
            though what they do not spend of it comes back.
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
    enforced: bool = True
    would_refuse: int | None = None
    topped_up: Decimal | int = 0
    leased: Decimal | int = 0


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
    grouped: dict[tuple[str, str], list[Balance]] = defaultdict(list)
    for balance in _with_topped_up(balances, controls, now):
        grouped[balance.key.budget, balance.key.rule].append(balance)
    return [
        row
        for budget in budgets
        for row in _rows(budget, matcher, grouped, steering, now=now, prices_as_of=prices_as_of)
    ]


def count_would_refuse(rows: Iterable[BudgetStatus], matcher: Matcher, ledger: Ledger) -> list[BudgetStatus]:
    """
    *rows* with how many calls those of shadows would have refused: since their windows began; of a rate,
    which has none, in the last day.
    """
    shadows = {
        budget.name: _DAY_S * (budget.limit.period.kind == "rate")
        for budget in matcher.budgets
        if matcher.is_shadow(budget)
    }
    counted = list(rows)
    since = {
        row.budget: row.window_start.timestamp() - shadows[row.budget]
        for row in counted
        if row.budget in shadows
    }
    if not since:
        return counted
    tags = {row.budget: [tag for tag, _ in row.per] for row in counted}
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    for entry in read_all_entries(ledger, EntryFilter(since=min(since.values()), outcome="would_refuse")):
        name = entry.budget
        if entry.reason == "budget" and name in since and entry.at_s >= since[name]:
            counts[name, tuple((tag, entry.tags.get(tag) or UNTAGGED) for tag in tags[name])] += entry.count
    return [
        replace(row, would_refuse=counts[row.budget, row.per]) if row.budget in since else row
        for row in counted
    ]


class _Figures(NamedTuple):
    """
    What counts of a balance now; in the ledger's units.
    """

    per: tuple[tuple[str, str], ...]
    spent: int
    pending: int
    since: float
    until: float | None
    leased: int = 0


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
    grouped: dict[tuple[str, str], list[Balance]],
    steering: Steering,
    *,
    now: float,
    prices_as_of: date,
) -> Iterator[BudgetStatus]:
    rule, window = matcher.current(budget, now)
    own = grouped.get((budget.name, rule), [])
    unit = budget.limit.unit
    figures = sorted(_FIGURES[budget.limit.period.kind](budget, own, window, now))
    empty = _Figures((), 0, 0, *_empty(budget, window, now))
    for per, spent, pending, since, until, leased in figures or [empty]:
        extra = steering.topped_up(LedgerKey(budget.name, rule, per, window.start), now)
        limit = extra + (budget.most if budget.burst is not None else budget.limit_of(per).amount)
        yield BudgetStatus(
            budget=budget.name,
            per=per,
            unit=unit,
            limit=in_api_units(limit, unit),
            spent=in_api_units(spent, unit),
            pending=in_api_units(pending, unit),
            remaining=in_api_units(max(0, limit - spent - pending - leased), unit),
            window_start=datetime.fromtimestamp(since, UTC),
            resets_at=None if until is None else datetime.fromtimestamp(until, UTC),
            prices_as_of=prices_as_of,
            enforced=matcher.enforces(budget),
            topped_up=in_api_units(extra, unit),
            leased=in_api_units(leased, unit),
        )


def _empty(budget: Budget, window: Window, now: float) -> tuple[float, float | None]:
    period = budget.limit.period
    if period.kind == "window":
        return window.start, window.end
    return (now if period.kind == "rate" else window.start - period.seconds), None


def _in_window(_: Budget, own: Sequence[Balance], window: Window, __: float) -> list[_Figures]:
    return [
        _Figures(each.key.per, each.spent, each.pending, window.start, window.end, each.leased)
        for each in own
        if each.key.window_start == window.start
    ]


def _in_rolling(budget: Budget, own: Sequence[Balance], window: Window, _: float) -> list[_Figures]:
    length, since = (window.end or 0) - window.start, window.start - budget.limit.period.seconds
    by_per: dict[tuple[tuple[str, str], ...], list[Balance]] = defaultdict(list)
    for balance in own:
        if balance.key.window_start >= since:
            by_per[balance.key.per].append(balance)
    found = []
    for per, balances in by_per.items():
        counted = [each.key.window_start for each in balances if each.spent or each.pending]
        until = min(counted) + budget.limit.period.seconds + length if counted else None
        spent, pending = sum(each.spent for each in balances), sum(each.pending for each in balances)
        found.append(_Figures(per, spent, pending, since, until))
    return found


def _in_rate(budget: Budget, own: Sequence[Balance], _: Window, now: float) -> list[_Figures]:
    found = []
    for each in own:
        full_at = each.full_at_s or 0.0
        used = taken(budget.limit, full_at, now)
        found.append(_Figures(each.key.per, used, 0, now, full_at if full_at > now else None))
    return found


# By the kind of a budget's period: what counts of each of its balances.
_FIGURES: Final[Mapping[str, Callable[[Budget, Sequence[Balance], Window, float], list[_Figures]]]] = {
    "window": _in_window,
    "rolling": _in_rolling,
    "rate": _in_rate,
}
