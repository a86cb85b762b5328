"""
Balances in a ledger that no budget and no breaker names: of another program, or left behind by a change.

A changed name, unit, period or zone is another balance, which starts at zero. That is right, and
must not happen unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from bedrock_guard.budgets.breakers import counted_by
from bedrock_guard.budgets.windows import find_window
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import UNITS, USD, Budget, in_api_units, parse_limit
from bedrock_guard.domain.ledger import RATE_SUFFIX, Balance
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Stranger:
    """
    The balances of one budget and rule, in windows that are not over.

    Attributes:
        budget: A name, as the ledger has it.
        rule: Unit, period and zone: `"USD/day@UTC"`.
        now: The rule that the budget of that name has now; None where there is none.
        unit: `"USD"`, or what is counted.
        balances: How many, for different values of its tags.
        spent, pending: Their sums; USD as `Decimal`, counts as `int`.
    """

    budget: str
    rule: str
    now: str | None
    unit: str
    balances: int
    spent: Decimal | int
    pending: Decimal | int


def find_strangers(
    budgets: Iterable[Budget],
    balances: Iterable[Balance],
    *,
    time_zone: str,
    now: float,
    breakers: Iterable[Breaker] = (),
) -> list[Stranger]:
    """
    What of *balances* no budget and no breaker counts, sorted; those of windows that are over count no more
    anyway.
    """
    counted = {place for breaker in breakers for place in counted_by(breaker, time_zone)}
    rules: Mapping[str, str] = {each.name: each.limit.rule(time_zone) for each in budgets}
    found: dict[tuple[str, str], list[Balance]] = {}
    for balance in balances:
        key = balance.key
        is_counted = rules.get(key.budget) == key.rule or (key.budget, key.rule) in counted
        if not is_counted and not _is_over(balance, now):
            found.setdefault((key.budget, key.rule), []).append(balance)
    return [_stranger(name, rule, own, rules.get(name)) for (name, rule), own in sorted(found.items())]


def _stranger(name: str, rule: str, own: list[Balance], now: str | None) -> Stranger:
    unit = rule.partition("/")[0].partition(" ")[0]
    unit = unit if unit in UNITS else rule
    spent, pending = sum(each.spent for each in own), sum(each.pending for each in own)
    return Stranger(
        name,
        rule,
        now,
        unit,
        len(own),
        in_api_units(spent, unit) if unit == USD else spent,
        in_api_units(pending, unit) if unit == USD else pending,
    )


def _is_over(balance: Balance, now: float) -> bool:
    """
    Whether a balance counts no more; one of a rule that this version does not know may.

    A rate is over when it is full again; what rolls, when its sub-window has left the period.
    """
    key = balance.key
    if key.rule.endswith(RATE_SUFFIX):
        return (balance.full_at_s or 0.0) <= now
    rule, _, zone = key.rule.partition("@")
    try:
        period = parse_limit(f"1 {rule}").period
        window = find_window(period, open_zone(zone or "UTC"), key.window_start)
    except ConfigurationError:
        return False
    rest_s = period.seconds if period.kind == "rolling" else 0
    return window.end is not None and window.end + rest_s <= now
