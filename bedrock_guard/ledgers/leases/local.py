"""
The calls of one process on its slices: what holds some of them, and how it ends. No network.

The usual call goes a short way, in one frame: it plainly fits into the purses of the call before, and ends in
just the balances that it holds. Whatever else there is goes the long way, which would come to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry, RefusedLine
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.leases import purses
from bedrock_guard.ledgers.leases.in_hand import KEEP_ENDED, InHand
from bedrock_guard.ledgers.leases.purses import (
    NEVER_LEASED,
    NO_CHANGE,
    Call,
    Change,
    Purse,
    Sums,
    new_call,
)
from bedrock_guard.ledgers.leases.slices import Want, has_special, refused_line, want


class Local(InHand):
    """
    Open calls, and those that have ended lately.
    """

    # Calls

    def find(self, id_: str) -> Call | None:
        """
        The call of that id, open or ended.
        """
        with self.turn():
            self.catch_up()
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
        id_, lock = entry.id, self._lock
        if self._noted is None and not self._is_closed and not lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            with lock:
                found, sums = self._usual, []
                for line, purse in zip(lines, found):  # noqa: B905 - else they are not those
                    key, limit, amount, _, enforce, _, _ = line
                    spent, pending = purse.sums
                    pending += amount
                    used = spent + pending
                    if (key is not purse.key and key != purse.key) or limit is None or not enforce:
                        break
                    if amount < 0 or used > limit or used > purse.granted:
                        break
                    sums.append((spent, pending))
                else:
                    is_new = id_ not in self._open and id_ not in self._ended
                    if is_new and len(lines) == len(found) and self._noted is None:
                        self._sequence += 1
                        sequence = self._sequence
                        call = new_call(
                            Call, (sequence, "pending", entry, lines, found, (), expires_at_s, on_expiry)
                        )
                        self._noted = (found, sums), id_, call  # as `_write` does
                        for purse, after in zip(found, sums):  # noqa: B905
                            purse.sums = after
                        self._open[id_] = call
                        self._noted = None
                        return call
        return self._hold_any(entry, lines, expires_at_s, on_expiry, over)

    def hold_more(
        self, id_: str, more: tuple[Line, ...], expires_at_s: float | None, over: list[RefusedLine]
    ) -> Call | None:
        """
        The call of *id_* with *more* lines, and for longer; None where a slice has no room for them.

        Raises:
            ReservationClosed: It has ended.
        """
        with self.turn():
            self.catch_up()
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
            self.catch_up()
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
            self.catch_up()
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
        lock = self._lock
        is_plain = state == "settled" and self._noted is None and not self._is_closed
        if is_plain and entry is not None and not lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            with lock:
                call = self._open.get(id_)
                if call is not None and len(amounts) == len(call.lines) and self._noted is None:
                    sequence, _, _, lines, found, _, until_s, on_expiry = call
                    sums, booked, is_overrun = [], [], False
                    for line, purse in zip(lines, found):  # noqa: B905 - an open call has one for each
                        amount, held = amounts.get(line.key, -1), line.amount
                        if not 0 <= amount <= books.MAX_AMOUNT:
                            break
                        if amount > held:
                            is_overrun = True
                        spent, pending = purse.sums
                        sums.append((spent + amount, pending - held))
                        booked.append(amount)
                    else:
                        ended = new_call(
                            Call, (sequence, state, entry, lines, (), tuple(booked), until_s, on_expiry)
                        )
                        self.notes.append((sequence, entry.at_s, entry))
                        self._noted = (found, sums), id_, ended  # as `_write` does
                        for purse, after in zip(found, sums):  # noqa: B905
                            purse.sums = after
                        del self._open[id_]
                        self._ended[id_] = ended
                        if len(self._ended) > KEEP_ENDED:
                            self._ended.popitem(last=False)
                        self._noted = None
                        return "settled", is_overrun
        return self._end_any(id_, state, amounts, entry)

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
            self.catch_up()
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
            self.catch_up()
            call = self._open.get(id_)
            if call is not None:
                self._undo(id_, call)

    def hand_over(self, id_: str) -> None:
        """
        Know nothing more of an open call, nor of what was granted for it: it is held elsewhere.
        """
        with self.turn():
            self.catch_up()
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
            self.catch_up()
            self._sequence += 1
            self._write(NO_CHANGE, entry.id, Call(self._sequence, "recorded", None))

    # The long way

    def _hold_any(
        self,
        entry: Entry,
        lines: tuple[Line, ...],
        expires_at_s: float,
        on_expiry: OnExpiry,
        over: list[RefusedLine],
    ) -> Call | None:
        """
        As `hold`, whatever there is to it.
        """
        id_ = entry.id
        with self.turn():
            self.catch_up()
            known = self._open.get(id_) or self._ended.get(id_)
            if known is not None:
                return known
            change = self._held(lines, over)
            if change is None:
                return None
            self._usual = change[0]
            self._sequence += 1
            call = new_call(
                Call, (self._sequence, "pending", entry, lines, change[0], (), expires_at_s, on_expiry)
            )
            self._write(change, id_, call)
            return call

    def _end_any(
        self,
        id_: str,
        state: books.State,
        amounts: Mapping[LedgerKey, int],
        entry: Entry | None,
    ) -> tuple[books.How, bool] | None:
        """
        As `end`, whatever there is to it.
        """
        with self.turn():
            self.catch_up()
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

    # Inside the lock

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
