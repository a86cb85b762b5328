"""
One line at the bottom of a terminal, below what a program writes there.

The rows above scroll as ever: they are made a region of their own, as apt does for its progress. Programs
that take the whole screen overwrite it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TextIO

from rich.cells import set_cell_size

# DEC's: the cursor's place is kept and taken up again, so that the program finds it where it left it.
_SAVE: Final = "\x1b7"
_RESTORE: Final = "\x1b8"
_ALL_ROWS: Final = "\x1b[r"
_CLEAR: Final = "\x1b[2K"
_UP: Final = "\x1b[1A"
_REVERSED: Final = "\x1b[7m"
_PLAIN: Final = "\x1b[0m"
_LEAST_ROWS: Final = 5


def has_bottom_line(stream: TextIO) -> bool:
    """
    Whether *stream* is a terminal that can hold one.
    """
    return stream.isatty() and os.name == "posix" and os.environ.get("TERM", "dumb") != "dumb"


class BottomLine:
    """
    The line, from entering to leaving a `with` block.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._write(f"{_SAVE}{_ALL_ROWS}\x1b[{self._rows};1H{_CLEAR}{_RESTORE}")
            self._rows = 0

    def show(self, text: str) -> None:
        """
        Write *text*, as much of it as fits.
        """
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:  # it has been closed, and the program goes on
            return
        if size.lines < _LEAST_ROWS:
            return
        if size.lines != self._rows:
            # A new row first, in case the cursor is in the last.
            self._write(f"\n{_SAVE}\x1b[1;{size.lines - 1}r{_RESTORE}{_UP}")
            self._rows = size.lines
        shown = set_cell_size(f" {text}", size.columns)
        self._write(f"{_SAVE}\x1b[{self._rows};1H{_REVERSED}{shown}{_PLAIN}{_RESTORE}")

    def _write(self, text: str) -> None:
        # At once: between its parts the program could write.
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
