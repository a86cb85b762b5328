"""
`bedrock-guard tail`: calls as they end.

Exit codes: 0 Ctrl-C, 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.text import Text

from bedrock_guard.cli import entry_options as options
from bedrock_guard.cli.entry_views import cells, entry_json
from bedrock_guard.cli.reading import Config, JsonLines, LedgerUrl, open_to_read
from bedrock_guard.cli.safe_text import to_json
from bedrock_guard.cli.screen import console
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import read_all_entries
from bedrock_guard.reports.following import SLACK_S, Follower

# What is not as it should be stands out.
_STYLES: Final = {"refused": "red", "lost": "yellow", "abandoned": "yellow", "stop": "red"}


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with the newest so many.")] = 10,
    tag: options.Tag = None,
    model: options.Model = None,
    operation: options.Operation = None,
    family: options.Family = None,
    outcome: options.Outcome = None,
    every: Annotated[float, typer.Option(min=0.1, max=SLACK_S / 2, help="Look every so many seconds.")] = 1.0,
    ledger: LedgerUrl = None,
    config: Config = None,
    as_json: JsonLines = False,
) -> None:
    """
    Show calls as they end, refusals and stops too, until Ctrl-C.

    A call is told when it has ended. What is written more than a minute after that, as a ledger was gone, is
    not told here; `bedrock-guard entries` has everything.
    """
    with open_to_read(ledger, config) as reading:
        where = options.read_where(
            reading.zone, tag, model=model, operation=operation, family=family, outcome=outcome
        )
        out = console()
        newest = list(islice(read_all_entries(reading.ledger, where), lines))
        follower = Follower(reading.ledger, where, now=time.time())
        _tell(out, newest[::-1], reading.zone, as_json=as_json)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(every)
                _tell(out, follower.look(time.time()), reading.zone, as_json=as_json)


def _tell(out: Console, entries: Iterable[Entry], zone: ZoneInfo, *, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            print(to_json(entry_json(entry)), flush=True)
        else:
            out.print(_line(entry, zone), soft_wrap=True)


def _line(entry: Entry, zone: ZoneInfo) -> Text:
    at, outcome, operation, model, sent, cached, came, cost, basis, tags = map(str, cells(entry, zone))
    tokens = f"{sent} in ({cached} cached), {came} out" if sent else ""
    words = (at, f"{outcome:<10}", f"{cost:>9}", operation, model, tokens, basis, tags)
    return Text("  ".join(word for word in words if word), style=_STYLES.get(entry.outcome, ""))
