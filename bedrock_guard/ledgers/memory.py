"""
A ledger in this process's memory: for tests, scripts and single workers.

It forgets on exit and is not shared between processes; for either, use
`sqlite:///`. It keeps the newest `keep_entries` entries and every balance.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Self, TypeAlias

from bedrock_guard.domain.alert import RETRY_AFTER_S, AlertClaim
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import (
    Balance,
    Clock,
    EntryFilter,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    RefusedLine,
    Reservation,
    Settled,
    SweepReport,
)
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.url import read_url

KEEP_ENTRIES: Final = 10_000


_Sums: TypeAlias = tuple[int, int, int]
"""What a balance has spent, what is pending, and how many calls hold that."""

_NOTHING: Final[_Sums] = (0, 0, 0)


class _Call(NamedTuple):
    """
    One reservation, or one recorded entry, which has no lines.
    """

    sequence: int
    state: books.State
    entry: Entry | None
    lines: tuple[Line, ...] = ()
    booked: books.Booked = ()
    expires_at_s: float = 0.0
    on_expiry: OnExpiry = "charge"


class _Claimed(NamedTuple):
    """
    An alert that somebody tells, or has told.
    """

    claim: AlertClaim
    at_s: float
    is_confirmed: bool = False


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
        self._balances: dict[LedgerKey, _Sums] = {}
        self._open: dict[str, _Call] = {}
        self._ended: OrderedDict[str, _Call] = OrderedDict()
        self._noted: tuple[Mapping[LedgerKey, _Sums], str, _Call] | None = None
        self._claimed: dict[str, _Claimed] = {}
        self._sequence = 0
        self._is_closed = False

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
        self, lines: Sequence[Line], *, entry: Entry, hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal:
        """
        Hold every line, or none.
        """
        wanted = books.merge(lines)
        expires_at_s = self._clock() + hold_s
        id_ = entry.id
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            known = self._open.get(id_) or self._ended.get(id_)
            if known is not None:
                return _reservation(id_, known)
            sums = self._held(wanted)
            if isinstance(sums, Refusal):
                return sums
            self._sequence += 1
            call = _Call(self._sequence, "pending", entry, wanted, (), expires_at_s, on_expiry)
            self._write(sums, id_, call)
        return Reservation(id_, wanted, expires_at_s)

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        id_, more = reservation.id, books.merge(lines)
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            call = self._open.get(id_)
            if call is None:
                ended = self._ended.get(id_)
                raise books.already(id_, ended.state) if ended else books.unknown(id_)
            together = books.merge((*call.lines, *more))
            expires_at_s = call.expires_at_s if hold_s is None else self._clock() + hold_s
            sums = self._held(more, by=call)
            if isinstance(sums, Refusal):
                return sums
            call = call._replace(lines=together, expires_at_s=max(call.expires_at_s, expires_at_s))
            self._write(sums, id_, call)
            return _reservation(id_, call)

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        return self._close(reservation.id, "settled", amounts, entry)

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
                self._write({}, id_, _Call(self._sequence, "recorded", entry))
            elif known.entry is not None:
                counted = known.entry.changed(count=known.entry.count + entry.count)
                self._write({}, id_, known._replace(entry=counted))

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        with self._turn():
            if self._noted is not None:
                self._write(*self._noted)
            found = self._balances
            asked = sorted(found) if keys is None else keys
            return [Balance(key, *found.get(key, _NOTHING)[:2]) for key in asked]

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        before = books.read_cursor(after)
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
        return SweepReport(count["charge"], count["release"], frozenset(keys))

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
        now = self._clock()
        with self._turn():
            known = self._claimed.get(claim.id)
            if known is not None and (known.is_confirmed or now < known.at_s + retry_after_s):
                return False
            for id_, old in list(self._claimed.items()):
                if old.claim.forget_at_s is not None and old.claim.forget_at_s < now:
                    del self._claimed[id_]
            self._claimed[claim.id] = _Claimed(claim, now)
            return True

    def confirm_alert(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        with self._turn():
            known = self._claimed.get(claim.id)
            if known is not None:
                self._claimed[claim.id] = known._replace(is_confirmed=True)

    def unconfirmed_alerts(self, *, limit: int = 100) -> list[AlertClaim]:
        """
        Claims that are not confirmed, at most *limit*.
        """
        with self._turn():
            return [known.claim for known in self._claimed.values() if not known.is_confirmed][:limit]

    def close(self) -> None:
        """
        Refuse what comes later; there is nothing to give back.
        """
        self._is_closed = True

    def _turn(self) -> AbstractContextManager[bool]:
        """
        The lock; not for a finalizer that runs in the very thread that holds it, half-way through a sum.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable("The ledger in memory was called from inside itself; try again later.")
        if self._is_closed:
            raise LedgerUnavailable("The ledger in memory is closed.")
        return self._lock

    def _write(self, sums: Mapping[LedgerKey, _Sums], id_: str, call: _Call) -> None:
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
                self._ended.popitem(last=False)
        self._noted = None

    def _held(self, lines: tuple[Line, ...], *, by: _Call | None = None) -> dict[LedgerKey, _Sums] | Refusal:
        """
        The balances with *lines* held, unless one does not fit; *by* a call that holds others already.
        """
        balances = self._balances
        sums: dict[LedgerKey, _Sums] = {}
        for line in lines:
            key = line.key
            spent, pending, calls = balances.get(key, _NOTHING)
            pending += line.amount
            limit = line.limit
            if spent + pending > (books.MAX_AMOUNT if limit is None else limit):
                return self._refusal(lines)
            if by is None or all(key != held.key for held in by.lines):
                calls += 1
            sums[key] = spent, pending, calls
        return sums

    def _refusal(self, lines: tuple[Line, ...]) -> Refusal:
        refused = []
        for line in lines:
            spent, pending, calls = self._balances.get(line.key, _NOTHING)
            used = spent + pending + line.amount
            if line.limit is None and used > books.MAX_AMOUNT:
                raise books.uncountable(line.key, used)
            if line.limit is not None and used > line.limit:
                refused.append(RefusedLine(line, spent, pending, calls))
        return Refusal(tuple(refused))

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
                ended = _Call(call.sequence, state, entry, lines, booked, call.expires_at_s, call.on_expiry)
                self._end(id_, call, ended)
        return books.SETTLED[how, is_overrun]

    def _end(self, id_: str, call: _Call, ended: _Call) -> None:
        """
        Spend what *ended* has booked, in place of what *call* holds or has spent.
        """
        held = len(call.lines) if call.state == "pending" else 0
        before = call.booked + (0,) * (len(ended.lines) - len(call.booked))
        balances = self._balances
        sums: dict[LedgerKey, _Sums] = {}
        for line, new, old in zip(ended.lines, ended.booked, before, strict=True):
            key = line.key
            spent, pending, calls = balances.get(key, _NOTHING)
            if len(sums) < held:  # what follows are keys that were never reserved
                pending -= line.amount
                calls -= 1
            sums[key] = spent + new - old, pending, calls
        self._write(sums, id_, ended)


def _reservation(reservation_id: str, call: _Call) -> Reservation:
    if call.state == "recorded":
        raise books.already(reservation_id, call.state)
    return Reservation(reservation_id, call.lines, call.expires_at_s)
