"""
What was spent over time, by model, tag or another word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from starlette.requests import Request

from bedrock_guard.cli.report_views import doubts, totals_json
from bedrock_guard.dashboard.desk import Desk, View, read_given, where_of
from bedrock_guard.dashboard.rendering import Pairs
from bedrock_guard.dashboard.sums import PERIODS, Pages, Read
from bedrock_guard.dashboard.views.periods import LAST, all_of, read_last, reading_json
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.grouping import TAG, Kind, read_kinds
from bedrock_guard.reports.spending import read_spending
from bedrock_guard.reports.totals import Totals

BY: Final = "by"
FILTERS: Final = ("model", "operation", "family", "outcome")
WORDS: Final = ("model", "family", "operation", "region", "tier", "outcome", "basis")
_USUAL: Final = "model"
# Told apart in an hour or a day, in a table, and in a chart, which has so many colours.
MOST_GROUPS: Final = 200
_MOST_ROWS: Final = 50
_MOST_SERIES: Final = 7


@dataclass(slots=True)
class SpendSums:
    """
    What entries come to, by one word.

    Attributes:
        rest: What belongs to no group, as there are too many; else None.
    """

    groups: dict[str, Totals] = field(default_factory=dict)
    rest: Totals | None = None
    total: Totals = field(default_factory=Totals)

    def merge(self, other: SpendSums) -> None:
        """
        Count what *other* counts, too.
        """
        self.total.merge(other.total)
        if other.rest is not None:
            self._add_to_rest(other.rest)
        for name, totals in other.groups.items():
            if name in self.groups or len(self.groups) < MOST_GROUPS:
                self.groups.setdefault(name, Totals()).merge(totals)
            else:
                self._add_to_rest(totals)

    def dearest_first(self) -> list[tuple[str, Totals]]:
        """
        Groups by their cost; one in which nothing was called or refused, as of stops, is none.
        """
        return sorted(
            (group for group in self.groups.items() if _has_calls(group[1])),
            key=lambda group: (-group[1].nanousd, -group[1].calls, group[0]),
        )

    def _add_to_rest(self, totals: Totals) -> None:
        self.rest = self.rest or Totals()
        self.rest.merge(totals)


def _has_calls(totals: Totals) -> bool:
    return bool(totals.calls or totals.refused or totals.would_refuse)


def spend(desk: Desk, request: Request) -> View:
    """
    The page.
    """
    last, by = read_last(request), (request.query_params.get(BY) or _USUAL).strip()
    kind = _read_kind(by, desk)
    given = read_given(request, FILTERS)
    read = read_spend(desk, last, kind, given)
    data, total = spend_json(desk, last, kind, read)
    context = {
        "data": data,
        "doubt": doubts(total),
        "words": WORDS,
        "periods": PERIODS,
        "kept": [*given, *([(BY, by)] if by != _USUAL else []), (LAST, last)],
        "tag_name": by.removeprefix(TAG) if by.startswith(TAG) else "",
    }
    return View("spend.html", context, data, given)


def read_spend(desk: Desk, last: str, kind: Kind, given: Pairs) -> Read[SpendSums]:
    """
    What was spent in each unit of a period, as far as it has been read.
    """
    where = where_of(given, desk.zone)
    name = ("spend", last, kind.name, *given)
    return desk.sums.read(name, PERIODS[last], desk.zone, SpendSums, partial(_sum_up, where, kind))


def spend_json(desk: Desk, last: str, kind: Kind, read: Read[SpendSums]) -> tuple[dict[str, Any], Totals]:
    """
    The same as data, and the total of it.
    """
    whole = all_of(read, SpendSums())
    groups = whole.dearest_first()
    series = [name for name, totals in groups[:_MOST_SERIES] if totals.nanousd]
    return {
        **reading_json(desk, last, read),
        "by": kind.name,
        "groups": [{"name": name, **totals_json(totals)} for name, totals in groups[:_MOST_ROWS]],
        "more_groups": max(0, len(groups) - _MOST_ROWS),
        "others": None if whole.rest is None else totals_json(whole.rest),
        "total": totals_json(whole.total),
        "series": _series(read, series),
    }, whole.total


def _series(read: Read[SpendSums], names: list[str]) -> list[dict[str, Any]]:
    """
    Cost by unit: of each of *names*, and of all others.
    """
    costs: dict[str, list[int]] = {name: [] for name in names}
    others: list[int] = []
    for _, sums in read.spans:
        known = {} if sums is None else sums.groups
        own = [known[name].nanousd if name in known else 0 for name in names]
        for name, nanousd in zip(names, own, strict=True):
            costs[name].append(nanousd)
        others.append((0 if sums is None else sums.total.nanousd) - sum(own))
    told = [{"name": name, "is_others": False, "costs": costs[name]} for name in names]
    if any(others):
        told.append({"name": "others", "is_others": True, "costs": others})
    return [{**each, "costs": [*map(usd_text, each["costs"])]} for each in told]  # type: ignore[call-overload]


def _sum_up(where: EntryFilter, kind: Kind, pages: Pages) -> SpendSums:
    found = read_spending(pages, where, [kind], most_groups=MOST_GROUPS)
    return SpendSums({group.key[0]: group.totals for group in found.groups}, found.rest, found.total)


def _read_kind(by: str, desk: Desk) -> Kind:
    if by not in WORDS and not by.startswith(TAG):
        raise ConfigurationError(
            f"{BY} {by[:30]!r} is nothing to tell apart; there are {', '.join(WORDS)}, {TAG}NAME."
        )
    return read_kinds([by], desk.zone)[0]
