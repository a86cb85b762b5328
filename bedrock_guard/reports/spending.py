"""
What was spent: by model, tag, day, or several of them; and by whom just now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import ReadsEntries, read_all_entries
from bedrock_guard.reports.grouping import MOST_GROUPS, Group, Groups, Kind, bounded, is_calendar
from bedrock_guard.reports.totals import Totals


@dataclass(frozen=True, slots=True)
class Spending:
    """
    What entries come to.

    Attributes:
        by: Names of what they are grouped by.
        groups: In the order of time where that comes first, else the dearest first.
        rest: What is in none of them, as there were too many; else None.
        total: Of every entry, once.
    """

    by: tuple[str, ...]
    groups: Sequence[Group]
    rest: Totals | None
    total: Totals


def read_spending(
    ledger: ReadsEntries, where: EntryFilter, by: Sequence[Kind], *, most_groups: int = MOST_GROUPS
) -> Spending:
    """
    What the entries that *where* admits come to, for each of their values of *by*.
    """
    groups, total = Groups(most_groups), Totals()
    for entry in read_all_entries(ledger, where):
        total.add(entry)
        groups.add(tuple([kind.of(entry) for kind in by]), entry)
    found = groups.dearest_first()
    times = [place for place, kind in enumerate(by) if is_calendar(kind)]
    found.sort(key=lambda group: [group.key[place] for place in times])  # stable: within one, the dearest
    return Spending(tuple(kind.name for kind in by), found, groups.rest, total)


def read_spenders(ledger: ReadsEntries, where: EntryFilter, *, most_groups: int = MOST_GROUPS) -> Spending:
    """
    What the entries that *where* admits come to, for each value of each tag; so an entry counts in several.
    """
    groups, total = Groups(most_groups), Totals()
    for entry in read_all_entries(ledger, where):
        total.add(entry)
        for tag, value in entry.tags.items():
            groups.add((bounded(tag), bounded(value)), entry)
    return Spending(("tag", "value"), groups.dearest_first(), groups.rest, total)
