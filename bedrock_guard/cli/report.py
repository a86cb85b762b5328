"""
`bedrock-guard report`: what was spent, by whom, and how well caches work.

Exit codes: 0 done, 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from bedrock_guard.cli import entry_options as options
from bedrock_guard.cli import report_views as views
from bedrock_guard.cli.exports import chargeback, focus
from bedrock_guard.cli.reading import Config, Csv, Json, LedgerUrl, check_forms, entry_prices, open_to_read
from bedrock_guard.cli.safe_text import print_csv, to_json
from bedrock_guard.cli.screen import console, fit
from bedrock_guard.reports.cache_health import CacheFigures, CacheHealth, read_cache_health
from bedrock_guard.reports.grouping import KINDS, read_kinds
from bedrock_guard.reports.moments import CALENDAR
from bedrock_guard.reports.spending import Spending, read_spending

_MOST_ROWS: Final = 50
_MOST_OFFENDERS: Final = 10

Rows = Annotated[int, typer.Option(min=0, help="At most so many lines of a table; 0 for all.")]

report = typer.Typer(
    name="report",
    help="What was spent, by whom and when, and how well caches work.",
    no_args_is_help=True,
)
report.command()(chargeback)
report.command()(focus)


@report.command()
def by(
    kinds: Annotated[
        list[str], typer.Argument(metavar="KIND...", help=f"One or several of {', '.join(KINDS)}.")
    ],
    *,
    since: options.Since = None,
    until: options.Until = None,
    tag: options.Tag = None,
    model: options.Model = None,
    operation: options.Operation = None,
    rows: Rows = _MOST_ROWS,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    Add up calls, tokens and cost by model, tag, day or several of them: `report by month tag:team`.

    What AWS reported is told apart from what is an estimate, as an answer was lost, and from what expired,
    as a process died. Days begin in the time zone of the budgets, weeks on Mondays.
    """
    check_forms(as_json, as_csv)
    with open_to_read(ledger, config) as reading:
        found = read_spending(
            reading.ledger,
            options.read_where(reading.zone, tag, since=since, until=until, model=model, operation=operation),
            read_kinds(kinds, reading.zone),
        )
    if as_json:
        print(to_json(views.spending_json(found)))
    elif as_csv:
        _print_csv(found)
    else:
        out = console()
        out.print(fit(views.spending_table(found, rows), out, views.SPARE, last=views.LAST))
        if doubt := views.doubts(found.total):
            out.print(doubt, style="yellow")
    if found.rest is not None:
        typer.echo("There are too many groups to tell all apart; narrow by --since or --tag.", err=True)


@report.command()
def cache(
    *,
    per: Annotated[str, typer.Option(help=f"Over time by {', '.join(CALENDAR)}.")] = "day",
    by_tag: Annotated[
        list[str] | None, typer.Option("--by", help="A tag's name. Repeat it. Default: every tag.")
    ] = None,
    since: options.Since = None,
    until: options.Until = None,
    tag: options.Tag = None,
    model: options.Model = None,
    rows: Rows = _MOST_OFFENDERS,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    Show how much of the input prompt caches serve, what the rest costs, and what caching could have saved.

    Over time, and those first by whose tags most could be saved. What could be saved is the most: all of the
    uncached input read from a cache, at the prices of its day.
    """
    check_forms(as_json, as_csv)
    with open_to_read(ledger, config) as reading:
        (time,) = read_kinds([_one_of("--per", per)], reading.zone)
        found = read_cache_health(
            reading.ledger,
            options.read_where(reading.zone, tag, since=since, until=until, model=model),
            time=time,
            prices_of=entry_prices(reading).of,
            tags=by_tag or (),
        )
    if as_json:
        print(to_json(_cache_json(found, per)))
    elif as_csv:
        lines = [{per: key, **views.cache_json(figures)} for key, figures in found.over_time]
        print_csv((per, *views.CACHE_COLUMNS), lines)
    else:
        _print_cache(found, per, rows)


def _print_cache(found: CacheHealth, per: str, most_rows: int) -> None:
    out = console()
    over_time = [((key,), figures) for key, figures in found.over_time]
    made = views.cache_table((per,), [*over_time, (("total",), found.total)], "Over time")
    out.print(fit(made, out, views.CACHE_SPARE, last=views.CACHE_LAST))
    shown: Sequence[tuple[tuple[str, str], CacheFigures]] = found.offenders
    shown = shown[:most_rows] if most_rows else shown
    if shown:
        out.print()
        made = views.cache_table(("tag", "value"), shown, "By tag, those first that could save most")
        out.print(fit(made, out, views.CACHE_SPARE, last=views.CACHE_LAST))
    if len(shown) < len(found.offenders):
        out.print(f"… {len(found.offenders) - len(shown):,} more; --rows 0 shows all.")
    if found.left_out:
        out.print(
            f"Calls that are left out, as their usage is an estimate: {found.left_out:,}.", style="yellow"
        )
    if found.total.unpriced:
        out.print(
            f"Calls without a price, which the money leaves out: {found.total.unpriced:,}.", style="yellow"
        )


def _cache_json(found: CacheHealth, per: str) -> dict[str, object]:
    return {
        "total": views.cache_json(found.total),
        "over_time": [{per: key, **views.cache_json(figures)} for key, figures in found.over_time],
        "by_tag": [
            {"tag": tag, "value": value, **views.cache_json(figures)}
            for (tag, value), figures in found.offenders
        ],
        "estimated_calls_left_out": found.left_out,
        "more_tags_left_out": found.is_cut,
    }


def _print_csv(found: Spending) -> None:
    lines = [views.totals_csv(found.by, group.key, group.totals) for group in found.groups]
    if found.rest is not None:
        others = ("others", *("" for _ in found.by[1:]))
        lines.append(views.totals_csv(found.by, others, found.rest))
    print_csv((*found.by, *views.TOTAL_COLUMNS), lines)


def _one_of(option: str, value: str) -> str:
    if value not in CALENDAR:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(CALENDAR)}.", param_hint=option)
    return value
