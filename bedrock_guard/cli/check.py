"""
`bedrock-guard check`: whether settings, ledger and prices are as they are meant to be.

Nothing is changed, and a ledger that does not exist yet is not made.

Exit codes: 0 sound, 1 something is wrong (or, under `--strict`, odd), 2 the settings cannot be understood.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from rich.tree import Tree

from bedrock_guard.alerts import open_sinks
from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.strangers import Stranger, find_strangers
from bedrock_guard.budgets.tree import Branch, grow
from bedrock_guard.budgets.verdict import show, show_duration
from bedrock_guard.cli.named_models import find_unpriced
from bedrock_guard.cli.screen import console
from bedrock_guard.config.load import Resolved, at, find_settings_file, resolve
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import Budget, show_amount
from bedrock_guard.domain.globs import show_globs
from bedrock_guard.domain.ledger import Balance
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.sqlite import read_path
from bedrock_guard.operations.flat import check_flat_keys
from bedrock_guard.telemetry import open_telemetry

_NO: Final = 1
_BAD_INPUT: Final = 2


@dataclass
class Report:
    """
    What a check found.

    Attributes:
        file: Where the settings are from; None for none.
        ledger: Its URL, and what is known of it in words.
        budgets: The outermost, each with those within it.
        breakers: As they are given.
        strangers: Balances that no budget and no breaker names.
        problems: What is wrong.
        notes: What is odd.
    """

    file: str | None
    ledger: str
    ledger_state: str
    budgets: tuple[Branch, ...]
    breakers: tuple[Breaker, ...] = ()
    strangers: list[Stranger] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(
    file: Annotated[
        Path | None,
        typer.Argument(help="A settings file. Default: BEDROCK_GUARD_CONFIG, else the one in force here."),
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 also when something is odd.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """
    Check settings, ledger and prices, and show the budgets as a tree.

    Tells of balances that no budget names any more: a changed name, unit, period or zone starts afresh.
    Changes nothing. Exits with 1 when something is wrong, with 2 when the settings cannot be understood.
    """
    try:
        found = look(file)
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_BAD_INPUT) from None
    if as_json:
        print(json.dumps(_as_json(found), default=str))
    else:
        _print(found)
    if found.problems or (strict and (found.notes or found.strangers)):
        raise typer.Exit(_NO)


def look(file: Path | None) -> Report:
    """
    Look at everything that *file*, or the settings in force here, name.

    Raises:
        ConfigurationError: They cannot be understood.
    """
    resolved = resolve(settings=file)
    Matcher(resolved.budgets, resolved.settings)  # names are unique
    check_flat_keys(resolved.settings.flat_prices)
    open_sinks(resolved.sinks, places=resolved.sink_places)  # each has what it needs
    with at(resolved.telemetry_place):
        open_telemetry(resolved.telemetry)
    path = file or find_settings_file()
    url = resolved.ledger or ""
    report = Report(None if path is None else str(path), url, "", grow(resolved.budgets), resolved.breakers)
    with at(resolved.ledger_place):
        report.ledger_state, balances = _balances(url, report)
    report.strangers = find_strangers(
        resolved.budgets,
        balances,
        time_zone=resolved.settings.time_zone,
        now=time.time(),
        breakers=resolved.breakers,
    )
    _check_prices(resolved, report)
    return report


def _balances(url: str, report: Report) -> tuple[str, list[Balance]]:
    """
    What the ledger says of itself, and its balances.
    """
    if url.startswith("memory:"):
        return "in memory, forgotten with each process", []
    try:
        if url.startswith("sqlite:"):
            path, given = read_path(url)
            if not Path(path).is_file():
                return "not there yet: the first call makes it", []
            if "access" not in given:
                url += ("&" if "?" in url else "?") + "access=read"
        ledger = open_ledger(url, clock=time.time)
        try:
            balances = ledger.balances()
        finally:
            ledger.close()
    except LedgerUnavailable as error:
        report.problems.append(str(error))
        return "cannot be read", []
    return f"{len(balances)} balance{'' if len(balances) == 1 else 's'}", balances


def _check_prices(resolved: Resolved, report: Report) -> None:
    unpriced, unmatched = find_unpriced(resolved)
    is_wrong = resolved.settings.on_unpriced == "refuse"
    (report.problems if is_wrong else report.notes).extend(unpriced)
    report.notes += unmatched


def _print(report: Report) -> None:
    out = console()
    out.print(f"Settings: {report.file or 'no file'}", markup=False)
    out.print(f"Ledger: {report.ledger} ({report.ledger_state})", markup=False)
    if report.budgets:
        tree = Tree("Budgets")
        for branch in report.budgets:
            _add(tree, branch)
        out.print(tree, markup=False)
    else:
        out.print("No budgets: calls are recorded, and nothing is limited.")
    if report.breakers:
        tree = Tree("Breakers")
        for breaker in report.breakers:
            tree.add(Text("  ".join(word for word in _tell_breaker(breaker) if word)))
        out.print(tree, markup=False)
    for each in report.strangers:
        out.print(f"Unnamed: {_tell(each)}", markup=False)
    for note in report.notes:
        out.print(f"Odd: {note}", markup=False)
    for problem in report.problems:
        out.print(f"Wrong: {problem}", markup=False)


def _add(tree: Tree, branch: Branch) -> None:
    budget = branch.budget
    words = [
        str(budget),
        *_tell_scope(budget),
        "" if budget.burst is None else f"burst {show_amount(budget.burst, budget.limit.unit)}",
        "only warns" if budget.on_exceed == "warn" else "",
        "shadow" if budget.mode == "shadow" else "",
    ]
    node = tree.add(Text("  ".join(word for word in words if word)))
    for inner in branch.inner:
        _add(node, inner)


def _tell_breaker(breaker: Breaker) -> list[str]:
    seconds = breaker.resume_after_s
    return [
        str(breaker),
        *_tell_scope(breaker),
        "only warns" if breaker.on_trip == "warn" else "",
        "" if seconds is None else f"resumes after {show_duration(seconds)}",
        "shadow" if breaker.mode == "shadow" else "",
    ]


def _tell_scope(owner: Budget | Breaker) -> list[str]:
    match = ", ".join(f"{tag}={show_globs(globs)}" for tag, globs in owner.match.items())
    return [f"per {', '.join(owner.per)}" if owner.per else "", match and f"if {match}"]


def _tell(stranger: Stranger) -> str:
    counted = f"{stranger.balances} balance{'s' if stranger.balances != 1 else ''}"
    spent, pending = (show(amount, stranger.unit) for amount in (stranger.spent, stranger.pending))
    why = (
        "no budget here has that name; it is another program's, or was renamed"
        if stranger.now is None
        else f"the budget counts {stranger.now} now, and began afresh"
    )
    return f"{stranger.budget} ({stranger.rule}): {counted}, spent {spent}, pending {pending}: {why}."


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "file": report.file,
        "ledger": report.ledger,
        "ledger_state": report.ledger_state,
        "budgets": [_branch_json(branch) for branch in report.budgets],
        "breakers": [_breaker_json(breaker) for breaker in report.breakers],
        "unnamed": [asdict(each) for each in report.strangers],
        "notes": report.notes,
        "problems": report.problems,
    }


def _branch_json(branch: Branch) -> dict[str, Any]:
    budget = branch.budget
    return {
        "name": budget.name,
        "limit": str(budget.limit),
        "limits": {value: str(limit) for value, limit in budget.limits.items()},
        "match": dict(budget.match),
        "per": list(budget.per),
        "burst": None if budget.burst is None else show_amount(budget.burst, budget.limit.unit),
        "on_exceed": budget.on_exceed,
        "mode": budget.mode,
        "inner": [_branch_json(each) for each in branch.inner],
    }


def _breaker_json(breaker: Breaker) -> dict[str, Any]:
    return {
        "name": breaker.name,
        "condition": str(breaker.condition),
        "match": dict(breaker.match),
        "per": list(breaker.per),
        "on_trip": breaker.on_trip,
        "resume_after_s": breaker.resume_after_s,
        "mode": breaker.mode,
    }
