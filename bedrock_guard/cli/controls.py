"""
`bedrock-guard stop`, `resume`, `top-up`, `controls`: what operators tell all programs of a ledger.

Exit codes: 0 done, 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer

from bedrock_guard.domain.budget import Budget, in_api_units, show_amount
from bedrock_guard.domain.control import Control, Stop, TopUp
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers.sqlite import read_path

if TYPE_CHECKING:
    from bedrock_guard.wiring import Guard

_Control = TypeVar("_Control", Stop, TopUp)

_NO: Final = 1
_BAD_INPUT: Final = 2
_DURATION: Final = re.compile(r"(\d+)\s*([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Ledger = Annotated[
    str | None,
    typer.Option(help="sqlite:///path.db or dynamodb://TABLE. Default: that of the settings, or your own."),
]
Config = Annotated[str | None, typer.Option(help="Settings file; default as for a program.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Match = Annotated[
    list[str] | None, typer.Option(help="TAG=GLOB; several: all must match. Default: all calls.")
]
Until = Annotated[str | None, typer.Option(help="2026-11-22T18:00Z, or from now: 30m, 2h, 1d.")]
By = Annotated[str | None, typer.Option(help="Who; default: your user and host.")]


def stop(
    *,
    reason: Annotated[str, typer.Option(help="Why; those who are refused read it.")],
    match: Match = None,
    until: Until = None,
    by: By = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    Stop calls, in every program that shares the ledger; without --match, all of them.

    What is held already may finish. `bedrock-guard resume` takes it back.
    """
    with _guard(ledger, config, []) as guard:
        id_ = guard.stop(match=read_pairs("--match", match), reason=reason, until=_read_until(until), by=by)
        made = _find(id_, guard.controls().stops)
    _tell(id_, made, f"\nbedrock-guard resume {id_}", as_json=as_json)


