"""
Windows against the calendar.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bedrock_guard.budgets.windows import Windows, find_window
from bedrock_guard.domain.budget import Period
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period("minute"), "2026-11-22T10:11:12", "2026-11-22T10:11:00", "2026-11-22T10:12:00"),
        (Period("hour", 6), "2026-11-22T10:11:12", "2026-11-22T06:00:00", "2026-11-22T12:00:00"),
        (Period("day"), "2026-11-22T23:59:59", "2026-11-22T00:00:00", "2026-11-23T00:00:00"),
        (Period("week"), "2026-11-22T12:00:00", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        (Period("month"), "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        (Period("quarter"), "2026-11-22T12:00:00", "2026-10-01T00:00:00", "2027-01-01T00:00:00"),
        (Period("year"), "2026-11-22T12:00:00", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_a_window_is_what_the_calendar_says(period: Period, moment: str, start: str, end: str) -> None:
    """
    A month of 30 days or a week that begins on a Sunday would reset on the wrong day.
    """
    window = find_window(period, ZoneInfo("UTC"), at(moment))

    assert (window.start, window.end) == (at(start), at(end))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_has_as_many_hours_as_the_clock_says(day: str, hours: int) -> None:
    """
    On the days that clocks change, midnight is still midnight.
    """
    window = find_window(Period("day"), BERLIN, at(f"{day}T12:00:00", BERLIN))

    assert window.end is not None
    assert window.end - window.start == hours * 3600


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Havana", "Asia/Beirut", "Pacific/Apia"])
@pytest.mark.parametrize("unit", ["day", "week", "month", "quarter", "year"])
def test_windows_tile_the_time_line(zone: str, unit: str) -> None:
    """
    A moment in no window, or in two, would be a budget forgotten or counted twice.
    """
    here, moment = open_zone(zone), datetime(2011, 12, 20, tzinfo=UTC)
    window = find_window(Period(unit), here, moment.timestamp())
    for _ in range(900):
        moment += timedelta(hours=7)
        following = find_window(Period(unit), here, moment.timestamp())
        assert following.start <= moment.timestamp() < (following.end or 0)
        assert following == window or following.start >= (window.end or 0)
        window = following


def test_days_are_counted_from_1970_in_the_zone() -> None:
    """
    Every process must cut N days at the same midnight, whenever it started.
    """
    window = find_window(Period("day", 3), BERLIN, at("2026-11-22T12:00:00", BERLIN))

    first_day = datetime.fromtimestamp(window.start, BERLIN)
    assert (first_day.date() - date(1970, 1, 1)).days % 3 == 0
    assert (first_day.hour, window.end and window.end - window.start) == (0, 3 * 86400)


def test_all_time_has_one_window() -> None:
    """
    A lifetime budget never resets.
    """
    window = find_window(Period(), BERLIN, at("2026-11-22T12:00:00"))

    assert (window.start, window.end) == (0, None)


def test_the_current_window_moves_on_by_itself() -> None:
    """
    No job resets a budget: the next window is another key.
    """
    windows = Windows(ZoneInfo("UTC"))

    first = windows.at(Period("minute"), 60.0)
    assert windows.at(Period("minute"), 119.9) is first
    assert windows.at(Period("minute"), 120.0).start == 120


def test_an_unknown_zone_is_refused_by_name() -> None:
    """
    A zone that silently became UTC would reset budgets hours off.
    """
    with pytest.raises(ConfigurationError, match="'Mars/Olympus'"):
        open_zone("Mars/Olympus")
