"""
`bedrock-guard top`: who spends now.

Exit codes: 0 done, 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from bedrock_guard.cli import entry_options as options
from bedrock_guard.cli import report_views as views
from bedrock_guard.cli.reading import (
    BAD_INPUT,
    Config,
    Csv,
    Json,
    LedgerUrl,
    Reading,
    check_forms,
    fail,
    open_to_read,
)
from bedrock_guard.cli.safe_text import plain, print_csv, to_json
from bedrock_guard.cli.screen import console, dollars, fit, percent, table
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.reports.grouping import KINDS, Kind, read_kinds
from bedrock_guard.reports.spending import Spending, read_spenders, read_spending
from bedrock_guard.reports.totals import Totals

_HOUR_S: Final = 3600
_SPAN: Final = re.compile(r"([1-9]\d{0,8})\s*([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": _HOUR_S, "d": 24 * _HOUR_S}
_SPARE: Final = ("refused", "cached", "out", "in")
_FIGURES: Final = ("an hour", "cost", "calls", "refused", "in", "cached", "out")

Every = Annotated[float, typer.Option(help="With --watch: every so many seconds.", min=0.1)]


class _Asked(NamedTuple):
    """
    What is looked at, again and again.
    """

    where: EntryFilter
    kinds: list[Kind]
    span: str
    seconds: int


def top(
    *,
    last: Annotated[str, typer.Option(help="Calls that began in so long: 5m, 1h.")] = "15m",
    by: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(KINDS)}. Repeat it. Default: every value of every tag."),
    ] = None,
    tag: options.Tag = None,
    rows: Annotated[int, typer.Option(min=0, help="At most so many lines; 0 for all.")] = 20,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew until Ctrl-C.")] = False,
    every: Every = 2.0,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    Show who spends now: the values of tags by what they have cost in the last minutes.

    A call with several tags counts for each. `an hour` is what it comes to if it goes on like that.
    """
    check_forms(as_json, as_csv)
    if watch and (as_json or as_csv):
        fail("--watch is for people: not with --json or --csv.", BAD_INPUT)
    with open_to_read(ledger, config) as reading:
        span = _SPAN.fullmatch(last.strip())
        if span is None:
            fail(f"--last {last!r} is no span of time; write 90s, 5m or 1h.", BAD_INPUT)
        asked = _Asked(
            options.read_where(reading.zone, tag),
            read_kinds(by or (), reading.zone),
            last,
            int(span[1]) * _SECONDS[span[2]],
        )
        if watch:
            _watch(reading, asked, rows, every)
            return
        found = _read(reading, asked)
    if as_json:
        print(to_json(_json(found, asked)))
    elif as_csv:
        lines = [
            {
                **views.totals_csv(found.by, group.key, group.totals),
                "cost_an_hour": _hourly(group.totals, asked),
            }
            for group in found.groups
        ]
        print_csv((*found.by, "cost_an_hour", *views.TOTAL_COLUMNS), lines)
    else:
        console().print(_view(found, asked, rows))


def _read(reading: Reading, asked: _Asked) -> Spending:
    where = EntryFilter(since=time.time() - asked.seconds, tags=asked.where.tags)
    if asked.kinds:
        return read_spending(reading.ledger, where, asked.kinds)
    return read_spenders(reading.ledger, where)


def _watch(reading: Reading, asked: _Asked, most_rows: int, every_s: float) -> None:
    from rich.live import Live  # noqa: PLC0415  (imported on use)

    with suppress(KeyboardInterrupt), Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_view(_read(reading, asked), asked, most_rows), refresh=True)
            time.sleep(every_s)


def _view(found: Spending, asked: _Asked, most_rows: int) -> RenderableType:
    shown = found.groups[:most_rows] if most_rows else found.groups
    made = table((*found.by, *_FIGURES), words=found.by)
    for group in shown:
        made.add_row(*(Text(plain(value) or "none") for value in group.key), *_cells(group.totals, asked))
    more = len(found.groups) - len(shown)
    total = found.total
    head = (
        f"Last {asked.span}: {total.calls:,} calls, {total.refused:,} refused, {dollars(total.nanousd)}; "
        f"{dollars(_an_hour(total, asked))} an hour."
    )
    return Group(
        Text(head),
        *([fit(made, console(), _SPARE)] if shown else []),
        *([Text(f"… {more:,} more")] if more else []),
    )


def _cells(totals: Totals, asked: _Asked) -> list[str]:
    return [
        dollars(_an_hour(totals, asked)),
        dollars(totals.nanousd),
        f"{totals.calls:,}",
        f"{totals.refused:,}",
        f"{totals.input_tokens:,}",
        percent(totals.cache_hit_share),
        f"{totals.output_tokens:,}",
    ]


def _json(found: Spending, asked: _Asked) -> dict[str, Any]:
    told = views.spending_json(found)
    for shown, group in zip(told["groups"], found.groups, strict=True):
        shown["cost_an_hour"] = _hourly(group.totals, asked)
    return {"last_s": asked.seconds, **told, "cost_an_hour": _hourly(found.total, asked)}


def _hourly(totals: Totals, asked: _Asked) -> str:
    return usd_text(_an_hour(totals, asked))


def _an_hour(totals: Totals, asked: _Asked) -> int:
    return totals.nanousd * _HOUR_S // asked.seconds
