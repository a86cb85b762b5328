"""
What a replay finds: a bill, who would have been refused, by what and when, and what could not be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.replay.playing import Played, Refused
from bedrock_guard.reports.grouping import MOST_GROUPS, Kind, bounded, is_calendar
from bedrock_guard.reports.totals import Totals

# Of problems, how many are told one by one; all are counted.
MOST_PROBLEMS: Final = 1_000


@dataclass(slots=True)
class Tally:
    """
    Calls that have something in common.

    Attributes:
        logged: All of them, as they were.
        refused: Those of them that would have been refused: what they cost is what that saves.
    """

    logged: Totals = field(default_factory=Totals)
    refused: Totals = field(default_factory=Totals)

    def add(self, played: Played) -> None:
        """
        Count one call.
        """
        self.logged.add(played.entry)
        if played.refused:
            self.refused.add(played.entry)


@dataclass(slots=True)
class Refusals:
    """
    What one balance would have refused.

    Attributes:
        nanousd: What those calls cost, which another balance may have refused, too.
        first_at_s, last_at_s: When it did so first, and last.
    """

    calls: int = 0
    nanousd: int = 0
    first_at_s: float = 0.0
    last_at_s: float = 0.0

    def add(self, entry: Entry) -> None:
        """
        Count one call.
        """
        if not self.calls:
            self.first_at_s = entry.at_s
        self.last_at_s = entry.at_s
        self.calls += 1
        self.nanousd += entry.cost_nanousd or 0


class Problem(NamedTuple):
    """
    A record that is in no sum: the file and the line that it is on, and why.
    """

    place: str
    why: str


class Group(NamedTuple):
    """
    The calls that have these values in common.
    """

    key: tuple[str, ...]
    tally: Tally


@dataclass(slots=True)
class Findings:
    """
    What is found so far.

    Attributes:
        by: By what calls are put together.
        total: All calls.
        others: Calls of groups beyond the most that are told apart; None where there are none.
        warned: Calls for which a budget had no room that lets them go on, by its name.
        tripped: How often a breaker has that lets calls go on, by its name.
        without_request: Calls whose request was not logged: they hold what they used.
        twice: Records that were there before.
        odd: Calls whose usage cannot be right, and that are charged by a rule.
        problems: Records that could not be read or priced, the first of them.
        problem_count: How many there are.
        files: How many were read.
    """

    by: Sequence[Kind] = ()
    total: Tally = field(default_factory=Tally)
    others: Tally | None = None
    warned: Counter[str] = field(default_factory=Counter)
    tripped: Counter[str] = field(default_factory=Counter)
    without_request: int = 0
    twice: int = 0
    odd: int = 0
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    files: int = 0
    first_at_s: float | None = None
    last_at_s: float | None = None
    _groups: dict[tuple[str, ...], Tally] = field(default_factory=dict)
    _refusals: dict[Refused, Refusals] = field(default_factory=dict)

    def add(self, played: Played, *, has_request: bool = True) -> None:
        """
        Count what became of one call.
        """
        entry = played.entry
        self.total.add(played)
        key = tuple([kind.of(entry) for kind in self.by])
        tally = self._groups.get(key)
        if tally is None:
            if len(self._groups) < MOST_GROUPS:
                tally = self._groups[key] = Tally()
            else:
                tally = self.others = self.others or Tally()
        tally.add(played)
        for refused in played.refused:
            self._refused(refused).add(entry)
        self.warned.update(entry.exceeded)
        self.tripped.update(played.tripped)
        self.without_request += not has_request
        self.odd += bool(entry.anomalies)
        self.first_at_s = entry.at_s if self.first_at_s is None else self.first_at_s
        self.last_at_s = entry.at_s

    def add_problem(self, place: str, why: str) -> None:
        """
        Count what could not be read or priced.
        """
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(place, why))

    @property
    def names(self) -> tuple[str, ...]:
        """
        Of what calls are put together by.
        """
        return tuple(kind.name for kind in self.by)

    @property
    def groups(self) -> list[Group]:
        """
        In the order of time where calendar kinds come first, else the dearest first.
        """
        found = sorted(
            (Group(key, tally) for key, tally in self._groups.items()),
            key=lambda group: (-group.tally.logged.nanousd, -group.tally.logged.calls, group.key),
        )
        times = [place for place, kind in enumerate(self.by) if is_calendar(kind)]
        found.sort(key=lambda group: [group.key[place] for place in times])
        return found

    @property
    def refusals(self) -> list[tuple[Refused, Refusals]]:
        """
        By what they would have saved, the most first.
        """
        return sorted(self._refusals.items(), key=lambda pair: (-pair[1].nanousd, -pair[1].calls, pair[0]))

    def _refused(self, refused: Refused) -> Refusals:
        known = self._refusals.get(refused)
        if known is not None:
            return known
        if len(self._refusals) >= MOST_GROUPS:
            # One line for the rest of each budget's balances.
            return self._refusals.setdefault(Refused(refused.by, (("", "others"),)), Refusals())
        per = tuple([(tag, bounded(value)) for tag, value in refused.per])
        return self._refusals.setdefault(Refused(refused.by, per), Refusals())
