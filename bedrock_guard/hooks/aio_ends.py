"""
Ends that are told without making the event loop wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bedrock_guard.hooks.ends import StreamEnd
from bedrock_guard.hooks.threads import off_loop, run_soon


class Ends:
    """
    Tells an end without making the event loop wait.

    Attributes:
        is_left: Whether what it is the end of was closed: an error that its reader then meets is no loss.
    """

    __slots__ = ("_blocks", "_end", "is_left")

    def __init__(self, end: Callable[[StreamEnd], None], *, blocks: bool) -> None:
        self._end = end
        self._blocks = blocks
        self.is_left = False

    async def now(self, how: StreamEnd) -> None:
        """
        Tell it, and go on when it is told.
        """
        if self._blocks:
            await off_loop(partial(self._end, how))
        else:
            self._end(how)

    async def failed(self, error: BaseException) -> None:
        """
        Tell that reading ended by *error*; to be cancelled, or interrupted, is the consumer's doing.
        """
        is_consumers = self.is_left or not isinstance(error, Exception)
        await self.now("dropped" if is_consumers else "error")

    def soon(self, how: StreamEnd) -> None:
        """
        Tell it from where nothing can be awaited.
        """
        if self._blocks:
            run_soon(partial(self._end, how))
        else:
            self._end(how)
