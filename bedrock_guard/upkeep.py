"""
What a guard does beside its calls, in the background thread.

    renew   a hold whose call lasts: at half-time, for as long again
    write   an end that the ledger would not take: again and again, ever more rarely
    sweep   reservations of processes that died, when a call comes by

A hold is the only thing that a crash leaves behind, so it is short; a call may be
long. Without renewal one of the two would have to give.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from typing import Final

from bedrock_guard.background import BACKGROUND
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, Reservation, SweepReport
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.open_call import OpenCall

log = logging.getLogger("bedrock_guard")

_SWEEP_EVERY_S: Final = 60.0
# Bedrock gives up after an hour; what is still open then is held by somebody who forgot it.
_RENEWED_S: Final = 7200.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0

# Held here, for a guard may be gone before its ends are written.
_UNSETTLED: Final[set[Upkeep]] = set()


class Upkeep:
    """
    The open holds of one guard, and the ends it could not write yet.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._sweeps_at = clock() + _SWEEP_EVERY_S
        self._open: dict[str, tuple[weakref.ref[OpenCall], float]] = {}
        self._shortest_s = float("inf")
        self._is_kept = False
        self._unwritten: deque[tuple[OpenCall, Entry]] = deque()
        self._wait_s = _FIRST_WAIT_S
        self._writes_at = 0.0
        self._is_closed = False
        # Finalizers run in reverse order at exit: after those of streams, before that of the ledger.
        weakref.finalize(self, _leave, weakref.ref(self))

    def watch(self, opened: OpenCall) -> None:
        """
        Renew the hold of *opened* for as long as it is open.

        It is held weakly: one that nobody can end any more expires.
        """
        half = opened.hold_s / 2
        self._open[opened.entry.id] = weakref.ref(opened), opened.reservation.expires_at_s - half
        if not self._is_kept:
            self._is_kept = True
            self._shortest_s = half
            BACKGROUND.keep(self)
        elif half < self._shortest_s:
            self._shortest_s = half
            BACKGROUND.wake()

    def write(self, opened: OpenCall, entry: Entry) -> None:
        """
        Write the end of *opened*; one that has none in the ledger yet is not to be written twice.

        Raises:
            LedgerUnavailable: It is not written, or nobody knows.
        """
        try:
            if entry.outcome == "not_sent":
                self._ledger.release(opened.reservation, entry)
            else:
                self._ledger.settle(opened.reservation, opened.amounts(entry), entry)
        except ReservationClosed as error:
            # One that was interrupted may never have been held.
            if opened.is_held:
                log.warning("Call %s ended twice, which must not happen: %s", entry.id, error)
        self._open.pop(entry.id, None)

    def put_off(self, opened: OpenCall, entry: Entry, error: BaseException) -> None:
        """
        Keep the end of *opened* until it can be written; the hold stays meanwhile.

        May be called by a finalizer.
        """
        if self._is_closed:
            log.error(
                "Call %s cannot be settled, as its guard is closed; its hold expires: %s", entry.id, error
            )
            return
        if isinstance(error, LedgerUnavailable):
            log.warning("Call %s could not be settled and is tried again: %s", entry.id, error)
        self._unwritten.append((opened, entry))
        _UNSETTLED.add(self)
        BACKGROUND.wake()

    def write_ends(self) -> bool:
        """
        Write what has ended and is not in the ledger yet, until the ledger fails again.

        Returns whether all is written.
        """
        while self._unwritten:
            try:
                opened, entry = self._unwritten.popleft()
            except IndexError:  # another thread was quicker
                break
            try:
                self.write(opened, entry)
            except LedgerUnavailable as error:
                self._unwritten.appendleft((opened, entry))
                log.info("Call %s is still not settled: %s", entry.id, error)
                return False
            except BaseException:
                self._unwritten.appendleft((opened, entry))
                raise
            log.info("Call %s is settled after all.", entry.id)
        _UNSETTLED.discard(self)
        if self._unwritten:  # put off by another thread since
            _UNSETTLED.add(self)
        return True

    def sweep_if_due(self, now: float) -> None:
        """
        End the reservations of dead processes, about once a minute.
        """
        if now < self._sweeps_at:
            return
        self._sweeps_at = now + _SWEEP_EVERY_S
        try:
            self._ledger.sweep(now=now)
        except LedgerUnavailable as error:
            log.warning("Reservations of dead processes could not be swept: %s", error)

    def sweep_all(self) -> SweepReport:
        """
        End every reservation whose process is taken for dead.
        """
        self.write_ends()
        charged = released = 0
        while True:
            report = self._ledger.sweep(now=self._clock())
            charged, released = charged + report.charged, released + report.released
            if not (report.charged or report.released):
                return SweepReport(charged, released)

    def look(self) -> float:
        """
        Renew and write what is due; the seconds until something will be.
        """
        return max(0.0, min(self._shortest_s, self._renew_due(), self._write_due()))

    def leave(self) -> None:
        """
        A last try for what is not written: the interpreter is on its way out.
        """
        if not self.write_ends():
            log.error(
                "%d calls could not be settled before the process ended; their holds expire, and are then "
                "charged at their estimates.",
                len(self._unwritten),
            )

    def forget(self) -> None:
        """
        In a fork: open calls are the parent's to renew, and its ends the parent's to write.
        """
        self._open.clear()
        self._unwritten.clear()
        self._is_kept = False
        _UNSETTLED.discard(self)

    def close(self) -> None:
        """
        A last try for what is not written: the ledger is about to be closed.
        """
        self.leave()
        self.forget()
        self._is_closed = True

    def _write_due(self) -> float:
        now = time.monotonic()
        if self._unwritten and now >= self._writes_at:
            self._wait_s = _FIRST_WAIT_S if self.write_ends() else min(2 * self._wait_s, _LONGEST_WAIT_S)
            self._writes_at = now + self._wait_s
        return self._writes_at - now if self._unwritten else float("inf")

    def _renew_due(self) -> float:
        now = self._clock()
        first = float("inf")
        for id_, (found, renews_at) in list(self._open.items()):
            opened = found()
            if opened is None:
                self._open.pop(id_, None)
            else:
                first = min(first, renews_at if now < renews_at else self._renew(opened, found, now))
        return first - now

    def _renew(self, opened: OpenCall, found: weakref.ref[OpenCall], now: float) -> float:
        """
        Hold *opened* for as long again; when to do so next.
        """
        id_, next_s = opened.entry.id, opened.hold_s / 2
        if now - opened.entry.at_s > max(_RENEWED_S, opened.hold_s):
            log.warning("Call %s has been open for hours, and its hold is not renewed any more.", id_)
            self._open.pop(id_, None)
            return float("inf")
        try:
            answer = self._ledger.extend(opened.reservation, hold_s=opened.hold_s)
        except ReservationClosed as error:
            if not opened.is_ended:
                log.warning("The hold of call %s could not be renewed; it settles late: %s", id_, error)
            self._open.pop(id_, None)
            return float("inf")
        except LedgerUnavailable as error:
            log.warning("The hold of call %s could not be renewed and is tried again: %s", id_, error)
            answer = None
        renews_at = answer.expires_at_s - next_s if isinstance(answer, Reservation) else now + next_s / 8
        if id_ in self._open:
            self._open[id_] = found, renews_at
        return renews_at


def _leave(found: weakref.ref[Upkeep]) -> None:
    upkeep = found()
    if upkeep is not None:
        upkeep.leave()
