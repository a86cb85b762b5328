"""
What a ledger on leases does beside its calls, and before its process goes.

    report   what is spent, every few seconds, so that others' alerts and `status` are fresh
    return   what is free of a slice that nobody uses
    renew    this process is alive
    write    entries, a hundred or a few seconds at a time
    hear     of stops and top-ups, before a call has to ask
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from math import inf
from multiprocessing import parent_process, util
from typing import TYPE_CHECKING, Any, Final

from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.leases import sweeping

if TYPE_CHECKING:
    from bedrock_guard.domain.ledger import LedgerKey
    from bedrock_guard.ledgers.dynamodb.controls import ControlsCopy
    from bedrock_guard.ledgers.dynamodb.table import Table, Turn
    from bedrock_guard.ledgers.leases.desk import Desk
    from bedrock_guard.ledgers.leases.journal import Journal
    from bedrock_guard.ledgers.leases.local import Local

log = logging.getLogger("bedrock_guard")

REPORT_S: Final = 3.0
IDLE_S: Final = 5.0
# Of a balance that has refused: others may fit into what is free here.
IDLE_REFUSED_S: Final = 0.5
RENEW_S: Final = 20.0
# An empty slice is forgotten: no call lasts that long.
FORGET_S: Final = 10_800.0
# Controls are heard while there are calls.
_HEAR_FOR_S: Final = 30.0
_TICK_S: Final = 0.25
_LONGEST_WAIT_S: Final = 30.0
_LOOK_FOR_OWNER_S: Final = 60.0


class Keeper:
    """
    Looks after one ledger's slices and entries; knows no thread.
    """

    def __init__(self, table: Table, desk: Desk, local: Local, journal: Journal, copy: ControlsCopy) -> None:
        self._table = table
        self._desk = desk
        self._local = local
        self._journal = journal
        self._copy = copy
        self._reported_at = self._renewed_at = time.monotonic()
        self._changed_at = 0.0
        self._waits_until = 0.0
        self._wait_s = _TICK_S
        self._listeners: list[weakref.WeakMethod[Callable[[Iterable[LedgerKey]], None]]] = []

    def tell_reported(self, tell: Callable[[Iterable[LedgerKey]], None]) -> None:
        """
        Have *tell* called with balances whose spend has been reported.
        """
        self._listeners.append(weakref.WeakMethod(tell))

    def look(self) -> float:
        """
        Do what is due; the seconds until something may be, infinity until there is a call.
        """
        now = time.monotonic()
        if now < self._waits_until:
            return self._waits_until - now
        try:
            self._do(now)
        except LedgerUnavailable as error:
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
            self._waits_until = now + self._wait_s
            log.info("What is leased is reported later: %s", error)
            return self._wait_s
        self._wait_s = _TICK_S
        is_idle = not (self._desk.has_leases or self._journal.waiting or self._desk.revived)
        return inf if is_idle else _TICK_S

    def finish(self, *, timeout_share: float = 1.0) -> None:
        """
        Write all entries, report all that is spent, and give back all that is free.

        Raises:
            LedgerUnavailable: The rest is found by a sweep, and entries are lost.
        """
        self._desk.take_strangers()
        if not (self._desk.slices or self._journal.waiting):
            return
        with self._desk.turn(timeout_share) as turn:
            self._desk.send(turn, list(self._desk.slices), give_back=True)
            self._journal.write(turn)
            if not self._desk.has_leases:
                self._desk.leave(turn)

    def flush(self) -> None:
        """
        Write all entries, and report all that is spent.

        Raises:
            LedgerUnavailable: Not all of it.
        """
        self._desk.take_strangers()
        with self._desk.turn() as turn:
            self._journal.write(turn)
            self._desk.send(turn, list(self._desk.slices), give_back=False)
        self._tell(list(self._desk.slices))

    def _do(self, now: float) -> None:
        back, report = self._due(now)
        writes, renews = self._journal.is_due(now), now - self._renewed_at >= RENEW_S
        renews = renews and self._desk.has_leases
        hears = now - self._changed_at < _HEAR_FOR_S and self._copy.last is not None and self._copy.is_aging
        if not (back or report or writes or renews or hears or self._desk.revived):
            return
        with self._desk.turn() as turn:
            steps: list[tuple[object, Callable[[], object]]] = [
                (renews, lambda: self._renew(turn, now)),
                (hears, lambda: self._copy.read_anew(turn)),
                (writes, lambda: self._journal.write(turn)),
                (back or report, lambda: self._report(turn, back, report)),
                (self._desk.revived, lambda: self._put_right(turn)),
            ]
            # What one balance or entry keeps from being done must not have the process taken for dead.
            failed = [error for is_due, do in steps if is_due and (error := _failure(do)) is not None]
        if failed:
            raise failed[0]

    def _renew(self, turn: Turn, now: float) -> None:
        self._desk.renew(turn)
        self._renewed_at = now

    def _report(self, turn: Turn, back: list[LedgerKey], report: list[LedgerKey]) -> None:
        self._desk.send(turn, back, give_back=True)
        self._desk.send(turn, report, give_back=False)
        self._tell([*back, *report])

    def _put_right(self, turn: Turn) -> None:
        self._desk.revived -= {name for name in self._desk.revived if self._correct(turn, name)}

    def _tell(self, keys: list[LedgerKey]) -> None:
        for found in self._listeners:
            tell = found()
            if tell is not None:
                tell(keys)

    def _correct(self, turn: Turn, name: str) -> bool:
        return sweeping.correct(self._table, turn, name)

    def _due(self, now: float) -> tuple[list[LedgerKey], list[LedgerKey]]:
        """
        Whose slices are to be given back, and whose only reported.
        """
        back, report, empty = [], [], []
        self._desk.take_strangers()
        is_time = now - self._reported_at >= REPORT_S
        for key, slice_ in list(self._desk.slices.items()):
            sums, granted = self._local.sums(key), self._local.granted(key)
            if sums is not slice_.idle_sums:
                slice_.idle_sums, slice_.idle_since = sums, now
                self._changed_at = now
            idle_s = now - slice_.idle_since
            spent, pending = sums
            lease = slice_.lease
            least_s = IDLE_REFUSED_S if slice_.refused_until > now else IDLE_S
            if granted > spent + pending and idle_s >= least_s:
                back.append(key)
            elif (
                slice_.in_doubt
                or spent > granted
                or granted < lease.granted
                or (is_time and spent != lease.reported)
            ):
                report.append(key)
            elif idle_s > FORGET_S and not lease.outstanding:
                empty.append(key)
        if is_time:
            self._reported_at = now
        for key in empty:
            self._desk.forget(key)
        return back, report


def _failure(do: Callable[[], object]) -> LedgerUnavailable | None:
    try:
        do()
    except LedgerUnavailable as error:
        return error
    return None


class Thread:
    """
    Looks every now and then, while there is somebody to look after.
    """

    def __init__(self, look: Callable[[], float]) -> None:
        self._look = weakref.WeakMethod(look)
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def wake(self) -> None:
        """
        Be there from now on.
        """
        self._woken.set()
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="bedrock_guard leases", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """
        End, after what it is at.
        """
        self._is_closed = True
        self._woken.set()

    def forget(self) -> None:
        """
        In a fork, which has no such thread.
        """
        self._woken = threading.Event()
        self._thread = None

    def _run(self) -> None:
        woken, look, wait_s = self._woken, self._look(), _TICK_S
        while not self._is_closed:
            if wait_s == inf:
                look = None  # nothing is leased: nobody need be kept alive
                woken.wait(_LOOK_FOR_OWNER_S)
            else:
                time.sleep(wait_s)
            woken.clear()
            look = self._look()
            if look is None:
                return
            try:
                wait_s = look()
            except Exception:
                log.exception("What is leased could not be looked after; it is tried again.")
                wait_s = 1.0


def at_exit(close: Callable[[], Any], owner: object) -> None:
    """
    Call *close*, a method of *owner*, before the interpreter or a child of multiprocessing ends, if *owner*
    is still there; and before SIGTERM ends the process, where nobody else has a say in that.
    """
    found = weakref.WeakMethod(close)
    weakref.finalize(owner, _call, found)
    util.register_after_fork(owner, lambda _: _at_end_of_child(found))
    if parent_process() is not None:
        _at_end_of_child(found)
    _CLOSERS[:] = [found, *(other for other in _CLOSERS if other() is not None)]
    if threading.current_thread() is not threading.main_thread():
        return
    if hasattr(signal, "SIGTERM") and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


_CLOSERS: Final[list[weakref.WeakMethod[Any]]] = []


def _call(found: weakref.WeakMethod[Any]) -> None:
    close = found()
    if close is not None:
        close()


def _at_end_of_child(found: weakref.WeakMethod[Any]) -> None:
    # multiprocessing ends the processes that it forks without atexit, and has finalizers of its own.
    util.Finalize(None, _call_last, args=(found,), exitpriority=0)


def _call_last(found: weakref.WeakMethod[Any]) -> None:
    for thread in threading.enumerate():  # it waits for them later only; an interpreter does so before
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    _call(found)


def _on_sigterm(number: int, _frame: object) -> None:
    # In a thread, for this one may hold a lock that closing needs; the next signal ends at once.
    signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_close_all, args=(number,), daemon=True).start()


def _close_all(number: int) -> None:
    try:
        for found in _CLOSERS:
            _call(found)
    finally:
        os.kill(os.getpid(), number)
