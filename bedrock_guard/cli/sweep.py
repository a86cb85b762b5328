"""
`bedrock-guard sweep`: end what dead processes hold, now.

Exit codes: 0 done, 1 the ledger cannot be used, or a call is damaged and stays, 2 bad input.
"""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from bedrock_guard.cli.controls import check_there
from bedrock_guard.cli.reading import BAD_INPUT, NO, Config, Json, LedgerUrl, fail
from bedrock_guard.cli.safe_text import to_json
from bedrock_guard.config.load import at, resolve
from bedrock_guard.domain.ledger import SweepReport
from bedrock_guard.domain.ledger_options import KeepsEntries
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger, sqlite_care

_DAY_S: Final = 86_400.0


def sweep(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be ended; of sqlite:// ledgers.")
    ] = False,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    End the calls of dead processes, as programs do by themselves about once a minute.

    Each is charged at its estimate, or given back, as its program has set by `on_expiry`. This is for a
    ledger that no program uses just now: what is pending there stays so until somebody looks.
    """
    try:
        resolved = resolve(budgets=[], ledger=ledger, settings=config)
        url = resolved.ledger or ""
        with at(resolved.ledger_place):
            check_there(url)
            report = _look(url) if dry_run else _sweep(url, resolved.settings.keep_entries_days)
    except ConfigurationError as error:
        fail(str(error), BAD_INPUT)
    except LedgerUnavailable as error:
        fail(str(error), NO)
    if as_json:
        told = {"ledger": url, "charged": report.charged, "released": report.released}
        print(to_json({**told, "damaged": report.damaged, "dry_run": dry_run}))
    else:
        print(_show(report, "would be " if dry_run else ""))
    if report.damaged:
        fail(
            f"Overdue, and damaged: {report.damaged:,}. What they hold stays pending; "
            "of a file, `bedrock-guard ledger check` says more.",
            NO,
        )


def _look(url: str) -> SweepReport:
    if not url.startswith("sqlite:"):
        raise ConfigurationError(f"--dry-run is for sqlite:// ledgers; of {url!r} only a sweep can tell.")
    return sqlite_care.overdue(url, time.time())


def _sweep(url: str, keep_days: int | None) -> SweepReport:
    """
    Sweep until nothing is left. What ends is kept for *keep_days* where the store itself deletes; entries
    that are old stay: programs drop them, who know how long they keep them.
    """
    charged = released = damaged = 0
    opened = open_ledger(url, clock=time.time)
    try:
        if isinstance(opened, KeepsEntries):
            opened.keep_entries(None if keep_days is None else keep_days * _DAY_S)
        while True:
            report = opened.sweep(now=time.time())
            charged, released = charged + report.charged, released + report.released
            damaged = max(damaged, report.damaged)
            if not (report.charged or report.released):
                return SweepReport(charged, released, damaged=damaged)
    finally:
        opened.close()


def _show(report: SweepReport, would: str) -> str:
    calls = report.charged + report.released
    if not calls:
        return "Nothing that is overdue can be ended." if report.damaged else "Nothing is overdue."
    return (
        f"Calls of dead processes that {would or 'are '}ended: {calls:,}. Charged at the estimate: "
        f"{report.charged:,}; given back: {report.released:,}."
    )