def resume(
    id: Annotated[str | None, typer.Argument(help="The stop's id.")] = None,  # noqa: A002 - a stop's own word
    *,
    match: Annotated[list[str] | None, typer.Option(help="TAG=GLOB, just as it was stopped.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every stop.")] = False,
    by: By = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    End a stop by its id, those that were made with a match, or all.
    """
    if (id is not None) + bool(match) + everything != 1:
        fail("Say which: the id of a stop, --match TAG=GLOB, or --all.", _BAD_INPUT)
    with _guard(ledger, config, []) as guard:
        if everything:
            ids = _resume_all(guard, by)
        else:
            ids = guard.resume(id, match=read_pairs("--match", match) if match else None, by=by)
    if as_json:
        print(json.dumps({"resumed": ids}))
    else:
        print("\n".join(f"{each} is resumed." for each in ids) or "Nothing is stopped.")


def top_up(
    budget: Annotated[str, typer.Argument(help="The budget's name.")],
    amount: Annotated[str, typer.Argument(help='In its unit: "20 USD".')],
    *,
    per: Annotated[list[str] | None, typer.Option(help="TAG=VALUE: whose balance.")] = None,
    limit: Annotated[
        str | None, typer.Option(help='Its limit, "250 USD/month", where no settings file names the budget.')
    ] = None,
    until: Until = None,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    by: By = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    Add to the limit of one balance until its window ends, in every program that shares the ledger.
    """
    whose = read_pairs("--per", per)
    if limit is None:
        _check_named(budget, ledger, config)
    with _guard(ledger, config, _read_budget(budget, limit, tuple(whose))) as guard:
        id_ = guard.top_up(budget, amount, per=whose or None, until=_read_until(until), reason=reason, by=by)
        made = _find(id_, guard.controls().top_ups)
        if limit is not None and made is not None:
            _warn_if_strange(guard, made)
    _tell(id_, made, "", as_json=as_json)


def controls(*, ledger: Ledger = None, config: Config = None, as_json: Json = False) -> None:
    """
    List the stops and top-ups that are in force.
    """
    with _guard(ledger, config, []) as guard:
        found = guard.controls()
    if as_json:
        listed = {"stops": [*map(control_json, found.stops)], "top_ups": [*map(control_json, found.top_ups)]}
        print(json.dumps({"version": found.version, **listed}))
    else:
        lines = [*map(_show, found.stops), *map(_show, found.top_ups)]
        print("\n".join(lines) or "Nothing is stopped or topped up.")


@contextmanager
def _guard(ledger: str | None, config: str | None, budgets: list[Budget] | None) -> Iterator[Guard]:
    """
    A guard of the ledger that is meant, with *budgets* or those of the settings; its errors end the command.
    """
    from bedrock_guard.config.load import resolve  # noqa: PLC0415  (pydantic is imported on use)
    from bedrock_guard.wiring import Guard  # noqa: PLC0415

    try:
        check_there(resolve(budgets=[], ledger=ledger, settings=config).ledger or "")
        # Without sinks: whoever stops calls has neither the programs' secrets, nor anything to tell.
        with Guard(budgets=budgets, ledger=ledger, settings=config, sinks=[], telemetry=()) as guard:
            yield guard
    except ConfigurationError as error:
        fail(str(error), _BAD_INPUT)
    except LedgerUnavailable as error:
        fail(str(error), _NO)


def check_there(url: str) -> None:
    """
    Refuse a file that no program has made: whoever mistypes its name must not believe that calls are stopped.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        raise ConfigurationError(f"{url!r} is in the memory of a program; ask its Guard.")
    if scheme == "sqlite" and not Path(read_path(url)[0]).exists():
        raise LedgerUnavailable(f"{url!r} is not there: no program has used it yet.")


def _read_budget(name: str, limit: str | None, per: tuple[str, ...]) -> list[Budget] | None:
    try:
        return None if limit is None else [Budget(name, limit, per=per)]
    except ConfigurationError as error:
        fail(str(error), _BAD_INPUT)


def read_pairs(option: str, pairs: list[str] | None) -> dict[str, str]:
    """
    What `TAG=VALUE` says, of several; a mistake ends the command.
    """
    read = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            fail(f"{option} {pair!r}: write TAG=VALUE.", _BAD_INPUT)
        if name in read:
            fail(f"{option} {pair!r}: {name} is given twice; one value at a time.", _BAD_INPUT)
        read[name] = value
    return read


def _read_until(text: str | None) -> datetime | None:
    if text is None:
        return None
    duration = _DURATION.fullmatch(text.strip())
    try:
        moment = (
            datetime.now(UTC) + timedelta(**{_UNITS[duration[2]]: int(duration[1])})
            if duration
            else datetime.fromisoformat(text)
        )
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        fail(f"--until {text!r}: write a time with its zone, 2026-11-22T18:00Z, or 30m, 2h, 1d.", _BAD_INPUT)
    return moment


def _check_named(budget: str, ledger: str | None, config: str | None) -> None:
    """
    Refuse a budget that no settings name.
    """
    from bedrock_guard.config.load import resolve  # noqa: PLC0415

    hint = "Where no settings name it, say unit and period: --limit '250 USD/month'."
    try:
        budgets = resolve(ledger=ledger, settings=config).budgets
    except ConfigurationError as error:
        fail(f"{error}\n{hint}", _BAD_INPUT)
    if budget not in {each.name for each in budgets}:
        known = ", ".join(map(str, budgets)) or "none"
        fail(f"There is no budget {budget!r} in the settings; there are: {known}. {hint}", _BAD_INPUT)


def _warn_if_strange(guard: Guard, made: TopUp) -> None:
    """
    Say so where no balance is like the one of *made*: a mistyped name or period tops nothing up.
    """
    like = made.budget, made.rule, [tag for tag, _ in made.per]
    keys = [balance.key for balance in guard.ledger.balances()]
    if like not in [(key.budget, key.rule, [tag for tag, _ in key.per]) for key in keys]:
        tags = "".join(f" per {tag}" for tag, _ in made.per)
        typer.echo(
            f"No call has been counted in {made.budget} ({made.rule}){tags} yet. If some should have been, "
            "compare name, unit, period, time zone and --per with the program's.",
            err=True,
        )


def _resume_all(guard: Guard, by: str | None) -> tuple[str, ...]:
    done: list[str] = []
    for stop in guard.controls().stops:
        try:
            done += guard.resume(stop.id, by=by)
        except ConfigurationError:
            if _find(stop.id, guard.controls().stops):
                raise  # else somebody else has resumed it
    return tuple(done)


def _find(id_: str, controls: Iterable[_Control]) -> _Control | None:
    return next((each for each in controls if each.id == id_), None)


def _tell(id_: str, control: Control | None, more: str, *, as_json: bool) -> None:
    """
    Print what was made; None where it has passed by now, or somebody has resumed it.
    """
    if as_json:
        print(json.dumps({"id": id_} if control is None else control_json(control)))
    else:
        print(f"{id_} is not in force any more." if control is None else f"{_show(control)}{more}")


def control_json(control: Control) -> dict[str, Any]:
    """
    All of a stop or a top-up; amounts in USD as text, moments in UTC.
    """
    shown = asdict(control)
    for name in ("at", "until"):
        at_s = shown.pop(f"{name}_s")
        shown[name] = None if at_s is None else _moment(at_s).isoformat()
    if isinstance(control, TopUp):
        unit = control.rule.partition("/")[0]
        shown["unit"] = unit
        shown["amount"] = str(in_api_units(control.amount, unit))
        shown["per"] = dict(control.per)
    return shown


def _show(control: Control) -> str:
    from bedrock_guard.budgets.steering import show_stop  # noqa: PLC0415
    from bedrock_guard.budgets.verdict import show_per  # noqa: PLC0415

    ends = "until resumed" if isinstance(control, Stop) else "for all time"
    if control.until_s is not None:
        ends = f"until {_moment(control.until_s):%Y-%m-%d %H:%M:%S} UTC"
    why = f": {control.reason}" if control.reason else ""
    told = f"by {control.by} at {_moment(control.at_s):%Y-%m-%d %H:%M:%S} UTC, {ends}{why}"
    if isinstance(control, Stop):
        return f"{control.id}  {show_stop(control)} are stopped {told}"
    amount = show_amount(control.amount, control.rule.partition("/")[0])
    return f"{control.id}  {control.budget}{show_per(control.per)} + {amount} {told}"


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def fail(message: str, code: int) -> NoReturn:
    """
    End the command with *message* on standard error.
    """
    typer.echo(message, err=True)
    raise typer.Exit(code)
