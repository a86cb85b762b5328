"""
Lines that are never leased: what rolls, and rates. They are held in the table, beside the slices.

A call with both is held here first, which costs nothing to undo, and its entry is the table's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bedrock_guard.domain.control import ControlsChanged
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry, Refusal, RefusedLine, Reservation, Settled
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import items, lines, reading
from bedrock_guard.ledgers.dynamodb.ledger import DynamoDBLedger
from bedrock_guard.ledgers.leases.in_hand import KEEP_ENDED
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.purses import Call
from bedrock_guard.ledgers.leases.slices import is_special

# A hold that is to last for longer is for a job, which goes on without its process.
LONGEST_S: Final = 7200.0
# Of what is opened only to be ended: AWS billed what nobody had expected.
_MOMENT_S: Final = 60.0


class Beside:
    """
    The calls of one process that hold in the table, too.

    Attributes:
        held: What each of them holds there, by its id.
    """

    def __init__(self, exact: DynamoDBLedger, local: Local) -> None:
        self._exact = exact
        self._local = local
        # None for one that was asked for: after Ctrl-C nobody knows whether it is there.
        self.held: OrderedDict[str, Reservation | None] = OrderedDict()

    def reserve(
        self, call: Call, entry: Entry, wanted: Sequence[Line], hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal:
        """
        Hold those of *wanted* that are not leased, for *call*, which holds the others; all or none.
        """
        special = part(wanted)[1]
        try:
            answer = self._ask(special, entry, hold_s, on_expiry)
        except LedgerUnavailable:
            self._local.undo(entry.id)
            raise
        if not isinstance(answer, Reservation):
            self._local.undo(entry.id)
            return answer if isinstance(answer, Refusal) else Refusal(())
        together = in_order((*call.lines, *answer.lines), wanted)
        return Reservation(entry.id, together, answer.expires_at_s, answer.over)

    def refused(self, refusal: Refusal, wanted: Sequence[Line], now: float) -> Refusal:
        """
        *refusal*, of lines that are leased, with the other lines that would not have fitted.
        """
        _, special = part(wanted)
        if not special:
            return refusal
        table = self._exact.table
        places = {line.key: items.place_of_balance(line.key) for line in special}
        with table.turn() as turn:
            found = {item["pk"]["S"]: item for item in reading.get_all(table, list(places.values()), turn)}
        met: lines.Met = {key: found.get(place[0]) for key, place in places.items()}
        both = (*refusal.lines, *lines.unfit_lines(special, met, now, enforce=True))
        by_key = {refused.line.key: refused for refused in both}
        return Refusal(tuple([by_key[line.key] for line in wanted if line.key in by_key]))

    def extend(
        self, call: Call, id_: str, more: tuple[Line, ...], hold_s: float | None
    ) -> Reservation | Refusal:
        """
        Hold *more* lines that are not leased for *call*, or hold those that are for longer.
        """
        held = self.held.get(id_)
        if held is not None:
            answer = self._exact.extend(held, more, hold_s=hold_s)
            if isinstance(answer, Reservation):
                self._remember(id_, answer)
            return answer
        found = self._open(call, id_, more, hold_s or _MOMENT_S)
        return found if isinstance(found, Reservation | Refusal) else Refusal(())

    def hand_over(self, id_: str, hold_s: float) -> None:
        """
        Hold all of a call in the table: it outlives its process, and whoever comes settles it.

        Nothing is asked for there, for all of it is granted already; it is no longer granted here.
        """
        call = self._local.find(id_)
        if call is None or call.state != "pending" or call.entry is None:
            return
        lines = tuple(line._replace(limit=None) for line in call.lines)
        held = self.held.get(id_)
        if held is None and id_ in self.held:
            held = self._reopened(call, id_)
        if held is not None:
            self._exact.extend(held, lines, hold_s=hold_s)
        else:
            self._exact.reserve(lines, entry=call.entry, hold_s=hold_s, on_expiry=call.on_expiry)
        self._local.hand_over(id_)
        self.held.pop(id_, None)

    def end(
        self,
        reservation: Reservation,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        """
        End a call in the table, and then its slices; its entry is the table's.
        """
        id_ = reservation.id
        call = self._local.find(id_)
        if call is None:  # all that it holds is in the table
            return self._end(reservation, end, amounts, entry)
        held = self.held.get(id_)
        if held is None:
            held = self._reopened(call, id_)
        special = {key: amount for key, amount in amounts.items() if is_special(key)}
        there = self._end(held, end, special, entry)
        own = {key: amount for key, amount in amounts.items() if key not in special}
        here = self._local.end(id_, end, own, None)
        if here is None:
            return there
        how, is_overrun = here
        return books.SETTLED[there.how if how == "replayed" else how, is_overrun or there.overrun]

    def forget(self) -> None:
        """
        In a fork: what is held is the parent's.
        """
        self.held.clear()

    def _reopened(self, call: Call, id_: str) -> Reservation:
        """
        What a call holds in the table, where it is held from now on, if only to be ended.
        """
        opened = self._open(call, id_, (), _MOMENT_S)
        if not isinstance(opened, Reservation):
            raise books.unknown(id_)
        return opened

    def _open(self, call: Call, id_: str, more: tuple[Line, ...], hold_s: float) -> object:
        if call.entry is None:
            raise books.unknown(id_)
        return self._ask(more, call.entry, hold_s, call.on_expiry)

    def _ask(
        self, lines: tuple[Line, ...], entry: Entry, hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal | ControlsChanged:
        """
        Hold *lines* in the table; for a call that holds there already, what it does.
        """
        id_ = entry.id
        is_new = id_ not in self.held
        if is_new:
            self._remember(id_, None)  # beforehand: whoever is interrupted ends it there, too
        try:
            answer = self._exact.reserve(lines, entry=entry, hold_s=hold_s, on_expiry=on_expiry)
        except LedgerUnavailable:
            if is_new:
                self.held.pop(id_, None)
            raise
        if isinstance(answer, Reservation):
            self._remember(id_, answer)
        else:
            self.held.pop(id_, None)
        return answer

    def _end(
        self,
        reservation: Reservation,
        end: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> Settled:
        if end == "settled" and entry is not None:
            return self._exact.settle(reservation, amounts, entry)
        return self._exact.release(reservation, entry)

    def _remember(self, id_: str, reservation: Reservation | None) -> None:
        self.held[id_] = reservation
        if len(self.held) > KEEP_ENDED:
            self.held.popitem(last=False)


def part(wanted: Iterable[Line]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """
    Lines that are leased, and those that are not.
    """
    wanted = tuple(wanted)
    own = tuple(line for line in wanted if line.kind == "window")
    return own, tuple(line for line in wanted if line.kind != "window")


def in_order(found: Sequence[Line], wanted: Sequence[Line]) -> tuple[Line, ...]:
    """
    *found* in the order of *wanted*, and then the rest.
    """
    place = {line.key: number for number, line in enumerate(wanted)}
    return tuple(sorted(found, key=lambda line: place.get(line.key, len(place))))


def over_in_order(found: Sequence[RefusedLine], wanted: Sequence[Line]) -> tuple[RefusedLine, ...]:
    """
    As `in_order`.
    """
    place = {line.key: number for number, line in enumerate(wanted)}
    return tuple(sorted(found, key=lambda one: place.get(one.line.key, len(place))))
