"""
Balances that were charged while nothing of them is leased, as far as a process knows: it may have forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.ledgers.dynamodb.items import Item
from bedrock_guard.ledgers.dynamodb.table import Turn
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.slices import Slice
from bedrock_guard.ledgers.leases.store import Store, read_lease


def met(
    store: Store, turn: Turn, local: Local, owner: str, slices: Iterable[tuple[LedgerKey, Slice]]
) -> Iterator[tuple[LedgerKey, Item]]:
    """
    Leases of *owner* that were forgotten, with what was charged since added to what they have reported.
    """
    for key, slice_ in slices:
        # What was asked for is not forgotten: an answer that was lost tells of that.
        if slice_.lease.version or slice_.in_doubt or not local.purse(key).is_stranger:
            continue
        item = store.read_lease(turn, owner, key)
        if item is not None:
            with local.turn(is_last=True):
                local.catch_up()
                local.purse(key).go_on(read_lease(owner, item).reported)
            yield key, item
