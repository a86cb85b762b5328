"""
How much prompt caches serve, over time and by tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from starlette.requests import Request

from bedrock_guard.cli.report_views import cache_json
from bedrock_guard.dashboard.desk import Desk, View, read_given, where_of
from bedrock_guard.dashboard.sums import PERIODS, Pages
from bedrock_guard.dashboard.views.periods import LAST, all_of, read_last, reading_json
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.reports.cache_health import CacheFigures, Offender, PricesOf, read_cache_health
from bedrock_guard.reports.grouping import Kind

FILTERS: Final = ("model", "operation", "family")
# Units of the period are read one by one, and told apart by that.
_ANY_TIME: Final = Kind("any", lambda _: "")
_MOST_OFFENDERS: Final = 200
_MOST_ROWS: Final = 25


@dataclass(slots=True)
class CacheSums:
    """
    How well caches worked for some entries.
    """

    total: CacheFigures = field(default_factory=CacheFigures)
    offenders: dict[Offender, CacheFigures] = field(default_factory=dict)
    left_out: int = 0
    is_cut: bool = False

    def merge(self, other: CacheSums) -> None:
        """
        Count what *other* counts, too.
        """
        self.total.add(other.total)
        self.left_out += other.left_out
        self.is_cut |= other.is_cut
        for name, figures in other.offenders.items():
            if name in self.offenders or len(self.offenders) < _MOST_OFFENDERS:
                self.offenders.setdefault(name, CacheFigures()).add(figures)
            else:
                self.is_cut = True


def caches(desk: Desk, request: Request) -> View:
    """
    The page.
    """
    last, given = read_last(request), read_given(request, FILTERS)
    sum_up = partial(_sum_up, where_of(given, desk.zone), desk.entry_prices().of)
    read = desk.sums.read(("caches", last, *given), PERIODS[last], desk.zone, CacheSums, sum_up)
    whole = all_of(read, CacheSums())
    worst = sorted(
        whole.offenders.items(),
        key=lambda each: (-each[1].could_save_steps, -each[1].uncached_tokens, each[0]),
    )
    data: dict[str, Any] = {
        **reading_json(desk, last, read),
        "total": cache_json(whole.total),
        "left_out": whole.left_out,
        "over_time": [cache_json(sums.total if sums else CacheFigures()) for _, sums in read.spans],
        "offenders": [
            {"tag": tag, "value": value, **cache_json(figures)}
            for (tag, value), figures in worst[:_MOST_ROWS]
        ],
        "is_cut": whole.is_cut or len(worst) > _MOST_ROWS,
    }
    return View(
        "caches.html", {"data": data, "periods": PERIODS, "kept": [*given, (LAST, last)]}, data, given
    )


def _sum_up(where: EntryFilter, prices_of: PricesOf, pages: Pages) -> CacheSums:
    found = read_cache_health(pages, where, time=_ANY_TIME, prices_of=prices_of, most_groups=_MOST_OFFENDERS)
    return CacheSums(found.total, dict(found.offenders), found.left_out, found.is_cut)
