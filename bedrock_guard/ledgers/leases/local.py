"""
What one process has spent and holds of its slices: integers, under a lock, and no network.

What a step changes is worked out first, noted in one assignment, and then written, as in a ledger in memory:
where an interrupt strikes after the note, who comes next writes it again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, LedgerKey, Line, OnExpiry, RefusedLine
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.leases import purses
from bedrock_guard.ledgers.leases.purses import (
    NEVER_LEASED,
    NO_CHANGE,
    NOTHING,
    Call,
    Change,
    Purse,
    Sums,
    new_call,
)
from bedrock_guard.ledgers.leases.slices import Others, Want, has_special, refused_line, want

# Ended calls that are remembered, for an end that comes twice.
KEEP_ENDED: Final = 10_000


class Local:
    """
    Open calls, and a purse for each key.

    Attributes:
        notes: What no segment has yet, the oldest first: the fields of a `Note` of each.
        strangers: Balances that were charged, and nothing of them was ever leased.
        soft: Of balances that are over their limits, which not every line enforces: what others use.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._purses: dict[LedgerKey, Purse] = {}
        self._open: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()
        self._noted: tuple[Change, str, Call] | None = None
        self._sequence = time.time_ns()
        self._is_closed = False
        self.notes: list[tuple[int, float, Entry | None]] = []
        self.soft: dict[LedgerKey, Others] = {}
        self.strangers: set[LedgerKey] = set()

    # Calls

    def find(self, id_: str) -> Call | None:
        """
        The call of that id, open or ended.
        """
        with self.turn():
            return self._open.get(id_) or self._ended.get(id_)

    def hold(
        self,
        entry: Entry,
        lines: tuple[Line, ...],
        expires_at_s: float,
        on_expiry: OnExpiry,
        over: list[RefusedLine],
    ) -> Call | None:
        """
        The call of *entry*, with *lines* held, or the one that has its id already; None where a slice has no
        room for it, or a line is never leased.

        What does not fit, and is not enforced, is added to *over*.
        """
        id_ = entry.id
        with self.turn():
            known = self._open.get(id_) or self._ended.get(id_)
            if known is not None:
                return known
            change = self._held(lines, over)
            if change is None:
                return None
            self._sequence += 1
            call = new_call(
                Call, (self._sequence, "pending", entry, lines, change[0], (), expires_at_s, on_expiry)
            )
            self._write(change, id_, call)
            return call

    def hold_more(
        self, id_: str, more: tuple[Line, ...], expires_at_s: float | None, over: list[RefusedLine]
    ) -> Call | None:
        """
        The call of *id_* with *more* lines, and for longer; None where a slice has no room for them.

        Raises:
            ReservationClosed: It has ended.
        """
        with self.turn():
            call = self._pending(id_)
            change = self._held(more, over)
            if change is None:
                return None
            call = call._replace(
                lines=books.merge((*call.lines, *more)),
                purses=tuple(dict.fromkeys((*call.purses, *change[0]))),
                expires_at_s=max(call.expires_at_s, expires_at_s or 0.0),
            )
            self._write(change, id_, call)
            return call

    def hold_less(self, id_: str, less: tuple[Line, ...]) -> None:
        """
        Take *less* back out of an open call: it was held a moment ago, and something else did not fit.
        """
        with self.turn():
            call = self._open.get(id_)
            if call is None:
                return
            amounts = {line.key: line.amount for line in less}
            lines = tuple(line._replace(amount=line.amount - amounts.get(line.key, 0)) for line in call.lines)
            sums = []
            for purse in call.purses:
                spent, pending = purse.sums
                sums.append((spent, pending - amounts.get(purse.key, 0)))
            self._write((call.purses, sums), id_, call._replace(lines=lines))

    def missing(self, lines: Sequence[Line]) -> list[Want]:
        """
        Those of *lines* that the slices have no room for.
        """
        with self.turn():
            wants = [want(line, self.purse(line.key)) for line in lines]
        return [one for one in wants if one is not None]

    def end(
        self,
        id_: str,
        state: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> tuple[books.How, bool] | None:
        """
        End a call, as `settled` or `released`; how, and whether it overran. None if it is not here, or was
        charged something that is never leased.

        Its entry goes into a segment.
        """
        with self.turn():
            call = self._open.get(id_) or self._ended.get(id_)
            if call is None:
                return None
            lines, booked, is_overrun = books.align(call.lines, amounts)
            if len(lines) > len(call.lines) and has_special(line.key for line in lines):
                return None
            how = books.how_ends(id_, call.state, state, is_same=booked == call.booked)
            if how != "replayed":
                sequence, until_s, on_expiry = call.sequence, call.expires_at_s, call.on_expiry
                ended = new_call(Call, (sequence, state, entry, lines, (), booked, until_s, on_expiry))
                self._end(id_, call, ended, is_noted=True)
        return how, is_overrun

    def expire(
        self, now: float, limit: int, *, is_elsewhere: Callable[[str], bool]
    ) -> tuple[dict[OnExpiry, int], set[LedgerKey]]:
        """
        End calls of this process whose time is over, the oldest first: how many, and whose balances they
        were charged to. What *is_elsewhere* has its entry there.
        """
        count: dict[OnExpiry, int] = {"charge": 0, "release": 0}
        keys: set[LedgerKey] = set()
        with self.turn():
            due = sorted((call.expires_at_s, id_) for id_, call in self._open.items())
            for expires_at_s, id_ in due[:limit]:
                if expires_at_s > now:
                    break
                call, is_noted = self._open[id_], not is_elsewhere(id_)
                entry = books.expired_entry(call.entry, call.on_expiry) if call.entry and is_noted else None
                booked = books.expired_amounts(call.lines, call.on_expiry)
                ended = call._replace(state="expired", entry=entry, purses=(), booked=booked)
                self._end(id_, call, ended, is_noted=is_noted)
                count[call.on_expiry] += is_noted
                keys.update(line.key for line, spent in zip(call.lines, booked, strict=True) if spent)
        return count, keys

    def undo(self, id_: str) -> None:
        """
        Hold nothing for a call any more, as if it had never been asked for.
        """
        with self.turn():
            call = self._open.get(id_)
            if call is not None:
                self._undo(id_, call)

    def hand_over(self, id_: str) -> None:
        """
        Know nothing more of an open call, nor of what was granted for it: it is held elsewhere.
        """
        with self.turn():
            call = self._open.get(id_)
            if call is None:
                return
            # First, for what is granted and held is safe, and what is granted and free is not.
            for purse, line in zip(call.purses, call.lines, strict=True):
                purse.granted -= line.amount
            self._undo(id_, call)

    def remember(self, entry: Entry) -> None:
        """
        That an id is that of an entry without money.
        """
        with self.turn():
            self._sequence += 1
            self._write(NO_CHANGE, entry.id, Call(self._sequence, "recorded", None))

    # Slices

    def sums(self, key: LedgerKey) -> Sums:
        """
        What is spent and pending of a slice.
        """
        purse = self._purses.get(key)
        return NOTHING if purse is None else purse.sums

    def granted(self, key: LedgerKey) -> int:
        """
        How much of a slice may be spent.
        """
        purse = self._purses.get(key)
        return 0 if purse is None else purse.spendable

    def grant(self, key: LedgerKey, granted: int, reported: int) -> None:
        """
        As `Purse.grant`.
        """
        with self.turn(is_last=True):
            self.purse(key).grant(granted, reported)

    def give_up(self, key: LedgerKey, keep: int = 0) -> tuple[int, int]:
        """
        As `Purse.give_up`.
        """
        with self.turn(is_last=True):
            return self.purse(key).give_up(keep)

    def forget(self, key: LedgerKey) -> bool:
        """
        Know nothing of a slice any more, if no call holds any of it and all is spent; whether that is so.
        """
        with self.turn(is_last=True):
            purse = self.purse(key)
            if purse.sums != (purse.spendable, 0):
                return False
            if any(purse in call.purses for call in self._open.values()):
                return False
            del self._purses[key]
            self.soft.pop(key, None)
            return True

    def drop_notes(self, count: int) -> None:
        """
        The oldest *count* notes are looked after by the caller from now on.
        """
        with self.turn(is_last=True):
            del self.notes[:count]

    def begin_anew(self) -> None:
        """
        In a fork: what is spent and held is the parent's.
        """
        self.__init__(self._clock)  # type: ignore[misc]

    def close(self) -> None:
        """
        Refuse what comes later; what is there may be given back and written still.
        """
        self._is_closed = True

    def turn(self, *, is_last: bool = False) -> AbstractContextManager[bool]:
        """
        The lock, while calls may begin and end; *is_last* for what is done when they may not any more.
        """
        if self._is_closed and not is_last:
            raise LedgerUnavailable("The ledger is closed.")
        # Not for a finalizer that runs in the very thread that holds it, half-way through a sum.
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable("The ledger was called from inside itself; try again later.")
        if self._noted is not None:
            with self._lock:
                if self._noted is not None:
                    self._write(*self._noted)
        return self._lock

    # Inside the lock

    def purse(self, key: LedgerKey) -> Purse:
        """
        The slice of *key*, which is empty if there was none.
        """
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = Purse(key)
        return purse

    def _held(self, lines: tuple[Line, ...], over: list[RefusedLine]) -> Change | None:
        """
        The purses of *lines* with those held; None where one has no room, or there is none: what is never
        leased has none. Nor is it looked into what two lines of one key, or less than nothing, come to.
        """
        find = self._purses.get
        found: list[Purse] = []
        sums: list[Sums] = []
        for line in lines:
            purse = find(line.key)
            if purse is None:
                break
            spent, pending = purse.sums
            amount, limit = line.amount, line.limit
            used = spent + pending + amount
            if used > purse.granted or amount < 0 or purse in found:
                break
            if not line.enforce:
                self._see_soft(line, purse, over)
            elif limit is not None and used > limit:
                break  # it was lowered, or another line of the same balance has none
            found.append(purse)
            sums.append((spent, pending + amount))
        else:
            return found, sums
        over.clear()
        return None

    def _see_soft(self, line: Line, purse: Purse, over: list[RefusedLine]) -> None:
        others = self.soft.get(line.key)
        refused = None if others is None else refused_line(line, others, purse.sums)
        if refused is not None:
            over.append(refused)

    def _pending(self, id_: str) -> Call:
        call = self._open.get(id_)
        if call is None:
            ended = self._ended.get(id_)
            raise books.already(id_, ended.state) if ended else books.unknown(id_)
        return call

    def _end(self, id_: str, call: Call, ended: Call, *, is_noted: bool) -> None:
        change = purses.ended(call, ended.booked)
        if len(ended.lines) > len(change[0]):
            change = self._booked_too(change, call, ended)
        entry = ended.entry
        if is_noted and (entry is not None or (call.entry is not None and call.state == "expired")):
            at_s = (entry or call.entry).at_s  # type: ignore[union-attr]
            self.notes.append((call.sequence, at_s, entry))
        self._write(change, id_, ended)

    def _booked_too(self, change: Change, call: Call, ended: Call) -> Change:
        """
        *change*, and what *ended* books of lines that *call* does not hold: AWS billed what nobody had
        expected, or the call had expired.
        """
        found, sums = list(change[0]), list(change[1])
        before = (*call.booked, *[0] * (len(ended.lines) - len(call.booked)))
        rest = list(zip(ended.lines, ended.booked, before, strict=True))[len(found) :]
        for line, new, old in rest:
            if new <= old and line.key not in self._purses:
                continue  # the slice is forgotten, and what was charged stays so
            purse = self.purse(line.key)
            spent, pending = purse.sums
            found.append(purse)
            sums.append((spent + new - old, pending))
            if purse.granted == NEVER_LEASED:
                self.strangers.add(line.key)
        return found, sums

    def _undo(self, id_: str, call: Call) -> None:
        nothing = (0,) * len(call.lines)
        self._write(purses.ended(call, nothing), id_, call._replace(state="released", purses=()))
        del self._ended[id_]

    def _write(self, change: Change, id_: str, call: Call) -> None:
        self._noted = change, id_, call
        for purse, sums in zip(*change):  # noqa: B905 - as long as each other, by how they are made
            purse.sums = sums
        if call.state == "pending":
            self._open[id_] = call
        else:
            self._open.pop(id_, None)
            self._ended[id_] = call
            if len(self._ended) > KEEP_ENDED:
                self._ended.popitem(last=False)
        self._noted = None
