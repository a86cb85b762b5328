"""
`bedrock-guard dynamodb`: the table of a ledger that hosts share.

Exit codes: 0 done, 1 AWS does not let us, 2 bad input.
"""

from __future__ import annotations

import json
from typing import Annotated, Final
from urllib.parse import urlencode

import typer

from bedrock_guard.errors import ConfigurationError, LedgerUnavailable

_NO: Final = 1
_BAD_INPUT: Final = 2

dynamodb = typer.Typer(name="dynamodb", help="The table of a ledger that hosts share.", no_args_is_help=True)


@dynamodb.command("create-table")
def make(
    table: Annotated[str, typer.Argument(help="The table's name.")],
    *,
    region: Annotated[str | None, typer.Option(help="Else as for any AWS client.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Of an engine that is not AWS's.")] = None,
) -> None:
    """
    Make a table: on demand, with point-in-time recovery and TTL. One that is there is left as it is.
    """
    from bedrock_guard.ledgers.dynamodb import create_table  # noqa: PLC0415  (boto3 is imported on use)

    given = {"region": region, "endpoint_url": endpoint_url}
    query = urlencode({name: value for name, value in given.items() if value}, safe=":/")
    url = f"dynamodb://{table}?{query}" if query else f"dynamodb://{table}"
    try:
        create_table(url)
    except (ConfigurationError, LedgerUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_BAD_INPUT if isinstance(error, ConfigurationError) else _NO) from None
    print(f"{table} is there. Write: ledger={url!r}")


@dynamodb.command("template")
def show_template(
    table: Annotated[
        str, typer.Argument(help="The table's name, a parameter of the template.")
    ] = "bedrock-guard",
) -> None:
    """
    Print a CloudFormation template: the table, and policies for writers, readers and operators.
    """
    from bedrock_guard.ledgers.dynamodb.template import template  # noqa: PLC0415

    print(json.dumps(template(table), indent=2))
