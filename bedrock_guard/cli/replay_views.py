"""
What a replay found, as tables, JSON, and CSV.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from datetime import UTC
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from bedrock_guard.cli import report_views
from bedrock_guard.cli.entry_views import show_tags
from bedrock_guard.cli.safe_text import cell, plain, to_json
from bedrock_guard.cli.screen import console, counted, dollars, fit, percent, table
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.replay.findings import Findings, Refusals, Tally
from bedrock_guard.replay.playing import Played, Refused
from bedrock_guard.replay.records import LoggedCall
from bedrock_guard.reports.moments import moment_of

COLUMNS: Final = (*report_views.TOTAL_COLUMNS, "saved")
_EACH: Final = ("at", "request_id", "model", "refused_by", "per", "cost", "place", "tags")
_FIGURES: Final = ("calls", "in", "cached", "out", "cost", "estimated")
_POLICY: Final = ("refused", "saved")
_SPARE: Final = ("cached", "out", "in", "estimated")
_LAST: Final = ("calls",)
_REFUSALS: Final = ("refused by", "whose", "calls", "first", "last", "saved")
_WORDS: Final = ("refused by", "whose", "first", "last")
_MOST_PROBLEMS: Final = 10


def show(findings: Findings, zone: ZoneInfo, most_rows: int, *, is_policy: bool) -> None:
    """
    All of it, for people.
    """
    out = console()
    if findings.total.logged.calls:
        out.print(fit(_bill(findings, most_rows, is_policy=is_policy), out, _SPARE, last=_LAST))
        if findings.refusals:
            out.print()
            out.print(fit(_refusal_table(findings, zone, most_rows), out, ("last", "first")))
        out.print()
    out.print(Text(summary(findings, zone)), soft_wrap=True)
    for line in _remarks(findings, is_policy=is_policy):
        out.print(Text(line, style="yellow"), soft_wrap=True)


def summary(findings: Findings, zone: ZoneInfo) -> str:
    """
    The whole on one line: how many calls, from when to when, what they cost, and what was refused of it.
    """
    logged, refused = findings.total.logged, findings.total.refused
    files = counted(findings.files, "file")
    if findings.first_at_s is None or findings.last_at_s is None:
        return f"No call was found in {files}."
    since, until = (_moment(at_s, zone) for at_s in (findings.first_at_s, findings.last_at_s))
    told = f"{counted(logged.calls, 'call')} in {files}, from {since} to {until}: {dollars(logged.nanousd)}."
    if refused.calls:
        share = percent(Fraction(refused.calls, logged.calls))
        saved = dollars(refused.nanousd)
        told += f" {refused.calls:,} of them ({share}) would have been refused, and {saved} saved."
    return told


def problem_lines(findings: Findings) -> Iterator[str]:
    """
    What could not be read or priced, the first few by name.
    """
    if not findings.problem_count:
        return
    yield f"{counted(findings.problem_count, 'record')} in no sum, as it could not be read or priced:"
    for problem in findings.problems[:_MOST_PROBLEMS]:
        yield f"  {plain(problem.place, None)}: {plain(problem.why, 200)}"
    if findings.problem_count > _MOST_PROBLEMS:
        yield f"  and {findings.problem_count - _MOST_PROBLEMS:,} more; --json has {len(findings.problems):,}"


def findings_json(findings: Findings) -> dict[str, Any]:
    """
    All of it as plain values; money in USD as text, moments in UTC.
    """
    names = findings.names
    return {
        "files": findings.files,
        "first_at": _iso(findings.first_at_s),
        "last_at": _iso(findings.last_at_s),
        "by": list(names),
        "groups": [
            dict(zip(names, group.key, strict=True)) | _tally_json(group.tally) for group in findings.groups
        ],
        "others": None if findings.others is None else _tally_json(findings.others),
        "total": _tally_json(findings.total),
        "refusals": [_refusal_json(refused, found) for refused, found in findings.refusals],
        "warned": dict(findings.warned),
        "tripped": dict(findings.tripped),
        "without_request": findings.without_request,
        "twice": findings.twice,
        "odd": findings.odd,
        "problem_count": findings.problem_count,
        "problems": [problem._asdict() for problem in findings.problems],
    }


def rows_csv(findings: Findings) -> Iterator[dict[str, object]]:
    """
    A line for each group.
    """
    names = findings.names
    for group in findings.groups:
        told = _tally_json(group.tally)
        yield {**dict(zip(names, group.key, strict=True)), **told, "usage": to_json(told["usage"])}
    if findings.others is not None:
        told = _tally_json(findings.others)
        yield {names[0]: "others", **told, "usage": to_json(told["usage"])}


def each_printer(*, as_json: bool) -> Callable[[LoggedCall, Played], None]:
    """
    Prints each call that is refused, as it comes: a line of CSV below its head, or of JSON.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        writer.writerow(_EACH)

    def see(logged: LoggedCall, played: Played) -> None:
        if not played.refused:
            return
        entry = played.entry
        told: dict[str, Any] = {
            "at": _iso(entry.at_s),
            "request_id": logged.request_id,
            "model": entry.model or entry.model_id,
            "refused_by": [refused.by for refused in played.refused],
            "per": [dict(refused.per) for refused in played.refused],
            "cost": None if entry.cost_nanousd is None else usd_text(entry.cost_nanousd),
            "place": logged.place,
            "tags": dict(entry.tags),
        }
        if as_json:
            print(to_json(told))
            return
        whole = told | {
            "refused_by": " ".join(told["refused_by"]),
            "per": to_json(told["per"]),
            "tags": to_json(told["tags"]),
        }
        writer.writerow([cell(whole[name]) for name in _EACH])

    return see


