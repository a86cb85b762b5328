"""
`bedrock-guard report chargeback | focus`: files for those who allot costs.

Exit codes: 0 done, 1 the ledger cannot be used, or there are too many groups, 2 bad input.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC
from typing import Annotated, Final

import typer

from bedrock_guard.cli import entry_options as options
from bedrock_guard.cli import report_views as views
from bedrock_guard.cli.reading import (
    NO,
    Config,
    Json,
    JsonLines,
    LedgerUrl,
    entry_prices,
    fail,
    open_to_read,
)
from bedrock_guard.cli.safe_text import print_csv, to_json
from bedrock_guard.cli.screen import dollars
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.reports.focus import COLUMNS, read_focus
from bedrock_guard.reports.grouping import TAG, read_kinds
from bedrock_guard.reports.moments import last_month, read_month
from bedrock_guard.reports.spending import read_spending

_WHOSE: Final = ("team", "user")
_TAKEN: Final = frozenset({"month", "currency", *views.TOTAL_COLUMNS})


def chargeback(
    month: Annotated[str | None, typer.Argument(help="2026-11. Default: the last that is over.")] = None,
    *,
    by: Annotated[
        list[str] | None, typer.Option(help="A tag's name. Repeat it. Default: team and user.")
    ] = None,
    tag: options.Tag = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    Write a month's costs as CSV, a line for each team and user, or for what other tags say.

    The lines add up to all that was spent; calls without the tags are on a line with empty cells. The month
    is that of the time zone of the budgets.
    """
    with open_to_read(ledger, config) as reading:
        named = month or last_month(time.time(), reading.zone)
        since, until = read_month(named, reading.zone)
        tags = tuple(by or _WHOSE)
        kinds = read_kinds([f"{TAG}{name}" for name in tags], reading.zone)
        where = replace(options.read_where(reading.zone, tag), since=since, until=until)
        found = read_spending(reading.ledger, where, kinds)
    if found.rest is not None:
        fail("There are too many groups to allot costs to; leave out --by, or narrow by --tag.", NO)
    # A tag may be named as a column is.
    columns = [f"{TAG}{name}" if name in _TAKEN else name for name in tags]
    if as_json:
        groups = [
            {**dict(zip(columns, group.key, strict=True)), **views.totals_json(group.totals)}
            for group in found.groups
        ]
        total = views.totals_json(found.total)
        print(to_json({"month": named, "by": columns, "groups": groups, "total": total}))
        return
    lines = (
        {"month": named, "currency": "USD", **views.totals_csv(columns, group.key, group.totals)}
        for group in found.groups
    )
    print_csv(("month", *columns, "currency", *views.TOTAL_COLUMNS), lines)
    typer.echo(
        f"{named}: {dollars(found.total.nanousd)} in all. {views.doubts(found.total)}".rstrip(), err=True
    )


def focus(
    *,
    month: Annotated[str | None, typer.Option(help="2026-11, in UTC as invoices are.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    tag: options.Tag = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: JsonLines = False,
) -> None:
    """
    Write charges as CSV in the columns of FOCUS, a line for each meter of a call, newest first.

    ListCost is at list price, ContractedCost by the account's own prices; neither is an invoice's. They add
    up to what the ledger has.
    """
    with open_to_read(ledger, config) as reading:
        where = options.read_where(reading.zone, tag, since=since, until=until)
        if month is not None:
            where = _in_month(where, month)
        charges = read_focus(reading.ledger, where, entry_prices(reading).of)
        if as_json:
            for charge in charges:
                print(to_json(charge))
        else:
            print_csv(COLUMNS, ({**charge, "Tags": to_json(charge["Tags"])} for charge in charges))


def _in_month(where: EntryFilter, month: str) -> EntryFilter:
    since, until = read_month(month, UTC)
    return replace(where, since=max(since, where.since or since), until=min(until, where.until or until))
