"""
A ledger in this process's memory: for tests, scripts and single workers.

It forgets on exit and is not shared between processes; for either, use
`sqlite:///`. It keeps the newest `keep_entries` entries, and every balance of windows that
have not long ended.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Self

from bedrock_guard.domain.alert_claim import RETRY_AFTER_S, AlertClaim
from bedrock_guard.domain.control import CHANGED, Control, Controls, ControlsChanged
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import (
    Balance,
    Clock,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    RefusedLine,
    Reservation,
    Settled,
    SweepReport,
    new_reservation,
)
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import books, forgetting, memory_sums
from bedrock_guard.ledgers.memory_claims import Claims
from bedrock_guard.ledgers.memory_sums import NOTHING, Call, Sums, new_call
from bedrock_guard.ledgers.url import read_url

KEEP_ENTRIES: Final = 10_000
# Balances forgotten under one lock: callers wait meanwhile.
_FORGOTTEN_AT_ONCE: Final = 500


class MemoryLedger:
    """
    One lock around dictionaries of integers.

    What a step changes is worked out first, noted in one assignment, and then written. Where an
    interrupt (Ctrl-C is raised between any two instructions) strikes after the note, who comes next
    writes it again: whole sums, not differences, so that twice is as good as once.
    """

    blocking = False

    def __init__(self, *, clock: Clock, keep_entries: int = KEEP_ENTRIES) -> None:
        self._clock = clock
        self._keep_entries = keep_entries
        self._lock = threading.RLock()
        self._balances: dict[LedgerKey, Sums] = {}
        self._open: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()
        self._noted: tuple[Mapping[LedgerKey, Sums], str, Call] | None = None
        self._controls = Controls()
        self._claims = Claims()
        self._sequence = 0
        self._forgets_at = forgetting.FEW
        self._is_closed = False
        _ALL.add(self)

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        A new, empty ledger: the same URL twice is two of them.
        """
        location, given = read_url(url, {"keep_entries": ()})
        if location:
            raise ConfigurationError(f"{url!r}: a ledger in memory has no name; write memory://.")
        return cls(clock=clock, keep_entries=int(given.get("keep_entries", KEEP_ENTRIES)))

    def reserve(
        self,
        lines: Sequence[Line],
        *,
        entry: Entry,
        hold_s: float,
        on_expiry: OnExpiry,
        controls: int | None = None,
    ) -> Reservation | Refusal | ControlsChanged:
        """
        Hold every line, or none.
        """
        wanted = books.merge(lines)
        now = self._clock()
        expires_at_s = now + hold_s
        id_ = entry.id
        over: list[RefusedLine] = []
        lock = self._lock
        if self._is_closed or lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - it says why
            self._turn()
        with lock:
            if self._noted is not None:
                self._write(*self._noted)
            known = self._open.get(id_) or self._ended.get(id_)
            if known is not None:
                return _reservation(id_, known)
            if controls is not None and controls != self._controls.version:
                return CHANGED
            sums = memory_sums.held(self._balances, wanted, now, over)
            if isinstance(sums, Refusal):
                return sums
            self._sequence += 1
            call = new_call(Call, (self._sequence, "pending", entry, wanted, (), expires_at_s, on_expiry))
            self._noted = sums, id_, call  # as `_write` does
            self._balances.update(sums)
            self._open[id_] = call
            self._noted = None
        return new_reservation(Reservation, (id_, wanted, expires_at_s, tuple(over) if over else ()))

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        id_, more = reservation.id, books.merge(lines)
        over: list[RefusedLine] = []
        with self._turn():
            now = self._clock()
            if self._noted is not None:
                self._write(*self._noted)
            call = self._open.get(id_)
            if call is None:
                ended = self._ended.get(id_)
                raise books.already(id_, ended.state) if ended else books.unknown(id_)
            together = books.merge((*call.lines, *more))
            expires_at_s = call.expires_at_s if hold_s is None else now + hold_s
            sums = memory_sums.held(self._balances, more, now, over, by=call)
            if isinstance(sums, Refusal):
                return sums
            call = call._replace(lines=together, expires_at_s=max(call.expires_at_s, expires_at_s))
            self._write(sums, id_, call)
            return _reservation(id_, call)._replace(over=tuple(over))

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        id_, lock = reservation.id, self._lock
        if not self._is_closed and not lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            with lock:
                call = self._open.get(id_)
                if call is not None and self._noted is None:
                    found = memory_sums.settled(self._balances, call, amounts, entry)
                    if found is not None:
                        sums, ended, is_overrun = found
                        self._write(sums, id_, ended)
                        return books.SETTLED["settled", is_overrun]
        return self._close(id_, "settled", amounts, entry)

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held; without an *entry*, the call leaves none.
        """
        return self._close(reservation.id, "released", {}, entry)

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        id_ = entry.id
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            known = self._open.get(id_) or self._ended.get(id_)
            if known is None:
                self._sequence += 1
                self._write({}, id_, Call(self._sequence, "recorded", entry, expires_at_s=entry.over_at_s))
            elif known.entry is not None:
                counted = known.entry.changed(count=known.entry.count + entry.count)
                self._write({}, id_, known._replace(entry=counted))

    def controls(self) -> Controls:
        """
        Stops and top-ups, and their version.
        """
        return self._controls

    def write_control(self, control: Control, entry: Entry) -> int:
        """
        Put *control* into the record, and *entry* into the journal; the new version.
        """
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            if entry.id not in self._ended:
                # First, for a stop without an entry is better than an entry without a stop.
                self._controls = self._controls.with_(control, now=self._clock())
                self._sequence += 1
                self._write({}, entry.id, Call(self._sequence, "recorded", entry))
            return self._controls.version

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            found = self._balances
            asked = sorted(key for key in found if key[3] != memory_sums.FULL_AT) if keys is None else keys
            return [
                Balance(key, *found.get(key, NOTHING)[:2], memory_sums.full_at_s(found, key)) for key in asked
            ]

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        before = books.read_cursor(after)[:2]
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            calls = self._ended.values()
            rows = [(call.entry.at_s, call.sequence, call.entry) for call in calls if call.entry is not None]
        # Newest first by the time of the call; `sequence` tells calls of the same moment apart.
        rows = [row for row in rows if row[:2] < before and where.admits(row[2])]
        rows.sort(key=lambda row: row[:2], reverse=True)
        page = rows[:limit]
        return [row[2] for row in page], books.write_cursor(*page[-1][:2]) if len(rows) > limit else None

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End the reservations whose time is over, each by its own `on_expiry`.
        """
        count = {"charge": 0, "release": 0}
        keys: set[LedgerKey] = set()
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            due = sorted(
                (call.expires_at_s, id_) for id_, call in self._open.items() if call.expires_at_s <= now
            )
            for _, id_ in due[:limit]:
                call = self._open[id_]
                entry = books.expired_entry(call.entry, call.on_expiry) if call.entry else None
                booked = books.expired_amounts(call.lines, call.on_expiry)
                self._end(id_, call, call._replace(state="expired", entry=entry, booked=booked))
                count[call.on_expiry] += 1
                keys.update(line.key for line, spent in zip(call.lines, booked, strict=True) if spent)
        if len(self._balances) >= self._forgets_at:
            self._forget(now)
        return SweepReport(count["charge"], count["release"], frozenset(keys))

    def _forget(self, now: float) -> None:
        """
        Forget balances of windows that have long ended, and look again once there are twice as many.
        """
        over = forgetting.find_over(self._balances.copy(), now)
        for first in range(0, len(over), _FORGOTTEN_AT_ONCE):
            with self._turn():
                if self._noted is not None:
                    self._write(*self._noted)
                for key in over[first : first + _FORGOTTEN_AT_ONCE]:
                    forgetting.forget(self._balances, key, now)
        self._forgets_at = max(forgetting.FEW, 2 * len(self._balances))

    def drop_entries(self, *, before: float, limit: int = 1000) -> int:
        """
        Forget old entries, at most *limit*.
        """
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            old = [
                id_
                for id_, call in self._ended.items()
                if call.expires_at_s < before and (call.entry is None or call.entry.at_s < before)
            ][:limit]
            for id_ in old:
                del self._ended[id_]
        return len(old)

    def claim_alert(self, claim: AlertClaim, *, retry_after_s: float = RETRY_AFTER_S) -> bool:
        """
        Whether the caller is to tell it.
        """
        with self._turn():
            return self._claims.claim(claim, self._clock(), retry_after_s)

    def confirm_alert(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        with self._turn():
            self._claims.confirm(claim)

    def unconfirmed_alerts(self, *, limit: int = 100) -> list[AlertClaim]:
        """
        Claims that are not confirmed, the oldest first; at most *limit*.
        """
        with self._turn():
            return self._claims.unconfirmed(limit)

    def close(self) -> None:
        """
        Refuse what comes later; there is nothing to give back.
        """
        self._is_closed = True

    def after_fork_in_child(self) -> None:
        """
        Begin with a free lock; a thread that is gone may have had it, and what that noted is written.
        """
        self._lock = threading.RLock()

    def _turn(self) -> AbstractContextManager[bool]:
        """
        The lock; not for a finalizer that runs in the very thread that holds it, half-way through a sum.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable("The ledger in memory was called from inside itself; try again later.")
        if self._is_closed:
            raise LedgerUnavailable("The ledger in memory is closed.")
        return self._lock

    def _write(self, sums: Mapping[LedgerKey, Sums], id_: str, call: Call) -> None:
        """
        Put *sums* into the balances, and *call* where it belongs, both or in the end neither.
        """
        self._noted = sums, id_, call
        self._balances.update(sums)
        if call.state == "pending":
            self._open[id_] = call
        else:
            self._open.pop(id_, None)
            self._ended[id_] = call
            if len(self._ended) > self._keep_entries:
                oldest, forgotten = self._ended.popitem(last=False)
                held = None if forgotten.entry is None else forgotten.entry.held
                if held is not None and held["reservation"] in self._open:  # it is settled by this
                    self._ended[oldest] = forgotten
        self._noted = None

    def _close(
        self,
        id_: str,
        state: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            call = self._open.get(id_) or self._ended.get(id_)
            if call is None:
                raise books.unknown(id_)
            lines, booked, is_overrun = books.align(call.lines, amounts)
            how = books.how_ends(id_, call.state, state, is_same=booked == call.booked)
            if how != "replayed":
                ended = Call(call.sequence, state, entry, lines, booked, call.expires_at_s, call.on_expiry)
                self._end(id_, call, ended)
        return books.SETTLED[how, is_overrun]

    def _end(self, id_: str, call: Call, ended: Call) -> None:
        """
        Spend what *ended* has booked, in place of what *call* holds or has spent.
        """
        sums = memory_sums.ended(self._balances, call, ended, self._clock)
        self._write(sums, id_, ended)


def _reservation(reservation_id: str, call: Call) -> Reservation:
    if call.state == "recorded":
        raise books.already(reservation_id, call.state)
    return Reservation(reservation_id, call.lines, call.expires_at_s)


# A fork copies each as it is, with a lock that a thread of the parent's may hold.
_ALL: Final[weakref.WeakSet[MemoryLedger]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ledger in list(_ALL):
        ledger.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
