"""
A ledger on leases: the same hard limit for a fleet, and most calls without a network.

    reserve   what fits into the slices of this process is held here; what is missing is asked for
    settle    here; the entry goes out later, with others
    what rolls, and rates, are never leased: they are held in the table, beside the slices

Killed, a process takes with it what it had leased and not reported, which is charged whole, and the entries
of its last seconds; never money that somebody else could spend.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

from bedrock_guard.domain.control import CHANGED, Controls, ControlsChanged
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
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import reading
from bedrock_guard.ledgers.dynamodb.address import Address, read_address
from bedrock_guard.ledgers.dynamodb.ledger import DynamoDBLedger
from bedrock_guard.ledgers.leases import sweeping
from bedrock_guard.ledgers.leases.beside import LONGEST_S, Beside, in_order, over_in_order, part
from bedrock_guard.ledgers.leases.desk import Desk
from bedrock_guard.ledgers.leases.hearing import Hearing
from bedrock_guard.ledgers.leases.journal import Journal
from bedrock_guard.ledgers.leases.keeper import Keeper, Thread, at_exit
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.purses import Call
from bedrock_guard.ledgers.leases.slices import with_own
from bedrock_guard.ledgers.leases.store import Store

log = logging.getLogger("bedrock_guard")


class LeasedLedger:
    """
    Slices of balances in this process, over a table that a fleet shares.

    *keeps_itself* False leaves it to the caller to call `look` every now and then.
    """

    blocking = True
    needs_names = True

    def __init__(self, address: Address, *, clock: Clock, keeps_itself: bool = True) -> None:
        self._clock = clock
        self._exact = exact = DynamoDBLedger(address, clock=clock)
        self._table = exact.table
        self._copy = exact.controls_copy
        self._local = Local(clock)
        self._store = Store(self._table)
        self._desk = Desk(self._store, self._local, clock)
        self._journal = Journal(self._table, self._local, lambda: exact.keep_s)
        self._keeper = Keeper(self._table, self._desk, self._local, self._journal, self._copy)
        self._beside = Beside(exact, self._local)
        self._hearing = Hearing(exact)
        self._is_closed = False
        self._closing = threading.RLock()
        self._thread = Thread(self.look) if keeps_itself else None
        self.refresh_controls = exact.refresh_controls
        self.forget_controls = exact.forget_controls
        self.keep_entries = exact.keep_entries
        self.write_control = exact.write_control
        self.claim_alert = exact.claim_alert
        self.confirm_alert = exact.confirm_alert
        self.unconfirmed_alerts = exact.unconfirmed_alerts
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_of(weakref.ref(self)))
        if keeps_itself:
            at_exit(self.close, self)

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        The ledger in the table that *url* names.
        """
        return cls(read_address(url), clock=clock)

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
        held = self.reserve_at_once(lines, entry=entry, hold_s=hold_s, on_expiry=on_expiry, controls=controls)
        if held is not None:
            return held
        if controls is not None and controls != self.controls().version:
            return CHANGED
        wanted, expires_at_s = books.merge(lines), self._clock() + hold_s
        if any(line.kind != "window" for line in wanted):
            return self._reserve_beside(wanted, entry, hold_s, on_expiry)
        over: list[RefusedLine] = []
        call = self._bring(wanted, lambda: self._local.hold(entry, wanted, expires_at_s, on_expiry, over))
        if isinstance(call, Refusal):
            return call
        if call.state == "recorded":
            raise books.already(entry.id, call.state)
        return Reservation(entry.id, call.lines, call.expires_at_s, tuple(over))

    def reserve_at_once(
        self,
        lines: Sequence[Line],
        *,
        entry: Entry,
        hold_s: float,
        on_expiry: OnExpiry,
        controls: int | None = None,
    ) -> Reservation | None:
        """
        Hold every line if the slices have room for it; None where somebody has to be asked, or was asked for
        the call before.
        """
        now = self._clock()
        if not lines:
            self._journal.admit(self._wake)
        if controls is not None:
            known = self._copy.fresh_at(now)
            if known is None or known.version != controls:
                return None
        over: list[RefusedLine] = []
        wanted = tuple(lines)
        call = self._local.hold(entry, wanted, now + hold_s, on_expiry, over)
        if call is None or call.lines is not wanted or call.state == "recorded":
            return None
        told = tuple(over) if over else ()
        return new_reservation(Reservation, (entry.id, wanted, call.expires_at_s, told))

    def ends_at_once(self, reservation: Reservation) -> bool:
        """
        Whether all that is held of it is here.
        """
        id_ = reservation.id
        return id_ not in self._beside.held and self._local.find(id_) is not None

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        id_, more = reservation.id, books.merge(lines)
        if hold_s is not None and hold_s > LONGEST_S:
            self._beside.hand_over(id_, hold_s)
        if self._local.find(id_) is None:
            return self._exact.extend(reservation, lines, hold_s=hold_s)
        own, special = part(more)
        until_s = None if hold_s is None else self._clock() + hold_s
        over: list[RefusedLine] = []
        call = self._local.hold_more(id_, own, until_s, over)
        if call is None:
            found = self._bring(own, lambda: self._local.hold_more(id_, own, until_s, over))
            if isinstance(found, Refusal):
                return self._beside.refused(found, more, self._clock())
            call = found
        if not special and id_ not in self._beside.held:
            return Reservation(id_, call.lines, call.expires_at_s, tuple(over))
        try:
            answer = self._beside.extend(call, id_, special, hold_s)
        except (LedgerUnavailable, ReservationClosed):
            self._local.hold_less(id_, own)
            raise
        if isinstance(answer, Refusal):
            self._local.hold_less(id_, own)
            return answer
        together = in_order((*call.lines, *answer.lines), (*reservation.lines, *more))
        return Reservation(id_, together, call.expires_at_s, over_in_order((*over, *answer.over), more))

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        id_ = reservation.id
        if id_ not in self._beside.held:
            ended = self._local.end(id_, "settled", amounts, entry)
            if ended is not None:
                return books.SETTLED[ended]
        return self._beside.end(reservation, "settled", amounts, entry)

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held; without an *entry*, the call leaves none.
        """
        if reservation.id not in self._beside.held:
            ended = self._local.end(reservation.id, "released", {}, entry)
            if ended is not None:
                return books.SETTLED[ended]
        return self._beside.end(reservation, "released", {}, entry)

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        if entry.held is not None:  # of a job, whose hold nobody would find without it
            self._exact.record(entry)
            return
        self._journal.admit(self._wake)
        if self._local.find(entry.id) is None:
            self._local.remember(entry)
        self._journal.count(entry)

    def controls(self) -> Controls:
        """
        Stops and top-ups, and their version, as they were `control_refresh_s` ago or later.
        """
        if self._is_closed:
            raise LedgerUnavailable("The ledger is closed.")
        return self._copy.fresh or self._hearing.read()

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.

        What this process has spent and holds is in it; what others have not reported yet shows as leased.
        """
        with self._desk.turn():
            self._desk.take_strangers()
            local, known = self._local, self._desk.slices
            return [
                with_own(balance, known[key], local.sums(key), local.granted(key))
                if key in known
                else balance
                for balance in reading.balances(self._table, keys)
                for key in (balance.key,)
            ]

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; those of this process are written first.
        """
        books.read_cursor(after)
        if self._journal.waiting:
            with self._desk.turn() as turn:
                self._journal.write(turn)
        return self._exact.entries(where, after=after, limit=limit)

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End reservations whose time is over, each by its own `on_expiry`, and charge leases of dead processes.
        """
        count, keys = self._local.expire(now, limit, is_elsewhere=self._beside.held.__contains__)
        left = limit - sum(count.values())
        reports = [SweepReport(count["charge"], count["release"], frozenset(keys))]
        if left > 0:
            reports.append(self._exact.sweep(now=now, limit=left))
            with self._table.turn(0.5) as turn:  # calls may ask meanwhile
                keep_s = self._exact.keep_s
                own = self._desk.owner
                reports.append(sweeping.sweep(self._table, turn, now=now, limit=left, keep_s=keep_s, own=own))
        return sum(reports, SweepReport())

    def look(self) -> float:
        """
        Report, give back and write what is due; the seconds until something may be.
        """
        return 3600.0 if self._is_closed else self._keeper.look()

    def flush(self) -> None:
        """
        Write every entry that waits, and report all that is spent.

        Raises:
            LedgerUnavailable: Not all of it; it is tried again.
        """
        self._keeper.flush()

    def tell_reported(self, tell: Callable[[Iterable[LedgerKey]], None]) -> None:
        """
        Have *tell* called with balances whose spend has been reported: from now on others see it, too.
        """
        self._keeper.tell_reported(tell)

    def close(self) -> None:
        """
        Write what waits, give back what is leased, and all connections; the ledger cannot be used afterwards.
        """
        with self._closing:  # who comes second goes on when all is done: it may end the process
            if self._is_closed:
                return
            self._is_closed = True
            self._local.close()  # what ended after its slice was given back would be charged with that, too
            if self._thread is not None:
                self._thread.close()
            try:
                self._keeper.finish()
            except LedgerUnavailable as error:
                log.warning("What is leased is charged when it expires; the last entries are lost: %s", error)
            self._exact.close()

    def _reserve_beside(
        self, wanted: tuple[Line, ...], entry: Entry, hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal | ControlsChanged:
        """
        Hold what is leased here, and what is not in the table.
        """
        own, special = part(wanted)
        if not own:
            return self._exact.reserve(special, entry=entry, hold_s=hold_s, on_expiry=on_expiry)
        expires_at_s = self._clock() + hold_s
        over: list[RefusedLine] = []
        call = self._bring(own, lambda: self._local.hold(entry, own, expires_at_s, on_expiry, over))
        if isinstance(call, Refusal):
            return self._beside.refused(call, wanted, self._clock())
        if call.state == "recorded":
            raise books.already(entry.id, call.state)
        answer = self._beside.reserve(call, entry, wanted, hold_s, on_expiry)
        if isinstance(answer, Refusal):
            return answer
        return answer._replace(over=over_in_order((*over, *answer.over), wanted))

    # What is missing

    def _bring(self, lines: tuple[Line, ...], hold: Callable[[], Call | None]) -> Call | Refusal:
        """
        Ask for what is missing of *lines* until *hold* can hold them.
        """
        call = hold()
        if call is not None:
            return call
        refused = self._desk.refused_lately(self._local.missing(lines))
        if refused:
            return Refusal(refused)
        if self._is_closed:
            raise LedgerUnavailable("The ledger is closed.")
        self._wake()
        with self._desk.turn() as turn:
            while True:
                call = hold()
                if call is not None:
                    return call
                refused = self._desk.ask(turn, self._local.missing(lines))
                if refused:
                    return Refusal(refused)

    def _after_fork_in_child(self) -> None:
        self._closing = threading.RLock()
        self._local.begin_anew()
        self._desk.begin_anew()
        self._journal.forget()
        self._beside.forget()
        if self._thread is not None:
            self._thread.forget()

    def _wake(self) -> None:
        if self._thread is not None:
            self._thread.wake()


def _forget_of(found: weakref.ref[LeasedLedger]) -> Callable[[], None]:
    def forget() -> None:
        ledger = found()
        if ledger is not None:
            ledger._after_fork_in_child()  # noqa: SLF001

    return forget
