"""
The decision table of windows: of each period, in each strange place of the calendar, from when until when.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bedrock_guard.budgets.windows import find_window
from bedrock_guard.domain.budget import Budget, parse_limit
from bedrock_guard.errors import ConfigurationError

# period | zone | a moment (UTC) | from | until (UTC)
TABLE = """
minute             | UTC                 | 2026-11-22 10:11:12 | 2026-11-22 10:11:00 | 2026-11-22 10:12:00
15 minutes         | UTC                 | 2026-11-22 10:59:59 | 2026-11-22 10:45:00 | 2026-11-22 11:00:00
hour               | Asia/Kathmandu      | 2026-11-22 10:11:12 | 2026-11-22 10:00:00 | 2026-11-22 11:00:00
6 hours            | Europe/Berlin       | 2026-11-22 10:11:12 | 2026-11-22 06:00:00 | 2026-11-22 12:00:00
day                | UTC                 | 2026-11-22 00:00:00 | 2026-11-22 00:00:00 | 2026-11-23 00:00:00
day                | Asia/Kathmandu      | 2026-11-22 18:14:59 | 2026-11-21 18:15:00 | 2026-11-22 18:15:00
day                | Asia/Kathmandu      | 2026-11-22 18:15:00 | 2026-11-22 18:15:00 | 2026-11-23 18:15:00
day                | Europe/Berlin       | 2026-03-29 10:00:00 | 2026-03-28 23:00:00 | 2026-03-29 22:00:00
day                | Europe/Berlin       | 2026-10-25 10:00:00 | 2026-10-24 22:00:00 | 2026-10-25 23:00:00
day                | America/New_York    | 2026-03-08 10:00:00 | 2026-03-08 05:00:00 | 2026-03-09 04:00:00
day                | America/New_York    | 2026-11-01 10:00:00 | 2026-11-01 04:00:00 | 2026-11-02 05:00:00
day                | Australia/Lord_Howe | 2026-04-04 20:00:00 | 2026-04-04 13:00:00 | 2026-04-05 13:30:00
day                | Pacific/Apia        | 2011-12-30 09:59:59 | 2011-12-29 10:00:00 | 2011-12-30 10:00:00
day                | Pacific/Apia        | 2011-12-30 10:00:00 | 2011-12-30 10:00:00 | 2011-12-31 10:00:00
2 days             | UTC                 | 1970-01-02 12:00:00 | 1970-01-01 00:00:00 | 1970-01-03 00:00:00
3 days             | Europe/Berlin       | 2026-11-22 12:00:00 | 2026-11-20 23:00:00 | 2026-11-23 23:00:00
week               | UTC                 | 2026-11-22 23:59:59 | 2026-11-16 00:00:00 | 2026-11-23 00:00:00
week               | UTC                 | 2026-11-23 00:00:00 | 2026-11-23 00:00:00 | 2026-11-30 00:00:00
week               | Europe/Berlin       | 2026-10-25 10:00:00 | 2026-10-18 22:00:00 | 2026-10-25 23:00:00
week               | UTC                 | 2027-01-01 00:00:00 | 2026-12-28 00:00:00 | 2027-01-04 00:00:00
month              | UTC                 | 2024-02-29 12:00:00 | 2024-02-01 00:00:00 | 2024-03-01 00:00:00
month              | UTC                 | 2026-02-28 23:59:59 | 2026-02-01 00:00:00 | 2026-03-01 00:00:00
month              | UTC                 | 2026-12-31 23:59:59 | 2026-12-01 00:00:00 | 2027-01-01 00:00:00
month              | Europe/Berlin       | 2026-10-31 23:00:00 | 2026-10-31 23:00:00 | 2026-11-30 23:00:00
quarter            | UTC                 | 2024-02-29 12:00:00 | 2024-01-01 00:00:00 | 2024-04-01 00:00:00
quarter            | America/New_York    | 2026-12-31 12:00:00 | 2026-10-01 04:00:00 | 2027-01-01 05:00:00
year               | UTC                 | 2024-12-31 23:59:59 | 2024-01-01 00:00:00 | 2025-01-01 00:00:00
year               | Pacific/Kiritimati  | 2026-12-31 10:00:00 | 2026-12-31 10:00:00 | 2027-12-31 10:00:00
rolling minute     | UTC                 | 2026-11-22 10:11:13 | 2026-11-22 10:11:12 | 2026-11-22 10:11:14
rolling 24 hours   | Europe/Berlin       | 2026-11-22 10:11:12 | 2026-11-22 09:36:00 | 2026-11-22 10:24:00
rolling 7 days     | UTC                 | 2026-11-22 10:11:12 | 2026-11-22 06:24:00 | 2026-11-22 12:00:00
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in TABLE.strip().splitlines()]


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(("period", "zone", "at", "start", "end"), ROWS)
def test_the_window_of_a_moment(period: str, zone: str, at: str, start: str, end: str) -> None:
    """
    Figures from the calendar, not from the code.
    """
    window = find_window(parse_limit(f"5 USD/{period}").period, ZoneInfo(zone), moment(at))

    assert (window.start, window.end) == (moment(start), moment(end))


