"""
`bedrock-guard ledger`: look after a ledger that lasts: a SQLite file, or a DynamoDB table.

Exit codes: 0 done, 1 the books are wrong or the ledger cannot be used, 2 bad input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Final, NoReturn, TypeVar

import typer

from bedrock_guard.cli.safe_text import plain
from bedrock_guard.config.load import resolve
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import sqlite_care

T = TypeVar("T")

_NO: Final = 1
_BAD_INPUT: Final = 2

Url = Annotated[
    str | None,
    typer.Argument(
        help="sqlite:///path.db or dynamodb://TABLE. "
        "Default: BEDROCK_GUARD_LEDGER, the settings file, your own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]

ledger = typer.Typer(
    name="ledger", help="A ledger that lasts: migrate; of SQLite also vacuum, check.", no_args_is_help=True
)


@ledger.command()
def migrate(url: Url = None, *, as_json: Json = False) -> None:
    """
    Bring a file or table to this version's schema, and set up a table that is new.

    Programs of this version and of the one before go on using it meanwhile and afterwards.
    """
    found, (before, after) = _do(url, _MIGRATE)
    if as_json:
        print(json.dumps({"ledger": found, "before": before, "after": after}))
    elif not before:
        print(f"{found} is set up, with schema {after}.")
    elif before == after:
        print(f"{found} has schema {after}; nothing to do.")
    else:
        print(f"{found}: schema {before} is now {after}.")


@ledger.command()
def vacuum(url: Url = None, *, as_json: Json = False) -> None:
    """
    Give the room of dropped entries back to the disk; calls wait meanwhile.
    """
    found, (before, after) = _do(url, {"sqlite": sqlite_care.vacuum})
    if as_json:
        print(json.dumps({"ledger": found, "bytes_before": before, "bytes_after": after}))
    else:
        print(f"{found}: {before:,} bytes are now {after:,}.")


@ledger.command()
def check(url: Url = None, *, as_json: Json = False) -> None:
    """
    Whether the file is sound and its sums agree; changes nothing, and nobody waits for it.

    Exits with 1 when something is wrong.
    """
    found, report = _do(url, {"sqlite": sqlite_care.check})
    if as_json:
        print(json.dumps({"ledger": found, **asdict(report)}))
    else:
        print(
            f"{found}: schema {report.schema}, {report.balances} balances, {report.entries} entries, "
            f"{report.open_calls} open calls."
        )
        print("\n".join(plain(finding, None) for finding in report.findings) or "The sums agree.")
    if report.findings:
        raise typer.Exit(_NO)


def _migrate_table(url: str) -> tuple[int, int]:
    from bedrock_guard.ledgers.dynamodb import schema  # noqa: PLC0415  (boto3 is imported on use)

    return schema.migrate(url)


_MIGRATE: Final = {"sqlite": sqlite_care.migrate, "dynamodb": _migrate_table}


def _do(url: str | None, works: Mapping[str, Callable[[str], T]]) -> tuple[str, T]:
    """
    The ledger that was meant, and what the work for its scheme returns.
    """
    try:
        found = url or resolve(budgets=[]).ledger or ""
        work = works.get(found.partition("://")[0])
        if work is None:
            _fail(
                f"{found!r}: this is for {' and '.join(f'{name}://' for name in works)} ledgers.", _BAD_INPUT
            )
        return found, work(found)
    except ConfigurationError as error:
        _fail(str(error), _BAD_INPUT)
    except LedgerUnavailable as error:
        _fail(str(error), _NO)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
