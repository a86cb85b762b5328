"""
Which thresholds a balance has reached, and what an alert says of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import cut, one_line, show, show_per
from bedrock_guard.budgets.windows import taken
from bedrock_guard.domain.alert import Alert, alert_id
from bedrock_guard.domain.budget import Window, in_api_units
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import SUB_WINDOWS, Balance, LedgerKey, RefusedLine

WHOLE: Final = 1.0
"""The share that counts as reached when a call is refused."""


# What sinks take is bounded: a text message has 1,600 characters, an SNS message 256 KB.
_LONGEST_TEXT: Final = 1000


def reached(match: Match, spent: int) -> Iterator[float]:
    """
    The thresholds of *match* that *spent* has reached, the lowest first.
    """
    for share in match.budget.alerts:
        # A share is what somebody wrote: 0.07 of 100 is 7, whatever binary makes of it.
        if 0 < spent >= Decimal(repr(share)) * match.limit:
            yield share


def news_of(match: Match, at_s: float) -> tuple[LedgerKey, Window]:
    """
    What an alert of *match* at *at_s* goes by, and the window in which it is told once.

    What rolls has a run of its period, counted from 1970: of a sub-window each it would be told thirty
    times. A rate has a day in UTC, for it has no end.
    """
    period = match.budget.limit.period
    if period.kind == "window":
        return match.key, match.window
    length, since = (_DAY_S, at_s) if period.kind == "rate" else (period.seconds, match.key.window_start)
    start = int(since // length) * length
    return match.key._replace(window_start=start), Window(start, start + length)


def keys_of(match: Match) -> list[LedgerKey]:
    """
    The balances that count for *match*: of what rolls, its sub-window and those before it.
    """
    if match.budget.limit.period.kind != "rolling":
        return [match.key]
    start, span_s = match.key.window_start, match.budget.limit.period.seconds
    starts = range(start - span_s, start + 1, span_s // SUB_WINDOWS)
    return [match.key._replace(window_start=each) for each in starts]


def spent_of(match: Match, balances: Mapping[LedgerKey, Balance], now: float) -> int:
    """
    What is spent of *match*, by the *balances* of its `keys_of`.
    """
    limit = match.budget.limit
    if limit.period.kind == "rate":
        return taken(limit, balances[match.key].full_at_s, now)
    return sum(balances[key].spent for key in keys_of(match))


def overruns(
    matches: Iterable[Match], amounts: Mapping[LedgerKey, int], held: Mapping[LedgerKey, int]
) -> dict[LedgerKey, str]:
    """
    What to say of each balance for which a call came to more than was held.
    """
    found = {}
    for match in matches:
        used, most = amounts[match.key], held.get(match.key, 0)
        if used > most:
            came_to, had = (show(in_api_units(amount, match.unit), match.unit) for amount in (used, most))
            found[match.key] = f"a call came to {came_to}, and {had} was held for it"
    return found


def refusal_text(match: Match, refused: RefusedLine) -> str:
    """
    What to say of a call that did not fit.
    """
    asked = show(in_api_units(refused.line.amount, match.unit), match.unit, up=True)
    free = show(in_api_units(refused.room, match.unit), match.unit)
    return f"a call was refused, it may come to {asked} and {free} is free"


def clamp_text(entry: Entry, tokens: int) -> str:
    """
    What to say of a call that was given less output so that it fits.
    """
    return (
        f"maxTokens of a {entry.operation} of {entry.model_id} was lowered to {tokens}, for it may come to "
        f"more than its share of what is free; that of others may be, too"
    )


def anomaly_text(entry: Entry) -> str:
    """
    What to say of usage that contradicts itself.
    """
    return (
        f"Call {entry.id} of {entry.model_id} reports usage that cannot be right "
        f"({', '.join(entry.anomalies)}); it is charged by its rule."
    )


def balance_alert(
    kind: str, threshold: float | None, match: Match, *, spent: int, what: str, at_s: float, zone: ZoneInfo
) -> Alert:
    """
    The alert of a balance; *what* is said of it, before its figures.
    """
    budget, unit = match.budget, match.unit
    key, window = news_of(match, at_s)
    start, end = (_moment(second) for second in (window.start, window.end))
    used, limit = in_api_units(spent, unit), in_api_units(match.limit, unit)
    resets = "never resets" if end is None else f"resets {end.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    period = budget.limit.period
    figures = _FIGURES[period.kind].format(show(used, unit), show(limit, unit), resets=resets, period=period)
    return Alert(
        id=alert_id(kind, threshold, key),
        kind=kind,
        threshold=threshold,
        budget=budget.name,
        per=_cut_values(key.per),
        window_start=start or datetime.fromtimestamp(0, UTC),
        window_end=end,
        unit=unit,
        spent=used,
        limit=limit,
        text=f"{budget}{show_per(key.per)}: {what} · {figures}",
        at=datetime.fromtimestamp(at_s, UTC),
    )


def breaker_alert(key: LedgerKey, window: Window, *, text: str, at_s: float) -> Alert:
    """
    The alert of a breaker that has tripped: *key* names it, whose calls, and by its rule the trip.
    """
    start, end = (_moment(second) for second in (window.start, window.end))
    return Alert(
        id=alert_id("breaker", None, key),
        kind="breaker",
        budget=key.budget,
        per=_cut_values(key.per),
        window_start=start or datetime.fromtimestamp(0, UTC),
        window_end=end,
        text=one_line(cut(text, _LONGEST_TEXT)),
        at=datetime.fromtimestamp(at_s, UTC),
    )


def day_alert(kind: str, key: LedgerKey, *, text: str, at_s: float) -> Alert:
    """
    The alert of what is about no budget: once for *key*, whose window is a day, see `day_key`.
    """
    return Alert(
        id=alert_id(kind, None, key),
        kind=kind,
        per=_cut_values(key.per),
        window_start=datetime.fromtimestamp(key.window_start, UTC),
        window_end=datetime.fromtimestamp(key.window_start + _DAY_S, UTC),
        text=one_line(cut(text, _LONGEST_TEXT)),
        at=datetime.fromtimestamp(at_s, UTC),
    )


def day_key(kind: str, per: tuple[tuple[str, str], ...], at_s: float) -> LedgerKey:
    """
    What an alert that is about no budget goes by: *per*, and the day in UTC.
    """
    return LedgerKey("", kind, per, int(at_s // _DAY_S) * _DAY_S)


def _cut_values(per: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple([(tag, cut(value)) for tag, value in per])


def _moment(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)


_DAY_S: Final = 86_400

# By the kind of a budget's period.
_FIGURES: Final = {
    "window": "spent {} of {} · {resets}",
    "rolling": "spent {} of {} in {period}",
    "rate": "{} of a burst of {} taken",
}
