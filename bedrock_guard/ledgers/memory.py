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
from dataclasses import dataclass, field, replace
from typing import Final, Self

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


@dataclass(slots=True, eq=False)
class _Balance:
    spent: int = 0
    pending: int = 0
    calls: int = 0


@dataclass(slots=True, eq=False)
class _Call:
    """
    One reservation, or one recorded entry, which has no lines.
    """

    sequence: int
    state: books.State
    entry: Entry | None
    lines: tuple[Line, ...] = ()
    balances: list[_Balance] = field(default_factory=list)
    booked: books.Booked = ()
    expires_at_s: float = 0.0
    on_expiry: OnExpiry = "charge"


class MemoryLedger:
    """
    One lock around dictionaries of integers.
    """

    blocking = False

    def __init__(self, *, clock: Clock, keep_entries: int = KEEP_ENTRIES) -> None:
        self._clock = clock
        self._keep_entries = keep_entries
        self._lock = threading.RLock()
        self._balances: dict[LedgerKey, _Balance] = {}
        self._open: dict[str, _Call] = {}
        self._ended: OrderedDict[str, _Call] = OrderedDict()
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
        with self._turn():
            known = self._known(entry.id)
            if known is not None:
                return _reservation(entry.id, known)
            balances = self._hold(wanted)
            if isinstance(balances, Refusal):
                return balances
            self._sequence += 1
            self._open[entry.id] = _Call(
                self._sequence, "pending", entry, wanted, balances, (), expires_at_s, on_expiry
            )
        return Reservation(entry.id, wanted, expires_at_s)

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        more = books.merge(lines)
        with self._turn():
            call = self._open.get(reservation.id)
            if call is None:
                ended = self._known(reservation.id)
                raise books.already(reservation.id, ended.state) if ended else books.unknown(reservation.id)
            together = books.merge((*call.lines, *more))
            expires_at_s = call.expires_at_s if hold_s is None else self._clock() + hold_s
            balances = self._hold(more)
            if isinstance(balances, Refusal):
                return balances
            for balance in balances:
                balance.calls -= balance in call.balances  # the call is counted there already
            call.lines, call.balances = together, [self._balances[line.key] for line in together]
            call.expires_at_s = max(call.expires_at_s, expires_at_s)
            return _reservation(reservation.id, call)

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        return self._end(reservation.id, "settled", amounts, entry)

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held; without an *entry*, the call leaves none.
        """
        return self._end(reservation.id, "released", {}, entry)

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        with self._turn():
            known = self._known(entry.id)
            if known is None:
                self._sequence += 1
                self._keep(entry.id, _Call(self._sequence, "recorded", entry))
            elif known.entry is not None:
                known.entry = replace(known.entry, count=known.entry.count + entry.count)

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        with self._turn():
            balances = self._balances
            found = [(key, balances.get(key)) for key in (sorted(balances) if keys is None else keys)]
            return [Balance(key, one.spent, one.pending) if one else Balance(key) for key, one in found]

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        before = books.read_cursor(after)
        with self._turn():
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
        with self._turn():
            due = sorted(
                (call.expires_at_s, id_) for id_, call in self._open.items() if call.expires_at_s <= now
            )
            for _, id_ in due[:limit]:
                call = self._open[id_]
                entry = books.expired_entry(call.entry, call.on_expiry) if call.entry else None
                self._book(call, call.lines, books.expired_amounts(call.lines, call.on_expiry))
                self._finish(id_, call, "expired", entry)
                count[call.on_expiry] += 1
        return SweepReport(charged=count["charge"], released=count["release"])

    def drop_entries(self, *, before: float, limit: int = 1000) -> int:
        """
        Forget old entries, at most *limit*.
        """
        with self._turn():
            old = [
                id_
                for id_, call in self._ended.items()
                if call.expires_at_s < before and (call.entry is None or call.entry.at_s < before)
            ][:limit]
            for id_ in old:
                del self._ended[id_]
        return len(old)

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

    def _known(self, reservation_id: str) -> _Call | None:
        return self._open.get(reservation_id) or self._ended.get(reservation_id)

    def _hold(self, lines: tuple[Line, ...]) -> list[_Balance] | Refusal:
        """
        Add *lines* to what is pending, unless one does not fit.
        """
        balances = []
        for line in lines:
            balance = self._balances.get(line.key) or _Balance()
            limit = books.MAX_AMOUNT if line.limit is None else line.limit
            if balance.spent + balance.pending + line.amount > limit:
                return self._refusal(lines)
            balances.append(balance)
        for line, balance in zip(lines, balances, strict=True):
            if not balance.calls:  # perhaps new; a refused line must leave no balance behind
                self._balances[line.key] = balance
            balance.pending += line.amount
            balance.calls += 1
        return balances

    def _refusal(self, lines: tuple[Line, ...]) -> Refusal:
        refused = []
        for line in lines:
            balance = self._balances.get(line.key) or _Balance()
            used = balance.spent + balance.pending + line.amount
            if line.limit is None and used > books.MAX_AMOUNT:
                raise books.uncountable(line.key, used)
            if line.limit is not None and used > line.limit:
                refused.append(RefusedLine(line, balance.spent, balance.pending, balance.calls))
        return Refusal(tuple(refused))

    def _end(
        self,
        reservation_id: str,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        with self._turn():
            call = self._known(reservation_id)
            if call is None:
                raise books.unknown(reservation_id)
            lines, booked, is_overrun = books.align(call.lines, amounts)
            how = books.how_ends(reservation_id, call.state, end, is_same=booked == call.booked)
            if how != "replayed":
                self._book(call, lines, booked)
                self._finish(reservation_id, call, end, entry)
        return books.SETTLED[how, is_overrun]

    def _book(self, call: _Call, lines: tuple[Line, ...], booked: books.Booked) -> None:
        """
        Spend *booked* on *lines*, in place of what the call holds or has spent.
        """
        is_open = call.state == "pending"
        for line in lines[len(call.balances) :]:  # keys that were never reserved
            balance = self._balances.setdefault(line.key, _Balance())
            balance.calls += is_open
            call.balances.append(balance)
        before = call.booked + (0,) * (len(lines) - len(call.booked))
        for line, balance, new, old in zip(lines, call.balances, booked, before, strict=True):
            balance.spent += new - old
            if is_open:
                balance.pending -= line.amount
                balance.calls -= 1
        call.lines, call.booked = lines, booked

    def _finish(self, reservation_id: str, call: _Call, state: books.State, entry: Entry | None) -> None:
        call.state, call.entry = state, entry
        if self._open.pop(reservation_id, None) is not None:
            self._keep(reservation_id, call)

    def _keep(self, entry_id: str, call: _Call) -> None:
        self._ended[entry_id] = call
        if len(self._ended) > self._keep_entries:
            self._ended.popitem(last=False)


def _reservation(reservation_id: str, call: _Call) -> Reservation:
    if call.state == "recorded":
        raise books.already(reservation_id, call.state)
    return Reservation(reservation_id, call.lines, call.expires_at_s)
