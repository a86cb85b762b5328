"""
Windows against a model that is slow and obvious: it looks at every second round midnight, and at every day.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.budgets.windows import find_window
from bedrock_guard.domain.budget import Period

# Zones whose clocks do what clocks can do: midnights that do not exist or come twice, quarters of hours,
# half an hour of summer time, a day left out, offsets of seconds long ago.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Africa/Casablanca",
]
CALENDAR = ["day", "week", "month", "quarter", "year"]
EPOCH = date(1970, 1, 1)


@lru_cache(maxsize=100_000)
def first_second(day: date, zone: str) -> int:
    """
    The first second of a local day: of its neighbours' hours, the first whose local date is not before it.
    """
    here = ZoneInfo(zone)
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    second = noon - 40 * 3600  # no zone is further from UTC than that
    step = 3600
    while step:
        while datetime.fromtimestamp(second + step, here).date() < day:
            second += step
        step //= 60 if step > 1 else 2
    return second + 1


def model(unit: str, count: int, zone: str, at: int) -> tuple[int, int]:
    """
    The window that holds *at*: go back and forth day by day until another one begins.
    """

    def label(day: date) -> object:
        return {
            "day": (day - EPOCH).days // count,
            "week": day.isocalendar()[:2],
            "month": (day.year, day.month),
            "quarter": (day.year, (day.month - 1) // 3),
            "year": day.year,
        }[unit]

    # The day that holds it, and not what the wall clock says: clocks may go back over midnight.
    day = datetime.fromtimestamp(at, ZoneInfo(zone)).date() + timedelta(days=1)
    while first_second(day, zone) > at:
        day -= timedelta(days=1)
    first = after = day
    while label(first - timedelta(days=1)) == label(day):
        first -= timedelta(days=1)
    while label(after) == label(day):
        after += timedelta(days=1)
    return first_second(first, zone), first_second(after, zone)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    zone=st.sampled_from(ZONES),
    unit=st.sampled_from(CALENDAR),
    count=st.integers(1, 40),
    at=st.integers(0, 2**32) | st.integers(1_577_836_800, 1_893_456_000),
)
def test_windows_are_those_of_the_model(zone: str, unit: str, count: int, at: int) -> None:
    """
    A budget that resets an hour off, or twice, on the two strange days of a year is what nobody tests by hand.
    """
    count = count if unit == "day" else 1
    window = find_window(Period(unit, count), ZoneInfo(zone), at)

    assert (window.start, window.end) == model(unit, count, zone, at)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2000, 1, 1), date(2037, 12, 31)),
    off_s=st.integers(-7200, 7200),
)
def test_round_midnight_a_moment_is_in_one_day(zone: str, day: date, off_s: int) -> None:
    """
    Where clocks change at midnight, most of what is written about calendars is wrong.
    """
    at = int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()) + off_s
    window = find_window(Period("day"), ZoneInfo(zone), at)

    assert (window.start, window.end) == model("day", 1, zone, at)


@pytest.mark.parametrize(
    ("unit", "count", "length"), [("minute", 7, 420), ("hour", 5, 18_000), ("hour", 1, 3600)]
)
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(at=st.integers(0, 2**33))
def test_minutes_and_hours_are_counted_from_1970(unit: str, count: int, length: int, at: int) -> None:
    """
    Every process of a fleet must cut them alike, in whatever zone.
    """
    window = find_window(Period(unit, count), ZoneInfo("Asia/Kathmandu"), at)

    assert window.end is not None
    assert (window.start % length, window.end - window.start) == (0, length)
    assert window.start <= at < window.end
