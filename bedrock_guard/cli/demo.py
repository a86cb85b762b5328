"""
`bedrock-guard demo`: the incident in a few seconds, stopped by a budget. No AWS, no configuration.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import boto3
import typer
from botocore.config import Config
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bedrock_guard.budgets.status import BudgetStatus
from bedrock_guard.budgets.verdict import show
from bedrock_guard.cli import incident
from bedrock_guard.errors import BudgetExceeded
from bedrock_guard.testing.bedrock_server import BedrockServer
from bedrock_guard.wiring import Guard

_LIMIT: Final = "5 USD/day"
_OUTPUT_TOKENS: Final = 200
_PLAIN_EVERY: Final = 10
# The loop is over in a second; an eye wants a few.
_PACE_S: Final = 0.06


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What the demo prints under `--json`; money as strings.
    """

    calls: int
    refused: int
    limit_usd: str
    spent_usd: str
    server_billed_usd: str
    by_morning_usd: str
    ledger: str


@dataclass(slots=True)
class Progress:
    """
    What the live view shows.
    """

    status: BudgetStatus
    calls: int = 0
    uncached_tokens: int = 0
    cached_tokens: int = 0


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """
    A coding agent's prompt cache fails in silence; a 5 USD/day budget stops it.

    Runs against a Bedrock on this machine: no AWS account, nothing is spent.
    """
    console = Console(highlight=False)
    # Left behind on purpose: the ledger is there to be looked at.
    ledger = f"sqlite:///{(Path(tempfile.mkdtemp(prefix='bedrock-guard-demo-')) / 'ledger.db').as_posix()}"
    with (
        BedrockServer(rates=incident.rates(), output_tokens=_OUTPUT_TOKENS) as server,
        Guard(budget=f"coding-agent: {_LIMIT}", ledger=ledger, settings={}) as guard,
    ):
        if not as_json:
            _introduce(console)
        progress, refusal = _run(guard, server, console, quiet=as_json)
        outcome = _outcome(progress, server, ledger)
    if as_json:
        print(json.dumps(asdict(outcome)))
    else:
        _conclude(console, refusal, outcome)


def _run(
    guard: Guard, server: BedrockServer, console: Console, *, quiet: bool
) -> tuple[Progress, BudgetExceeded]:
    client = guard.attach(_client(server))
    incident.lose_cache_points(client)
    progress = Progress(guard.status()[0])
    with _view(console, quiet=quiet) as show:
        try:
            for turn in incident.Agent(client).turns():
                progress.calls += 1
                progress.uncached_tokens += turn.uncached_tokens
                progress.cached_tokens += turn.cached_tokens
                progress.status = guard.status()[0]
                show(progress)
        except BudgetExceeded as refusal:
            progress.status = guard.status()[0]
            return progress, refusal
    raise AssertionError("the agent stopped by itself")  # its loop has no other end


def _client(server: BedrockServer) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="demo",
        aws_secret_access_key="demo",  # noqa: S106  (the loopback server checks no signature)
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


@contextmanager
def _view(console: Console, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=12) as live:
            yield lambda progress: _paint(live, progress)
    else:
        yield lambda progress: _plain(console, progress)


def _paint(live: Live, progress: Progress) -> None:
    live.update(_panel(progress))
    time.sleep(_PACE_S)


def _panel(progress: Progress) -> Group:
    status = progress.status
    figures = Table.grid(padding=(0, 2))
    for name, value in (
        ("calls", f"{progress.calls:,}"),
        ("input tokens, uncached", f"{progress.uncached_tokens:,}"),
        ("input tokens, from cache", f"{progress.cached_tokens:,}"),
        ("spent", show(status.spent, status.unit)),
        ("pending", show(status.pending, status.unit)),
    ):
        figures.add_row(Text(name, style="dim"), Text(value))
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(
            total=float(status.limit), completed=float(status.spent), width=40, complete_style="yellow"
        ),
        Text(f"of ${status.limit:,.2f} a day"),
    )
    return Group(figures, bar)


def _plain(console: Console, progress: Progress) -> None:
    if progress.calls % _PLAIN_EVERY == 0:
        spent = show(progress.status.spent, progress.status.unit)
        console.print(
            f"{progress.calls:>4} calls   {progress.uncached_tokens:>9,} tokens uncached   "
            f"{progress.cached_tokens:,} cached   spent {spent} of ${progress.status.limit:,.2f}",
            soft_wrap=True,
        )


def _introduce(console: Console) -> None:
    console.print(
        f"A coding agent on {incident.MODEL_ID} re-sends its growing context each turn.\n"
        f"It marks it for caching; something on the way drops the marks. Budget: {_LIMIT}.\n",
        soft_wrap=True,
    )


def _outcome(progress: Progress, server: BedrockServer, ledger: str) -> Outcome:
    spent, billed = Decimal(progress.status.spent), server.bill.usd
    return Outcome(
        calls=progress.calls,
        refused=1,
        limit_usd=f"{progress.status.limit:f}",
        spent_usd=f"{spent:f}",
        # The same figure is written the same way, whatever zeros its sum carries.
        server_billed_usd=f"{spent if billed == spent else billed:f}",
        by_morning_usd=f"{incident.cost_by_morning(_OUTPUT_TOKENS):,.2f}".replace(",", ""),
        ledger=ledger,
    )


def _conclude(console: Console, refusal: BudgetExceeded, outcome: Outcome) -> None:
    equal = "equal" if Decimal(outcome.spent_usd) == Decimal(outcome.server_billed_usd) else "NOT EQUAL"
    console.print()
    console.print(Text(f"BudgetExceeded: {refusal}", style="bold"), soft_wrap=True)
    console.print()
    table = Table.grid(padding=(0, 2))
    table.add_row("the ledger says", f"${outcome.spent_usd}")
    table.add_row("Bedrock billed", f"${outcome.server_billed_usd}  ({equal})")
    table.add_row("by morning", f"${Decimal(outcome.by_morning_usd):,.2f}  had nothing stopped it")
    table.add_row("the ledger is", outcome.ledger)
    console.print(table)
