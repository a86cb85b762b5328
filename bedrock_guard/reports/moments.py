"""
Moments as reports name them: the hour, day, week and month that one lies in, in the zone of the budgets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from bedrock_guard.errors import ConfigurationError

# A day before the last that a datetime can hold, so that it can be told in any zone.
_LAST_S: Final = 253_402_214_400.0
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")


def moment_of(at_s: float, zone: tzinfo = UTC) -> datetime:
    """
    *at_s*, seconds since 1970, in *zone*; what no calendar holds is its nearest day.
    """
    return datetime.fromtimestamp(min(max(0.0, at_s), _LAST_S), zone)


def _week(moment: datetime) -> str:
    year, week, _ = moment.isocalendar()
    return f"{year:04}-W{week:02}"


def _hour(moment: datetime) -> str:
    # When clocks are put back, an hour of that name comes twice.
    return f"{moment:%Y-%m-%d %H}:00{' again' if moment.fold else ''}"


# Weeks begin on Mondays, as those of budgets do.
CALENDAR: Final[Mapping[str, Callable[[datetime], str]]] = {
    "hour": _hour,
    "day": lambda moment: f"{moment:%Y-%m-%d}",
    "week": _week,
    "month": lambda moment: f"{moment:%Y-%m}",
}


def read_month(text: str, zone: tzinfo) -> tuple[float, float]:
    """
    The month `"2026-11"` as `[since, until)`, seconds since 1970.

    Raises:
        ConfigurationError: It is no month.
    """
    found = _MONTH.fullmatch(text)
    try:
        first = datetime(int(found[1]), int(found[2]), 1, tzinfo=zone) if found else None
        after = None if first is None else (first + timedelta(days=32)).replace(day=1)
    except (ValueError, OverflowError):
        first = after = None
    if first is None or after is None:
        raise ConfigurationError(f"{text!r} is no month; write 2026-11.")
    return first.timestamp(), after.timestamp()


def last_month(now: float, zone: tzinfo) -> str:
    """
    The month before that of *now*: the newest that is over.
    """
    return CALENDAR["month"](moment_of(now, zone).replace(day=1) - timedelta(days=1))
