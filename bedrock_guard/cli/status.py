"""
`bedrock-guard status`: what every balance has left.

Exit codes: 0 done, 1 the ledger cannot be used, 2 bad input, 3 a balance has reached `--fail-over`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.steering import show_stop
from bedrock_guard.budgets.verdict import show, show_duration
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
from bedrock_guard.cli.screen import console, fit, percent, table
from bedrock_guard.domain.control import Stop, is_in_force
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.reports.standings import Standing, read_standings

OVER: Final = 3

_BAR: Final = 16
# From which share on a bar is yellow, and red.
_STYLES: Final = ((Fraction(1), "red"), (Fraction(4, 5), "yellow"), (Fraction(0), "green"))
_COLUMNS: Final = ("budget", "used", "spent", "pending", "limit", "remaining", "resets in", "")
# What a narrow screen can do without, the first first: the bar tells what remains.
_SPARE: Final = ("remaining", "", "leased", "pending")
_LAST: Final = ("resets in", "limit")
# Of balances whose limit nobody here knows.
_FEWER: Final = ("budget", "spent", "pending", "limit", "resets in")
# Shown after what is pending, where processes lease.
_LEASED: Final = "leased"
_CSV: Final = (
    "budget",
    "per",
    "rule",
    "unit",
    "limit",
    "spent",
    "pending",
    "leased",
    "remaining",
    "topped_up",
    "used_share",
    "window_start",
    "resets_at",
    "enforced",
    "would_refuse",
    "named",
)

FailOver = Annotated[
    float | None,
    # 90 would be meant as 90 %, and never be reached.
    typer.Option(help="Exit with 3 when spent and pending reach this share of a limit: 0.9.", min=0, max=10),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it anew until Ctrl-C.")]
Every = Annotated[float, typer.Option(help="With --watch: every so many seconds.", min=0.1)]


def status(
    *,
    fail_over: FailOver = None,
    watch: Watch = False,
    every: Every = 2.0,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    Show what every balance has spent, holds and has left, and when it begins anew.

    Balances that no budget of the settings names are shown too: a program may name its budget in its code,
    and then only the program knows the limit.
    """
    check_forms(as_json, as_csv)
    if watch and (as_json or as_csv or fail_over is not None):
        fail("--watch is for people: not with --json, --csv or --fail-over.", BAD_INPUT)
    with open_to_read(ledger, config, has_budgets=True) as reading:
        matcher = Matcher(reading.resolved.budgets, reading.resolved.settings)
        if watch:
            _watch(reading, matcher, every)
            return
        found, stops = read_now(reading, matcher)
    if as_json:
        as_of = PriceList.installed().as_of.isoformat()
        told = {"ledger": reading.url, "prices_as_of": as_of, "stops": stops_json(stops)}
        print(to_json({**told, "balances": [*map(standing_json, found)]}))
    elif as_csv:
        print_csv(_CSV, map(_csv, found))
    else:
        console().print(_view(reading, found, stops, time.time()))
    if fail_over is not None and any(_is_over(each, fail_over) for each in found):
        raise typer.Exit(OVER)


def read_now(reading: Reading, matcher: Matcher) -> tuple[list[Standing], list[Stop]]:
    """
    Every balance, and the stops in force.
    """
    now = time.time()
    found = read_standings(
        reading.ledger,
        matcher,
        reading.resolved.settings,
        now=now,
        prices_as_of=PriceList.installed().as_of,
        breakers=reading.resolved.breakers,
    )
    return found, [stop for stop in reading.ledger.controls().stops if is_in_force(stop, now)]


def _watch(reading: Reading, matcher: Matcher, every_s: float) -> None:
    """
    Until Ctrl-C; where no one looks on, view after view.
    """
    from rich.live import Live  # noqa: PLC0415  (imported on use)

    with suppress(KeyboardInterrupt), Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_view(reading, *read_now(reading, matcher), time.time()), refresh=True)
            time.sleep(every_s)


def _is_over(standing: Standing, share: float) -> bool:
    used = standing.used_share
    return used is not None and used >= Fraction(Decimal(str(share)))


