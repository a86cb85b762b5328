"""
The command line: one command a file.

To add one: write `cli/<name>.py` with a function, or a `typer.Typer` of several, and add its line to
`COMMANDS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

# Named, not imported: whoever asks for one command must not wait for all. The words are those that the
# command's own help begins with. A module that begins with a dot lies beside this room.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "status": (
        "status:status",
        "Show what every balance has spent, holds and has left, and when it begins anew.",
    ),
    "entries": (
        "entries:entries",
        "Show the records of calls, newest first: what each used, cost, and how sure that is.",
    ),
    "tail": ("tail:tail", "Show calls as they end, refusals and stops too, until Ctrl-C."),
    "top": (
        "top:top",
        "Show who spends now: the values of tags by what they have cost in the last minutes.",
    ),
    "dashboard": (
        ".dashboard.command:dashboard",
        "Show the ledger in a browser: balances, spend and caches over time, calls as they end, every entry.",
    ),
    "report": ("report:report", "What was spent, by whom and when, and how well caches work."),
    "run": (
        "run:run",
        "Run a program, and the Python programs that it starts, under a budget; its code stays as it is.",
    ),
    "budgets": (
        "budgets:budgets",
        "List the budgets that settings and environment name: their limits, and whose they are.",
    ),
    "check": ("check:check", "Check settings, ledger and prices, and show the budgets as a tree."),
    "estimate": (
        "estimate:estimate",
        "The most that a request can cost, or what a month of traffic would, with one model or several.",
    ),
    "replay": (
        "replay:replay",
        "Price Bedrock's model invocation logs, and tell what a policy would have refused, when, for whom.",
    ),
    "demo": (
        "demo:demo",
        "A coding agent's prompt cache fails in silence; a 5 USD/day budget stops it.",
    ),
    "schema": (
        "schema:schema",
        "Print the JSON Schema of bedrock-guard.toml, for editors that complete and check TOML.",
    ),
    "stop": (
        "controls:stop",
        "Stop calls, in every program that shares the ledger; without --match, all of them.",
    ),
    "resume": ("controls:resume", "End a stop by its id, those that were made with a match, or all."),
    "top-up": (
        "controls:top_up",
        "Add to the limit of one balance until its window ends, in every program that shares the ledger.",
    ),
    "controls": ("controls:controls", "List the stops and top-ups that are in force."),
    "sweep": (
        "sweep:sweep",
        "End the calls of dead processes, as programs do by themselves about once a minute.",
    ),
    "aws": ("aws:aws", "What AWS itself can add, for CloudFormation."),
    "batch": ("batch:batch", "Batch jobs: what one can cost, and what one did cost."),
    "dynamodb": ("dynamodb:dynamodb", "The table of a ledger that hosts share."),
    "ledger": ("ledger:ledger", "A ledger that lasts: migrate; of SQLite also vacuum, check."),
    "prices": ("prices:prices", "The price list: look at it, check it, sync it with AWS's."),
}

_CONTEXTS: Final[dict[str, dict[str, Any]]] = {
    # What comes after the program is the program's, options too.
    "run": {"allow_interspersed_args": False},
}


class _Named(TyperGroup):
    """
    A group whose commands are imported when they are run; its own help needs none of them.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """
        The command that *args* begin with, its name, and the rest.
        """
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


def load(name: str) -> Any:
    """
    The command *name* of `COMMANDS`, imported.
    """
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(f".{module}", __name__), attribute)
    if isinstance(found, typer.Typer):
        return get_group(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, context_settings=_CONTEXTS.get(name))(found)
    return get_command(alone)


app = typer.Typer(
    name="bedrock-guard",
    cls=_Named,
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


def _stand_in() -> None:
    """
    Listed in help; what is run is `load`ed.
    """


for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_stand_in)
