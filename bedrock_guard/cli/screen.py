"""
Where commands print for people.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Final

from rich.console import Console
from rich.table import Table

from bedrock_guard.domain.cost import usd_text

# Wide enough for every table: a program that reads a pipe wants whole lines.
_PIPE_WIDTH: Final = 400


def console() -> Console:
    """
    Where to print: without colours, and with lines as long as they are, where no one looks on.
    """
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def table(columns: Sequence[str], *, words: Collection[str], title: str | None = None) -> Table:
    """
    An empty table; what is no column of *words* is one of figures, which are never cut.
    """
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in columns:
        is_word = column in words
        made.add_column(
            column,
            justify="left" if is_word else "right",
            no_wrap=not is_word,
            overflow="fold",
            header_style="bold",
        )
    return made


def dollars(nanousd: int | None) -> str:
    """
    Money in a table: to the hundredth of a cent, rounded up, so that nothing that cost something shows as 0.
    """
    if nanousd is None:
        return "no price"
    step = 100_000
    return f"${_with_commas(usd_text(-(-nanousd // step) * step))}"


def percent(share: Fraction | None) -> str:
    """
    A share, rounded down: only what is whole is 100 %.
    """
    return "" if share is None else f"{int(share * 1000) / 10:g} %"


def _with_commas(usd: str) -> str:
    whole, _, rest = usd.partition(".")
    return f"{int(whole):,}.{rest}"
