"""
A ledger in a DynamoDB table: the same hard cap for any number of hosts.

Every call is two transactions, and each of them all or nothing: to reserve, its
balances and itself; to settle, the same, where the reservation becomes the
journal's entry. What a request meets there decides, never who sent it or when:

    the call is not there     it is held
    it is there, ours         an answer was lost, and it had been done
    it is there, ended        what came late is told how it ended

No clock is part of it but the one that says when a process is taken for dead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import inf
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
    Reservation,
    Settled,
    SweepReport,
)
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import actions, claims, items, reading, reservations, schema
from bedrock_guard.ledgers.dynamodb import lines as lines_of
from bedrock_guard.ledgers.dynamodb.address import Address, read_address
from bedrock_guard.ledgers.dynamodb.controls import ControlsCopy
from bedrock_guard.ledgers.dynamodb.items import Call
from bedrock_guard.ledgers.dynamodb.lines import Met
from bedrock_guard.ledgers.dynamodb.sweeping import Sweeper
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn
from bedrock_guard.ledgers.lines import with_kinds

_NOTHING: Final[frozenset[LedgerKey]] = frozenset()
_DOUBTS: Final = 10_000
# How long what has ended is kept when nobody has said.
_KEEP_S: Final = 90 * 86_400.0


class DynamoDBLedger:
    """
    Knows nothing between two calls but which of its reservations may or may not be there.
    """

    blocking = True
    needs_names = True

    def __init__(self, address: Address, *, clock: Clock) -> None:
        self._clock = clock
        self._table = Table(address)
        self._sweeper = Sweeper(self._table)
        self._controls = ControlsCopy(self._table, clock)
        self.refresh_controls = self._controls.refresh
        self.forget_controls = self._controls.forget
        # Reservations that were asked for, and never answered: they may still arrive.
        self._doubted: OrderedDict[str, None] = OrderedDict()
        self._wished_s: float | None = None
        # What is wrong with the table shows now, and the connection is there before the first call.
        schema.check(self._table)

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        The ledger in the table that *url* names; `create_table` makes one.
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
        wanted = reservations.countable(books.merge(lines))
        call = Call(entry.id, "pending", wanted, self._clock() + hold_s, on_expiry=on_expiry)
        with self._table.turn() as turn:
            if controls is not None and controls != self._controls.read(turn).version:
                return CHANGED
            try:
                return self._open(turn, call, entry)
            except LedgerUnavailable as error:
                if error.outcome == "unknown":
                    self._doubt(entry.id)
                raise

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.
        """
        more = books.merge(lines)
        until_s = None if hold_s is None else self._clock() + hold_s
        with self._table.turn() as turn:
            if more:
                return self._hold_more(turn, items.held_call(reservation), more, until_s)
            call = self._hold_longer(turn, reservation.id, until_s or 0.0)
            return call._replace(lines=with_kinds(call.lines, reservation.lines)).reservation

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.
        """
        with self._table.turn() as turn:
            return self._end(turn, items.held_call(reservation), "settled", amounts, entry)

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held; without an *entry*, the call leaves none.
        """
        with self._table.turn() as turn:
            return self._end(turn, items.held_call(reservation), "released", {}, entry)

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        with self._table.turn() as turn:
            kept = actions.kept_until(entry.over_at_s, self.keep_s)
            action = actions.record_action(self._table.name, entry, by=turn.id, kept=kept)
            try:
                self._table.send(turn, "update_item", **action["Update"])
            except ConditionFailed:
                return

    def controls(self) -> Controls:
        """
        Stops and top-ups, and their version, as they were `control_refresh_s` ago or later.
        """
        with self._table.turn() as turn:
            return self._controls.read(turn)

    def write_control(self, control: Control, entry: Entry) -> int:
        """
        Put *control* into the record, and *entry* into the journal; the new version.
        """
        with self._table.turn() as turn:
            kept = actions.kept_until(entry.at_s, self.keep_s)
            return self._controls.write(turn, control, entry, kept=kept)

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        with self._table.turn():
            return reading.balances(self._table, keys)

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first; an open call has none yet.
        """
        before = books.read_cursor(after)
        with self._table.turn():
            return reading.entries(self._table, where, before=before, limit=limit)

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End the reservations whose time is over, each by its own `on_expiry`.

        For half a deadline at most: the next sweep, of whatever process, goes on from there.
        """
        with self._table.turn(0.5) as turn:
            return self._sweeper.sweep(turn, now=now, limit=limit, keep_s=self.keep_s)

    def claim_alert(self, claim: AlertClaim, *, retry_after_s: float = RETRY_AFTER_S) -> bool:
        """
        Whether the caller is to tell it.
        """
        with self._table.turn() as turn:
            return claims.claim(self._table, turn, claim, now=self._clock(), retry_after_s=retry_after_s)

    def confirm_alert(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        with self._table.turn() as turn:
            claims.confirm(self._table, turn, claim)

    def unconfirmed_alerts(self, *, limit: int = 100) -> list[AlertClaim]:
        """
        Claims that are not confirmed, at most *limit*.
        """
        with self._table.turn():
            return claims.read_unconfirmed(self._table, limit=limit)

    def keep_entries(self, seconds: float | None) -> None:
        """
        Keep what ends from now on for *seconds*, None for ever; of several wishes the longest holds.
        """
        self._wished_s = max(self._wished_s or 0.0, inf if seconds is None else seconds)

    def close(self) -> None:
        """
        Give connections back; the ledger cannot be used afterwards.
        """
        self._table.close()

    @property
    def table(self) -> Table:
        """
        Where it is all kept.
        """
        return self._table

    @property
    def controls_copy(self) -> ControlsCopy:
        """
        What this process knows of stops and top-ups.
        """
        return self._controls

    @property
    def keep_s(self) -> float:
        """
        How long what ends is kept, in seconds.
        """
        return _KEEP_S if self._wished_s is None else self._wished_s

    def _open(self, turn: Turn, call: Call, entry: Entry) -> Reservation | Refusal:
        put = actions.open_action(
            self._table.name, items.place_of_call(call.id), reservations.open_item(turn, call, entry)
        )
        met: Met = {}
        now = self._clock()
        while True:
            changes = actions.hold_changes(call.lines, met=met, now=now)
            try:
                self._table.transact(turn, [put, *actions.balance_actions(self._table.name, changes)])
            except ConditionFailed as failed:
                own, *others = failed.reasons
                if own.is_failed and own.item:
                    known = items.read_call(own.item)
                    if known.state == "recorded":
                        raise books.already(call.id, known.state) from None
                    return known._replace(lines=with_kinds(known.lines, call.lines)).reservation
                answer = reservations.why(call.lines, others, met, now)
                if answer is None:
                    continue
                if turn.in_doubt and not self._bar(turn, call, None):
                    continue  # the request that was taken for lost has come through: it is met again
                return answer
            else:
                over = lines_of.unfit_lines(call.lines, met, now, enforce=False)
                return call.reservation._replace(over=over)

    def _hold_longer(self, turn: Turn, id_: str, until_s: float) -> Call:
        action = actions.update_action(
            self._table.name,
            items.place_of_call(id_),
            update="SET #exp = :exp, #x = :x",
            condition="#st = :pending AND #exp < :exp",
            values={"exp": items.number(until_s), "x": {"S": turn.id}, "pending": {"S": "P"}},
        )
        try:
            done = self._table.send(turn, "update_item", **action["Update"], ReturnValues="ALL_NEW")
            return items.read_call(done["Attributes"])
        except ConditionFailed as failed:
            return reservations.still_open(id_, failed.reasons[0].item)

    def _hold_more(
        self, turn: Turn, call: Call, more: tuple[Line, ...], until_s: float | None
    ) -> Reservation | Refusal:
        met: Met = {}
        now = self._clock()
        while True:
            together = reservations.countable(books.merge((*call.lines, *more)))
            longer = call._replace(lines=together, expires_at_s=max(call.expires_at_s, until_s or 0.0))
            action = actions.call_action(
                self._table.name,
                call,
                update="SET #ln = :ln, #lh = :lh, #exp = :exp, #x = :x",
                condition=" AND #exp <= :exp",  # another thread may have held it for longer
                values={
                    "ln": items.pack_lines(together),
                    "lh": items.fingerprint(together),
                    "exp": items.number(longer.expires_at_s),
                    "x": {"S": turn.id},
                },
            )
            known = frozenset(line.key for line in call.lines)
            changes = actions.hold_changes(more, met=met, now=now, known=known)
            try:
                self._table.transact(turn, [action, *actions.balance_actions(self._table.name, changes)])
            except ConditionFailed as failed:
                own, *others = failed.reasons
                if own.is_failed:
                    call = reservations.still_open(call.id, own.item, call.lines)
                    if call.written_by == turn.id:
                        return call.reservation
                    continue
                answer = reservations.why(more, others, met, now)
                if answer is not None:
                    return answer
            else:
                over = lines_of.unfit_lines(more, met, now, enforce=False)
                return longer.reservation._replace(over=over)

    def _end(
        self,
        turn: Turn,
        call: Call,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        new = _NOTHING
        ours: books.How | None = None
        while True:
            lines, booked, is_overrun = books.align(call.lines, amounts)
            reservations.countable(lines)
            is_same = booked == call.booked
            how = books.how_ends(call.id, call.state, end, is_same=is_same)
            if how == "replayed":
                is_ours = call.written_by == turn.id
                return books.SETTLED[(ours if ours and is_ours else how), is_overrun]
            ours = how
            try:
                kept = actions.kept_until(self._clock(), self.keep_s)
                ended = actions.Ended(end, lines, booked, entry, kept, self._clock())
                self._table.transact(
                    turn, actions.end_actions(self._table.name, call, ended, by=turn.id, new=new)
                )
            except ConditionFailed as failed:
                own, *others = failed.reasons
                if own.is_failed and own.item:
                    known, call = call.lines, items.read_call(own.item)
                    call = call._replace(lines=with_kinds(call.lines, known))
                elif own.is_failed:
                    if end == "released" and call.id in self._doubted and self._bar(turn, call, entry):
                        return books.SETTLED["released", False]
                    raise books.unknown(call.id) from None
                else:
                    new |= actions.gone(actions.end_changes(call, lines, booked, new), others)
            else:
                self._doubted.pop(call.id, None)
                return books.SETTLED[how, is_overrun]

    def _bar(self, turn: Turn, call: Call, entry: Entry | None) -> bool:
        """
        Close the place of a reservation that may still be on its way; False when it has arrived.
        """
        closed = {
            **reservations.open_item(turn, call, entry),
            "st": {"S": items.CODES["released"]},
            "b": {"S": "[]"},
        }
        kept = actions.kept_until(self._clock(), self.keep_s)
        if kept is not None:
            closed["ttl"] = kept
        try:
            self._table.transact(
                turn, [actions.open_action(self._table.name, items.place_of_call(call.id), closed)]
            )
        except ConditionFailed as failed:
            item = failed.reasons[0].item
            return item is not None and item["x"]["S"] == turn.id and item["st"]["S"] != "P"
        return True

    def _doubt(self, entry_id: str) -> None:
        self._doubted[entry_id] = None
        if len(self._doubted) > _DOUBTS:
            self._doubted.popitem(last=False)
