"""
How a stream or body ended, told once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

StreamEnd = Literal["last_word", "end", "error", "closed", "dropped"]
"""How a stream or body ended: `closed` and `dropped` are the consumer's doing."""


def end_by(error: BaseException) -> StreamEnd:
    """
    How reading ended that raised *error*; an interrupt is the consumer's doing.
    """
    return "error" if isinstance(error, Exception) else "dropped"


class Once:
    """
    Tells an end the first time it is asked to, and only in the process that saw the beginning.
    """

    __slots__ = ("_process", "_tell")

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = [tell]
        # A fork copies the stream; only the process that opened it may say how it ended.
        self._process = os.getpid()

    @property
    def is_told(self) -> bool:
        """
        Whether it has been told.
        """
        return not self._tell

    @property
    def can_tell(self) -> bool:
        """
        Whether it is still to be told, and this process may.
        """
        return bool(self._tell) and os.getpid() == self._process

    def __call__(self, *end: Any) -> None:
        """
        Tell it, with what *end* says of it.
        """
        if os.getpid() != self._process:
            return
        try:
            tell = self._tell.pop()  # atomic: the collector may come in another thread
        except IndexError:
            return
        tell(*end)
