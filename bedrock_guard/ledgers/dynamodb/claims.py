"""
Who tells an alert: an item for each, and one list of those that are not confirmed.

Both change in one transaction, so that what is claimed is found by whoever takes it over. An item
of the list is small while alerts are told as they come; no key of it is deleted, for programs may not.
"""

from __future__ import annotations

import json
import zlib
from hashlib import sha256
from typing import Final

from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import actions, items, packing, reading
from bedrock_guard.ledgers.dynamodb.items import Item, Place
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn, is_too_large

SHARDS: Final = 4

# Nobody has it; or it is not confirmed, and its time is over, or the answer to this very request was lost.
# One that comes late finds it confirmed, and must not list it again.
_IS_FREE: Final = "attribute_not_exists(#at) OR (attribute_not_exists(#told) AND (#at <= :old OR #x = :x))"
# The names of attributes that are claims: those of the list's key are not.
_PREFIX: Final = "a_"


def claim(table: Table, turn: Turn, claim: AlertClaim, *, now: float, retry_after_s: float) -> bool:
    """
    Whether *claim* is the caller's now.
    """
    values = {"at": items.number(now), "x": {"S": turn.id}, "old": items.number(now - retry_after_s)}
    ends = claim.forget_at_s
    update = "SET #at = :at, #x = :x"
    if ends is not None:
        update, values["ttl"] = f"{update}, #ttl = :ttl", {"N": str(int(ends))}
    own = actions.update_action(
        table.name, items.place_of_claim(claim.id), update=update, condition=_IS_FREE, values=values
    )
    text = packing.pack(json.dumps(claim))
    listed = actions.update_action(
        table.name,
        _place_of(claim),
        update=f"SET #{_name(claim)} = :text",
        condition="",
        values={"text": text},
    )
    try:
        table.transact(turn, [own, listed])
    except ConditionFailed:
        return False
    except LedgerUnavailable as error:
        if not is_too_large(error.__cause__):
            raise
        return _claim_unlisted(table, turn, own)
    return True


def _claim_unlisted(table: Table, turn: Turn, own: Item) -> bool:
    """
    Claim by *own* alone: thousands are not confirmed, and the list is full. Nobody would take it over, and
    without it nobody would be told of anything.
    """
    try:
        table.transact(turn, [own])
    except ConditionFailed:
        return False
    return True


def confirm(table: Table, turn: Turn, claim: AlertClaim) -> None:
    """
    Take *claim* off the list for good.
    """
    own = actions.update_action(
        table.name,
        items.place_of_claim(claim.id),
        update="SET #told = :told",
        condition="attribute_exists(#at)",
        values={"told": {"N": "1"}},
    )
    listed = actions.update_action(
        table.name, _place_of(claim), update=f"REMOVE #{_name(claim)}", condition="", values={}
    )
    try:
        table.transact(turn, [own, listed])
    except ConditionFailed:  # nobody has claimed it, or its time is long over
        return


def read_unconfirmed(table: Table, *, limit: int) -> list[AlertClaim]:
    """
    At most *limit* claims of the list.
    """
    found = reading.get_all(table, [items.place_of_unconfirmed(shard) for shard in range(SHARDS)])
    listed = [value for item in found for name, value in item.items() if name.startswith(_PREFIX)]
    return [AlertClaim(*json.loads(packing.unpack(value["B"]))) for value in listed[:limit]]


def _name(claim: AlertClaim) -> str:
    """
    Of its attribute in the list; an id of somebody else's may have letters that a name may not.
    """
    return f"{_PREFIX}{sha256(claim.id.encode()).hexdigest()[:32]}"


def _place_of(claim: AlertClaim) -> Place:
    return items.place_of_unconfirmed(zlib.crc32(claim.id.encode()) % SHARDS)
