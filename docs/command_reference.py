"""
The reference of the command line, from the commands' own help.

Written into pages that hold the line of `MARK`, as they are read: it cannot be older than the commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer
from typer.cli import get_docs_for_click

from bedrock_guard.cli import COMMANDS, load

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK: Final = "<!-- every command -->"
_PROGRAM: Final = "bedrock-guard"


def setup(app: Sphinx) -> dict[str, bool]:
    """
    Sphinx calls this for an extension.
    """
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


def write_reference() -> str:
    """
    Every command of `COMMANDS`, its arguments and options, as Markdown below a first heading.
    """
    return "\n".join(_write(name) for name in COMMANDS)


def _write(name: str) -> str:
    command = load(name)
    # A page is the same whatever the width of the terminal, and whoever builds it.
    context = typer.Context(command, info_name=name, max_content_width=80)
    return get_docs_for_click(obj=command, ctx=context, indent=1, name=name, call_prefix=_PROGRAM)


def _fill(_app: Any, _page: str, source: list[str]) -> None:
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, write_reference())
