"""
Locks and threads of a virtual process: who waits hands the baton on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

from simulation.fleet.world import Task, World


class Lock:
    """
    As `threading.Lock`, and with `is_reentrant` as `threading.RLock`.
    """

    is_reentrant = False

    def __init__(self, world: World) -> None:
        self._world = world
        self._holder: Task | None = None
        self._depth = 0
        self._waiting: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        task = self._world.task()
        if self.is_reentrant and self._holder is task:
            self._depth += 1
            return True
        until_s = None if timeout < 0 else self._world.now + timeout
        while self._holder is not None:
            if not blocking or (until_s is not None and self._world.now >= until_s):
                return False
            self._waiting.append(task)
            try:
                self._world.park(until_s)
            except KeyboardInterrupt:
                self._waiting.remove(task)
                self._wake_next()  # it may have been this one's turn
                raise
            except BaseException:
                self._waiting.remove(task)
                raise
            self._waiting.remove(task)
        self._holder, self._depth = task, 1
        return True

    def release(self) -> None:
        if self._holder is None or (self.is_reentrant and self._holder is not self._world.current):
            raise RuntimeError("cannot release un-acquired lock")
        self._depth -= 1
        if self._depth:
            return
        self._holder = None
        self._wake_next()

    def __deepcopy__(self, _: Any) -> Lock:
        """
        As a fork finds it: whoever has it there does not let go of it here, and nobody waits.
        """
        copied = type(self)(self._world)
        copied._holder, copied._depth = self._holder, self._depth
        return copied

    def locked(self) -> bool:
        return self._holder is not None

    def _wake_next(self) -> None:
        if self._holder is None and self._waiting and not self._world.is_over:
            self._world.wake(self._waiting[0])

    def _is_owned(self) -> bool:
        return self._holder is self._world.current

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """
    As `threading.RLock`.
    """

    is_reentrant = True


class Condition:
    """
    As `threading.Condition`.
    """

    def __init__(self, world: World, lock: Lock | None = None) -> None:
        self._world = world
        self._lock = lock or RLock(world)
        self._waiting: deque[Task] = deque()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def wait(self, timeout: float | None = None) -> bool:
        task, depth = self._world.task(), self._lock._depth
        self._lock._depth = 1
        self._lock.release()
        self._waiting.append(task)
        try:
            is_told = self._world.park(None if timeout is None else self._world.now + timeout) is not None
        finally:
            if task in self._waiting:
                self._waiting.remove(task)
            self._lock.acquire()
            self._lock._depth = depth
        return is_told

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        until_s = None if timeout is None else self._world.now + timeout
        while not (found := predicate()):
            left_s = None if until_s is None else until_s - self._world.now
            if left_s is not None and left_s <= 0:
                return predicate()
            self.wait(left_s)
        return found

    def notify(self, count: int = 1) -> None:
        for _ in range(min(count, len(self._waiting))):
            self._world.wake(self._waiting.popleft(), "told")

    def notify_all(self) -> None:
        self.notify(len(self._waiting))

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Event:
    """
    As `threading.Event`.
    """

    def __init__(self, world: World) -> None:
        self._condition = Condition(world)
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._condition.notify_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._condition:
            return bool(self._condition.wait_for(self.is_set, timeout))


class SimpleQueue:
    """
    As `queue.SimpleQueue`.
    """

    def __init__(self, world: World) -> None:
        self._condition = Condition(world)
        self._items: deque[Any] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        self._condition.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self._condition:
            if not self._condition.wait_for(lambda: self._items, timeout if block else 0):
                raise Empty
            return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class Thread:
    """
    As `threading.Thread`; it dies with its process.
    """

    def __init__(
        self,
        world: World,
        group: None = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self._world, self.name, self.daemon = world, name or "thread", daemon
        self._work = lambda: target(*args, **(kwargs or {})) if target else None
        self._task: Task | None = None

    def start(self) -> None:
        self._task = self._world.spawn(self._world.task().owner, self.name, self._work)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_over

    def join(self, timeout: float | None = None) -> None:
        until_s = None if timeout is None else self._world.now + timeout
        while self.is_alive() and (until_s is None or self._world.now < until_s):
            next_s = self._world.now + 0.01
            self._world.park(next_s if until_s is None else min(next_s, until_s))
