"""
Entries on their way into the table: many in one item, and held here until the table says it has them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from bedrock_guard.domain.entry import Entry
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import actions, segments
from bedrock_guard.ledgers.dynamodb.items import Item
from bedrock_guard.ledgers.dynamodb.segments import Note
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn
from bedrock_guard.ledgers.leases.local import Local

# An entry waits for others for so long, in seconds.
WAIT_S: Final = 5.0
# With so many waiting, none is added that no budget pays for: memory is no journal.
MOST_WAITING: Final = 10_000


class Journal:
    """
    Writes the notes of *local*, and what is counted without money.
    """

    def __init__(self, table: Table, local: Local, keep_s: Callable[[], float]) -> None:
        self._table = table
        self._local = local
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._segments: list[Item] = []
        self._counted: dict[str, Entry] = {}
        # Under way, and by which name: what is sent again is counted once.
        self._adding: list[tuple[Entry, str]] = []
        self._began_at = time.monotonic()

    def admit(self, wake: Callable[[], object]) -> None:
        """
        Have an entry written that no slice is asked for.

        Raises:
            LedgerUnavailable: So many wait already that the table must be gone, and no money bounds how many
                there will be.
        """
        wake()
        if self.waiting >= MOST_WAITING:
            raise LedgerUnavailable(
                f"{MOST_WAITING} entries wait for DynamoDB table {self._table.name} to answer; "
                "a call that no budget counts would be one more."
            )

    def count(self, entry: Entry) -> None:
        """
        Keep an entry without money, or add to the count of the one that has its id.
        """
        with self._lock:
            known = self._counted.get(entry.id)
            count = entry.count + (0 if known is None else known.count)
            self._counted[entry.id] = entry.changed(count=count)

    @property
    def waiting(self) -> int:
        """
        How many entries wait, a segment that could not be written for as many as it has at least.
        """
        return (
            len(self._local.notes)
            + segments.MOST_ENTRIES * (len(self._segments) + len(self._adding))
            + len(self._counted)
        )

    def is_due(self, now: float) -> bool:
        """
        Whether a segment is full, or the oldest entry has waited long enough; monotonic seconds.
        """
        waiting = self.waiting
        if not waiting:
            self._began_at = now
        return waiting >= segments.MOST_ENTRIES or (waiting > 0 and now - self._began_at >= WAIT_S)

    def write(self, turn: Turn) -> None:
        """
        Write all that waits. One turn at a time.

        Raises:
            LedgerUnavailable: The rest waits on.
        """
        self._cut()
        while self._segments:
            self._put(turn, self._segments[0])
            del self._segments[0]
        with self._lock:
            self._adding += [(entry, os.urandom(8).hex()) for entry in self._counted.values()]
            self._counted = {}
        while self._adding:
            self._add(turn, *self._adding[0])
            del self._adding[0]
        self._began_at = time.monotonic()

    def forget(self) -> None:
        """
        In a fork: what waits is the parent's.
        """
        self._lock = threading.Lock()
        self._segments = []
        self._counted = {}
        self._adding = []

    def _cut(self) -> None:
        waiting = [Note(*each) for each in list(self._local.notes)]
        made = []
        for notes in segments.cut(waiting):
            newest_s = max(note.at_s for note in notes)
            kept = actions.kept_until(newest_s, self._keep_s())
            made.append(segments.item_of(os.urandom(8).hex(), notes, kept=kept))
        # Interrupted between the two, notes are written twice, and read once.
        self._segments += made
        self._local.drop_notes(len(waiting))

    def _put(self, turn: Turn, segment: Item) -> None:
        try:
            self._table.send(turn, "put_item", **segments.put_of(self._table.name, segment))
        except ConditionFailed:
            return  # it is there: the answer was lost

    def _add(self, turn: Turn, entry: Entry, by: str) -> None:
        kept = actions.kept_until(entry.over_at_s, self._keep_s())
        action = actions.record_action(self._table.name, entry, by=by, kept=kept)
        try:
            self._table.send(turn, "update_item", **action["Update"])
        except ConditionFailed:
            return
