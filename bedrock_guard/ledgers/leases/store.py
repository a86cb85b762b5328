"""
What is written of leases, as DynamoDB takes it: one transaction for each change of slices.

    a balance   used, spent, lent (what of `used` is leased), h (how many lease of it)
    a lease     open --(its process, version by version)--> open
                     --(a sweeper, when its process is taken for dead)--> expired: charged
                     --(that process, late)--> closed: what was not spent goes on as a lease of a new name

Only its process changes an open lease, and each change names the version that it was made from. So a
request that was lost and comes late, or twice, meets another version, and whoever finds a version that he
has not heard of finds what his own lost request did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import actions, items, reading
from bedrock_guard.ledgers.dynamodb.items import Item
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn
from bedrock_guard.ledgers.leases.slices import Lease, Others

OPEN: Final = "O"
EXPIRED: Final = "E"
CLOSED: Final = "Z"
SWEPT: Final = "S"

# A transaction has 100 actions: the holder, and three for each balance that is new.
MOST_MOVES: Final = 33
# How long a lease and its holder are kept once they are closed: longer than any process is frozen.
KEEP_CLOSED_S: Final = 30 * 86_400.0

# Nobody has made it: neither we, in a request that was lost, nor we as we were called before.
IS_FREE: Final = "attribute_not_exists(#v)"
# Nobody has changed it since it was read; only its process does, unless it was taken for dead.
IS_OURS: Final = "#v = :read AND #st = :open"
# What was charged for a dead process is corrected once.
IS_CHARGED: Final = "#v = :read AND #st = :expired"
# Somebody has deleted the balance, and what it counted for us with it.
IS_GONE: Final = "attribute_not_exists(#used)"
# Who was taken for dead makes no leases by that name: nobody would look for them.
IS_ALIVE: Final = "attribute_not_exists(#st) OR #st = :open"


class Move(NamedTuple):
    """
    A change of one slice: from what *lease* says to *granted* and *reported*.

    Attributes:
        room: The most that may be used of the balance before; None where nothing is asked for.
        is_new: Whether the balance may not be there yet, and is made.
    """

    key: LedgerKey
    lease: Lease
    granted: int
    reported: int
    room: int | None = None
    is_new: bool = False

    @property
    def after(self) -> Lease:
        """
        What the table holds once it is done.
        """
        return Lease(self.lease.owner, self.lease.version + 1, self.granted, self.reported)


class Met(NamedTuple):
    """
    Why moves were not done.

    Attributes:
        balances: The balances that had no room, or were not there (None).
        leases: The leases that were another version (None for one that was not there).
        is_dead: Whether the process was taken for dead.
    """

    balances: dict[LedgerKey, Item | None]
    leases: dict[LedgerKey, Item | None]
    is_dead: bool


class Holder(NamedTuple):
    """
    A process that leases, and until when it is taken for alive.
    """

    owner: str
    until_s: float


class Store:
    """
    The leases of one table.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def move(self, turn: Turn, moves: Sequence[Move], holder: Holder) -> Met | None:
        """
        All of *moves*, at most `MOST_MOVES`, or none: then why.
        """
        name = self.table.name
        sent = [action for move in moves for action in _move_actions(name, move, turn.id, holder)]
        made = [items.directory_item(move.key) for move in moves if move.is_new]
        sent += [{"Put": {"TableName": name, "Item": item}} for item in made]
        is_first = any(not move.lease.version for move in moves)
        if is_first:
            sent.append(_holder_action(name, holder))
        try:
            self.table.transact(turn, sent)
        except ConditionFailed as failed:
            balances, leases = {}, {}
            for move, own, lease in zip(moves, failed.reasons[::2], failed.reasons[1::2], strict=False):
                if own.is_failed:
                    balances[move.key] = own.item
                if lease.is_failed:
                    leases[move.key] = lease.item
            return Met(balances, leases, is_first and failed.reasons[-1].is_failed)
        return None

    def revive(self, turn: Turn, key: LedgerKey, expired: Lease, move: Move, holder: Holder) -> bool:
        """
        Go on with a slice that was charged whole, as the lease of a process of another name: *move*.

        What is granted stays used, so nothing is asked for; of what was charged, the rest is leased again.
        """
        name, back = self.table.name, move.granted - move.reported
        values = {
            "used": move.granted - expired.granted,  # an overrun that was not booked before
            "spent": move.reported - expired.granted,
            "n": 0,
            "lent": back,
            "h": int(back > 0),
        }
        sent = [
            actions.update_action(
                name,
                items.place_of_balance(key),
                update=_ADD,
                condition=actions.IS_THERE,
                values=_numbers(values),
            ),
            actions.update_action(
                name,
                items.place_of_lease(expired.owner, key),
                update="SET #st = :closed, #v = :v, #to = :to, #ttl = :ttl",
                condition=IS_CHARGED,
                values={
                    "expired": {"S": EXPIRED},
                    "closed": {"S": CLOSED},
                    "to": {"S": move.lease.owner},
                    "ttl": _closed_until(holder),
                    **_numbers({"read": expired.version, "v": expired.version + 1}),
                },
            ),
            _lease_action(name, move, turn.id, holder),
            _holder_action(name, holder),
        ]
        try:
            self.table.transact(turn, sent)
        except ConditionFailed:
            return False
        return True

    def renew(self, turn: Turn, holder: Holder) -> bool:
        """
        Be taken for alive for longer; False for who is taken for dead already.
        """
        try:
            self.table.send(turn, "update_item", **_holder_action(self.table.name, holder)["Update"])
        except ConditionFailed:
            return False
        return True

    def leave(self, turn: Turn, holder: Holder) -> None:
        """
        Nothing is leased any more by that name, and never again.
        """
        action = actions.update_action(
            self.table.name,
            items.place_of_holder(holder.owner),
            update="SET #st = :closed, #ttl = :ttl",
            condition="#st = :open",
            values={
                "open": {"S": OPEN},
                "closed": {"S": CLOSED},
                "ttl": _closed_until(holder),
            },
        )
        try:
            self.table.send(turn, "update_item", **action["Update"])
        except ConditionFailed:
            return

    def read_lease(self, turn: Turn, owner: str, key: LedgerKey) -> Item | None:
        """
        A lease as it is.
        """
        found = reading.get_all(self.table, [items.place_of_lease(owner, key)], turn)
        return found[0] if found else None

    def read_balances(self, turn: Turn, keys: Sequence[LedgerKey]) -> dict[LedgerKey, Item | None]:
        """
        Balances as they are; None for one that is not there.
        """
        places = {key: items.place_of_balance(key) for key in keys}
        found = {item["pk"]["S"]: item for item in reading.get_all(self.table, list(places.values()), turn)}
        return {key: found.get(place[0]) for key, place in places.items()}


