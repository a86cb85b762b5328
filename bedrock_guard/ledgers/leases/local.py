"""
What one process has spent and holds of its slices: integers, under a lock, and no network.

What a step changes is worked out first, noted in one assignment, and then written, as in a ledger in memory:
where an interrupt strikes after the note, who comes next writes it again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, LedgerKey, Line, OnExpiry, RefusedLine
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books, memory_sums
from bedrock_guard.ledgers.dynamodb.lines import is_rolling
from bedrock_guard.ledgers.dynamodb.segments import Note
from bedrock_guard.ledgers.leases.slices import Others
from bedrock_guard.ledgers.lines import is_rate
from bedrock_guard.ledgers.memory_sums import NOTHING, Call, Sums

# Ended calls that are remembered, for an end that comes twice.
KEEP_ENDED: Final = 10_000
_NO_SUMS: Final[Mapping[LedgerKey, Sums]] = {}


class Want(NamedTuple):
    """
    A line that a slice has no room for, and how much more of it would do.
    """

    line: Line
    missing: int


class Local:
    """
    Open calls, sums by key, and how much of each may be spent.

    Attributes:
        notes: Entries that no segment has yet, the oldest first.
        strangers: Balances that were charged, and nothing of them was ever leased.
        soft: Of balances that are over their limits, which not every line enforces: what others use.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._sums: dict[LedgerKey, Sums] = {}
        self._granted: dict[LedgerKey, int] = {}
        self._open: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()
        self._noted: tuple[Mapping[LedgerKey, Sums], str, Call] | None = None
        self._sequence = time.time_ns()
        self._is_closed = False
        self.notes: list[Note] = []
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
            sums = self._held(lines, over)
            if sums is None:
                return None
            self._sequence += 1
            call = Call(self._sequence, "pending", entry, lines, (), expires_at_s, on_expiry)
            self._write(sums, id_, call)
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
            sums = self._held(more, over, by=call) if more else _NO_SUMS
            if sums is None:
                return None
            until_s = max(call.expires_at_s, expires_at_s or 0.0)
            call = call._replace(lines=books.merge((*call.lines, *more)), expires_at_s=until_s)
            self._write(sums, id_, call)
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
            sums = {}
            for key, amount in amounts.items():
                spent, pending, calls = self._sums[key]
                sums[key] = spent, pending - amount, calls
            self._write(sums, id_, call._replace(lines=lines))

    def missing(self, lines: Sequence[Line]) -> list[Want]:
        """
        Those of *lines* that the slices have no room for.
        """
        wants = []
        with self.turn():
            for line in lines:
                spent, pending, _ = self._sums.get(line.key, NOTHING)
                granted = self._granted.get(line.key)
                used = spent + pending + line.amount
                missing = used - (granted or 0)
                is_above = line.enforce and line.limit is not None and used > line.limit
                if granted is None or missing > 0 or is_above:
                    wants.append(Want(line, max(0, missing)))
        return wants

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
                ended = Call(call.sequence, state, entry, lines, booked, call.expires_at_s, call.on_expiry)
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
                ended = call._replace(state="expired", entry=entry, booked=booked)
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
                ended = call._replace(state="released", booked=(0,) * len(call.lines))
                self._write(memory_sums.ended(self._sums, call, ended, self._clock), id_, ended)
                del self._ended[id_]

    def hand_over(self, id_: str) -> None:
        """
        Know nothing more of an open call, nor of what was granted for it: it is held elsewhere.
        """
        with self.turn():
            call = self._open.get(id_)
            if call is None:
                return
            # First, for what is granted and held is safe, and what is granted and free is not.
            for line in call.lines:
                self._granted[line.key] -= line.amount
            ended = call._replace(state="released", booked=(0,) * len(call.lines))
            self._write(memory_sums.ended(self._sums, call, ended, self._clock), id_, ended)
            del self._ended[id_]

    def remember(self, entry: Entry) -> None:
        """
        That an id is that of an entry without money.
        """
        with self.turn():
            self._sequence += 1
            self._write({}, entry.id, Call(self._sequence, "recorded", None))

    # Slices

    def sums(self, key: LedgerKey) -> Sums:
        """
        What is spent and pending of a slice.
        """
        return self._sums.get(key, NOTHING)

    def granted(self, key: LedgerKey) -> int:
        """
        How much of a slice may be spent.
        """
        return self._granted.get(key, 0)

    def grant(self, key: LedgerKey, granted: int, reported: int) -> None:
        """
        From now on *granted* may be spent; of what is *reported* of a slice that is new here, nothing.
        """
        with self._inside():
            if key not in self._granted:
                spent, pending, calls = self._sums.get(key, NOTHING)  # what nobody had expected, so far
                self._sums[key] = max(spent, reported), pending, calls
            self._granted[key] = granted

    def give_up(self, key: LedgerKey, keep: int = 0) -> tuple[int, int]:
        """
        Spend no more than *keep* of what is free of a slice: what is spent, and what is granted then.

        What is pending stays granted; so does what has overrun, until it is booked.
        """
        with self._inside():
            spent, pending, _ = self._sums.get(key, NOTHING)
            granted = min(self._granted.get(key, 0), spent + pending + keep)
            self._granted[key] = granted
            return spent, granted

    def forget(self, key: LedgerKey) -> bool:
        """
        Know nothing of a slice any more, if nothing is pending of it and all is spent; whether that is so.
        """
        with self._inside():
            spent, pending, _ = self._sums.get(key, NOTHING)
            if pending or spent != self._granted.get(key, 0):
                return False
            self._granted.pop(key, None)
            self._sums.pop(key, None)
            self.soft.pop(key, None)
            return True

    def drop_notes(self, count: int) -> None:
        """
        The oldest *count* notes are looked after by the caller from now on.
        """
        with self._inside():
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

    def turn(self) -> AbstractContextManager[bool]:
        """
        The lock, while calls may begin and end.
        """
        if self._is_closed:
            raise LedgerUnavailable("The ledger is closed.")
        return self._inside()

    def _inside(self) -> AbstractContextManager[bool]:
        # Not for a finalizer that runs in the very thread that holds it, half-way through a sum.
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable("The ledger was called from inside itself; try again later.")
        if self._noted is not None:
            with self._lock:
                if self._noted is not None:
                    self._write(*self._noted)
        return self._lock

    # Inside the lock

    def _held(
        self, lines: tuple[Line, ...], over: list[RefusedLine], *, by: Call | None = None
    ) -> dict[LedgerKey, Sums] | None:
        granted, known, soft = self._granted, self._sums, self.soft
        sums: dict[LedgerKey, Sums] = {}
        for line in lines:
            key, limit, amount, kind, enforce, _, _ = line
            if kind != "window":
                return None
            spent, pending, calls = known.get(key, NOTHING)
            used = spent + pending + amount
            # Above the limit where that was lowered, or another line of the same balance has none.
            if used > granted.get(key, -1) or (enforce and limit is not None and used > limit):
                over.clear()
                return None
            if not enforce and key in soft:
                refused = refused_line(line, soft[key], (spent, pending, calls))
                if refused is not None:
                    over.append(refused)
            if by is None or all(key != held.key for held in by.lines):
                calls += 1
            sums[key] = spent, pending + amount, calls
        return sums

    def _pending(self, id_: str) -> Call:
        call = self._open.get(id_)
        if call is None:
            ended = self._ended.get(id_)
            raise books.already(id_, ended.state) if ended else books.unknown(id_)
        return call

    def _end(self, id_: str, call: Call, ended: Call, *, is_noted: bool) -> None:
        sums = memory_sums.ended(self._sums, call, ended, self._clock)
        entry = ended.entry
        if is_noted and (entry is not None or call.entry is not None):
            at_s = (entry or call.entry).at_s  # type: ignore[union-attr]
            if entry is not None or call.state == "expired":
                self.notes.append(Note(call.sequence, at_s, entry))
        if len(ended.lines) > len(call.lines):
            self.strangers.update(key for key in sums if key not in self._granted)
        self._write(sums, id_, ended)

    def _write(self, sums: Mapping[LedgerKey, Sums], id_: str, call: Call) -> None:
        self._noted = sums, id_, call
        self._sums.update(sums)
        if call.state == "pending":
            self._open[id_] = call
        else:
            self._open.pop(id_, None)
            self._ended[id_] = call
            if len(self._ended) > KEEP_ENDED:
                self._ended.popitem(last=False)
        self._noted = None


def is_special(key: LedgerKey) -> bool:
    """
    Whether the balance of *key* is never leased.
    """
    return is_rolling(key) or is_rate(key)


def has_special(keys: Iterable[LedgerKey]) -> bool:
    """
    Whether one of them is such a key.
    """
    return any(is_special(key) for key in keys)


def refused_line(line: Line, others: Others, sums: Sums) -> RefusedLine | None:
    """
    *line*, if it does not fit beside what *others* use and this process has spent and holds.
    """
    spent, pending, _ = sums
    if line.limit is None or others.used + spent + pending + line.amount <= line.limit:
        return None
    return RefusedLine(line, others.spent + spent, others.used - others.spent + pending)
