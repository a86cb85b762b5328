"""
A ledger as the commands read it that change nothing: opened as settings say, and never made.

Exit codes: 1 the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, NoReturn, cast
from zoneinfo import ZoneInfo

import typer

from bedrock_guard.cli.damaged import DamageNoticed
from bedrock_guard.config.load import Resolved, at, resolve
from bedrock_guard.domain.ledger import Ledger
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger

if TYPE_CHECKING:
    from bedrock_guard.reports.entry_prices import EntryPrices

NO: Final = 1
BAD_INPUT: Final = 2

LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="sqlite:///path.db or dynamodb://TABLE. Default: that of the settings, or your own.",
    ),
]
Config = Annotated[
    str | None, typer.Option("--config", help="Settings file; default as for a program.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV instead; money in USD.")]


class Reading(NamedTuple):
    """
    A ledger that is open to be read, and what the settings say.
    """

    resolved: Resolved
    ledger: Ledger
    url: str
    zone: ZoneInfo


@contextmanager
def open_to_read(ledger: str | None, config: str | None, *, has_budgets: bool = False) -> Iterator[Reading]:
    """
    The ledger that is meant; what goes wrong ends the command.

    *has_budgets* for who asks of the budgets of the settings too.
    """
    try:
        resolved = resolve(
            budgets=None if has_budgets else (), ledger=ledger, settings=config, needs_budget=False
        )
        zone = open_zone(resolved.settings.time_zone)
        url = resolved.ledger or ""
        with at(resolved.ledger_place):
            opened = open_ledger(_read_only(url), clock=time.time)
        noticed = DamageNoticed(opened)
        try:
            yield Reading(resolved, cast("Ledger", noticed), url, zone)
            noticed.tell()
        finally:
            opened.close()
    except ConfigurationError as error:
        fail(str(error), BAD_INPUT)
    except LedgerUnavailable as error:
        fail(str(error), NO)


def entry_prices(reading: Reading) -> EntryPrices:
    """
    What units cost, by the settings and the price list that is installed.
    """
    from bedrock_guard.budgets.matching import Matcher  # noqa: PLC0415  (imported on use)
    from bedrock_guard.planning import Planner  # noqa: PLC0415
    from bedrock_guard.pricing.price_list import PriceList  # noqa: PLC0415
    from bedrock_guard.reports.entry_prices import EntryPrices  # noqa: PLC0415

    settings = reading.resolved.settings
    prices, matcher = PriceList.installed(), Matcher((), settings)
    return EntryPrices(Planner(settings=settings, matcher=matcher, prices=prices, tags={}))


def check_forms(*forms: bool) -> None:
    """
    Refuse two forms of output at once.
    """
    if sum(forms) > 1:
        fail("--json or --csv, one of them.", BAD_INPUT)


def fail(message: str, code: int) -> NoReturn:
    """
    Say what is wrong, and end the command.
    """
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _read_only(url: str) -> str:
    """
    *url*, to be read only.

    Raises:
        LedgerUnavailable: It is a file that is not there; opening would make one.
        ConfigurationError: It is in the memory of a program.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        raise ConfigurationError(
            f"{url!r} is in the memory of the program that uses it; ask its Guard for status() and entries()."
        )
    if scheme != "sqlite":
        return url
    from bedrock_guard.ledgers.sqlite import read_path  # noqa: PLC0415  (imported on use)

    path, given = read_path(url)
    if not Path(path).is_file():
        raise LedgerUnavailable(f"{url!r} is not there: no program has used it yet.")
    if "access" in given:
        return url.replace("access=write", "access=read")
    return f"{url}{'&' if '?' in url else '?'}access=read"
