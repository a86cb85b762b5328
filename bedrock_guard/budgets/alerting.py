"""
Which thresholds a balance has reached, and what an alert says of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import show
from bedrock_guard.domain.alert import Alert, alert_id
from bedrock_guard.domain.budget import in_api_units
from bedrock_guard.domain.ledger import LedgerKey

WHOLE: Final = 1.0
"""The share that counts as reached when a call is refused."""


def reached(match: Match, spent: int) -> Iterator[float]:
    """
    The thresholds of *match* that *spent* has reached, the lowest first.
    """
    for share in match.budget.alerts:
        # A share is what somebody wrote: 0.07 of 100 is 7, whatever binary makes of it.
        if 0 < spent >= Decimal(repr(share)) * match.limit:
            yield share


def balance_alert(
    kind: str, threshold: float | None, match: Match, *, spent: int, what: str, at_s: float, zone: ZoneInfo
) -> Alert:
    """
    The alert of a balance; *what* is said of it, before its figures.
    """
    budget, unit, key = match.budget, match.unit, match.key
    start, end = (_moment(second) for second in (match.window.start, match.window.end))
    per = "".join(f" [{tag}={value or 'untagged'}]" for tag, value in key.per)
    used, limit = in_api_units(spent, unit), in_api_units(match.limit, unit)
    resets = "never resets" if end is None else f"resets {end.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    return Alert(
        id=alert_id(kind, threshold, key),
        kind=kind,
        threshold=threshold,
        budget=budget.name,
        per=key.per,
        window_start=start or datetime.fromtimestamp(0, UTC),
        window_end=end,
        unit=unit,
        spent=used,
        limit=limit,
        text=f"{budget}{per}: {what} · spent {show(used, unit)} of {show(limit, unit)} · {resets}",
        at=datetime.fromtimestamp(at_s, UTC),
    )


def day_alert(kind: str, key: LedgerKey, *, text: str, at_s: float) -> Alert:
    """
    The alert of what is about no budget: once for *key*, whose window is a day, see `day_key`.
    """
    return Alert(
        id=alert_id(kind, None, key),
        kind=kind,
        per=key.per,
        window_start=datetime.fromtimestamp(key.window_start, UTC),
        window_end=datetime.fromtimestamp(key.window_start + _DAY_S, UTC),
        text=text,
        at=datetime.fromtimestamp(at_s, UTC),
    )


def day_key(kind: str, per: tuple[tuple[str, str], ...], at_s: float) -> LedgerKey:
    """
    What an alert that is about no budget goes by: *per*, and the day in UTC.
    """
    return LedgerKey("", kind, per, int(at_s // _DAY_S) * _DAY_S)


def _moment(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)


_DAY_S: Final = 86_400
