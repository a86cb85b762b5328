"""
`bedrock-guard replay`: Bedrock's own invocation logs as a bill, and through a policy.

Exit codes: 0 done, 1 no call was found, or, under `--strict`, a record could not be read or priced, 2 bad
input, or no room on the disk to sort it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from bedrock_guard.cli import replay_views as views
from bedrock_guard.cli.reading import BAD_INPUT, NO, Csv, Json, check_forms, fail
from bedrock_guard.cli.safe_text import print_csv, to_json
from bedrock_guard.config.load import Resolved, resolve
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.replay.files import LogFile, find_files
from bedrock_guard.replay.findings import Findings
from bedrock_guard.replay.playing import Played, Player
from bedrock_guard.replay.records import LoggedCall
from bedrock_guard.replay.replaying import replay as play_all
from bedrock_guard.replay.sorting import SortingFailed
from bedrock_guard.reports.grouping import KINDS, TAG, read_kinds

_MOST_ROWS: Final = 50
# To move a bar takes as long as a call does.
_EVERY: Final = 100
# Of the tag that every logged call has, a short name.
_PRINCIPAL: Final = "principal"

Places = Annotated[
    list[str],
    typer.Argument(metavar="PLACE...", help="Files or folders of logs, .gz or not; - is standard input."),
]
Policy = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings file whose budgets and breakers to try."),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", help='"5 USD/day", "team: 9 USD/month", in place of the file\'s. Repeat it: all hold.'
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(help=f"What to add up by: {', '.join(KINDS)}, {_PRINCIPAL}. Repeat it. Default: model."),
]
Each = Annotated[
    bool, typer.Option("--each", help="Print each call that would be refused, as CSV or JSON lines.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when a record cannot be read or priced.")]
Rows = Annotated[int, typer.Option(min=0, help="At most so many lines of a table; 0 for all.")]


def replay(
    places: Places,
    *,
    config: Policy = None,
    budget: BudgetOption = None,
    by: By = None,
    each: Each = False,
    rows: Rows = _MOST_ROWS,
    strict: Strict = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    Price Bedrock's model invocation logs, and tell what a policy would have refused, when, for whom.

    With --config or --budget, the calls go through those budgets in the order of time, on the logs' clock;
    else they are only priced. Nothing is sent, and no ledger is written. The identity of a record is the
    call's tag principal, its requestMetadata are tags.
    """
    check_forms(as_json, as_csv)
    is_policy = config is not None or bool(budget)
    if each and not is_policy:
        fail("--each tells what a policy refuses; give one: --config FILE, or --budget.", BAD_INPUT)
    try:
        resolved = _resolve(config, budget or [])
        zone = open_zone(resolved.settings.time_zone)
        kinds = read_kinds([f"{TAG}{name}" if name == _PRINCIPAL else name for name in by or ["model"]], zone)
        player = _player(resolved)
        files = find_files(places)
    except ConfigurationError as error:
        fail(str(error), BAD_INPUT)
    findings = Findings(by=kinds)
    see = views.each_printer(as_json=as_json) if each else _see_nothing
    try:
        with _quiet(), _progress(files) as told:
            play_all(
                player,
                findings,
                files,
                stdin=sys.stdin.buffer,
                tell_read=told.read,
                tell_played=told.played,
                see=see,
            )
    except SortingFailed as error:
        fail(str(error), BAD_INPUT)
    if each:
        typer.echo(views.summary(findings, zone), err=True)
    elif as_json:
        print(to_json(views.findings_json(findings)))
    elif as_csv:
        print_csv((*findings.names, *views.COLUMNS), views.rows_csv(findings))
    else:
        views.show(findings, zone, rows, is_policy=is_policy)
    for line in views.problem_lines(findings):
        typer.echo(line, err=True)
    if not findings.total.logged.calls or (strict and findings.problem_count):
        raise typer.Exit(NO)


def _resolve(config: str | None, budgets: Sequence[str]) -> Resolved:
    """
    What to play the calls through; without a policy, the prices and models of the settings in force.

    Raises:
        ConfigurationError: It cannot be understood, or limits nothing.
    """
    found = resolve(
        budgets=budgets or (None if config else ()),
        breakers=None if config else (),
        ledger="memory://",
        settings=config,
        needs_budget=False,
    )
    if config and not found.budgets and not found.breakers:
        raise ConfigurationError(f"{config!r} names no budget and no breaker, so it refuses nothing.")
    return found


def _player(resolved: Resolved) -> Player:
    return Player(
        settings=resolved.settings,
        budgets=resolved.budgets,
        breakers=resolved.breakers,
        tags=resolved.tags,
        prices=PriceList.installed(),
    )


def _see_nothing(_: LoggedCall, __: Played) -> None:
    """
    All that is wanted is what calls come to.
    """


@contextmanager
def _quiet() -> Iterator[None]:
    """
    What a guard logs of calls is of today's; of these it is counted.
    """
    log = logging.getLogger("bedrock_guard")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class _Told(NamedTuple):
    read: Callable[[int], None]
    played: Callable[[int, int], None]


def _move(bar: Progress, task: TaskID, number: int, total: int) -> None:
    if number == total or not number % _EVERY:
        bar.update(task, completed=number, total=total)


@contextmanager
def _progress(files: Sequence[LogFile]) -> Iterator[_Told]:
    """
    A bar over the bytes, and one over the calls, where a person looks on.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Told(lambda _: None, lambda _, __: None)
        return
    size = None if any(file.path is None for file in files) else sum(file.size for file in files)
    with Progress(console=console, transient=True) as bar:
        reading, playing = bar.add_task("reading", total=size), bar.add_task("replaying", total=None)
        yield _Told(
            lambda count: bar.advance(reading, count),
            lambda number, total: _move(bar, playing, number, total),
        )