@pytest.mark.parametrize(
    ("limit", "burst", "rule", "shown"),
    [
        ("10 USD/rolling 24 hours", None, "USD/rolling 24 hours", "10 USD/rolling 24 hours"),
        ("10 USD/rolling hour", None, "USD/rolling hour", "10 USD/rolling hour"),
        ("5 requests/second", None, "requests/second rate", "5 requests/second"),
        ("5 requests/10 seconds", 10, "requests/10 seconds rate", "5 requests/10 seconds"),
        ("1M tokens/minute", 200_000, "tokens/minute rate", "1000000 tokens/minute"),
        ("100 requests/minute", None, "requests/minute@UTC", "100 requests/minute"),
        ("20 USD", None, "USD", "20 USD"),
    ],
)
def test_a_rule_tells_what_kind_of_balance_it_is(
    limit: str, burst: int | None, rule: str, shown: str
) -> None:
    """
    Amounts of a window must never meet those of a rate.
    """
    budget = Budget("any", limit, burst=burst)

    assert (budget.limit.rule("UTC"), str(budget.limit)) == (rule, shown)


@pytest.mark.parametrize(
    ("burst", "unit", "most"), [(None, "requests", 5), (10, "requests", 10), ("2.5", "USD", 25 * 10**8)]
)
def test_a_burst_is_in_the_unit_of_its_limit(burst: object, unit: str, most: int) -> None:
    """
    Without one, a rate allows at once what it allows in its period.
    """
    assert Budget("any", f"5 {unit}/second", burst=burst).most == most  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "options", "says"),
    [
        ("5 USD/rolling month", {}, "minutes, hours and days roll"),
        ("5 USD/rolling second", {}, "minutes, hours and days roll"),
        ("5 USD/rolling", {}, "'rolling' is no period"),
        ("5 USD/day", {"burst": 10}, "is no rate, so it has no burst"),
        ("5 USD/rolling 24 hours", {"burst": 10}, "is no rate, so it has no burst"),
        ("0 requests/second", {}, "an amount above 0"),
        ("5 requests/second", {"burst": 0}, "burst is 0"),
        ("5 requests/second", {"burst": 1.5}, "burst is 1.5"),
        ("5 requests/second", {"burst": True}, "burst is True"),
        ("5 requests/second", {"burst": "many"}, "burst is 'many'"),
        ("5 USD/day", {"on_exceed": "shout"}, "on_exceed is 'shout'; it is one of refuse, warn"),
        ("5 USD/day", {"mode": "dry-run"}, "mode is 'dry-run'; it is one of enforce, shadow"),
    ],
)
def test_what_cannot_be_meant_is_refused(limit: str, options: dict[str, object], says: str) -> None:
    """
    A limit that is silently another one is worse than none.
    """
    with pytest.raises(ConfigurationError, match=says):
        Budget("any", limit, **options)  # type: ignore[arg-type]
