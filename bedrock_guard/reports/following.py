"""
Entries as they come: what has ended since the last look.

An entry is written when its call ends, and lies in the journal where the call began. So each look goes
back a little, and now and then as far as the longest call; what has been told is remembered for as long
as another look may find it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Ledger, read_all_entries

# How late an entry may be written, and how far the clocks of hosts may be apart.
SLACK_S: Final = 60.0
# Bedrock ends what it serves after an hour.
LONGEST_S: Final = 3600.0
_NEAR_S: Final = 2 * SLACK_S
_FAR_EVERY_S: Final = 15.0


class _Told(NamedTuple):
    """
    How many were told under one id, and until when another look may find it.
    """

    calls: int
    until_s: float


class Follower:
    """
    Looks at a journal again and again, at least every `SLACK_S` / 2.
    """

    def __init__(self, ledger: Ledger, where: EntryFilter, *, now: float) -> None:
        self._ledger = ledger
        self._where = where
        self._told: dict[str, _Told] = {}
        self._looked_far_s = 0.0
        self.look(now)

    def look(self, now: float) -> list[Entry]:
        """
        What is new, the oldest first; of refusals that were alike, as many as have come to them.

        The first look, when this is made, only learns what is there already.
        """
        back_s = _NEAR_S
        if now - self._looked_far_s >= _FAR_EVERY_S:
            self._looked_far_s, back_s = now, LONGEST_S
        self._told = {id_: told for id_, told in self._told.items() if told.until_s >= now}
        found = []
        for entry in read_all_entries(self._ledger, replace(self._where, since=now - back_s)):
            until_s = _until_s(entry)
            known = self._told.get(entry.id)
            more = entry.count - (0 if known is None else known.calls)
            if until_s >= now and more > 0:
                self._told[entry.id] = _Told(entry.count, until_s)
                found.append(entry if known is None else replace(entry, count=more))
        return found[::-1]


def _until_s(entry: Entry) -> float:
    """
    Until when *entry* is new to who has not seen it; a sweep writes what expired long after its call.
    """
    if entry.basis == "expired":
        return entry.at_s + LONGEST_S
    return entry.at_s + (entry.duration_ms or 0) / 1000 + SLACK_S
