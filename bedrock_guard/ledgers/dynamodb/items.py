"""
What the table's items hold, and where they are.

    pk              sk            is
    B#<key>         B             a balance: used (spent and pending), spent, n (calls that hold);
                                  of a rate also full; of what rolls, all sub-windows (`lines`)
    D#<0..3>        <key>         the directory: that there is such a balance
    J#<00..07>      <time>-...    a call: pending, then the journal's entry of it
    F               <id>          the same for ids that do not begin with their time
    S               sweep         how far the sweepers have come
    A#<id>          A             an alert that somebody tells, or has told
    A               open0..3      those that are not confirmed yet, an attribute each
    M               schema        the table's schema, and its home region
    C#controls      C             stops and top-ups: version (v), record (rec); C# is what steers programs
    T#breakers      T             the same for stops of breakers, which programs write
    L#<owner>       <key>         a lease: granted (g), of that reported as spent (s), version (v)
    H#<0..3>        <owner>       a process that leases, and until when it is taken for alive (ex)
    S               leases        when leases of dead processes were looked for
    J#<00..07>      <time>-~...   a segment: many entries, of calls that were made on leases

Each balance has a partition of its own, so that one budget's calls throttle no
other's. The place of a call follows from its id alone, which is all that the
end of a call is sure to know. What programs write and what they only read never
share a partition, for that is as fine as IAM goes (`dynamodb:LeadingKeys`).
"""

from __future__ import annotations

import json
import re
import time
import zlib
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2s, sha256
from typing import Any, Final, NamedTuple, TypeAlias

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import ROLLING_PART, LedgerKey, Line, OnExpiry, Reservation
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.books import Booked, State
from bedrock_guard.ledgers.dynamodb.packing import pack, unpack

Item: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str, str]

SHARDS: Final = 8
DIRECTORIES: Final = 4
HOLDERS: Final = 4
FOREIGN: Final = "F"
SCHEMA_PLACE: Final[Place] = ("M", "schema")
SWEEP_PLACE: Final[Place] = ("S", "sweep")
LEASES_PLACE: Final[Place] = ("S", "leases")
CONTROLS_PLACE: Final[Place] = ("C#controls", "C")
TRIPS_PLACE: Final[Place] = ("T#breakers", "T")
# Partitions, as IAM matches them: those that programs write, and those that steer them.
WRITTEN: Final = ("B#*", "D#*", "J#*", FOREIGN, SWEEP_PLACE[0], "A", "A#*", "T#*", "L#*", "H#*")
STEERING: Final = ("C#*", SCHEMA_PLACE[0])

# DynamoDB allows 2,048 bytes for one part of a key and 1,024 for the other.
_LONGEST_KEY: Final = 1000
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: half a surrogate is its escape
_STATES: Final[dict[str, State]] = {
    "P": "pending",
    "S": "settled",
    "L": "released",
    "E": "expired",
    "R": "recorded",
}
_ON_EXPIRY: Final[dict[str, OnExpiry]] = {"charge": "charge", "release": "release"}
DAMAGE: Final = (LookupError, TypeError, ValueError, zlib.error)
"""What reading an attribute raises that no version has written so."""
CODES: Final[dict[State, str]] = {state: code for code, state in _STATES.items()}

# A guard's ids, and those of its refusals, begin with the time: milliseconds or seconds, in hex.
_OWN_ID: Final = re.compile(r"([0-9a-f]{11})-[0-9a-f]+")
_REFUSED_ID: Final = re.compile(r"refused-([0-9a-f]{1,10})-[0-9a-f]+")


class Call(NamedTuple):
    """
    A call as it is stored, or as the holder of its reservation knows it.

    Attributes:
        written_by: The operation that wrote it last; None for a holder's own copy.
    """

    id: str
    state: State
    lines: tuple[Line, ...]
    expires_at_s: float
    booked: Booked = ()
    on_expiry: OnExpiry = "charge"
    entry: bytes | None = None
    written_by: str | None = None

    @property
    def reservation(self) -> Reservation:
        """
        What the caller of `reserve` gets.
        """
        return Reservation(self.id, self.lines, self.expires_at_s)


