"""
The journal: entries by all filters of the `entries` command, one entry, and calls as they end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from starlette.requests import Request

from bedrock_guard.cli.entry_views import cells, entry_json
from bedrock_guard.cli.safe_text import plain
from bedrock_guard.dashboard.desk import (
    FILTERS,
    LIVE_FILTERS,
    TAG,
    Desk,
    NotFound,
    View,
    read_given,
    where_of,
)
from bedrock_guard.dashboard.rendering import Pairs, address, is_linkable
from bedrock_guard.domain.budget import BUILT_IN_TAGS
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import ReadsEntries, read_all_entries
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.moments import moment_of

AFTER: Final = "after"
BEFORE: Final = "before"
COLUMNS: Final = ("at", "outcome", "operation", "model", "in", "cached", "out", "cost", "basis or why")
PAGE: Final = 50
HINTS: Final = {
    "since": "2h, 7d, 2026-11-22",
    "until": "1h, 2026-11-23",
    "outcome": "refused",
    "operation": "Converse",
    "family": "anthropic",
    "basis": "estimated",
    "region": "us-east-1",
    "cost_min": "0.50",
    "status": "429",
}
# What is not as it should be stands out.
_TONES: Final = {
    "answered": "good",
    "refused": "bad",
    "stop": "bad",
    "lost": "warn",
    "abandoned": "warn",
    "rejected": "warn",
    "would_refuse": "warn",
}
_MOST_TAGS: Final = 4
_LONGEST_TAG: Final = 30

# A filter may admit one entry of a million. So it is looked for in stretches of time, which grow while that
# is quick, for as long as a request may take; and anew behind a time without calls, as there may be many.
_BUDGET_S: Final = 0.1
_FIRST_S: Final = 60.0
_QUICK_S: Final = 0.01
_GROWTH: Final = 3
_NARROWING: Final = ("since", "until")


class Found(NamedTuple):
    """
    Some entries, newest first.

    Attributes:
        more: What of an address leads to the next; empty at the end.
        looked_to_s: Back to when was looked, where that was not all; else None.
    """

    entries: list[Entry]
    more: dict[str, str]
    looked_to_s: float | None = None


def entries(desk: Desk, request: Request) -> View:
    """
    A page of the journal.
    """
    given = read_given(request)
    where = where_of(given, desk.zone)
    after, before = request.query_params.get(AFTER), _read_moment(request, BEFORE)
    try:
        found = look(desk.reading.ledger, where, after=after, before=before, now=desk.clock())
    except OverflowError:
        raise ConfigurationError(f"{AFTER} is no place in a ledger's entries.") from None
    more = address("/entries", given, **found.more) if found.more else None
    looked_to = None if found.looked_to_s is None else moment_of(found.looked_to_s, desk.zone).isoformat()
    context = {
        "columns": COLUMNS,
        "rows": [row(desk, each, given) for each in found.entries],
        "more": more,
        "looked_to": looked_to,
        "is_first": after is None and before is None,
        "filters": [*FILTERS],
        "hints": HINTS,
        **_form(given),
        "without": [
            (name, value, address("/entries", [pair for pair in given if pair != (name, value)]))
            for name, value in given
        ],
    }
    data = {"entries": [*map(entry_json, found.entries)], "next": more, "looked_to": looked_to}
    return View("entries.html", context, data, given)


def entry(desk: Desk, request: Request) -> View:
    """
    All of one entry, which is found by its time and its id.
    """
    id_, at_s = request.query_params.get("id", ""), _read_moment(request, "at")
    if at_s is None:
        raise ConfigurationError("An entry is found by its time and its id: at=… and id=….")
    where = EntryFilter(since=at_s, until=math.nextafter(at_s, math.inf))
    same = read_all_entries(desk.reading.ledger, where)
    found = next((each for each in same if each.id == id_), None)
    if found is None:
        raise NotFound("There is no such entry; what is older than keep_entries_days is dropped.")
    told = entry_json(found)
    links = {tag: link for tag, value in found.tags.items() if (link := _tag(tag, value, ())["link"])}
    context = {"row": row(desk, found), "told": told, "plain_fields": _plain_fields(told), "links": links}
    return View("entry.html", context, told)


def live(desk: Desk, request: Request) -> View:
    """
    The newest calls; a script adds those that come.
    """
    given = read_given(request, LIVE_FILTERS)
    found = look(desk.reading.ledger, where_of(given, desk.zone), now=desk.clock())
    rows = [row(desk, each) for each in found.entries]
    context = {"columns": COLUMNS, "rows": rows, "filters": LIVE_FILTERS, **_form(given)}
    return View("live.html", context, {"entries": [*map(entry_json, found.entries)]}, given)


def row(desk: Desk, entry: Entry, given: Pairs = ()) -> dict[str, Any]:
    """
    An entry on a line: cells of `COLUMNS`, tags with links that admit only calls like this.
    """
    *shown, _ = map(str, cells(entry, desk.zone))
    # What columns have already comes last.
    tags = sorted(entry.tags.items(), key=lambda pair: (pair[0] in BUILT_IN_TAGS, pair))
    return {
        "id": plain(entry.id),
        "link": address("/entry", at=repr(entry.at_s), id=entry.id) if is_linkable(entry.id) else None,
        "outcome": plain(entry.outcome),
        "tone": _TONES.get(entry.outcome, ""),
        "cells": shown,
        "tags": [_tag(tag, value, given) for tag, value in tags[:_MOST_TAGS]],
        "more_tags": max(0, len(tags) - _MOST_TAGS),
    }


def look(
    ledger: ReadsEntries,
    where: EntryFilter,
    *,
    now: float,
    after: str | None = None,
    before: float | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Found:
    """
    A page of the entries that *where* admits, from *after* and *before* on; fewer where it takes too long.
    """
    if not _is_narrow(where):
        page, rest = ledger.entries(where, after=after, limit=PAGE)
        return Found(page, {} if rest is None else {AFTER: rest})
    deadline, stretch_s = timer() + _BUDGET_S, _FIRST_S
    found: list[Entry] = []
    until = where.until if before is None else min(before, math.inf if where.until is None else where.until)
    floor = where.since or 0.0
    while True:
        newest, _ = ledger.entries(EntryFilter(since=where.since, until=until), limit=1)
        if not newest:
            return Found(found, {})
        if newest[0].at_s < (now if until is None else until) - stretch_s:
            until, stretch_s = math.nextafter(newest[0].at_s, math.inf), _FIRST_S
        since = max(floor, (now if until is None else until) - stretch_s)
        began = timer()
        wanted = replace(where, since=since, until=until)
        page, rest = ledger.entries(wanted, after=after, limit=PAGE - len(found))
        found += page
        if rest is not None:
            return Found(found, {AFTER: rest, **({} if until is None else {BEFORE: repr(until)})})
        if since <= floor:
            return Found(found, {})
        until = since
        if len(found) == PAGE or timer() >= deadline:
            return Found(found, {BEFORE: repr(since)}, since if len(found) < PAGE else None)
        if timer() - began < _QUICK_S:
            stretch_s *= _GROWTH


def _is_narrow(where: EntryFilter) -> bool:
    return where != EntryFilter(**{name: getattr(where, name) for name in _NARROWING})


def _read_moment(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        moment = float(text)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise ConfigurationError(f"{name} {text[:30]!r} is no time in seconds since 1970.")
    return moment


def _tag(tag: str, value: str, given: Pairs) -> dict[str, str | None]:
    pair = f"{tag}={value}"
    # A name with a = in it would be read as another tag.
    is_one = is_linkable(pair) and "=" not in tag and bool(tag)
    others = [each for each in given if each[0] != TAG or each[1].partition("=")[0] != tag]
    return {
        "text": f"{plain(tag, _LONGEST_TAG)}={plain(value, _LONGEST_TAG)}",
        "link": address("/entries", [*others, (TAG, pair)]) if is_one else None,
    }


def _form(given: Pairs) -> dict[str, Any]:
    return {
        "values": {name: value for name, value in given if name != TAG},
        "tags": [value for name, value in given if name == TAG],
    }


def _plain_fields(told: dict[str, Any]) -> list[tuple[str, Any]]:
    """
    What of an entry is neither empty nor shown in a table of its own.
    """
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, tuple) else value)
        for name, value in told.items()
        if value not in (None, (), {}, "") and not isinstance(value, dict) and name != "attempts"
    ]
