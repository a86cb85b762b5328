"""
Windows: the runs of a period, true to the calendar of a zone.

Minutes and hours are counted from 1970-01-01T00:00Z. Days and longer begin at
local midnight, so that a day on which clocks change has 23 or 25 hours and a
month is a month.

What rolls has sub-windows, a thirtieth of it each, also counted from 1970: what
was spent in one counts until all of it is as old as the period. So never more
than the limit is spent in any run of it, and up to a thirtieth of it longer
than that is a spent dollar remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Final
from zoneinfo import ZoneInfo

from bedrock_guard.domain.budget import SECONDS, Limit, Period, Window
from bedrock_guard.domain.ledger import SUB_WINDOWS

_EPOCH: Final = date(1970, 1, 1)
# The periods of a fixed length that windows have; a day may have 23 hours.
_FIXED: Final = ("minute", "hour")


class Windows:
    """
    The current window of each period, kept until it ends.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._current: dict[Period, Window] = {}

    def at(self, period: Period, now: float) -> Window:
        """
        The window that holds *now*, seconds since 1970.
        """
        window = self._current.get(period)
        if window is None or not (window.start <= now and (window.end is None or now < window.end)):
            window = self._current[period] = find_window(period, self._zone, now)
        return window


def find_window(period: Period, zone: ZoneInfo, at: float) -> Window:
    """
    The window of *period* in *zone* that holds the moment *at*, seconds since 1970.

    Of what rolls, the sub-window; a rate has one for all time.
    """
    if period.unit == "lifetime" or period.kind == "rate":
        return Window(0, None)
    if period.kind == "rolling" or period.unit in _FIXED:
        length = (
            period.seconds // SUB_WINDOWS if period.kind == "rolling" else SECONDS[period.unit] * period.count
        )
        start = int(at // length) * length
        return Window(start, start + length)
    first, following = _DATES[period.unit]
    day = first(datetime.fromtimestamp(at, UTC).astimezone(zone).date(), period.count)
    # Where clocks go back over midnight, a date comes twice: step to the run that holds *at*.
    while _midnight(day, zone) > at:
        day = first(day - timedelta(days=1), period.count)
    while _midnight(following(day, period.count), zone) <= at:
        day = following(day, period.count)
    return Window(_midnight(day, zone), _midnight(following(day, period.count), zone))


def taken(limit: Limit, full_at_s: float | None, now: float) -> int:
    """
    How much of a rate is taken, which is refilled at *full_at_s*.
    """
    return ceil(Fraction(max(0.0, (full_at_s or 0.0) - now)) * limit.amount / limit.period.seconds)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _add_months(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)


def _first_of_days(day: date, count: int) -> date:
    return day - timedelta(days=(day - _EPOCH).days % count)


# Calendar unit -> (the first date of the window that holds a date, the first date of the next window).
_DATES: Final[dict[str, tuple[Callable[[date, int], date], Callable[[date, int], date]]]] = {
    "day": (_first_of_days, lambda day, count: day + timedelta(days=count)),
    "week": (lambda day, _: day - timedelta(days=day.weekday()), lambda day, _: day + timedelta(days=7)),
    "month": (lambda day, _: day.replace(day=1), lambda day, _: _add_months(day, 1)),
    "quarter": (
        lambda day, _: date(day.year, (day.month - 1) // 3 * 3 + 1, 1),
        lambda day, _: _add_months(day, 3),
    ),
    "year": (lambda day, _: date(day.year, 1, 1), lambda day, _: date(day.year + 1, 1, 1)),
}
