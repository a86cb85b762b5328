"""
Work that may wait, kept off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import Final, TypeVar

T = TypeVar("T")

_MOST_THREADS: Final = 4


async def off_loop(work: Callable[[], T]) -> T:
    """
    What *work* returns, run in a thread that sees this task's context variables.

    It runs to its end even if the task is cancelled meanwhile, so that whoever
    is told of the cancellation finds its effects complete.
    """
    future = asyncio.get_running_loop().run_in_executor(_threads(), partial(copy_context().run, work))
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    future.exception()  # looked at, so that nobody warns of it
    try:
        raise cancelled
    finally:
        del cancelled  # its traceback holds this frame, and that the reply: money, until the collector comes


def run_soon(work: Callable[[], object]) -> None:
    """
    Run *work* in a thread, later; at once where the interpreter is on its way out.
    """
    try:
        _threads().submit(work)
    except RuntimeError:
        work()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="bedrock_guard")
