"""
What a guard does beside its calls, in the background thread.

    renew   a hold whose call lasts: at half-time, for as long again
    write   an end that the ledger would not take: again and again, ever more rarely

A hold is the only thing that a crash leaves behind, so it is short; a call may be
long. Without renewal one of the two would have to give.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from typing import Final

from bedrock_guard.background import BACKGROUND
from bedrock_guard.calls.outage import book
from bedrock_guard.calls.tripping import Breakers
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, Reservation
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.invocations import Invocations
from bedrock_guard.open_call import OpenCall
from bedrock_guard.telling.noticing import Alerts

log = logging.getLogger("bedrock_guard")

# Bedrock gives up after an hour; what is still open then is held by somebody who forgot it.
_RENEWED_S: Final = 7200.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0
# For a round of writing to end: a request or two.
_LEAVE_S: Final = 10.0
# A ledger that is slow to fail would be so for every end.
_PATIENCE_S: Final = 1.0

# Held here, for a guard may be gone before its ends are written.
_UNSETTLED: Final[set[Upkeep]] = set()


class Upkeep:
    """
    The open holds of one guard, and the ends it could not write yet.

    Attributes:
        is_kept: Whether the background thread looks after it.
        invocations: Of a Lambda function: no hold is longer than they can last.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, alerts: Alerts | None = None, breakers: Breakers | None = None
    ) -> None:
        self._ledger = ledger
        self._alerts = alerts
        self._breakers = breakers
        self._clock = clock
        self.invocations = Invocations(clock)
        self._open: dict[str, tuple[weakref.ref[OpenCall], float]] = {}
        self._shortest_s = float("inf")
        self.is_kept = False
        self._unwritten: deque[tuple[OpenCall, Entry]] = deque()
        self._wait_s = _FIRST_WAIT_S
        self._writes_at = 0.0
        self._closed: str | None = None
        # A round of writing under way: who closes waits for what it has in its hands.
        self._writing = threading.Lock()
        # Finalizers run in reverse order at exit: after those of streams, before that of the ledger.
        weakref.finalize(self, _leave, weakref.ref(self))

    @property
    def is_closed(self) -> bool:
        """
        Whether nothing is done later any more.
        """
        return self._closed is not None

    def has_held_since(self, at_s: float) -> bool:
        """
        Whether the ledger holds a call that was opened since then, and is still open.
        """
        calls = [found() for found, _ in list(self._open.values())]
        return any(call is not None and call.is_held and call.entry.at_s >= at_s for call in calls)

    def begin(self) -> None:
        """
        Be there in the background, from before the first hold on. Not for finalizers.
        """
        self.is_kept = True
        BACKGROUND.keep(self)
        if self._alerts is not None:
            self._alerts.begin()

    def watch(self, opened: OpenCall) -> None:
        """
        Renew the hold of *opened* for as long as it is open.

        It is held weakly: one that nobody can end any more expires.
        """
        invocations = self.invocations
        lead_s = invocations.lead_s(opened.hold_s) if invocations.are_any else opened.hold_s / 2
        self._open[opened.entry.id] = weakref.ref(opened), opened.reservation.expires_at_s - lead_s
        if lead_s < self._shortest_s:
            self._shortest_s = lead_s
            BACKGROUND.wake()

    def note(self, opened: OpenCall) -> None:
        """
        Know of *opened* until its end is written, and renew nothing: the ledger does not hold it.

        May be called by a finalizer.
        """
        self._open.setdefault(opened.entry.id, (weakref.ref(opened), float("inf")))

    def let_go(self, opened: OpenCall) -> None:
        """
        Know nothing of *opened* any more: what is held for it is somebody else's to end.
        """
        self._open.pop(opened.entry.id, None)

    def write(self, opened: OpenCall, entry: Entry) -> None:
        """
        Write the end of *opened*; one that has none in the ledger yet is not to be written twice.

        Raises:
            LedgerUnavailable: It is not written, or nobody knows.
        """
        try:
            if entry.outcome == "not_sent":
                self._ledger.release(opened.reservation, entry)
                if self._alerts is not None:
                    self._alerts.see_unsent(entry)
            else:
                if self._breakers is None:
                    settled = self._ledger.settle(opened.reservation, opened.amounts(entry), entry)
                else:
                    settled = self._breakers.settle(opened, entry)
                alerts = self._alerts
                if alerts is not None and (
                    opened.plan.matches is not alerts.noted or settled.overrun or entry.anomalies
                ):
                    alerts.see(opened, entry, settled)
        except ReservationClosed as error:
            self._write_anew(opened, entry, error)
        self._open.pop(entry.id, None)

    def _write_anew(self, opened: OpenCall, entry: Entry, error: ReservationClosed) -> None:
        if entry.allowed_by is not None:
            try:
                book(self._ledger, opened, entry)
            except ReservationClosed as again:
                error = again
            else:
                if self._alerts is not None:
                    self._alerts.see_booked(opened, entry)
                return
        # One that was interrupted may never have been held.
        if opened.is_held or entry.allowed_by is not None:
            log.warning("Call %s ended twice, which must not happen: %s", entry.id, error)

    def write_soon(self, opened: OpenCall, entry: Entry) -> None:
        """
        Write the end of *opened* in the background; now, where that is over.

        May be called by a finalizer.
        """
        self.note(opened)
        self._unwritten.append((opened, entry))
        if self._closed is None:
            _UNSETTLED.add(self)
            self.hurry()
        elif not self.write_ends():
            self._give_up(self._closed)

    def hurry(self) -> None:
        """
        Write now what could not be written; the ledger may have come back.
        """
        self._writes_at = 0.0
        BACKGROUND.wake()

    def put_off(self, opened: OpenCall, entry: Entry, error: BaseException) -> None:
        """
        Keep the end of *opened* until it can be written; the hold stays meanwhile.

        May be called by a finalizer.
        """
        if isinstance(error, Exception):
            log.warning("Call %s could not be settled and is tried again: %r", entry.id, error)
        self._unwritten.append((opened, entry))
        if self._closed is not None:
            self._give_up(self._closed)
            return
        _UNSETTLED.add(self)
        self.hurry()

    def write_ends(self) -> bool:
        """
        Write what has ended and is not in the ledger yet; each is tried once, as long as failing is quick.

        Returns whether all is written.
        """
        began = time.monotonic()
        for _ in range(len(self._unwritten)):
            try:
                opened, entry = self._unwritten.popleft()
            except IndexError:  # another thread was quicker
                break
            try:
                self.write(opened, entry)
            except Exception as error:  # noqa: BLE001 - a ledger of somebody else's may raise anything
                self._unwritten.append((opened, entry))  # at the back: it must not block the others
                log.info("Call %s is still not settled: %r", entry.id, error)
                if time.monotonic() - began > _PATIENCE_S:
                    return False
            except BaseException:
                self._unwritten.append((opened, entry))
                raise
            else:
                log.info("Call %s is settled after all.", entry.id)
        if self._unwritten:
            return False
        _UNSETTLED.discard(self)
        if self._unwritten:  # put off by another thread since
            _UNSETTLED.add(self)
        return True

    def open_calls(self) -> list[OpenCall]:
        """
        The calls that are not in the ledger as ended, and that somebody can end.
        """
        return [opened for found, _ in list(self._open.values()) if (opened := found()) is not None]

    def unwritten_ids(self) -> set[str]:
        """
        Of the calls that have ended, and are not in the ledger as such.
        """
        ended = {opened.entry.id for opened in self.open_calls() if opened.is_ended}
        return ended.union(entry.id for _, entry in self._unwritten.copy())

    def look(self) -> float:
        """
        Renew and write what is due; the seconds until something will be.
        """
        try:
            renews_in = self._renew_due()
        except Exception:  # ends must be written all the same
            log.exception("Holds could not be renewed; it is tried again.")
            renews_in = 1.0
        return max(0.0, min(self._shortest_s, renews_in, self._write_due()))

    def leave(self) -> None:
        """
        A last try for what is not written: the interpreter is on its way out.
        """
        self._write_last("the process ended")

    def _write_last(self, why: str) -> None:
        self._closed = why
        # What the background has in its hands comes back, or is written.
        is_ours = self._writing.acquire(timeout=_LEAVE_S)
        try:
            if not self.write_ends():
                self._give_up(why)
        finally:
            if is_ours:
                self._writing.release()

    def _give_up(self, why: str) -> None:
        lost = [entry for _, entry in self._unwritten]
        self._unwritten.clear()
        _UNSETTLED.discard(self)
        allowed = [entry.cost_nanousd or 0 for entry in lost if entry.allowed_by is not None]
        if allowed:
            log.error(
                "%d calls that were let through while the ledger was gone could not be booked, as %s: "
                "%s USD are missing in its balances.",
                len(allowed),
                why,
                usd_from_nanousd(sum(allowed)),
            )
        if len(lost) > len(allowed):
            log.error(
                "%d calls could not be settled, as %s; their holds expire, and are then charged at their "
                "estimates.",
                len(lost) - len(allowed),
                why,
            )

    def forget(self) -> None:
        """
        In a fork: open calls are the parent's to renew, and its ends the parent's to write.
        """
        self._open.clear()
        self._unwritten.clear()
        self._writing = threading.Lock()
        self.is_kept = False
        _UNSETTLED.discard(self)

    def close(self) -> None:
        """
        A last try for what is not written: the ledger is about to be closed.
        """
        self._write_last("its guard is closed")
        self.forget()

    def _write_due(self) -> float:
        now = time.monotonic()
        if self._unwritten and now >= self._writes_at:
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
            self._writes_at = now + self._wait_s  # now, so that who hurries meanwhile is heard
            before = len(self._unwritten)
            with self._writing:
                is_back = self.write_ends() or len(self._unwritten) < before
            if is_back:
                self._wait_s = _FIRST_WAIT_S
                self._writes_at = min(self._writes_at, now + _FIRST_WAIT_S)
        return self._writes_at - now if self._unwritten else float("inf")

    def _renew_due(self) -> float:
        now = self._clock()
        first = float("inf")
        for id_, (found, renews_at) in list(self._open.items()):
            opened = found()
            if opened is None:
                self._open.pop(id_, None)
            elif now < renews_at:
                first = min(first, renews_at)
            else:
                try:
                    first = min(first, self._renew(opened, found, now))
                except LedgerUnavailable as error:
                    # The others would only wait for the same lock, and keep other guards waiting.
                    log.warning("The hold of call %s could not be renewed and is tried again: %s", id_, error)
                    return opened.hold_s / 16
        return first - now

    def _renew(self, opened: OpenCall, found: weakref.ref[OpenCall], now: float) -> float:
        """
        Hold *opened* for as long again; when to do so next.
        """
        id_, next_s = opened.entry.id, self.invocations.lead_s(opened.hold_s)
        if now - opened.entry.at_s > max(_RENEWED_S, opened.hold_s):
            log.warning("Call %s has been open for hours, and its hold is not renewed any more.", id_)
            self._open.pop(id_, None)
            return float("inf")
        try:
            hold_s = self.invocations.hold_s(opened.hold_s)
            answer = self._ledger.extend(opened.reservation, hold_s=hold_s)
        except ReservationClosed as error:
            if not opened.is_ended:
                log.warning("The hold of call %s could not be renewed; it settles late: %s", id_, error)
            self._open.pop(id_, None)
            return float("inf")
        renews_at = answer.expires_at_s - next_s if isinstance(answer, Reservation) else now + next_s / 8
        if id_ in self._open:
            self._open[id_] = found, renews_at
        return renews_at


def _leave(found: weakref.ref[Upkeep]) -> None:
    upkeep = found()
    if upkeep is not None:
        upkeep.leave()