def held_call(reservation: Reservation) -> Call:
    """
    What the holder of *reservation* takes it for, which saves reading it.
    """
    return Call(reservation.id, "pending", reservation.lines, reservation.expires_at_s)


def read_call(item: Item) -> Call:
    """
    A call, from its item.

    Raises:
        LedgerUnavailable: The item is damaged.
    """
    try:
        return Call(
            id=item["id"]["S"],
            state=_STATES[item["st"]["S"]],
            lines=_read_lines(unpack(item["ln"]["B"])) if "ln" in item else (),
            expires_at_s=float(item["exp"]["N"]) if "exp" in item else 0.0,
            booked=tuple(json.loads(item["b"]["S"])) if "b" in item else (),
            on_expiry=_ON_EXPIRY[item["pol"]["S"]] if "pol" in item else "charge",
            entry=packed_entry(item) if "e" in item else None,
            written_by=item["x"]["S"],
        )
    except DAMAGE:
        raise damaged("call", item) from None


def placed_ms(entry_id: str) -> int | None:
    """
    When a call was opened, by its id; None for an id that does not tell.
    """
    own = _OWN_ID.fullmatch(entry_id)
    if own:
        return int(own[1], 16)
    refused = _REFUSED_ID.fullmatch(entry_id)
    return int(refused[1], 16) * 1000 if refused else None


def place_of_call(entry_id: str) -> Place:
    """
    Where a call is kept.
    """
    at_ms = placed_ms(entry_id)
    if at_ms is None:
        text = entry_id if len(entry_id.encode(errors="backslashreplace")) <= _LONGEST_KEY else None
        return FOREIGN, text or _digest(entry_id)
    shard = zlib.crc32(entry_id.encode()) % SHARDS
    return journal(shard), f"{sort_key(at_ms)}-{entry_id}"


def journal(shard: int) -> str:
    """
    The partition of one part of the calls.
    """
    return f"J#{shard:02}"


def sort_key(at_ms: float) -> str:
    """
    Where the calls of a moment begin.
    """
    return f"{max(0, int(at_ms)):011x}"


def read_sort_key(text: str) -> int:
    """
    The moment of a call, by its place.
    """
    return int(text[:11], 16)


@lru_cache(maxsize=4096)
def key_text(key: LedgerKey) -> str:
    """
    A ledger key as one line of ASCII.
    """
    return _write_lines((Line(key, None, 0),))


@lru_cache(maxsize=4096)
def _key_name(key: LedgerKey) -> str:
    text = _encode([key.budget, key.rule, key.per, key.window_start])
    return text if len(text) <= _LONGEST_KEY else _digest(text)


def place_of_balance(key: LedgerKey) -> Place:
    """
    Where a balance is kept: in a partition of its own; sub-windows of one that rolls together.
    """
    return f"B#{_key_name(_shared_key(key))}", "B"


def directory_item(key: LedgerKey) -> Item:
    """
    That there is a balance of *key*.
    """
    key = _shared_key(key)
    name = _key_name(key)
    shard = zlib.crc32(name.encode()) % DIRECTORIES
    return {**place_item((directory(shard), name)), "key": {"S": key_text(key)}}


def _shared_key(key: LedgerKey) -> LedgerKey:
    return key._replace(window_start=0) if ROLLING_PART in key.rule else key


def directory(shard: int) -> str:
    """
    One part of the directory.
    """
    return f"D#{shard}"


def read_directory_item(item: Item) -> LedgerKey:
    """
    Back from `directory_item`.

    Raises:
        LedgerUnavailable: The item is damaged.
    """
    try:
        return _read_lines(item["key"]["S"])[0].key
    except DAMAGE:
        raise damaged("balance", item) from None


def place_of_lease(owner: str, key: LedgerKey) -> Place:
    """
    Where it is kept what *owner* leases of a balance.
    """
    return leases(owner), _key_name(key)


