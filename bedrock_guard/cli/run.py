"""
`bedrock-guard run`: any program under a guard, without a change of its code.

Exit codes: the program's own; 3 where the guard stopped it; 2 bad input, 1 the ledger cannot be used, 126 and
127 the program cannot be started.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bedrock_guard.cli import screen
from bedrock_guard.cli.bottom_line import BottomLine, has_bottom_line
from bedrock_guard.cli.controls import fail, read_pairs
from bedrock_guard.cli.program import ending_tidily, run_program
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable

if TYPE_CHECKING:
    from bedrock_guard.bill import Bill
    from bedrock_guard.budgets.status import BudgetStatus
    from bedrock_guard.running import Run, RunGuard

_NO: Final = 1
_BAD_INPUT: Final = 2
_STOPPED: Final = 3
_NOT_RUNNABLE: Final = 126
_NOT_FOUND: Final = 127
# Balances of a file cost nothing to read; others may cost a request.
_EVERY_S: Final = {"sqlite": 0.5}
_SELDOM_S: Final = 5.0
# Flags by which Python looks at no PYTHONPATH, and so at no guard.
_IGNORES_US: Final = frozenset("IES")
# Letters, as many as one likes, the last of which may take what follows it, or the next argument.
_FLAGS: Final = re.compile(r"-(?!-|$)(?P<flags>[^cmWX]*)(?P<ending>[cmWX]?)(?P<value>.*)", re.DOTALL)
_END_OPTIONS: Final = frozenset("cm")


def run(
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="-- PROGRAM [ARGS]...")
    ],
    *,
    budget: Annotated[
        list[str] | None,
        typer.Option(help='"5 USD": for the run. "5 USD/day": for all runs of the day. Several: all hold.'),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="TAG=VALUE, on every call.")] = None,
    config: Annotated[
        str | None, typer.Option(help="Settings file; one that is not named is not read.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option(help="sqlite:///path.db or dynamodb://TABLE. Default: the run's own.")
    ] = None,
    json_file: Annotated[
        typer.FileTextWrite | None,
        typer.Option("--json", lazy=False, help="Write the bill there as JSON, too; - is standard output."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No status line, no bill.")] = False,
) -> None:
    """
    Run a program, and the Python programs that it starts, under a budget; its code stays as it is.

    What it sends through boto3, botocore or aiobotocore is counted, in every process. The bill comes on
    standard error. Exit code: the program's own, or 3 where a call was refused.
    """
    _check_command(command)
    with ending_tidily(), _folder() as folder:
        with _opened(Path(folder), budget, config, ledger, read_pairs("--tag", tag)) as (started, guard):
            began = time.monotonic()
            with _watched(guard, started, quiet=quiet) as tick:
                code = _run(command, started, tick)
            outcome = _outcome(guard, started, code, time.monotonic() - began)
        if json_file is not None:
            json.dump(outcome.to_dict(), json_file, indent=2)
            json_file.write("\n")
        if not quiet:
            outcome.show(screen.console(stderr=True))
    raise typer.Exit(outcome.exit_code)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bedrock-guard-run-", ignore_cleanup_errors=True)


class _Outcome:
    """
    How a run went.
    """

    def __init__(self, guard: RunGuard, run: Run, code: int, seconds: float) -> None:
        self._run = run
        self._code = code
        self._seconds = seconds
        self._bill: Bill = guard.bill()
        self._status: list[BudgetStatus] = guard.status()
        # A rate refuses what comes too soon, and stops nobody.
        rates = {budget.name for budget in guard.budgets if budget.limit.period.kind == "rate"}
        self._is_stopped = any(name not in rates for name in self._bill.refused)

    @property
    def exit_code(self) -> int:
        """
        What the command ends with.
        """
        return _STOPPED if self._is_stopped else self._code

    def to_dict(self) -> dict[str, Any]:
        """
        As JSON has it. The program's arguments are left out: they may be a prompt.
        """
        return {
            "run": self._run.id,
            "stopped": self._is_stopped,
            "program_exit_code": self._code,
            "duration_s": round(self._seconds, 3),
            **self._bill.to_dict(),
            "budgets": [
                {
                    "budget": row.budget,
                    "per": dict(row.per),
                    "unit": row.unit,
                    **{name: str(getattr(row, name)) for name in ("limit", "spent", "pending", "remaining")},
                }
                for row in self._status
            ],
        }

    def show(self, console: Console) -> None:
        """
        Print it.
        """
        from bedrock_guard.bill import bill_notes, bill_rows, show_status  # noqa: PLC0415
        from bedrock_guard.budgets.verdict import one_line, show, show_duration  # noqa: PLC0415

        how = (
            f"stopped; the program ended with {self._code}"
            if self._is_stopped
            else f"ended with {self._code}"
        )
        console.print(Text(f"bedrock-guard: {how} after {show_duration(self._seconds)}", style="bold"))
        for row in self._status:
            console.print(Text(show_status(row)))
            if self._run.is_alone and row.pending:
                held = show(row.pending, row.unit)
                console.print(Text(f"{held} is held for calls that had no end: their processes were killed"))
        if self._bill.lines:
            console.print(
                _table([[one_line(cell) for cell in row] for row in bill_rows(self._bill)], console)
            )
        for note in bill_notes(self._bill):
            console.print(Text(one_line(note)))
        if not self._run.is_seen:
            console.print(Text("No Python started under the guard: nothing was limited.", style="bold"))
        elif not self._bill.lines and not self._bill.refused:
            console.print(
                Text(
                    "No call was seen. Only those of boto3, botocore and aiobotocore are: LiteLLM, "
                    "AnthropicBedrock and the OpenAI SDK speak HTTP themselves."
                )
            )


def _outcome(guard: RunGuard, started: Run, code: int, seconds: float) -> _Outcome:
    try:
        return _Outcome(guard, started, code, seconds)
    except LedgerUnavailable as error:
        # The program has run: its code counts, but what nobody can tell is no success.
        fail(f"The program ended with {code}; what it spent cannot be told. {error}", code or _NO)


def _check_command(command: Sequence[str]) -> None:
    """
    Refuse a Python that is told to look at no PYTHONPATH: it would run without the guard.
    """
    if not Path(command[0]).name.lower().startswith("python"):
        return
    skip = False
    for argument in command[1:]:
        if skip:
            skip = False
            continue
        found = _FLAGS.fullmatch(argument)
        if found is None:
            return
        if ignoring := _IGNORES_US & set(found["flags"]):
            fail(
                f"python -{min(ignoring)} looks at no PYTHONPATH, so the guard could not be put on.",
                _BAD_INPUT,
            )
        if found["ending"] in _END_OPTIONS:
            return
        skip = bool(found["ending"]) and not found["value"]


@contextmanager
def _opened(
    folder: Path,
    budgets: list[str] | None,
    config: str | None,
    ledger: str | None,
    tags: dict[str, str],
) -> Iterator[tuple[Run, RunGuard]]:
    """
    The run, and a guard that looks on; their errors end the command.
    """
    from bedrock_guard.running import RunGuard, open_run  # noqa: PLC0415  (what the command waits for)

    try:
        run = open_run(folder, budgets=budgets or (), config=config, ledger=ledger, tags=tags)
        with RunGuard(run, sinks=[], telemetry=()) as guard:
            yield run, guard
    except ConfigurationError as error:
        fail(str(error), _BAD_INPUT)
    except LedgerUnavailable as error:
        fail(str(error), _NO)


def _run(command: Sequence[str], run: Run, tick: Callable[[], None] | None) -> int:
    from bedrock_guard.running import environment  # noqa: PLC0415

    every_s = _EVERY_S.get(run.ledger.partition(":")[0], _SELDOM_S)
    try:
        return run_program(command, environment(run, os.environ), tick=tick, every_s=every_s)
    except FileNotFoundError:
        fail(f"{command[0]!r} is not found.{_hint(command[0])}", _NOT_FOUND)
    except OSError as error:
        fail(f"{command[0]!r} cannot be run: {error.strerror}.{_hint(command[0])}", _NOT_RUNNABLE)


def _hint(program: str) -> str:
    if program.endswith(".py"):
        return f" Write: python {program}"
    return " Is it a typing mistake? A shell's own words need one: sh -c '...'." if " " in program else ""


@contextmanager
def _watched(guard: RunGuard, run: Run, *, quiet: bool) -> Iterator[Callable[[], None] | None]:
    """
    What to call now and then for the status line; None where there is none.
    """
    stream: TextIO = sys.stderr
    if quiet or not has_bottom_line(stream):
        yield None
        return
    with BottomLine(stream) as line:

        def tick() -> None:
            try:
                line.show(_show_fullest(guard.status()))
            except LedgerUnavailable:
                line.show(f"{run.ledger} does not answer")

        tick()
        yield tick


def _show_fullest(rows: Sequence[BudgetStatus]) -> str:
    from bedrock_guard.bill import share_of, show_status  # noqa: PLC0415

    return show_status(max(rows, key=share_of)) if rows else "no budget"


def _table(rows: Sequence[Sequence[str]], console: Console) -> Table:
    head, *lines = rows
    made = screen.table(head, words=head[:1])
    for row in lines:
        made.add_row(*map(Text, row))
    # What was used of each meter can be spared: the cost cannot.
    return screen.fit(made, console, head[-2:1:-1])
