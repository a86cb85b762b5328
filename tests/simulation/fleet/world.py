"""
Virtual time, and threads of which one runs at a time: the one that has the baton.

The code under test blocks, so each of its threads is a real one. It gives the baton away
only where it would wait (a sleep, a lock, the network), so that what happens between two
waits is one step, and the same seed is the same order of steps:

    park     a thread waits, and hands the baton to whom the next event wakes
    event    what happens at a moment: a request arrives, a process is killed, a thread goes on

No thread ever sees the machine's clock.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol

BEGIN_S = 1_800_000_000.0
LONGEST_S = 86_400.0


class Killed(BaseException):
    """
    The process is dead; whatever its threads still do reaches nobody.
    """


class Mortal(Protocol):
    """
    What a thread belongs to: a process, which may be killed, or stand still.
    """

    name: str
    is_dead: bool
    frozen_until_s: float


class Task:
    """
    One virtual thread.
    """

    def __init__(self, world: World, owner: Mortal, name: str, work: Callable[[], Any]) -> None:
        self.world, self.owner, self.name, self.work = world, owner, name, work
        self.baton = _taken()
        self.reason: Any = None
        # Counts its waits: who would wake it from an earlier one comes too late.
        self.waits = 0
        self.is_parked = True
        self.is_over = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __deepcopy__(self, _: Any) -> Task:
        return self

    def _run(self) -> None:
        world = self.world
        self.baton.acquire()
        try:
            if not self.owner.is_dead and not world.is_over:
                self.work()
        except Killed:
            pass
        except BaseException as error:
            world.fail(error)
        self.is_over = True
        world.tasks.pop(self, None)
        world.pass_baton(None)


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class World:
    """
    The clock, what happens when, and who has the baton.

    Attributes:
        now: The true time, seconds since 1970; processes have clocks of their own.
        steps: How many events there were.
        history: What happened, for who looks at a failure.
        failure: What went wrong first; everything stands still from then on.
    """

    def __init__(self) -> None:
        self.now = BEGIN_S
        self.steps = 0
        self.tasks: dict[Task, None] = {}
        self.current: Task | None = None
        self.history: list[str] = []
        self.failure: BaseException | None = None
        self.is_over = False
        self._events: list[tuple[float, int, Callable[[], Task | None]]] = []
        self._number = 0
        self._main = _taken()
        self._digest = blake2b(digest_size=8)

    def __deepcopy__(self, _: Any) -> World:
        return self

    def at(self, at_s: float, event: Callable[[], Task | None]) -> None:
        """
        Let *event* happen; the task that it returns goes on.
        """
        self._number += 1
        heapq.heappush(self._events, (max(at_s, self.now), self._number, event))

    def spawn(self, owner: Mortal, name: str, work: Callable[[], Any], *, at_s: float = 0.0) -> Task:
        """
        Another thread of *owner*.
        """
        task = Task(self, owner, name, work)
        self.tasks[task] = None
        task.thread.start()
        self.at(at_s, lambda: self._wake(task, 0, None))
        return task

    def wake(self, task: Task, reason: Any = None) -> None:
        """
        Let *task*, which is parked, go on as soon as this moment's events allow.
        """
        self.at(self.now, self.waker(task, reason))

    def waker(self, task: Task, reason: Any, *, waits: int | None = None) -> Callable[[], Task | None]:
        """
        An event that ends the wait in which *task* is, or the one with the number *waits*.
        """
        number = task.waits if waits is None else waits
        return lambda: self._wake(task, number, reason)

    def park(self, until_s: float | None = None) -> Any:
        """
        Wait to be woken, until then at most; why it went on: None when that moment came.
        """
        task = self.task()
        task.waits += 1
        if until_s is not None:
            if self._is_quiet_until(until_s, task):
                self._move_to(until_s)
                return None
            self.at(until_s, self.waker(task, None))
        task.is_parked = True
        self.pass_baton(task)
        if task.owner.is_dead or self.is_over:
            raise Killed
        if isinstance(task.reason, KeyboardInterrupt):
            raise task.reason
        return task.reason

    def task(self) -> Task:
        """
        Who has the baton; the dead are told that they are.
        """
        task = self.current
        if task is None:
            raise AssertionError("no virtual thread is running")
        if task.owner.is_dead or self.is_over:
            raise Killed
        return task

    def tell(self, text: str) -> None:
        """
        Add a line to the history.
        """
        line = f"{self.now - BEGIN_S:12.6f} {text}"
        self._digest.update(line.encode())
        self.history.append(line)

    @property
    def digest(self) -> str:
        """
        Stands for the whole history.
        """
        return self._digest.hexdigest()

    def fail(self, error: BaseException) -> None:
        """
        Remember what went wrong first, and stop.
        """
        if self.failure is None:
            self.failure = error
            self.tell(f"FAILED {type(error).__name__}: {error}")

    def run(self) -> None:
        """
        Let everything happen, until nothing is left to.
        """
        self._hand_on(None)
        self._main.acquire()
        self.current = None

    def stop(self) -> None:
        """
        Let nothing more happen.
        """
        self._events.clear()

    def end(self) -> None:
        """
        Let go of whatever still waits.
        """
        self.is_over = True
        self.stop()
        for task in list(self.tasks):
            self.current = task
            task.baton.release()
            task.thread.join()
        self.current = None

    def kill(self, owner: Mortal) -> None:
        """
        End all threads of *owner* where they stand.
        """
        for task in self.tasks:
            if task.owner is owner:
                self.wake(task)

    def pass_baton(self, task: Task | None) -> None:
        """
        Hand the baton to whom the next event wakes; *task* then waits for it, unless None.
        """
        if self.is_over:
            if task is not None:
                raise Killed
            return
        if not self._hand_on(task) and task is not None:
            task.baton.acquire()

    def _hand_on(self, own: Task | None) -> bool:
        """
        Whether it was *own* turn again.
        """
        while self._events and self.failure is None:
            at_s, _, event = heapq.heappop(self._events)
            try:
                self._move_to(at_s)
                task = event()
            except BaseException as error:
                self.fail(error)
                break
            if task is not None:
                self.current = task
                if task is own:
                    return True
                task.baton.release()
                return False
        self._main.release()
        return False

    def _move_to(self, at_s: float) -> None:
        self.now = max(self.now, at_s)
        self.steps += 1
        if self.now > BEGIN_S + LONGEST_S:
            raise AssertionError("the simulation does not come to its end")

    def _wake(self, task: Task, waits: int, reason: Any) -> Task | None:
        if task.is_over or not task.is_parked or task.waits != waits:
            return None
        if task.owner.frozen_until_s > self.now and not task.owner.is_dead:
            self.at(task.owner.frozen_until_s, lambda: self._wake(task, waits, reason))
            return None
        task.is_parked = False
        task.reason = reason
        return task

    def _is_quiet_until(self, until_s: float, task: Task) -> bool:
        return not (self._events and self._events[0][0] <= until_s) and task.owner.frozen_until_s <= self.now
