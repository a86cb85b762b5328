"""
Charges what dead processes had leased: nobody knows what they spent of it.

Whose process is taken for dead is a matter of clocks; what becomes of its money is not. Each lease is
charged once, at the version that was read, so that a process that lives meets another version, takes back
what it has not spent, and goes on by another name.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, SweepReport
from bedrock_guard.ledgers.dynamodb import actions, items, reading
from bedrock_guard.ledgers.dynamodb.items import Item, Place
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn
from bedrock_guard.ledgers.leases.slices import Lease
from bedrock_guard.ledgers.leases.store import CLOSED, EXPIRED, KEEP_CLOSED_S, OPEN, SWEPT, read_lease

# One process of a fleet looks, so often.
EVERY_S: Final = 30.0
_AT_ONCE: Final = 50
# Of a sweep's time: when to stop.
_TO_STOP: Final = 0.25

IS_AS_READ: Final = "#v = :read AND #st = :open"
# It has said nothing since, and nobody else has ended it.
IS_SILENT: Final = "#st <> :over AND #ex = :ex"
# What was deleted with its balance is gone.
_CHARGE: Final = "ADD #used :zero, #spent :left, #n :zero, #lent :back, #h :one"


class _Found(NamedTuple):
    key: LedgerKey
    lease: Lease
    state: str


def sweep(table: Table, turn: Turn, *, now: float, limit: int, keep_s: float, own: str) -> SweepReport:
    """
    Charge the leases of at most *limit* processes whose time is over, if nobody has looked for them lately.

    Who sweeps is alive: its *own* are not charged.
    """
    if not _claim(table, turn, now):
        return SweepReport()
    charged = 0
    keys: set[LedgerKey] = set()
    seconds = turn.left_s
    for shard in range(items.HOLDERS):
        found = actions.expressions(
            where="#pk = :pk",
            filtered="#ex <= :now AND #st <> :over AND #st <> :closed",
            values={
                "pk": {"S": items.holders(shard)},
                "now": items.number(now),
                "over": {"S": EXPIRED},
                "closed": {"S": CLOSED},
            },
        )
        for page in reading.pages(table, turn, ConsistentRead=True, **found):
            for item in page["Items"]:
                if item["sk"]["S"] == own:
                    continue
                if charged >= limit or turn.left_s < _TO_STOP * seconds:
                    return SweepReport(charged, 0, frozenset(keys))
                found_keys = _charge(table, turn, item, now=now, keep_s=keep_s)
                keys |= found_keys
                charged += bool(found_keys)
    return SweepReport(charged, 0, frozenset(keys))


def _claim(table: Table, turn: Turn, now: float) -> bool:
    """
    Whether this sweep is ours. A look first, for a write that fails costs as much as one that does not.
    """
    key = items.place_item(items.LEASES_PLACE)
    answer = table.send(turn, "get_item", TableName=table.name, Key=key)
    item = answer.get("Item")
    if item is not None and abs(now - float(item["at"]["N"])) < EVERY_S:
        return False
    values = {"now": items.number(now)}
    condition = "attribute_not_exists(#at)"
    if item is not None:
        condition, values["read"] = "#at = :read", item["at"]
    parts = actions.expressions(update="SET #at = :now", condition=condition, values=values)
    try:
        table.send(turn, "update_item", TableName=table.name, Key=key, **parts)
    except ConditionFailed:
        return False
    return True


def _charge(table: Table, turn: Turn, holder: Item, *, now: float, keep_s: float) -> frozenset[LedgerKey]:
    """
    End one process: no new lease by its name, each of its leases charged, one entry that tells of it.
    """
    owner = holder["sk"]["S"]
    if holder["st"]["S"] == OPEN and not _mark(table, turn, holder):
        return frozenset()
    while True:
        leases = _read_leases(table, turn, owner)
        left = [found for found in leases if found.state == OPEN]
        if not left:
            break
        _charge_some(table, turn, left[:_AT_ONCE], now=now)
    charged = [found for found in leases if found.state == EXPIRED and found.lease.outstanding]
    entry = _entry(owner, charged, now)
    end = actions.update_action(
        table.name,
        items.place_of_holder(owner),
        update="SET #st = :over, #e = :e, #ttl = :ttl",
        condition="#st = :swept",
        values={
            "over": {"S": EXPIRED},
            "swept": {"S": SWEPT},
            "e": {"S": entry.id},
            "ttl": {"N": str(int(now + KEEP_CLOSED_S))},
        },
    )
    told = {**actions.recorded_item(entry, by=turn.id), "st": {"S": items.CODES["expired"]}}
    del told["cnt"]
    kept = actions.kept_until(now, keep_s)
    if kept is not None:
        told["ttl"] = kept
    sent = [end, actions.open_action(table.name, items.place_of_call(entry.id), told)] if charged else [end]
    try:
        table.transact(turn, sent)
    except ConditionFailed:
        return frozenset()  # somebody else was quicker
    return frozenset(found.key for found in charged)


def correct(table: Table, turn: Turn, owner: str) -> bool:
    """
    Put right what was told of a process that came back: what it took back is not lost. Whether it is done.
    """
    holder = _read(table, turn, items.place_of_holder(owner))
    if holder is None or holder["st"]["S"] != EXPIRED:
        return holder is None  # else a sweep is not done with it
    place = items.place_of_call(holder["e"]["S"])
    told = _read(table, turn, place)
    if told is None:
        return True
    entry = items.read_entry(told["e"]["B"])
    charged = [found for found in _read_leases(table, turn, owner) if found.state == EXPIRED]
    right = _entry(owner, [found for found in charged if found.lease.outstanding], entry.at_s)
    action = actions.update_action(
        table.name,
        place,
        update="SET #e = :e",
        condition="attribute_exists(#e)",
        values={"e": items.pack_entry(right.changed(id=entry.id))},
    )
    try:
        table.send(turn, "update_item", **action["Update"])
    except ConditionFailed:
        return True
    return True


def _read(table: Table, turn: Turn, place: Place) -> Item | None:
    found = reading.get_all(table, [place], turn)
    return found[0] if found else None


def _mark(table: Table, turn: Turn, holder: Item) -> bool:
    action = actions.update_action(
        table.name,
        items.place_of_holder(holder["sk"]["S"]),
        update="SET #st = :swept",
        condition=IS_SILENT,
        values={"swept": {"S": SWEPT}, "over": {"S": EXPIRED}, "ex": holder["ex"]},
    )
    try:
        table.send(turn, "update_item", **action["Update"])
    except ConditionFailed:
        return False
    return True


def _read_leases(table: Table, turn: Turn, owner: str) -> list[_Found]:
    found = actions.expressions(where="#pk = :pk", values={"pk": {"S": items.leases(owner)}})
    return [
        _Found(items.read_directory_item(item), read_lease(owner, item), item["st"]["S"])
        for page in reading.pages(table, turn, ConsistentRead=True, **found)
        for item in page["Items"]
    ]


def _charge_some(table: Table, turn: Turn, found: list[_Found], *, now: float) -> None:
    sent = []
    for one in found:
        left = one.lease.outstanding
        if left:
            values = {"zero": 0, "left": left, "back": -left, "one": -1}
            sent.append(
                actions.update_action(
                    table.name,
                    items.place_of_balance(one.key),
                    update=_CHARGE,
                    condition="",
                    values={name: {"N": str(value)} for name, value in values.items()},
                )
            )
        sent.append(
            actions.update_action(
                table.name,
                items.place_of_lease(one.lease.owner, one.key),
                update="SET #st = :over, #v = :next, #ttl = :ttl",
                condition=IS_AS_READ,
                values={
                    "open": {"S": OPEN},
                    "over": {"S": EXPIRED},
                    "read": {"N": str(one.lease.version)},
                    "next": {"N": str(one.lease.version + 1)},
                    "ttl": {"N": str(int(now + KEEP_CLOSED_S))},
                },
            )
        )
    try:
        table.transact(turn, sent)
    except ConditionFailed:
        return  # one of them was changed meanwhile: all are read again


def _entry(owner: str, charged: list[_Found], now: float) -> Entry:
    """
    What is told of it. Each call of the process counted towards all its budgets: the dearest tells the most.
    """
    dearest = max((one.lease.outstanding for one in charged if one.key.rule.startswith("USD")), default=0)
    return Entry(
        id=f"{int(now * 1000):011x}-{owner.rpartition('-')[2]}",
        at_s=now,
        operation="",
        model_id="",
        model=None,
        family="",
        region="",
        service_tier="",
        latency="",
        tags={},
        outcome="lost",
        basis="expired",
        cost_nanousd=dearest,
        estimated_cost_nanousd=dearest,
        control={
            "lease": owner,
            "charged": [[*one.key, one.lease.outstanding] for one in charged],
        },
    )