_ADD: Final = "ADD #used :used, #spent :spent, #n :n, #lent :lent, #h :h"


def read_lease(owner: str, item: Item) -> Lease:
    """
    A lease, from its item.
    """
    return Lease(owner, int(item["v"]["N"]), int(item["g"]["N"]), int(item["s"]["N"]))


def others_of(item: Item | None, lease: Lease, at: float) -> Others:
    """
    What others have of the balance of *item*, beside *lease*.
    """
    if item is None:
        return Others(0, 0, 0, at)
    holders = int(item["h"]["N"]) if "h" in item else 0
    return Others(
        int(item["used"]["N"]) - lease.granted, int(item["spent"]["N"]) - lease.reported, holders, at
    )


def balance_change(before: Lease, granted: int, reported: int) -> dict[str, int]:
    """
    What a change of a lease changes of its balance.
    """
    return {
        "used": granted - before.granted,
        "spent": reported - before.reported,
        "n": 0,
        "lent": granted - reported - before.outstanding,
        "h": (granted > reported) - (before.outstanding > 0),
    }


def _move_actions(table: str, move: Move, by: str, holder: Holder) -> tuple[Item, Item]:
    before = move.lease
    change = balance_change(before, move.granted, move.reported)
    if move.is_new and before.version:
        change |= {
            "used": move.granted - before.reported,
            "lent": move.granted - move.reported,
            "h": int(move.granted > move.reported),
        }
    values = _numbers(change)
    if move.room is None:
        condition = "" if move.is_new else actions.IS_THERE
    else:
        condition = actions.IS_NEW_OR_HAS_ROOM if move.is_new else actions.HAS_ROOM
        values["room"] = {"N": str(min(move.room, books.MAX_AMOUNT))}
    if move.is_new and before.version:
        condition = IS_GONE
        values.pop("room", None)
    balance = actions.update_action(
        table, items.place_of_balance(move.key), update=_ADD, condition=condition, values=values
    )
    return balance, _lease_action(table, move, by, holder)


def _lease_action(table: str, move: Move, by: str, holder: Holder) -> Item:
    after = move.after
    values = {
        "open": {"S": OPEN},
        "x": {"S": by},
        **_numbers({"g": after.granted, "s": after.reported, "v": after.version}),
    }
    update = "SET #st = :open, #g = :g, #s = :s, #v = :v, #x = :x"
    if move.lease.version:
        condition, values["read"] = IS_OURS, {"N": str(move.lease.version)}
    else:
        condition, values["key"] = IS_FREE, {"S": items.key_text(move.key)}
        update = f"{update}, #key = :key"
    # What is empty may be forgotten one day.
    ends = _closed_until(holder) if not after.outstanding else None
    update = actions.set_or_remove(update, values, {"ttl": ends})
    place = items.place_of_lease(move.lease.owner, move.key)
    return actions.update_action(table, place, update=update, condition=condition, values=values)


def _closed_until(holder: Holder) -> Item:
    return {"N": str(int(holder.until_s + KEEP_CLOSED_S))}


def _holder_action(table: str, holder: Holder) -> Item:
    return actions.update_action(
        table,
        items.place_of_holder(holder.owner),
        update="SET #st = :open, #ex = :ex",
        condition=IS_ALIVE,
        values={"open": {"S": OPEN}, "ex": items.number(holder.until_s)},
    )


def _numbers(values: dict[str, int]) -> dict[str, Item]:
    return {name: {"N": str(value)} for name, value in values.items()}
