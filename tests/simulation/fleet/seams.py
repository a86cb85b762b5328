"""
Where the ledgers meet the machine: the modules through which they see time, chance, threads and files.

They read these through module attributes (`time.monotonic()`), so a simulation puts others in their place, and
the code under test has no seam of its own that could cost it anything.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import random
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from simulation.fleet.locks import Condition, Event, Lock, RLock, SimpleQueue, Thread
from simulation.fleet.world import World

from bedrock_guard import ledgers
from bedrock_guard.ledgers.dynamodb import clients


class _Instead:
    """
    Stands for a module, and is it where nothing else is said.
    """

    def __init__(self, module: ModuleType, **given: Any) -> None:
        self._module = module
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Time(_Instead):
    """
    The clocks of the process that asks.
    """

    def __init__(self, world: World) -> None:
        def node() -> Any:
            return world.task().owner

        super().__init__(
            time,
            time=lambda: node().clock(),
            time_ns=lambda: int(node().clock() * 1e9),
            monotonic=lambda: node().monotonic(),
            monotonic_ns=lambda: int(node().monotonic() * 1e9),
            perf_counter=lambda: node().monotonic(),
            perf_counter_ns=lambda: int(node().monotonic() * 1e9),
            sleep=lambda seconds: node().sleep(seconds),
        )


class _Random(_Instead):
    """
    The dice of the process that asks.
    """

    def __init__(self, world: World) -> None:
        super().__init__(random)
        self._world = world

    def __getattr__(self, name: str) -> Any:
        found = getattr(random, name)
        return found if isinstance(found, type) else getattr(self._world.task().owner.dice, name)


def _os(world: World) -> _Instead:
    def node() -> Any:
        return world.task().owner

    def open_(path: str, *args: int) -> int:
        descriptor = os.open(path, *args)
        node().descriptors.add(descriptor)
        return descriptor

    def close(descriptor: int) -> None:
        node().descriptors.discard(descriptor)
        os.close(descriptor)

    return _Instead(
        os,
        urandom=lambda size: node().dice.randbytes(size),
        getpid=lambda: node().pid,
        register_at_fork=lambda **given: node().fork_hooks.append(given["after_in_child"]),
        open=open_,
        close=close,
    )


class _Finalize:
    """
    As `weakref.finalize`, but never when something is collected: nobody could say in which process.
    """

    def __init__(self, _: object, work: Callable[..., Any], *args: Any, **named: Any) -> None:
        self._work: Callable[[], Any] | None = lambda: work(*args, **named)
        self.atexit = True

    @property
    def alive(self) -> bool:
        return self._work is not None

    def detach(self) -> None:
        self._work = None

    def __call__(self) -> Any:
        work, self._work = self._work, None
        return work() if work is not None else None


def _uuid(world: World) -> _Instead:
    return _Instead(uuid, uuid4=lambda: uuid.UUID(bytes=world.task().owner.dice.randbytes(16), version=4))


def _threading(world: World) -> _Instead:
    return _Instead(
        threading,
        Lock=lambda: Lock(world),
        RLock=lambda: RLock(world),
        Condition=lambda lock=None: Condition(world, lock),
        Event=lambda: Event(world),
        Thread=lambda *args, **named: Thread(world, *args, **named),
    )


def _replacements(world: World, more: dict[Any, Any]) -> dict[int, Any]:
    import atexit
    import queue

    found: dict[Any, Any] = {
        time: _Time(world),
        random: _Random(world),
        os: _os(world),
        uuid: _uuid(world),
        threading: _threading(world),
        weakref: _Instead(weakref, finalize=_Finalize),
        queue: _Instead(queue, SimpleQueue=lambda: SimpleQueue(world)),
        atexit: _Instead(
            atexit,
            register=lambda work, *args, **named: world.task().owner.at_exit(work, *args, **named),
            unregister=lambda work: world.task().owner.not_at_exit(work),
        ),
        **more,
    }
    return {id(module): instead for module, instead in found.items()}


@cache
def modules() -> list[ModuleType]:
    """
    Every module of the ledgers.
    """
    found = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(ledgers.__path__, "bedrock_guard.ledgers.")
    ]
    return [ledgers, *found]


@contextmanager
def installed(
    world: World,
    *,
    make_client: Callable[[Any, tuple[float, float]], Any] | None = None,
    connect: Callable[..., sqlite3.Connection] | None = None,
) -> Iterator[None]:
    """
    While it lasts, the ledgers see *world* and nothing else.
    """
    more = {} if connect is None else {sqlite3: _Instead(sqlite3, connect=connect)}
    instead = _replacements(world, more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("bedrock_guard"), "disabled", True)  # of thousands of faults
        for module in modules():
            for name, value in list(vars(module).items()):
                if hasattr(value, "cache_clear"):  # or Ctrl-C would strike elsewhere the second time
                    value.cache_clear()
                if id(value) in instead:
                    patch.setattr(module, name, instead[id(value)])
        if make_client is not None:
            patch.setattr(clients.Clients, "_make", make_client)
        yield


def leaks() -> list[str]:
    """
    Names in the ledgers by which they would see the machine past the seams: functions that were imported by name.
    """
    return [
        f"{module.__name__}.{name} is {source.__name__}.{name}"
        for module in modules()
        for name, value in vars(module).items()
        for source in (time, random, uuid)
        if callable(value) and vars(source).get(name) is value
    ]
