"""
Entries of many calls in one item: of calls that were made on leases, which write nothing themselves.

A segment lies among the calls, at the time of its newest entry, and its entries are of one minute, so that
a reader meets them about where they belong. What is written twice, for a call that was put right later, has
the sequence of the first time; the newer segment is right.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.ledgers.dynamodb import actions, items, packing
from bedrock_guard.ledgers.dynamodb.items import Item

log = logging.getLogger("bedrock_guard")

MOST_ENTRIES: Final = 100
MOST_S: Final = 60.0
# DynamoDB takes 400 KB an item; this is before it is made small, which random text may not be.
MOST_BYTES: Final = 350_000

CODE: Final = "G"


class Note(NamedTuple):
    """
    What a segment holds of one call.

    Attributes:
        sequence: Tells calls of the same moment apart; the same for each note of one call.
        at_s: When the call was opened.
        entry: None takes back what was noted before: nothing was sent after all.
    """

    sequence: int
    at_s: float
    entry: Entry | None


def cut(notes: Sequence[Note]) -> list[list[Note]]:
    """
    *notes* as segments, each of which is small, and of one minute.
    """
    parts: list[list[Note]] = []
    for note in sorted(notes, key=lambda one: one[:2][::-1]):
        part = parts[-1] if parts else []
        if not part or len(part) == MOST_ENTRIES or note.at_s - part[0].at_s > MOST_S:
            parts.append([note])
        else:
            part.append(note)
    return [piece for part in parts for piece in _small(part)]


def item_of(name: str, notes: Sequence[Note], *, kept: Item | None) -> Item:
    """
    The item of a segment; the same *name* again is the same place.
    """
    newest_s = max(note.at_s for note in notes)
    item = {
        **items.place_item(items.place_of_segment(name, newest_s)),
        "st": {"S": CODE},
        "seq": {"N": str(notes[0].sequence)},
        "rev": {"N": str(time.time_ns())},
        "en": packing.pack(_write(notes)),
    }
    return item if kept is None else {**item, "ttl": kept}


def put_of(table: str, item: Item) -> Item:
    """
    The request that writes a segment, once.
    """
    return {"TableName": table, "Item": item, **actions.expressions(condition=actions.IS_UNKNOWN)}


def read(item: Item) -> Iterator[tuple[Note, int]]:
    """
    The notes of a segment, and which of two that are of one call is newer.

    Where it is damaged, the rest of it is one entry that says so.
    """
    sequence, revision = int(item["seq"]["N"]), int(item["rev"]["N"])
    placed_s = items.read_sort_key(item["sk"]["S"]) / 1000
    try:
        for line in packing.unpack(item["en"]["B"]).split("\n"):
            step, _, text = line.partition(" ")
            sequence += int(step)
            yield _read_note(sequence, text, placed_s), revision
    except items.DAMAGE:
        yield _read_note(sequence, "", placed_s), revision


def is_segment(item: Item) -> bool:
    """
    Whether an item of the journal is one.
    """
    return bool(item["st"]["S"] == CODE)


def _read_note(sequence: int, text: str, placed_s: float) -> Note:
    if text.startswith("@"):
        return Note(sequence, float(text[1:]), None)
    entry = Entry.from_json(text, at_s=placed_s)
    return Note(sequence, entry.at_s, entry)


def _write(notes: Iterable[Note]) -> str:
    lines = []
    before: int | None = None
    for note in notes:
        step = 0 if before is None else note.sequence - before
        before = note.sequence
        text = f"@{note.at_s!r}" if note.entry is None else items.entry_text(note.entry)
        lines.append(f"{step} {text}")
    return "\n".join(lines)


def _small(notes: list[Note]) -> list[list[Note]]:
    if len(_write(notes).encode()) <= MOST_BYTES:
        return [notes]
    if len(notes) == 1:
        return [[_without_tags(notes[0])]]
    middle = len(notes) // 2
    return [*_small(notes[:middle]), *_small(notes[middle:])]


def _without_tags(note: Note) -> Note:
    """
    Tags alone are as long as a program makes them; without them, what the call cost is told all the same.
    """
    entry = note.entry
    if entry is None:
        return note
    log.error("The tags of the call %s are larger than an entry may be, and are left out.", entry.id)
    return note._replace(entry=entry.changed(tags={}))
