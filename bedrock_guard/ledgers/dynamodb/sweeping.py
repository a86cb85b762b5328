"""
Finds what dead processes left, and ends it.

No index costs every call a write; what is new is read through instead, by
whichever process comes first. An item says how far that was, and what was
pending there:

    known   calls that were pending when they were passed: looked at when their time is over
    new     opened since; read through every two minutes, and from ten minutes back, for
            clocks differ, and what is written late must not be missed

So a hold of less than two minutes may be ended that much late, and no other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bedrock_guard.domain.ledger import LedgerKey, SweepReport
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import actions, items, reading
from bedrock_guard.ledgers.dynamodb.items import Call, Item
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn

EVERY_S: Final = 120.0
BACK_MS: Final = 600_000
# The item that remembers them must stay small.
MOST_KNOWN: Final = 2000

# Of a sweep's time: when to stop reading, and when to stop ending.
_TO_END: Final = 0.5
_TO_REMEMBER: Final = 0.25


class _Progress(NamedTuple):
    """
    What the sweepers know.

    Attributes:
        read_at_s: When all that was new had been read.
        due_s: When the first of the pending calls is over.
        low_ms: How far each part of the journal has been read.
        known: Pending calls that lie before that: until when they are held, by id.
        by: Who wrote this; None when nobody has.
    """

    read_at_s: float = 0.0
    due_s: float = float("inf")
    low_ms: tuple[int, ...] = ()
    known: dict[str, float] = {}  # noqa: RUF012 - nobody changes it
    by: str | None = None


@dataclass
class _Round:
    """
    One sweep, while it lasts.
    """

    turn: Turn
    now: float
    seconds: float
    keep_s: float
    pending: dict[str, Call] = field(default_factory=dict)
    low_ms: list[int] = field(default_factory=list)
    is_complete: bool = True
    damaged: set[str] = field(default_factory=set)

    def take(self, item: Item) -> None:
        """
        Take *item*, a call that is pending; what is damaged stays pending, and keeps no other from its end.
        """
        try:
            call = items.read_call(item)
        except LedgerUnavailable:
            self.damaged.add(item["sk"]["S"])
        else:
            self.pending[call.id] = call

    def has_left(self, share: float) -> bool:
        return self.turn.left_s > share * self.seconds


class Sweeper:
    """
    Ends what is over; several at once end each once.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def sweep(self, turn: Turn, *, now: float, limit: int, keep_s: float) -> SweepReport:
        """
        End what is over, as far as the time of *turn* allows; it is kept for *keep_s*.
        """
        known = self._read_progress(turn)
        is_fresh = abs(now - known.read_at_s) < EVERY_S
        if (is_fresh and now < known.due_s) or not self._claim(turn, known, now):
            return SweepReport()
        this = _Round(turn, now, turn.left_s, keep_s)
        self._find(this, known)
        due = sorted((call for call in this.pending.values() if call.expires_at_s <= now), key=_expiry)
        count = {"charge": 0, "release": 0}
        keys: set[LedgerKey] = set()
        for call in due[:limit]:
            if not this.has_left(_TO_REMEMBER):
                break
            if self._expire(this, call):
                count[call.on_expiry] += 1
                if call.on_expiry == "charge":
                    keys.update(line.key for line in call.lines)
        self._write_progress(this, {id_: at for id_, at in known.known.items() if at > now})
        return SweepReport(count["charge"], count["release"], frozenset(keys), len(this.damaged))

    def _find(self, this: _Round, known: _Progress) -> None:
        """
        What is pending: of those that are known, if their time is over, and of those that are new.
        """
        over = [items.place_of_call(id_) for id_, at_s in known.known.items() if at_s <= this.now]
        for item in reading.get_all(self._table, over):
            if item["st"]["S"] == "P":
                this.take(item)
        for shard in range(items.SHARDS):
            low_ms = known.low_ms[shard] if shard < len(known.low_ms) else 0
            begin = items.sort_key(low_ms - BACK_MS)
            is_read, last = self._read(this, items.journal(shard), begin)
            this.low_ms.append(max(low_ms, int(1000 * this.now) if is_read else items.read_sort_key(last)))
        self._read(this, items.FOREIGN, " ")

    def _read(self, this: _Round, pk: str, begin: str) -> tuple[bool, str]:
        """
        Take what is pending in a partition from *begin* on; whether that was all, and where it ended.
        """
        found = actions.expressions(
            where="#pk = :pk AND #sk >= :begin",
            filtered="#st = :pending",
            values={"pk": {"S": pk}, "begin": {"S": begin}, "pending": {"S": "P"}},
        )
        for page in reading.pages(self._table, this.turn, **found):
            for item in page["Items"]:
                this.take(item)
            begin = page.get("LastEvaluatedKey", {}).get("sk", {}).get("S", begin)
            if "LastEvaluatedKey" in page and not this.has_left(_TO_END):
                this.is_complete = False
                return False, begin
        return True, begin

    def _expire(self, this: _Round, call: Call) -> bool:
        """
        End *call*, unless it has ended, or is held for longer.
        """
        new: frozenset[LedgerKey] = frozenset()
        entry = (
            None if call.entry is None else books.expired_entry(items.read_entry(call.entry), call.on_expiry)
        )
        booked = books.expired_amounts(call.lines, call.on_expiry)
        kept = actions.kept_until(this.now, this.keep_s)
        ended = actions.Ended("expired", call.lines, booked, entry, kept, this.now)
        while True:
            try:
                self._table.transact(
                    this.turn, actions.end_actions(self._table.name, call, ended, by=this.turn.id, new=new)
                )
            except ConditionFailed as failed:
                own, *others = failed.reasons
                if not own.is_failed:
                    new |= actions.gone(actions.end_changes(call, call.lines, booked, new), others)
                    continue
                found = items.read_call(own.item) if own.item else None
                if found is not None and found.state == "pending":
                    this.pending[call.id] = found
                    return False
                del this.pending[call.id]
                return found is not None and found.written_by == this.turn.id
            del this.pending[call.id]
            return True

    def _claim(self, turn: Turn, known: _Progress, now: float) -> bool:
        """
        Whether this sweep is ours; one that never ends is anybody's two minutes later.
        """
        free = "#x = :by" if known.by else "attribute_not_exists(#x)"
        parts = actions.expressions(
            update="SET #read_at = :now, #x = :x REMOVE #due",
            condition=f"{free} OR #x = :x",  # the answer was lost
            values={
                "now": items.number(now),
                "x": {"S": turn.id},
                **({"by": {"S": known.by}} if known.by else {}),
            },
        )
        return self._update(turn, parts)

    def _read_progress(self, turn: Turn) -> _Progress:
        key = items.place_item(items.SWEEP_PLACE)
        answer = self._table.send(turn, "get_item", TableName=self._table.name, Key=key, ConsistentRead=True)
        item = answer.get("Item")
        if item is None:
            return _Progress()
        return _Progress(
            read_at_s=float(item["read_at"]["N"]),
            due_s=float(item["due"]["N"]) if "due" in item else float("inf"),
            low_ms=tuple(json.loads(item["low"]["S"])) if "low" in item else (),
            known=json.loads(item["known"]["S"]) if "known" in item else {},
            by=item["x"]["S"],
        )

    def _write_progress(self, this: _Round, known: dict[str, float]) -> None:
        for call in this.pending.values():
            at_ms = items.placed_ms(call.id)
            if at_ms is not None and at_ms < min(this.low_ms) - BACK_MS:
                known[call.id] = call.expires_at_s
        low_ms = this.low_ms
        for id_ in sorted(known, key=lambda id_: items.placed_ms(id_) or 0)[MOST_KNOWN:]:
            del known[id_]  # it is found again, on the way
            low_ms = [min(low, items.placed_ms(id_) or 0) for low in low_ms]
        due = [*known.values(), *map(_expiry, this.pending.values())]
        parts = actions.expressions(
            update="SET #read_at = :now, #low = :low, #known = :known, #x = :done"
            + (", #due = :due" if due else ""),
            condition="#x = :x OR #x = :done",
            values={
                "now": items.number(this.now if this.is_complete else 0.0),
                "low": {"S": json.dumps(low_ms)},
                "known": {"S": json.dumps(known)},
                "x": {"S": this.turn.id},
                "done": {"S": f"{this.turn.id} done"},  # a claim that comes late is not taken for ours
                **({"due": items.number(min(due))} if due else {}),
            },
        )
        self._update(this.turn, parts)

    def _update(self, turn: Turn, parts: Item) -> bool:
        key = items.place_item(items.SWEEP_PLACE)
        try:
            self._table.send(turn, "update_item", TableName=self._table.name, Key=key, **parts)
        except ConditionFailed:
            return False
        return True


def _expiry(call: Call) -> float:
    return call.expires_at_s
