"""
What is written before somebody goes: a flush, and the return of a Lambda function's handler.

With its reply a Lambda environment freezes, threads and all, perhaps for ever. What is open then is
ended as if its consumer had left it, and what has ended is written, before the reply goes out.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Final, ParamSpec, TypeVar

from bedrock_guard.background import BACKGROUND
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.ledger_options import ReportsLater
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.hooks.threads import wait_for_threads
from bedrock_guard.open_call import OpenCall
from bedrock_guard.telling.noticing import PROMPT_S

log = logging.getLogger("bedrock_guard")

P = ParamSpec("P")
R = TypeVar("R")

FLUSH_S: Final = 2.0
"""How long a flush waits, in seconds: as long as a ledger that is gone takes to say so."""

_FIRST_PAUSE_S: Final = 0.01


def flush(
    pipeline: Pipeline, timeout_s: float, *, leave: Sequence[OpenCall] = (), tell_s: float = float("inf")
) -> bool:
    """
    Write what has ended, and wait for ends that are on their way in other threads.

    The streams of *leave* end first, as if their consumers had closed them. The work is the background
    thread's, so that no ledger makes the caller wait for longer than *timeout_s* seconds.

    What is to be told of budgets is told then, in the rest of that time, but not for longer than *tell_s*.

    Returns whether every call that has ended is written, and every alert told.
    """
    ends_at = time.monotonic() + timeout_s
    is_written = _flush_ends(pipeline, ends_at, leave) and _flush_ledger(pipeline, ends_at)
    if pipeline.alerts is None:
        return is_written
    left_s = min(tell_s, max(0.0, ends_at - time.monotonic()))
    return pipeline.alerts.flush(left_s, asks_again=tell_s == float("inf")) and is_written


def _flush_ends(pipeline: Pipeline, ends_at: float, leave: Sequence[OpenCall]) -> bool:
    upkeep, pause_s = pipeline.upkeep, _FIRST_PAUSE_S
    # An end that is on its way holds its call, so that where no call is open, nothing is.
    while upkeep.open_calls() or upkeep.unwritten_ids():
        upkeep.begin()
        done = threading.Event()
        BACKGROUND.soon(partial(_write, pipeline, leave, done))
        done.wait(max(0.0, ends_at - time.monotonic()))
        wait_for_threads(max(0.0, ends_at - time.monotonic()))
        if not upkeep.unwritten_ids():
            return done.is_set()
        if time.monotonic() + pause_s > ends_at:
            return False
        time.sleep(pause_s)
        pause_s *= 2
    return True


def _flush_ledger(pipeline: Pipeline, ends_at: float) -> bool:
    """
    Have a ledger write that would do so later; whether it has.
    """
    ledger = pipeline.ledger
    if not isinstance(ledger, ReportsLater):
        return True
    done = threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            ledger.flush()
        except LedgerUnavailable as error:
            failed.append(error)
        finally:
            done.set()

    pipeline.upkeep.begin()
    BACKGROUND.soon(work)
    return done.wait(max(0.0, ends_at - time.monotonic())) and not failed


def lambda_handler(pipeline: Pipeline, function: Callable[P, R]) -> Callable[P, R]:
    """
    *function*, a handler, that holds no longer than it can last, and leaves nothing open or unwritten.
    """
    if not callable(function) or _is_later(function):
        raise ConfigurationError(
            f"lambda_handler() takes the plain function that Lambda calls; {function!r} is none."
        )

    @functools.wraps(function)
    def handler(*args: P.args, **kwargs: P.kwargs) -> R:
        context = args[1] if len(args) > 1 else kwargs.get("context")
        invocations = pipeline.upkeep.invocations
        invocation = invocations.begin(_remaining_s(context))
        try:
            return function(*args, **kwargs)
        finally:
            if invocations.end(invocation):
                _return(pipeline, context)

    return handler


def _is_later(function: object) -> bool:
    return iscoroutinefunction(function) or isgeneratorfunction(function) or isasyncgenfunction(function)


def _return(pipeline: Pipeline, context: object) -> None:
    """
    End what is open and write what has ended; a reply that is there is worth more than either.
    """
    upkeep = pipeline.upkeep
    try:
        remaining_s = _remaining_s(context)
        # Half of what is left: the reply has to go out, too.
        timeout_s = FLUSH_S if remaining_s is None else min(FLUSH_S, remaining_s / 2)
        flush(pipeline, timeout_s, leave=upkeep.open_calls(), tell_s=PROMPT_S)
        ids = {*upkeep.unwritten_ids(), *(opened.entry.id for opened in upkeep.open_calls())}
    except Exception:
        log.exception("Calls could not be settled before the handler returned; their holds expire.")
        return
    if ids:
        log.error(
            "%d calls are not settled as the handler returns: %s. Should this environment run again they "
            "are tried again; otherwise their holds expire.",
            len(ids),
            ", ".join(sorted(ids)),
        )


def _write(pipeline: Pipeline, leave: Sequence[OpenCall], done: threading.Event) -> None:
    # Who is left was open when the caller asked: a thread that was frozen may come to this much later.
    try:
        for opened in leave:
            if opened.leave is not None:
                opened.leave()
        pipeline.upkeep.write_ends()
    finally:
        done.set()


def _remaining_s(context: object) -> float | None:
    """
    How long the invocation can last yet; None where its context does not say: none in a test, or a mock.
    """
    ask = getattr(context, "get_remaining_time_in_millis", None)
    remaining_ms = ask() if callable(ask) else None
    return max(0.0, remaining_ms / 1000) if isinstance(remaining_ms, int | float) else None
