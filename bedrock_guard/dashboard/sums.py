"""
Reports over journals of any length, a little with each request.

A period is read hour by hour or day by day, the newest first, for as long as a request may take; the next
request goes on. What calls may still be written to is read anew every few seconds; what is over, now and
then: a sweep writes what a program left open, however long after.

    unread --read--> partly --read--> whole, and shown as it is while it is read anew
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from threading import Lock
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Clock, ReadsEntries
from bedrock_guard.reports.following import LONGEST_S, SLACK_S
from bedrock_guard.reports.moments import CALENDAR, moment_of

# How long a request reads; a page of entries more, and the rest of the answer, come on top.
BUDGET_S: Final = 0.1
_PAGE: Final = 500
_MOST_REPORTS: Final = 8
# What may still change is read anew after so long, and after so many times what that takes.
_FRESH_S: Final = 5.0
_FRESH_TIMES: Final = 20
_OVER_FRESH_S: Final = 600.0


class Adds(Protocol):
    """
    What a report comes to, of some entries.
    """

    def merge(self, other: Self) -> None:
        """
        Count what *other* counts, too.
        """
        ...


S = TypeVar("S", bound=Adds)


class Period(NamedTuple):
    """
    A period that ends now: so many units, the one under way included.
    """

    units: int
    unit: str


PERIODS: Final[dict[str, Period]] = {
    "24h": Period(24, "hour"),
    "7d": Period(168, "hour"),
    "30d": Period(30, "day"),
    "90d": Period(90, "day"),
}


class Span(NamedTuple):
    """
    One unit of a period, seconds since 1970; *until* is None for the one under way.
    """

    name: str
    since: float
    until: float | None


class Read(NamedTuple, Generic[S]):
    """
    A report as far as it has been read.

    Attributes:
        spans: Each unit with what it comes to, the oldest first; None where it is not read yet.
        done: How many are read to their end.
    """

    spans: list[tuple[Span, S | None]]
    done: int

    @property
    def is_whole(self) -> bool:
        """
        Whether all of the period has been read.
        """
        return self.done == len(self.spans)


class Pages:
    """
    Entries that have been read already, for a report to read.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        Those that *where* admits, all at once.
        """
        del after, limit
        return [entry for entry in self._entries if where.admits(entry)], None


@dataclass(slots=True)
class _Reading(Generic[S]):
    """
    A unit that is being read.
    """

    began_at_s: float
    sums: S
    took_s: float = 0.0
    after: str | None = None


@dataclass(slots=True)
class _Part(Generic[S]):
    span: Span
    whole: _Reading[S] | None = None
    under_way: _Reading[S] | None = None

    def is_due(self, now: float) -> bool:
        """
        Whether it is to be read, or read anew.
        """
        known = self.whole
        if known is None:
            return True
        until = self.span.until
        is_over = until is not None and known.began_at_s >= until + LONGEST_S + SLACK_S
        fresh_s = _OVER_FRESH_S if is_over else _FRESH_S
        return now - known.began_at_s >= max(fresh_s, _FRESH_TIMES * known.took_s)


@dataclass(slots=True)
class _Report(Generic[S]):
    lock: Lock = field(default_factory=Lock)
    parts: dict[Span, _Part[S]] = field(default_factory=dict)


class Sums:
    """
    The reports that were asked for last, as far as they have been read.
    """

    def __init__(
        self, ledger: ReadsEntries, *, clock: Clock, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._timer = timer
        self._lock = Lock()
        self._reports: OrderedDict[Hashable, _Report[Any]] = OrderedDict()

    def read(
        self,
        name: Hashable,
        period: Period,
        zone: tzinfo,
        empty: Callable[[], S],
        sum_up: Callable[[Pages], S],
    ) -> Read[S]:
        """
        The report *name* on *period*, read on for a moment; *sum_up* says what a page of entries comes to.
        """
        report: _Report[S] = self._find(name)
        now = self._clock()
        # Who has waited for others that read the same has had that time.
        deadline = self._timer() + BUDGET_S
        with report.lock:
            parts = report.parts
            report.parts = {span: parts.get(span) or _Part(span) for span in spans_of(period, zone, now)}
            for part in report.parts.values():
                while part.is_due(now) and self._timer() < deadline:
                    self._read_on(part, now, empty, sum_up)
            return self._copy(report, empty)

    def _find(self, name: Hashable) -> _Report[S]:
        with self._lock:
            # A name stands for one kind of sums.
            report = self._reports.pop(name, None) or _Report()
            self._reports[name] = report
            if len(self._reports) > _MOST_REPORTS:
                self._reports.popitem(last=False)
        return report

    def _read_on(
        self, part: _Part[S], now: float, empty: Callable[[], S], sum_up: Callable[[Pages], S]
    ) -> None:
        began_s = self._timer()
        reading = part.under_way = part.under_way or _Reading(now, empty())
        where = EntryFilter(since=part.span.since, until=part.span.until)
        entries, reading.after = self._ledger.entries(where, after=reading.after, limit=_PAGE)
        reading.sums.merge(sum_up(Pages(entries)))
        reading.took_s += self._timer() - began_s
        if reading.after is None:
            part.whole, part.under_way = reading, None

    @staticmethod
    def _copy(report: _Report[S], empty: Callable[[], S]) -> Read[S]:
        """
        What is whole does not change any more; of what is under way a copy, as the next request reads on.
        """
        found: list[tuple[Span, S | None]] = []
        for part in report.parts.values():
            own = part.whole.sums if part.whole else None
            if own is None and part.under_way:
                own = empty()
                own.merge(part.under_way.sums)
            found.append((part.span, own))
        done = sum(part.whole is not None for part in report.parts.values())
        return Read(found[::-1], done)


def spans_of(period: Period, zone: tzinfo, now: float) -> Iterator[Span]:
    """
    The units of *period*, the newest first.
    """
    show = CALENDAR[period.unit]
    until = None
    moment = moment_of(now, zone)
    for _ in range(period.units):
        since = _begin(period.unit, moment).timestamp()
        yield Span(show(moment_of(since, zone)), since, until)
        until = since
        moment = moment_of(since - 1, zone)


def _begin(unit: str, moment: datetime) -> datetime:
    first = moment.replace(minute=0, second=0, microsecond=0)
    return first if unit == "hour" else first.replace(hour=0, fold=0)
