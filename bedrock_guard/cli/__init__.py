"""
The command line: one command a file.

To add one: write `cli/<name>.py` with a function, and register it here.
"""

from __future__ import annotations

import typer

from bedrock_guard.cli.aws import aws
from bedrock_guard.cli.check import check
from bedrock_guard.cli.controls import controls, resume, stop, top_up
from bedrock_guard.cli.demo import demo
from bedrock_guard.cli.dynamodb import dynamodb
from bedrock_guard.cli.ledger import ledger
from bedrock_guard.cli.prices import prices
from bedrock_guard.cli.run import run
from bedrock_guard.cli.schema import schema

app = typer.Typer(
    name="bedrock-guard",
    help="A hard spending limit for Amazon Bedrock.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """
    A hard spending limit for Amazon Bedrock.
    """


app.command()(check)
app.command()(demo)
# What comes after the program is the program's, options too.
app.command(context_settings={"allow_interspersed_args": False})(run)
app.command()(schema)
app.command()(stop)
app.command()(resume)
app.command("top-up")(top_up)
app.command()(controls)
app.add_typer(aws)
app.add_typer(dynamodb)
app.add_typer(ledger)
app.add_typer(prices)