def _bill(findings: Findings, most_rows: int, *, is_policy: bool) -> Table:
    names, groups = findings.names, findings.groups
    made = table((*names, *_FIGURES, *(_POLICY if is_policy else ())), words=names)
    shown = groups[:most_rows] if most_rows else groups
    blank = ("",) * (len(names) - 1)
    for group in shown:
        made.add_row(
            *(Text(plain(value) or "none") for value in group.key), *_cells(group.tally, is_policy=is_policy)
        )
    if len(shown) < len(groups):
        made.add_row(f"… {len(groups) - len(shown):,} more", *blank)
    if findings.others is not None:
        made.add_row("others", *blank, *_cells(findings.others, is_policy=is_policy))
    made.add_section()
    made.add_row("total", *blank, *_cells(findings.total, is_policy=is_policy), style="bold")
    return made


def _cells(tally: Tally, *, is_policy: bool) -> list[str]:
    logged, refused = tally.logged, tally.refused
    found = [
        f"{logged.calls:,}",
        f"{logged.input_tokens:,}",
        percent(logged.cache_hit_share),
        f"{logged.output_tokens:,}",
        dollars(logged.nanousd),
        dollars(logged.estimated_nanousd),
    ]
    return [*found, f"{refused.calls:,}", dollars(refused.nanousd)] if is_policy else found


def _refusal_table(findings: Findings, zone: ZoneInfo, most_rows: int) -> Table:
    made = table(_REFUSALS, words=_WORDS, whole=("first", "last"))
    found = findings.refusals
    shown = found[:most_rows] if most_rows else found
    for refused, what in shown:
        made.add_row(
            Text(plain(refused.by)),
            Text(show_tags({tag: value or "untagged" for tag, value in refused.per}) or "all"),
            f"{what.calls:,}",
            _moment(what.first_at_s, zone),
            _moment(what.last_at_s, zone),
            dollars(what.nanousd),
        )
    if len(shown) < len(found):
        made.add_row(f"… {len(found) - len(shown):,} more")
    return made


def _remarks(findings: Findings, *, is_policy: bool) -> Iterator[str]:
    if doubt := report_views.doubts(findings.total.logged):
        yield doubt
    for name, calls in findings.warned.most_common(_MOST_PROBLEMS):
        shown = counted(calls, "call")
        yield f"{plain(name)} had no room for {shown}, and lets them go on: it warns, or is in shadow."
    for name, times in findings.tripped.most_common(_MOST_PROBLEMS):
        shown = counted(times, "time")
        yield f"{plain(name)} tripped {shown}, and lets calls go on: it warns, or is in shadow."
    if findings.without_request and is_policy:
        shown = counted(findings.without_request, "call")
        yield (
            f"{shown} logged without a request: what it can cost at most is not known, so it holds what it "
            "did cost, and a guard refuses a little earlier."
        )
    if findings.twice:
        yield f"{counted(findings.twice, 'record')} came twice; each counts once."
    if findings.odd:
        yield f"{counted(findings.odd, 'call')} with usage that cannot be right, charged as a guard does."


def _tally_json(tally: Tally) -> dict[str, Any]:
    refused = tally.refused
    told = report_views.totals_json(tally.logged)
    return told | {"refused": refused.calls, "saved": usd_text(refused.nanousd)}


def _refusal_json(refused: Refused, found: Refusals) -> dict[str, Any]:
    return {
        "refused_by": refused.by,
        "per": dict(refused.per),
        "calls": found.calls,
        "saved": usd_text(found.nanousd),
        "first_at": _iso(found.first_at_s),
        "last_at": _iso(found.last_at_s),
    }


def _iso(at_s: float | None) -> str | None:
    return None if at_s is None else moment_of(at_s, UTC).isoformat()


def _moment(at_s: float, zone: ZoneInfo) -> str:
    return f"{moment_of(at_s, zone):%Y-%m-%d %H:%M:%S}"