def _view(reading: Reading, found: Sequence[Standing], stops: Iterable[Stop], now: float) -> RenderableType:
    shown: list[RenderableType] = [
        Text(f"Stopped: {plain(show_stop(stop), None)}: {plain(stop.reason, None)}", style="red")
        for stop in stops
    ]
    named = [each for each in found if each.is_named]
    unnamed = [each for each in found if not each.is_named]
    if named:
        shown.append(_table(named, now))
    if unnamed:
        why = "in the ledger, and in no settings here; the limit is known to its program"
        shown += [Text(f"{'Also ' if named else 'Balances '}{why}:"), _table(unnamed, now, _FEWER)]
    if found:
        shown.append(Text(f"Prices of {found[0].status.prices_as_of}.", style="dim"))
    else:
        shown.append(Text(f"No budget is set, and nothing is counted in {reading.url} yet."))
    return Group(*shown)


def _table(found: Iterable[Standing], now: float, columns: Sequence[str] = _COLUMNS) -> RenderableType:
    found = tuple(found)
    if any(each.status.leased for each in found):
        place = columns.index("pending") + 1
        columns = (*columns[:place], _LEASED, *columns[place:])
    made = table(columns, words=("budget", "used", ""), whole=("used",))
    for each in found:
        cells = standing_cells(each, now)
        made.add_row(*(cells[column] for column in columns))
    return fit(made, console(), _SPARE, last=_LAST)


def standing_cells(standing: Standing, now: float) -> dict[str, Text]:
    """
    One line of the table, by column.
    """
    row, share = standing.status, standing.used_share
    per = "".join(f" [{plain(tag)}={plain(value) or 'untagged'}]" for tag, value in row.per)
    period = plain(standing.rule.partition("/")[2].partition("@")[0])
    limit = show(row.limit, row.unit) if standing.is_named else "?"
    notes = (
        "" if row.enforced else "only counts",
        f"would refuse {row.would_refuse:,}" if row.would_refuse else "",
        f"topped up by {show(row.topped_up, row.unit)}" if row.topped_up else "",
    )
    resets = "" if period else "never"
    if row.resets_at is not None:
        resets = show_duration(row.resets_at.timestamp() - now)
    return {
        "budget": Text(f"{plain(row.budget)}{per}"),
        "used": Text("") if share is None else _bar(standing, share),
        "spent": Text(show(row.spent, row.unit)),
        "pending": Text(show(row.pending, row.unit)),
        _LEASED: Text(show(row.leased, row.unit)),
        "limit": Text(f"{limit}/{period}" if period else limit),
        "remaining": Text(show(row.remaining, row.unit)),
        "resets in": Text(resets),
        "": Text(", ".join(note for note in notes if note)),
    }


def style_of(share: Fraction) -> str:
    """
    The colour of a bar.
    """
    return next(style for least, style in _STYLES if share >= least)


def _bar(standing: Standing, share: Fraction) -> Text:
    """
    What is spent as a full block, what is pending as a lighter one.
    """
    row = standing.status
    style = style_of(share)
    used = min(_BAR, -(-(share * _BAR).numerator // (share * _BAR).denominator))
    of_it = Fraction(row.spent) / Fraction(row.spent + row.pending) if row.spent + row.pending else 0
    spent = round(used * of_it)
    return Text.assemble(
        ("█" * spent, style),
        ("▒" * (used - spent), style),
        ("░" * (_BAR - used), "dim"),
        f" {percent(share)}",
    )


def standing_json(standing: Standing) -> dict[str, Any]:
    """
    All of a balance; amounts in USD as text, counts as numbers.
    """
    row, share = standing.status, standing.used_share
    return {
        "budget": row.budget,
        "per": dict(row.per),
        "rule": standing.rule,
        "named": standing.is_named,
        "unit": row.unit,
        "limit": _amount(row.limit) if standing.is_named else None,
        "spent": _amount(row.spent),
        "pending": _amount(row.pending),
        "leased": _amount(row.leased),
        "remaining": _amount(row.remaining) if standing.is_named else None,
        "topped_up": _amount(row.topped_up),
        "used_share": None if share is None else round(float(share), 6),
        "window_start": row.window_start.isoformat(),
        "resets_at": None if row.resets_at is None else row.resets_at.isoformat(),
        "enforced": row.enforced,
        "would_refuse": row.would_refuse,
    }


def _csv(standing: Standing) -> dict[str, object]:
    told = standing_json(standing)
    return {**told, "per": to_json(told["per"])}


def _amount(amount: Decimal | int) -> str | int:
    return f"{amount:f}" if isinstance(amount, Decimal) else amount


def stops_json(stops: Iterable[Stop]) -> list[dict[str, Any]]:
    """
    Which calls are stopped, why, and by whom.
    """
    return [
        {"id": each.id, "match": dict(each.match), "reason": each.reason, "by": each.by} for each in stops
    ]
