"""
What somebody should hear of: limits that are near, alerts that are not told yet, refusals; and stops.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from starlette.requests import Request

from bedrock_guard.budgets.steering import show_stop
from bedrock_guard.cli.controls import control_json
from bedrock_guard.cli.entry_views import entry_json
from bedrock_guard.dashboard.desk import Desk, View
from bedrock_guard.dashboard.views import journal
from bedrock_guard.dashboard.views.overview import MOST_BARS, bars_of, read_standings
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.budget import show_amount
from bedrock_guard.domain.control import Stop, TopUp, is_in_force
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.reports.moments import moment_of
from bedrock_guard.reports.standings import Standing

_MOST_WAITING: Final = 100
# What alerts are about and the journal keeps.
_TELLING: Final = ("refused", "would_refuse", "stop")
_SHOWN: Final = 20


def alerts(desk: Desk, request: Request) -> View:
    """
    What the ledger knows of alerts: an alert that was told leaves no text there, what it was about does.
    """
    del request
    found, _ = read_standings(desk)
    thresholds = [(each, least) for each in found if (least := _reached(desk, each)) is not None]
    shown = thresholds[:MOST_BARS]
    reached = [*zip(bars_of(desk, [each for each, _ in shown]), (least for _, least in shown), strict=True)]
    waiting = [*map(_told, desk.reading.ledger.unconfirmed_alerts(limit=_MOST_WAITING))]
    newest = sorted(
        (each for outcome in _TELLING for each in _newest(desk, outcome)), key=lambda each: -each.at_s
    )[:_SHOWN]
    more = len(thresholds) - len(shown)
    data = {
        "reached": [_reached_json(*each) for each in shown],
        "more_reached": more,
        "waiting": waiting,
        "newest": [*map(entry_json, newest)],
    }
    context = {
        "reached": reached,
        "more_reached": more,
        "waiting": waiting,
        "columns": journal.COLUMNS,
        "rows": [journal.row(desk, each) for each in newest],
    }
    return View("alerts.html", context, data)


def stops(desk: Desk, _: Request) -> View:
    """
    Stops and top-ups that are in force.
    """
    now, found = desk.clock(), desk.reading.ledger.controls()
    stopped = [each for each in found.stops if is_in_force(each, now)]
    topped_up = [each for each in found.top_ups if is_in_force(each, now)]
    context = {
        "stops": [(stop, _stop_words(desk, stop)) for stop in stopped],
        "top_ups": [(top_up, _top_up_words(desk, top_up)) for top_up in topped_up],
    }
    data = {"stops": [*map(control_json, stopped)], "top_ups": [*map(control_json, topped_up)]}
    return View("stops.html", context, data)


def _reached(desk: Desk, standing: Standing) -> float | None:
    """
    The highest threshold that a balance has reached, by what is spent.
    """
    budget = next((each for each in desk.matcher.budgets if each.name == standing.status.budget), None)
    if budget is None or not standing.is_named:
        return None
    return max((each for each in budget.alerts if _spent_share(standing) >= each), default=None)


def _spent_share(standing: Standing) -> float:
    row = standing.status
    return float(Fraction(row.spent) / Fraction(row.limit)) if row.limit else 1.0


def _reached_json(standing: Standing, threshold: float) -> dict[str, Any]:
    row = standing.status
    told = {"budget": row.budget, "per": dict(row.per), "threshold": threshold}
    return {**told, "spent_share": round(_spent_share(standing), 6)}


def _told(claim: AlertClaim) -> dict[str, Any]:
    """
    An alert that a process has taken to tell; one of a newer version by its id alone.
    """
    try:
        alert = Alert.from_json(claim.alert)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return {"id": claim.id, "kind": "", "text": "A newer version wrote it.", "at": None}
    return {"id": alert.id, "kind": alert.kind, "text": alert.text, "at": alert.at.isoformat()}


def _newest(desk: Desk, outcome: str) -> list[Entry]:
    found, _ = desk.reading.ledger.entries(EntryFilter(outcome=outcome), limit=_SHOWN)
    return found


def _stop_words(desk: Desk, stop: Stop) -> dict[str, str]:
    return {
        "whose": show_stop(stop),
        "since": _moment(desk, stop.at_s),
        "until": "resumed" if stop.until_s is None else _moment(desk, stop.until_s),
    }


def _top_up_words(desk: Desk, top_up: TopUp) -> dict[str, str]:
    return {
        "amount": show_amount(top_up.amount, top_up.rule.partition("/")[0]),
        "since": _moment(desk, top_up.at_s),
        "until": "for all time" if top_up.until_s is None else _moment(desk, top_up.until_s),
    }


def _moment(desk: Desk, at_s: float) -> str:
    return f"{moment_of(at_s, desk.zone):%Y-%m-%d %H:%M:%S}"
