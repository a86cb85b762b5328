"""
Where commands print for people.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from bedrock_guard.cli.safe_text import plain
from bedrock_guard.domain.cost import usd_text

# Wide enough for every table: a program that reads a pipe wants whole lines.
_PIPE_WIDTH: Final = 400
# Between two columns.
_GAP: Final = 2
# So much of a name on a line can be read still.
_NAME: Final = 10


def console(*, stderr: bool = False) -> Console:
    """
    Where to print: without colours, and with lines as long as they are, where no one looks on.
    """
    found = Console(highlight=False, stderr=stderr)
    return found if found.is_terminal else Console(highlight=False, stderr=stderr, width=_PIPE_WIDTH)


def table(
    columns: Sequence[str], *, words: Collection[str], whole: Collection[str] = (), title: str | None = None
) -> Table:
    """
    An empty table; what is no column of *words* is one of figures. Those, and words that are *whole*, are
    never folded.
    """
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in columns:
        is_word = column in words
        made.add_column(
            Text(plain(column)),
            justify="left" if is_word else "right",
            no_wrap=not is_word or column in whole,
            overflow="fold",
            header_style="bold",
        )
    return made


def fit(made: Table, out: Console, spare: Sequence[str], *, last: Sequence[str] = ()) -> Table:
    """
    *made* without as many columns of *spare*, in that order, as keep it from fitting on the screen.

    A figure that is cut is wrong, and a name that is folded letter by letter cannot be read. Those of *last*
    go where names would have no room at all.
    """
    kept = list(made.columns)
    for name in spare:
        if sum(map(_least_width, kept)) <= out.width:
            break
        kept = [column for column in kept if str(column.header) != name]
    for name in last:
        if sum(map(_folded_width, kept)) <= out.width:
            break
        kept = [column for column in kept if str(column.header) != name]
    fitted = Table(
        box=None, pad_edge=False, title=made.title, title_justify="left", title_style=made.title_style
    )
    for column in kept:
        fitted.add_column(
            column.header,
            justify=column.justify,
            overflow=column.overflow,
            no_wrap=column.no_wrap,
            min_width=_least_width(column) - _GAP if column.no_wrap else None,
            header_style=column.header_style,
        )
    for row, cells in zip(made.rows, zip(*(column.cells for column in kept), strict=True), strict=True):
        fitted.add_row(*cells, style=row.style, end_section=row.end_section)
    return fitted


def dollars(nanousd: int | None) -> str:
    """
    Money in a table: to the hundredth of a cent, rounded up, so that nothing that cost something shows as 0.
    """
    if nanousd is None:
        return "no price"
    step = 100_000
    rounded = -(-nanousd // step) * step
    return f"{'-' if rounded < 0 else ''}${_with_commas(usd_text(abs(rounded)))}"


def counted(number: int, what: str) -> str:
    """
    So many of *what*, which takes an s: `"1 call"`, `"2,000 calls"`.
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def percent(share: Fraction | None) -> str:
    """
    A share, rounded down: only what is whole is 100 %.
    """
    return "" if share is None else f"{int(share * 1000) / 10:g} %"


def _least_width(column: Column) -> int:
    texts = [str(each) for each in column.cells]
    words = texts if column.no_wrap else [word for text in texts for word in text.split()]
    return max((cell_len(word) for word in [*words, str(column.header)]), default=0) + _GAP


def _folded_width(column: Column) -> int:
    least = _least_width(column)
    return least if column.no_wrap else min(least, _NAME + _GAP)


def _with_commas(usd: str) -> str:
    whole, _, rest = usd.partition(".")
    return f"{int(whole):,}.{rest}"
