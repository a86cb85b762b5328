"""
Tags of the block of code that runs: `scope()`, and `bind()` to carry them into threads.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from decimal import Decimal
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Final, ParamSpec, TypeVar

from bedrock_guard.domain.budget import BUILT_IN_TAGS
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import add
from bedrock_guard.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

_MOST_NEW: Final = 256


class Tally:
    """
    What the guarded calls of one `scope()` came to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Appended to without the lock: the collector may end a stream while this thread holds it.
        self._new: deque[Entry] = deque()
        self._calls = 0
        self._nanousd = 0
        self._usage: Mapping[str, int] = {}

    @property
    def calls(self) -> int:
        """
        Calls that ended; refused ones do not count.
        """
        with self._lock:
            self._add_up()
            return self._calls

    @property
    def cost(self) -> Decimal:
        """
        What they cost, in USD; calls without a price count as 0.
        """
        with self._lock:
            self._add_up()
            return usd_from_nanousd(self._nanousd)

    @property
    def usage(self) -> Mapping[str, int]:
        """
        Quantities by meter.
        """
        with self._lock:
            self._add_up()
            return dict(self._usage)

    def count(self, entry: Entry) -> None:
        """
        Add a call that ended.
        """
        self._new.append(entry)
        if len(self._new) > _MOST_NEW and self._lock.acquire(blocking=False):
            try:
                self._add_up()
            finally:
                self._lock.release()

    def _add_up(self) -> None:
        while self._new:
            entry = self._new.popleft()
            self._calls += 1
            self._nanousd += entry.cost_nanousd or 0
            self._usage = add((self._usage, entry.usage))


@dataclass(frozen=True, slots=True)
class Scope:
    """
    The tags and tallies that hold where the code runs now.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    tallies: tuple[Tally, ...] = ()


_NOWHERE = Scope()
_SCOPE: ContextVar[Scope] = ContextVar("bedrock_guard.scope", default=_NOWHERE)


current_scope: Final = _SCOPE.get
"""The innermost scope, with the tags of those around it."""


@contextmanager
def scope(**tags: str) -> Iterator[Tally]:
    """
    Tag every guarded call inside the block; inner scopes add to and override outer ones.

    Threads of a pool do not see the tags of the code that submits to it:
    `pool.submit(bind(work))` carries them there.

    Raises:
        ConfigurationError: A tag is built in, or its value is no non-empty string.
    """
    check_tags(tags)
    outer = _SCOPE.get()
    tally = Tally()
    token = _SCOPE.set(Scope({**outer.tags, **tags}, (*outer.tallies, tally)))
    try:
        yield tally
    finally:
        # A generator may be ended in another context than it began in (Starlette does); that
        # context never saw these tags.
        with suppress(ValueError):
            _SCOPE.reset(token)


def stay_tagged(tags: Mapping[str, str]) -> None:
    """
    Tag what the task, or the thread, does from here on: for servers that tell when a request begins, and run
    each in a task of its own.

    Raises:
        ConfigurationError: As `scope()`.
    """
    check_tags(tags)
    outer = _SCOPE.get()
    _SCOPE.set(Scope({**outer.tags, **tags}, outer.tallies))


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """
    *function*, running with the tags that hold here, wherever it is called.

    Raises:
        ConfigurationError: It is a coroutine or generator function, whose body runs
            only after the call of it has returned.
    """
    if iscoroutinefunction(function) or isgeneratorfunction(function) or isasyncgenfunction(function):
        raise ConfigurationError(
            f"bind() takes plain functions; {function!r} runs its body after it is called. "
            "Open a scope() inside it instead."
        )
    context = copy_context()

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context runs one thread at a time, and a pool may run us in many.
        return context.copy().run(function, *args, **kwargs)

    return bound


def check_tags(tags: Mapping[str, str]) -> None:
    """
    Refuse tags that cannot be kept.

    Raises:
        ConfigurationError: It quotes the tag and says what is allowed.
    """
    for name, value in tags.items():
        if name in BUILT_IN_TAGS:
            raise ConfigurationError(
                f"{name!r} is a built-in tag and cannot be set; built in are {', '.join(BUILT_IN_TAGS)}."
            )
        if not isinstance(name, str) or not name or not isinstance(value, str) or not value:
            raise ConfigurationError(f"Tag {name!r} is {value!r}; names and values are non-empty strings.")
