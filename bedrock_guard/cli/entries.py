"""
`bedrock-guard entries`: the journal of a ledger, newest first.

Exit codes: 0 done, 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from bedrock_guard.cli import entry_options as options
from bedrock_guard.cli.entry_views import CSV_COLUMNS, SPARE, entry_csv, entry_json, entry_table
from bedrock_guard.cli.reading import Config, Csv, JsonLines, LedgerUrl, Reading, check_forms, open_to_read
from bedrock_guard.cli.safe_text import print_csv, to_json
from bedrock_guard.cli.screen import console, fit
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import read_all_entries

# A table is laid out whole: so many lines at a time, however many there are.
_PAGE: Final = 500


def entries(
    *,
    since: options.Since = None,
    until: options.Until = None,
    tag: options.Tag = None,
    model: options.Model = None,
    model_id: options.ModelId = None,
    operation: options.Operation = None,
    family: options.Family = None,
    region: options.Region = None,
    tier: options.Tier = None,
    outcome: options.Outcome = None,
    basis: options.Basis = None,
    cost_min: options.CostMin = None,
    cost_max: options.CostMax = None,
    tokens_min: options.TokensMin = None,
    tokens_max: options.TokensMax = None,
    attempts_min: options.AttemptsMin = None,
    status: options.Status = None,
    error_code: options.ErrorCode = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 for all.")] = 50,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: JsonLines = False,
    as_csv: Csv = False,
) -> None:
    """
    Show the records of calls, newest first: what each used, cost, and how sure that is.

    Refusals, stops and top-ups are among them. Every filter narrows.
    """
    check_forms(as_json, as_csv)
    with open_to_read(ledger, config) as reading:
        where = options.read_where(
            reading.zone,
            tag,
            since=since,
            until=until,
            model=model,
            model_id=model_id,
            operation=operation,
            family=family,
            region=region,
            service_tier=tier,
            outcome=outcome,
            basis=basis,
            cost_min=cost_min,
            cost_max=cost_max,
            tokens_min=tokens_min,
            tokens_max=tokens_max,
            attempts_min=attempts_min,
            status=status,
            error_code=error_code,
        )
        _show(reading, where, limit, as_json=as_json, as_csv=as_csv)


def _show(reading: Reading, where: EntryFilter, limit: int, *, as_json: bool, as_csv: bool) -> None:
    found = read_all_entries(reading.ledger, where)
    shown = islice(found, limit) if limit else found
    if as_json:
        for entry in shown:
            print(to_json(entry_json(entry)))
    elif as_csv:
        print_csv(CSV_COLUMNS, map(entry_csv, shown))
    else:
        _print(shown, reading.zone)
        if limit and next(found, None) is not None:
            typer.echo(f"These are the newest {limit}; --limit 0 shows all.", err=True)


def _print(shown: Iterator[Entry], zone: ZoneInfo) -> None:
    out = console()
    page = list(islice(shown, _PAGE))
    if not page:
        out.print("No entry is like that.")
    while page:
        out.print(fit(entry_table(page, zone), out, SPARE))
        page = list(islice(shown, _PAGE))
