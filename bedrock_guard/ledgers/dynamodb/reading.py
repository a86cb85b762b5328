"""
What is in the table: balances by key or by the directory, entries newest first.

Calls lie in several partitions, each in the order of their ids, which begin with
the time. They are read from the newest on and merged; as an id is made a moment
after the call was opened, and refusals of one minute share an id, each waits
until nothing newer can come.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Balance, LedgerKey
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import actions, items, lines, segments
from bedrock_guard.ledgers.dynamodb.items import Item, Place
from bedrock_guard.ledgers.dynamodb.table import Table, Turn

# How far the time of an entry may be from that of its id.
SLACK_S: Final = 90.0

_BATCH: Final = 100
_ROUNDS: Final = 20
_PAGE: Final = (50, 1000)


class _Row(NamedTuple):
    """
    Attributes:
        name: Of an item of one call, as others may have its time and its sequence, too. What a segment has
            of a call is found by those two, and the newest of its revisions is right.
    """

    at_s: float
    sequence: int
    placed_s: float
    entry: Entry | None
    name: str = ""
    revision: int = 0


def balances(table: Table, keys: Sequence[LedgerKey] | None) -> list[Balance]:
    """
    One balance for each of *keys*, or all that there are.
    """
    wanted = sorted(_all_keys(table)) if keys is None else list(keys)
    places = {key: items.place_of_balance(key) for key in wanted}
    found = {item["pk"]["S"]: item for item in get_all(table, list(dict.fromkeys(places.values())))}
    if keys is None:
        return [each for key in wanted for each in lines.read_balances(key, found.get(places[key][0]))]
    return [lines.read_balance(key, found.get(places[key][0])) for key in wanted]


def entries(
    table: Table, where: EntryFilter, *, before: tuple[float, int, str], limit: int
) -> tuple[list[Entry], str | None]:
    """
    At most *limit* entries that come after *before*, newest first.
    """
    page: list[Entry] = []
    last = before
    seen = None
    for row in _in_order(_streams(table, where, before[0], limit)):
        at = (row.at_s, row.sequence, row.name)
        is_older = at == seen  # what was written of the same call before it was put right
        seen = at
        is_next = at[:2] < before[:2] or (at[:2] == before[:2] and row.name > before[2])
        if not is_older and row.entry is not None and is_next and where.admits(row.entry):
            if len(page) == limit:
                return page, books.write_cursor(*last)
            page.append(row.entry)
            last = at
    return page, None


def pages(table: Table, turn: Turn | None = None, **params: object) -> Iterator[Item]:
    """
    The answers to a query, a page at a time; in *turn*, or each page in one of its own.
    """
    start: Item = {}
    while True:
        one = turn or Turn(table.address.deadline_s)
        answer = table.send(one, "query", TableName=table.name, **params, **start)
        yield answer
        if "LastEvaluatedKey" not in answer:
            return
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _all_keys(table: Table) -> Iterator[LedgerKey]:
    for shard in range(items.DIRECTORIES):
        pk = items.directory(shard)
        found = actions.expressions(where="#pk = :pk", values={"pk": {"S": pk}})
        for page in pages(table, ConsistentRead=True, **found):
            yield from map(items.read_directory_item, page["Items"])


def get_all(table: Table, places: Sequence[Place], turn: Turn | None = None) -> list[Item]:
    """
    The items at *places*, of which none is named twice; nothing for one that is not there.

    In *turn*, or each hundred in one of their own.
    """
    found: list[Item] = []
    for first in range(0, len(places), _BATCH):
        rest = [items.place_item(place) for place in places[first : first + _BATCH]]
        one = turn or Turn(table.address.deadline_s)
        for _ in range(_ROUNDS):
            wanted = {table.name: {"Keys": rest, "ConsistentRead": True}}
            answer = table.send(one, "batch_get_item", RequestItems=wanted)
            found += [item for each in answer["Responses"].values() for item in each]
            rest = [key for each in answer.get("UnprocessedKeys", {}).values() for key in each["Keys"]]
            if not rest:
                break
            table.rest(one)
        else:
            raise LedgerUnavailable(f"DynamoDB table {table.name} is throttled: balances could not be read.")
    return found


def _streams(table: Table, where: EntryFilter, before_s: float, limit: int) -> list[Iterator[_Row]]:
    newest_s = min(before_s, float("inf") if where.until is None else where.until) + SLACK_S
    oldest_s = (where.since or 0.0) - SLACK_S
    between = {
        "low": {"S": items.sort_key(1000 * max(0.0, oldest_s))},
        # Above every digit and letter of an id: the whole of the last moment.
        "high": {"S": "~" if newest_s == float("inf") else f"{items.sort_key(1000 * newest_s)}~"},
    }
    size = max(_PAGE[0], min(limit, _PAGE[1]))
    return [_own(table, shard, between, size) for shard in range(items.SHARDS)] + [_foreign(table)]


def _own(table: Table, shard: int, between: dict[str, Item], size: int) -> Iterator[_Row]:
    pk = items.journal(shard)
    found = actions.expressions(
        where="#pk = :pk AND #sk BETWEEN :low AND :high", values={"pk": {"S": pk}, **between}
    )
    for page in pages(table, ConsistentRead=True, ScanIndexForward=False, Limit=size, **found):
        for item in page["Items"]:
            if segments.is_segment(item):
                yield from _rows(item)
            elif _is_entry(item):
                yield _row(item, placed_s=items.read_sort_key(item["sk"]["S"]) / 1000)


def _rows(segment: Item) -> Iterator[_Row]:
    placed_s = items.read_sort_key(segment["sk"]["S"]) / 1000
    for note, revision in segments.read(segment):
        yield _Row(note.at_s, note.sequence, placed_s, note.entry, revision=revision)


def _foreign(table: Table) -> Iterator[_Row]:
    """
    Ids that do not begin with their time: nothing tells where to start, so all are read.
    """
    found = actions.expressions(where="#pk = :pk", values={"pk": {"S": items.FOREIGN}})
    rows = [
        _row(item, placed_s=None)
        for page in pages(table, ConsistentRead=True, **found)
        for item in page["Items"]
        if _is_entry(item)
    ]
    return iter(sorted(rows, key=lambda row: row[:2], reverse=True))


def _is_entry(item: Item) -> bool:
    return item["st"]["S"] != "P" and "e" in item


def _row(item: Item, *, placed_s: float | None) -> _Row:
    count = int(item["cnt"]["N"]) if "cnt" in item else 1
    entry = items.read_entry(items.packed_entry(item), count, placed_s or 0.0)
    at_s = entry.at_s
    if placed_s is None:
        placed_s = at_s
    elif abs(at_s - placed_s) > SLACK_S:
        at_s = placed_s
    return _Row(at_s, int(item["seq"]["N"]), placed_s, entry, item["sk"]["S"])


def _in_order(streams: Sequence[Iterator[_Row]]) -> Iterator[_Row]:
    """
    By the time of the call, from streams that are in the order of their ids.
    """
    waiting: list[tuple[float, int, str, int, int, _Row]] = []
    # Nothing else tells apart what was written of one call in one segment: the last is right.
    for count, row in enumerate(heapq.merge(*streams, key=lambda row: -row.placed_s)):
        while waiting and -waiting[0][0] > row.placed_s + SLACK_S:
            yield heapq.heappop(waiting)[-1]
        heapq.heappush(waiting, (-row.at_s, -row.sequence, row.name, -row.revision, -count, row))
    while waiting:
        yield heapq.heappop(waiting)[-1]
