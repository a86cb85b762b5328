"""
Work that may wait, kept off the event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache, partial
from typing import Any, Final, TypeVar

from bedrock_guard.background import BACKGROUND

T = TypeVar("T")

_MOST_THREADS: Final = 4
# Work that nobody awaits.
_HANDED_ON: Final[set[Future[Any]]] = set()


def is_on_loop() -> bool:
    """
    Whether an event loop would stand still meanwhile.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def off_loop(work: Callable[[], T]) -> T:
    """
    What *work* returns, run in a thread that sees this task's context variables.

    It runs to its end even if the task is cancelled meanwhile, so that whoever
    is told of the cancellation finds its effects complete.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # a fork from inside of the loop: there is none in the child
        return work()
    return await _finish(loop.run_in_executor(_threads(), partial(copy_context().run, work)))


async def in_own_thread(work: Callable[[], T], *, give_up: Callable[[], object]) -> T:
    """
    As `off_loop`, for work that may wait for that of others: it has a thread of its own, and is told to
    *give_up* when the task is cancelled.
    """
    done: Future[T] = Future()
    run = copy_context().run

    def do() -> None:
        try:
            done.set_result(run(work))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
            done.set_exception(error)

    future = asyncio.wrap_future(done)
    threading.Thread(target=do, name="bedrock_guard open", daemon=True).start()
    return await _finish(future, give_up)


async def _finish(future: asyncio.Future[T], give_up: Callable[[], object] | None = None) -> T:
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
            if give_up is not None:
                give_up()
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

    May be called by a finalizer: even inside of the pool, whose lock it does not ask for.
    """
    BACKGROUND.soon(partial(_hand_on, work))


def _hand_on(work: Callable[[], object]) -> None:
    """
    Give *work* to the pool: a ledger that keeps one end waiting must not keep the others, nor renewals.
    """
    if BACKGROUND.is_leaving:
        work()
        return
    try:
        future = _threads().submit(work)
    except RuntimeError:  # the pool has been closed since
        work()
    else:
        _HANDED_ON.add(future)
        future.add_done_callback(_HANDED_ON.discard)


def wait_for_threads(timeout_s: float) -> None:
    """
    Wait until what was handed on is done, for *timeout_s* seconds at most.
    """
    if _HANDED_ON:
        wait(_HANDED_ON.copy(), timeout_s)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="bedrock_guard")


if hasattr(os, "register_at_fork"):
    # A fork has none of the pool's threads.
    os.register_at_fork(after_in_child=_threads.cache_clear)
    os.register_at_fork(after_in_child=_HANDED_ON.clear)