def leases(owner: str) -> str:
    """
    The partition of one process's leases.
    """
    return f"L#{owner}"


def place_of_holder(owner: str) -> Place:
    """
    Where it is kept until when a process that leases is taken for alive.
    """
    return holders(zlib.crc32(owner.encode()) % HOLDERS), owner


def holders(shard: int) -> str:
    """
    One part of the processes that lease.
    """
    return f"H#{shard}"


def place_of_segment(name: str, at_s: float) -> Place:
    """
    Where a segment of entries is kept, of which the newest is of that moment.
    """
    return journal(zlib.crc32(name.encode()) % SHARDS), f"{sort_key(1000 * at_s)}-~{name}"


def place_of_claim(alert_id: str) -> Place:
    """
    Where it is kept who tells an alert.
    """
    return f"A#{alert_id}", "A"


def place_of_unconfirmed(shard: int) -> Place:
    """
    Where those alerts are kept that nobody has told yet: few, so that one request reads them.
    """
    return "A", f"open{shard}"


def place_item(place: Place) -> Item:
    """
    The key of an item.
    """
    return {"pk": {"S": place[0]}, "sk": {"S": place[1]}}


def number(value: float) -> Item:
    """
    A number as DynamoDB takes it: text, so that none goes through a float of somebody else's.
    """
    return {"N": repr(value)}


def pack_lines(lines: tuple[Line, ...]) -> Item:
    """
    Lines, small.
    """
    return pack(_write_lines(lines))


def booked_item(booked: Booked) -> Item:
    """
    What was spent on each line.
    """
    return {"S": _encode(booked)}


def pack_entry(entry: Entry) -> Item:
    """
    An entry, small.
    """
    return pack(entry_text(entry))


def entry_text(entry: Entry) -> str:
    """
    An entry as one line of text.
    """
    # A tag may hold half of a surrogate pair, which is no text in UTF-8; its escape is.
    return entry.to_json().encode(errors="backslashreplace").decode()


def packed_entry(item: Item) -> bytes:
    """
    The entry that *item* has; empty where that is no entry at all.
    """
    packed = item["e"].get("B")
    return packed if isinstance(packed, bytes) else b""


def read_entry(packed: bytes, count: int = 1, at_s: float = 0.0) -> Entry:
    """
    Back from `pack_entry`, for as many as were counted; of a call that was opened at *at_s*.

    What cannot be unpacked is an entry whose `unread` says so.
    """
    try:
        text = unpack(packed)
    except DAMAGE:
        text = ""
    entry = Entry.from_json(text, at_s=at_s)
    return entry if entry.count == count else replace(entry, count=count)


def fingerprint(lines: tuple[Line, ...]) -> Item:
    """
    Tells whether a holder's lines are those that are stored.
    """
    return {"B": blake2s(_write_lines(lines).encode(), digest_size=8).digest()}


def new_sequence() -> Item:
    """
    Tells entries of the same moment apart, in the order in which they were written.
    """
    return {"N": str(time.time_ns())}


def _write_lines(lines: tuple[Line, ...]) -> str:
    return _encode([[*line.key, line.limit, line.amount] for line in lines])


def _read_lines(text: str) -> tuple[Line, ...]:
    return tuple(
        Line(LedgerKey(budget, rule, tuple((tag, value) for tag, value in per), start), limit, amount)
        for budget, rule, per, start, limit, amount in json.loads(text)
    )


def damaged(what: str, item: Item) -> LedgerUnavailable:
    """
    The error for an *item* that no version has written so.
    """
    place = f"pk {item['pk'].get('S')!r}, sk {item['sk'].get('S')!r}"
    return LedgerUnavailable(
        f"A {what} of the ledger cannot be read: the item at {place} is as no version of bedrock_guard "
        "that this one knows writes it. Mend it, or restore the table to a moment before."
    )


def _digest(text: str) -> str:
    return f"sha256:{sha256(text.encode(errors='backslashreplace')).hexdigest()}"
