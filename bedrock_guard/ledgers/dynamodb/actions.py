"""
What is written, as DynamoDB takes it: updates, conditions, and nothing between.

Every name stands behind `#`, for DynamoDB reserves hundreds of words, and no
condition has arithmetic, for it allows none: `used <= limit - amount` is worked
out here. A transaction's conditions are all there is to exactness: whoever
repeats a request, or whose request comes late, meets them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import items
from bedrock_guard.ledgers.dynamodb.items import Call, Item, Place
from bedrock_guard.ledgers.dynamodb.lines import (
    Met,
    Special,
    both,
    end_rate,
    end_rolling,
    has_sub_window,
    hold_rate,
    hold_rolling,
    is_rolling,
)
from bedrock_guard.ledgers.dynamodb.table import Reason
from bedrock_guard.ledgers.lines import nanoseconds

# A transaction has 100 actions: the call, and two for each balance that is new.
MOST_LINES: Final = 49

# The balance is there, and has room. One that is not there fails, and is made in a second request.
HAS_ROOM: Final = "#used <= :room"
# It was not there a moment ago: all that is held is ours, and somebody else may have been quicker.
IS_NEW_OR_HAS_ROOM: Final = "attribute_not_exists(#used) OR #used <= :room"
# A balance that somebody has deleted must not come back below zero.
IS_THERE: Final = "attribute_exists(#used)"
# The holder knows all that is held.
IS_AS_HELD: Final = "#st = :pending AND #lh = :held"
# Nobody has written since it was read.
IS_AS_READ: Final = "#x = :read"
IS_UNKNOWN: Final = "attribute_not_exists(#pk)"

_PENDING: Final[Item] = {"S": items.CODES["pending"]}
_NAME: Final = re.compile(r"#(\w+)")


class Change(NamedTuple):
    """
    What an action adds to one balance.

    Attributes:
        room: The most that may be used before; None when it is not asked.
        is_new: Whether the balance may not be there yet, and is made.
        special: What else is asked and done, of what rolls and of rates.
        others: Further sub-windows of the same item that are changed.
    """

    key: LedgerKey
    used: int
    spent: int
    calls: int
    room: int | None = None
    is_new: bool = False
    special: Special | None = None
    others: tuple[LedgerKey, ...] = ()


class Ended(NamedTuple):
    """
    How a call ends: what is spent on each of its lines, and the entry it leaves.

    Attributes:
        kept: Until when, as `kept_until` writes it; None for ever.
        now: When that is, seconds since 1970.
    """

    state: books.State
    lines: tuple[Line, ...]
    booked: books.Booked
    entry: Entry | None
    kept: Item | None
    now: float


def kept_until(at_s: float, keep_s: float) -> Item | None:
    """
    Until when what ended at *at_s* is kept: DynamoDB deletes it some day after that, and nothing rests on it.
    """
    return {"N": str(int(at_s + keep_s))} if isfinite(keep_s) else None


def hold_changes(
    lines: Iterable[Line], *, met: Met, now: float, known: frozenset[LedgerKey] = frozenset()
) -> list[Change]:
    """
    To hold *lines*, by what they *met* when it was tried before; keys in *known* count the call already.
    """
    changes = []
    for line in lines:
        key, used, spent, special = line.key, line.amount, 0, None
        is_new = key in met and met[key] is None
        calls = int(key not in known)
        if line.kind == "rolling":
            used, spent, special = hold_rolling(line, met)
            calls = 0  # a sub-window takes its calls along when it leaves
        elif line.kind == "rate":
            special = hold_rate(line, met, now)
        limit = books.MAX_AMOUNT if line.limit is None or (key in met and not line.enforce) else line.limit
        changes.append(Change(key, used, spent, calls, limit - line.amount, is_new, special))
    return changes


def end_changes(
    call: Call,
    lines: tuple[Line, ...],
    booked: books.Booked,
    new: frozenset[LedgerKey],
    age_ns: int = 0,
) -> list[Change]:
    """
    To spend *booked* on *lines*, in place of what the call holds or has spent; it was opened *age_ns* ago.
    """
    changes = []
    for index, (line, spent) in enumerate(zip(lines, booked, strict=True)):
        is_known = index < len(call.lines)
        # What was held or spent in a balance that is gone is gone with it.
        is_new = not is_known or line.key in new
        if line.key in new and is_rolling(line.key):
            continue  # its sub-window does not count any more
        is_held = call.state == "pending" and not is_new
        held = line.amount if is_held else 0
        before = call.booked[index] if index < len(call.booked) and not is_new else 0
        change = Change(
            line.key,
            used=spent - before - held,
            spent=spent - before,
            calls=-1 if is_held and not is_rolling(line.key) else 0,
            is_new=is_new,
        )
        if is_rolling(line.key):
            change = change._replace(special=end_rolling(line, change.used, change.spent))
        elif line.kind == "rate":
            change = change._replace(special=end_rate(line, before + held, spent, age_ns))
        if change.used or change.spent or change.calls:
            changes.append(change)
    return _one_for_each_item(changes)


def _one_for_each_item(changes: list[Change]) -> list[Change]:
    """
    *changes* with those in sub-windows of one balance together: a call that was extended later has several.
    """
    by_place: dict[Place, Change] = {}
    for change in changes:
        place = items.place_of_balance(change.key)
        known = by_place.get(place)
        if known is not None and known.special is not None and change.special is not None:
            change = known._replace(  # noqa: PLW2901
                used=known.used + change.used,
                spent=known.spent + change.spent,
                special=both(known.special, change.special),
                others=(*known.others, change.key),
            )
        by_place[place] = change
    return list(by_place.values())


def gone(changes: Sequence[Change], reasons: Sequence[Reason]) -> frozenset[LedgerKey]:
    """
    Balances that a change found missing: somebody deleted them, and they are made anew.
    """
    return frozenset(
        key
        for change, reason in zip(changes, reasons, strict=False)
        if reason.is_failed
        for key in (change.key, *change.others)
        if not (is_rolling(key) and has_sub_window(reason.item, key))
    )


def balance_actions(table: str, changes: list[Change]) -> list[Item]:
    """
    One action for each change, and then one for each balance that is made.
    """
    actions = [_balance_action(table, change) for change in changes]
    made = [items.directory_item(change.key) for change in changes if change.is_new]
    return actions + [{"Put": {"TableName": table, "Item": item}} for item in made]


def open_action(table: str, place: Place, item: Item) -> Item:
    """
    To keep a call that nobody knows yet.
    """
    return {
        "Put": {
            "TableName": table,
            "Item": {**items.place_item(place), **item},
            **expressions(condition=IS_UNKNOWN),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def call_action(
    table: str, call: Call, *, update: str, values: Mapping[str, Item], condition: str = ""
) -> Item:
    """
    To change a call that is as *call* says.
    """
    if call.written_by is None:
        fence, known = IS_AS_HELD, {"pending": _PENDING, "held": items.fingerprint(call.lines)}
    else:
        fence, known = IS_AS_READ, {"read": {"S": call.written_by}}
    return update_action(
        table,
        items.place_of_call(call.id),
        update=update,
        condition=f"{fence}{condition}",
        values={**known, **values},
    )


def update_action(
    table: str, place: Place, *, update: str, condition: str, values: Mapping[str, Item]
) -> Item:
    """
    To update one item.
    """
    return {
        "Update": {
            "TableName": table,
            "Key": items.place_item(place),
            **expressions(update=update, condition=condition, values=values),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def end_actions(
    table: str, call: Call, ended: Ended, *, by: str, new: frozenset[LedgerKey] = frozenset()
) -> list[Item]:
    """
    To end a call: the reservation becomes the journal's entry, and its money is booked.
    """
    update = "SET #st = :st, #x = :x, #b = :b, #ln = :ln, #lh = :lh, #seq = if_not_exists(#seq, :seq)"
    values = {
        "st": {"S": items.CODES[ended.state]},
        "x": {"S": by},
        "b": items.booked_item(ended.booked),
        "ln": items.pack_lines(ended.lines),
        "lh": items.fingerprint(ended.lines),
        "seq": items.new_sequence(),
    }
    given = {"e": None if ended.entry is None else items.pack_entry(ended.entry), "ttl": ended.kept}
    update = set_or_remove(update, values, given)
    at_s = (items.placed_ms(call.id) or 0) / 1000 if ended.entry is None else ended.entry.at_s
    age_ns = nanoseconds(ended.now - at_s)
    changes = end_changes(call, ended.lines, ended.booked, new, age_ns)
    return [call_action(table, call, update=update, values=values), *balance_actions(table, changes)]


def recorded_item(entry: Entry, *, by: str) -> Item:
    """
    An entry without money, as it is kept.
    """
    return {
        "id": {"S": entry.id},
        "st": {"S": items.CODES["recorded"]},
        "e": items.pack_entry(entry),
        "x": {"S": by},
        "seq": items.new_sequence(),
        "cnt": {"N": str(entry.count)},
    }


def record_action(table: str, entry: Entry, *, by: str, kept: Item | None) -> Item:
    """
    To keep an entry without money, or to add to the count of the one that has its id.
    """
    update = (
        "SET #id = :id, #st = if_not_exists(#st, :st), #e = if_not_exists(#e, :e), #x = :x, "
        "#seq = if_not_exists(#seq, :seq)"
    )
    values = recorded_item(entry, by=by)
    return update_action(
        table,
        items.place_of_call(entry.id),
        update=f"{set_or_remove(update, values, {'ttl': kept})} ADD #cnt :cnt",
        condition="attribute_not_exists(#x) OR #x <> :x",  # its answer was lost: counted already
        values=values,
    )


def set_or_remove(update: str, values: dict[str, Item], given: Mapping[str, Item | None]) -> str:
    """
    *update*, a `SET`, with what is *given* added to it and to *values*; what is None is removed.
    """
    for name, value in given.items():
        if value is not None:
            update, values[name] = f"{update}, #{name} = :{name}", value
    removed = ", ".join(f"#{name}" for name, value in given.items() if value is None)
    return f"{update} REMOVE {removed}" if removed else update


def expressions(
    *,
    update: str = "",
    condition: str = "",
    filtered: str = "",
    where: str = "",
    values: Mapping[str, Item] | None = None,
) -> Item:
    """
    The expressions of a request, with the names and values that they use.
    """
    given = {
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "FilterExpression": filtered,
        "KeyConditionExpression": where,
    }
    found: Item = {name: text for name, text in given.items() if text}
    found["ExpressionAttributeNames"] = {f"#{name}": name for name in _NAME.findall(" ".join(given.values()))}
    if values:
        found["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return found


def _balance_action(table: str, change: Change) -> Item:
    values = {
        "used": {"N": str(change.used)},
        "spent": {"N": str(change.spent)},
        "n": {"N": str(int(change.calls))},
    }
    special = change.special
    if special is not None:
        values |= {name: {"N": str(value)} for name, value in special.values.items()}
        sets = f"SET {', '.join(special.sets)} " if special.sets else ""
        adds = ", ".join(("#used :used", "#spent :spent", "#n :n", *special.adds))
        removes = f" REMOVE {', '.join(special.removes)}" if special.removes else ""
        return update_action(
            table,
            items.place_of_balance(change.key),
            update=f"{sets}ADD {adds}{removes}",
            condition=special.condition,
            values=values,
        )
    if change.room is not None:
        values["room"] = {"N": str(change.room)}
        condition = IS_NEW_OR_HAS_ROOM if change.is_new else HAS_ROOM
    else:
        condition = "" if change.is_new else IS_THERE
    update = "ADD #used :used, #spent :spent, #n :n"
    return update_action(
        table, items.place_of_balance(change.key), update=update, condition=condition, values=values
    )
