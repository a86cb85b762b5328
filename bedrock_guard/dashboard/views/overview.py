"""
What is left, and what the last day came to.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from starlette.requests import Request

from bedrock_guard.budgets.steering import show_stop
from bedrock_guard.cli.status import read_now, standing_cells, standing_json, stops_json, style_of
from bedrock_guard.dashboard.desk import Desk, View
from bedrock_guard.dashboard.views.spending import read_spend, spend_json
from bedrock_guard.domain.control import Stop
from bedrock_guard.reports.grouping import read_kinds
from bedrock_guard.reports.standings import Standing

_LAST: Final = "24h"
MOST_BARS: Final = 200


class Bar(NamedTuple):
    """
    A balance as a page shows it.

    Attributes:
        cells: As `status` shows them.
        style: `green`, `yellow` or `red`; empty where nobody here knows the limit.
        parts: What is spent, pending and leased: where each begins, and how wide it is, in percent.
    """

    standing: Standing
    cells: dict[str, str]
    style: str
    parts: list[tuple[str, float, float]]

    @property
    def percent(self) -> float:
        """
        Spent and pending, of the limit; rounded down.
        """
        share = self.standing.used_share
        return 0.0 if share is None else int(share * 1000) / 10


def overview(desk: Desk, _: Request) -> View:
    """
    The first page.
    """
    found, stopped = read_standings(desk)
    shown = bars_of(desk, found)
    (by_model,) = read_kinds(["model"], desk.zone)
    read = read_spend(desk, _LAST, by_model, [])
    data, total = spend_json(desk, _LAST, by_model, read)
    context = {
        "named": [bar for bar in shown if bar.standing.is_named],
        "unnamed": [bar for bar in shown if not bar.standing.is_named],
        "has_leases": any(bar.standing.status.leased for bar in shown),
        "more_bars": len(found) - len(shown),
        "stops": [(show_stop(stop), stop.reason) for stop in stopped],
        "data": data,
        "total": total,
        "prices_as_of": found[0].status.prices_as_of if found else None,
    }
    told: dict[str, Any] = {
        "balances": [standing_json(bar.standing) for bar in shown],
        "more_balances": len(found) - len(shown),
        "stops": stops_json(stopped),
        "spend": data,
    }
    return View("overview.html", context, told)


def read_standings(desk: Desk) -> tuple[list[Standing], list[Stop]]:
    """
    Every balance, the fullest first, and the stops in force.
    """
    found, stopped = read_now(desk.reading, desk.matcher)
    return sorted(found, key=lambda each: (not each.is_named, -(each.used_share or 0))), stopped


def bars_of(desk: Desk, standings: Sequence[Standing]) -> list[Bar]:
    """
    The first of *standings*, as a page has room for.
    """
    now = desk.clock()
    return [_bar(each, now) for each in standings[:MOST_BARS]]


def _bar(standing: Standing, now: float) -> Bar:
    share = standing.used_share
    words = {name: str(text) for name, text in standing_cells(standing, now).items() if name != "used"}
    return Bar(standing, words, "" if share is None else style_of(share), _parts(standing))


def _parts(standing: Standing) -> list[tuple[str, float, float]]:
    row = standing.status
    amounts = [("spent", row.spent), ("pending", row.pending), ("leased", row.leased)]
    # What is above the limit has no room in a bar.
    whole = max(Fraction(row.limit), sum((Fraction(amount) for _, amount in amounts), Fraction(0)))
    parts, begin = [], 0.0
    for name, amount in amounts:
        width = round(float(Fraction(amount) / whole * 100), 2) if whole and standing.is_named else 0.0
        if width:
            parts.append((name, round(begin, 2), width))
        begin += width
    return parts
