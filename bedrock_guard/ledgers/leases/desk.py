"""
Where a process gets its slices, reports what it has spent of them, and gives them back.

One request at a time: so what is known of a lease is what the last answer said of it, or the next answer
tells what a lost one did.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bedrock_guard.domain.ledger import Clock, LedgerKey, Line, RefusedLine
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb.items import Item
from bedrock_guard.ledgers.dynamodb.table import Turn
from bedrock_guard.ledgers.leases import slices, strangers
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.slices import Lease, Others, Slice, Want, refused_line
from bedrock_guard.ledgers.leases.store import (
    CLOSED,
    MOST_MOVES,
    OPEN,
    Holder,
    Met,
    Move,
    Store,
    others_of,
    read_lease,
)

log = logging.getLogger("bedrock_guard")

LEASE_S: Final = 60.0
"""For how long a process is taken for alive that has said nothing more."""

# After a refusal nobody asks again for so long, and then for twice as long.
_FIRST_REFUSAL_S: Final = 0.25
_LONGEST_REFUSAL_S: Final = 5.0
# So often a slice may double before somebody looks at what is left of the balance.
_DOUBLES_UNSEEN: Final = 1
# What was seen of a balance is as good as now.
_SEEN_S: Final = 0.25
# Moves in one transaction, of leases that are there.
MOST_RETURNED: Final = 50
_ROUNDS: Final = 8
_NOBODY: Final = Others(0, 0, 0, 0.0)


class Desk:
    """
    The slices of one process.

    Attributes:
        owner: The name by which it leases now.
        revived: Names by which it was taken for dead, and came back.
    """

    def __init__(self, store: Store, local: Local, clock: Clock) -> None:
        self._store = store
        self._local = local
        self._clock = clock
        self._lock = threading.RLock()
        self.slices: dict[LedgerKey, Slice] = {}
        self.revived: set[str] = set()
        self.owner = self._new_name()

    @contextmanager
    def turn(self, share: float = 1.0) -> Iterator[Turn]:
        """
        Be the one who asks; for *share* of the deadline.
        """
        table = self._store.table
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
            raise LedgerUnavailable(f"DynamoDB table {table.name} was called from inside itself; try again.")
        try:
            if not self._lock.acquire(timeout=table.address.deadline_s):
                seconds = f"{table.address.deadline_s:g} s"
                raise LedgerUnavailable(
                    f"DynamoDB table {table.name} did not answer others within {seconds}."
                )
            with table.turn(share) as turn:
                yield turn
        finally:
            try:  # noqa: SIM105 - an interrupt could come between a call and this one
                self._lock.release()
            except RuntimeError:
                pass  # it was never had

    # To get

    def refused_lately(self, wants: Sequence[Want]) -> tuple[RefusedLine, ...]:
        """
        Those of *wants* that do not fit by what is known, if one of them was refused a moment ago.
        """
        now = time.monotonic()
        lately = [
            want.line
            for want in wants
            if (slice_ := self.slices.get(want.line.key)) is not None and now < slice_.refused_until
        ]
        return self._refused([want.line for want in wants]) if self._refused(lately) else ()

    def ask(self, turn: Turn, wants: Sequence[Want]) -> tuple[RefusedLine, ...]:
        """
        Ask for what is missing, once; lines that do not fit. Where there are none, see what is missing now.

        Raises:
            LedgerUnavailable: A balance would be larger than a ledger counts, or there is no answer.
        """
        wants = wants[:MOST_MOVES]
        self._meet_strangers(turn, [want.line.key for want in wants])
        now = time.monotonic()
        self._look_first(turn, wants, now)
        lines = [want.line for want in wants]
        if self._refused([line for line in lines if self._slice(line.key).is_new]):
            self.look(turn, [line.key for line in lines])
            return self._refused(lines)
        moves = [self._grant(want, now) for want in wants]
        met = self._send(turn, moves)
        if met is None:
            for want in wants:
                slice_ = self._slice(want.line.key)
                slice_.doublings, slice_.asked_at = slices.doublings(slice_, now), now
                slice_.refused_until = slice_.refused_s = 0.0
            return ()
        self._learn(turn, met)
        refused = self._refused([want.line for want in wants if want.line.key in met.balances])
        for one in refused:
            slice_ = self._slice(one.line.key)
            slice_.refused_s = min(max(2 * slice_.refused_s, _FIRST_REFUSAL_S), _LONGEST_REFUSAL_S)
            slice_.refused_until = now + slice_.refused_s
            slice_.doublings = -1
        return refused

    def look(self, turn: Turn, keys: Sequence[LedgerKey]) -> dict[LedgerKey, Item | None]:
        """
        Balances as they are; what they say of others is remembered.
        """
        found = self._store.read_balances(turn, keys)
        for key, item in found.items():
            if key in self.slices:
                self._see(key, item)
        return found

    # To report, and to give back

    def send(self, turn: Turn, keys: Sequence[LedgerKey], *, give_back: bool) -> None:
        """
        Report what is spent of *keys*, and give back what is free of them.
        """
        rest = list(keys)
        self._meet_strangers(turn, rest)
        rounds = _ROUNDS + len(rest) // MOST_MOVES
        while rest:
            now = [(key, self._report(key, give_back=give_back)) for key in rest[:MOST_RETURNED]]
            moves = [move for _, move in now if move is not None]
            if any(move.is_new or not move.lease.version for move in moves):
                moves = moves[:MOST_MOVES]
            met = self._send(turn, moves)
            if met is None:
                done = {move.key for move in moves} | {key for key, move in now if move is None}
                rest = [key for key in rest if key not in done]
                continue
            self._learn(turn, met)
            rounds -= 1
            if not rounds:
                raise LedgerUnavailable("What is leased changed again and again; it is reported later.")

    def take_strangers(self) -> None:
        """
        Look after balances that were charged without being leased: AWS billed what nobody had expected.
        """
        while self._local.strangers:
            self._slice(self._local.strangers.pop())

    def renew(self, turn: Turn) -> None:
        """
        Be taken for alive for longer.
        """
        if not self._store.renew(turn, self._holder()):
            self._rename()

    def leave(self, turn: Turn) -> None:
        """
        Lease nothing any more by this name.
        """
        self._store.leave(turn, self._holder())

    @property
    def has_leases(self) -> bool:
        """
        Whether anything is leased, or may be.
        """
        return any(slice_.lease.outstanding or slice_.in_doubt for slice_ in self.slices.values())

    def forget(self, key: LedgerKey) -> None:
        """
        Know nothing more of a slice that is empty.
        """
        if self._local.forget(key):
            del self.slices[key]

    def begin_anew(self) -> None:
        """
        In a fork: what is leased is the parent's.
        """
        self._lock = threading.RLock()
        self.slices = {}
        self.revived = set()
        self.owner = self._new_name()

    # Inside a turn

    def _meet_strangers(self, turn: Turn, keys: Iterable[LedgerKey]) -> None:
        known = [(key, self._slice(key)) for key in keys]
        for key, item in strangers.met(self._store, turn, self._local, self.owner, known):
            self._learn_lease(turn, key, item)

    def _slice(self, key: LedgerKey) -> Slice:
        slice_ = self.slices.get(key)
        if slice_ is None:
            slice_ = self.slices[key] = Slice(Lease(self.owner))
        return slice_

    def _look_first(self, turn: Turn, wants: Sequence[Want], now: float) -> None:
        # Look at balances of which much is about to be asked, and nobody knows how much there is.
        keys = [
            want.line.key
            for want in wants
            if (slice_ := self._slice(want.line.key)).lease.version
            and slices.doublings(slice_, now) > _DOUBLES_UNSEEN
            and (slice_.others is None or now - slice_.others.at > _SEEN_S)
            and want.line.limit is not None
        ]
        if keys:
            self.look(turn, keys)

    def _grant(self, want: Want, now: float) -> Move:
        line, missing = want
        slice_ = self._slice(line.key)
        lease, others = slice_.lease, slice_.others
        is_over = not line.enforce and self._is_over(line, others)
        limit = None if is_over else line.limit
        times = slices.doublings(slice_, now)
        free = None
        holders = 1
        if limit is not None:
            if others is None:
                times = min(times, _DOUBLES_UNSEEN)
            else:
                free = limit - others.used - lease.granted
                holders = others.holders + (not lease.outstanding)
        asked = slices.size(missing, line.amount, times=times, free=free, holders=holders)
        most = books.MAX_AMOUNT if limit is None else limit
        granted = self._local.granted(line.key) + min(asked, max(missing, most - lease.granted))
        room = most - max(0, granted - lease.granted)
        spent, _ = self._local.sums(line.key)
        return Move(line.key, lease, granted, spent, room, slice_.is_new)

    def _report(self, key: LedgerKey, *, give_back: bool) -> Move | None:
        slice_ = self._slice(key)
        spent, pending = self._local.sums(key)
        free = self._local.granted(key) - spent - pending
        used = spent - slice_.lease.reported
        keep = 0 if give_back else slices.kept(slice_, free, used=used, now=time.monotonic())
        spent, granted = self._local.give_up(key, keep)
        granted = max(granted, spent)
        lease = slice_.lease
        if (granted, spent) == (lease.granted, lease.reported) and not slice_.in_doubt:
            return None
        return Move(key, lease, granted, spent, None, slice_.is_new)

    def _send(self, turn: Turn, moves: Sequence[Move]) -> Met | None:
        if not moves:
            return None
        doubted = {move.key for move in moves if self._slice(move.key).in_doubt}
        self._doubt(moves)  # beforehand: nothing can be done between an interrupt and its end
        try:
            met = self._store.move(turn, moves, self._holder())
        except LedgerUnavailable as error:
            if error.outcome != "unknown":
                self._doubt(moves, doubted)
            raise
        if met is not None and not turn.in_doubt:  # else one that was lost before may still come, and grant
            self._doubt(moves, doubted)
        if met is None:
            for move in moves:
                slice_ = self._slice(move.key)
                slice_.lease, slice_.is_new, slice_.in_doubt = move.after, False, False
                self._local.grant(move.key, move.granted, move.reported)
        return met

    def _doubt(self, moves: Sequence[Move], only: Container[LedgerKey] | None = None) -> None:
        for move in moves:
            self._slice(move.key).in_doubt = only is None or move.key in only

    def _learn(self, turn: Turn, met: Met) -> None:
        # Take in why moves were not done.
        before = self.owner
        for key, item in met.leases.items():
            self._learn_lease(turn, key, item)
        if met.is_dead and self.owner == before:
            self._rename()
        for key, balance in met.balances.items():
            self._see(key, balance)

    def _learn_lease(self, turn: Turn, key: LedgerKey, item: Item | None) -> None:
        slice_ = self._slice(key)
        owner = slice_.lease.owner
        while item is not None and item["st"]["S"] == CLOSED:  # a request that was lost has gone on by then
            owner = item["to"]["S"]
            item = self._store.read_lease(turn, owner, key)
        if item is None:
            self._begin_again(key)
        elif item["st"]["S"] == OPEN:
            self._adopt(key, read_lease(owner, item))
        else:
            self._revive(turn, key, read_lease(owner, item))

    def _adopt(self, key: LedgerKey, lease: Lease) -> None:
        slice_ = self._slice(key)
        slice_.lease, slice_.in_doubt, slice_.is_new = lease, False, False
        self._local.grant(key, lease.granted, lease.reported)

    def _revive(self, turn: Turn, key: LedgerKey, expired: Lease) -> None:
        """
        Go on with a slice that was charged, as this process was taken for dead.
        """
        if expired.owner == self.owner:
            self._rename()
        self.revived.add(expired.owner)
        spent = self._local.sums(key)[0]
        move = Move(key, Lease(self.owner), max(expired.granted, spent), spent)
        if self._store.revive(turn, key, expired, move, self._holder()):
            self._adopt(key, move.after)
            return
        item = self._store.read_lease(turn, expired.owner, key)
        if item is None or self._store.read_balances(turn, [key])[key] is None:
            self._begin_again(key)
        elif item["st"]["S"] == CLOSED:  # it was done, and the answer lost
            self._learn_lease(turn, key, item)
        else:
            self._rename()  # this name is that of a dead one, too

    def _begin_again(self, key: LedgerKey) -> None:
        slice_ = self._slice(key)
        spent = self._local.sums(key)[0]
        log.warning("What is leased of %s is gone from the table; it is leased anew.", key)
        slice_.lease, slice_.in_doubt = Lease(self.owner, 0, spent, slice_.lease.reported), False
        self._local.grant(key, spent, spent)

    def _see(self, key: LedgerKey, item: Item | None) -> None:
        slice_ = self._slice(key)
        slice_.is_new = item is None
        lease = slice_.lease
        slice_.others = (
            Others(0, 0, 0, time.monotonic()) if item is None else others_of(item, lease, time.monotonic())
        )
        if not slice_.in_doubt:
            self._local.soft[key] = slice_.others

    def _refused(self, lines: Iterable[Line]) -> tuple[RefusedLine, ...]:
        found = []
        for line in lines:
            others, sums = self._slice(line.key).others or _NOBODY, self._local.sums(line.key)
            used = others.used + sums[0] + sums[1] + line.amount
            if used > books.MAX_AMOUNT and (line.limit is None or not line.enforce):
                raise books.uncountable(line.key, used)
            refused = refused_line(line, others, sums) if line.enforce else None
            if refused is not None:
                found.append(refused)
        return tuple(found)

    def _is_over(self, line: Line, others: Others | None) -> bool:
        return others is not None and refused_line(line, others, self._local.sums(line.key)) is not None

    def _rename(self) -> None:
        # Lease by another name from now on: by this one, this process was taken for dead.
        log.info("This process was taken for dead, and goes on by another name.")
        before, self.owner = self.owner, self._new_name()
        for slice_ in self.slices.values():
            if not slice_.lease.version:
                slice_.lease = slice_.lease._replace(owner=self.owner)
            elif slice_.lease.owner == before:
                slice_.in_doubt = True  # it is charged, or will be

    def _holder(self) -> Holder:
        return Holder(self.owner, self._clock() + LEASE_S)

    def _new_name(self) -> str:
        return f"{int(self._clock() * 1000):011x}-{os.urandom(8).hex()}"
