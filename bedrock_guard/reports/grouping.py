"""
By what entries can be put together: a word of theirs, a tag, or the calendar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from hashlib import sha256
from operator import attrgetter
from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.moments import CALENDAR, moment_of
from bedrock_guard.reports.totals import Totals

TAG: Final = "tag:"
# How many groups are told apart; who has more users than that narrows by time or tag.
MOST_GROUPS: Final = 50_000
# Longer values are told apart by a digest, so that they cannot fill the memory.
_LONGEST: Final = 256

_WORDS: Final[Mapping[str, str]] = {
    "model": "model",
    "model_id": "model_id",
    "family": "family",
    "operation": "operation",
    "tier": "service_tier",
    "latency": "latency",
    "region": "region",
    "outcome": "outcome",
    "basis": "basis",
}
KINDS: Final = (*_WORDS, *CALENDAR, f"{TAG}NAME")


class Kind(NamedTuple):
    """
    One way to put entries together: its name, and the value of an entry, `""` for none.
    """

    name: str
    of: Callable[[Entry], str]


class Group(NamedTuple):
    """
    The entries that have these values in common.
    """

    key: tuple[str, ...]
    totals: Totals


class Groups:
    """
    Totals by key, of so many keys at most.

    Attributes:
        rest: What came after there were too many keys, and belongs to none of them.
    """

    def __init__(self, most: int = MOST_GROUPS) -> None:
        self._most = most
        self._totals: dict[tuple[str, ...], Totals] = {}
        self.rest: Totals | None = None

    def add(self, key: tuple[str, ...], entry: Entry) -> None:
        """
        Count *entry* with those of *key*.
        """
        totals = self._totals.get(key)
        if totals is None:
            if len(self._totals) < self._most:
                totals = self._totals[key] = Totals()
            else:
                totals = self.rest = self.rest or Totals()
        totals.add(entry)

    def dearest_first(self) -> list[Group]:
        """
        Every group, by its cost; those that cost the same by their calls, then by name.
        """
        return sorted(
            (Group(key, totals) for key, totals in self._totals.items()),
            key=lambda group: (-group.totals.nanousd, -group.totals.calls, group.key),
        )


def read_kinds(names: Iterable[str], zone: tzinfo) -> list[Kind]:
    """
    What *names* stand for; calendar ones in *zone*.

    Raises:
        ConfigurationError: One is unknown, or comes twice.
    """
    found: list[Kind] = []
    for name in names:
        if name in (kind.name for kind in found):
            raise ConfigurationError(f"{name!r} comes twice.")
        found.append(_read_kind(name, zone))
    return found


def is_calendar(kind: Kind) -> bool:
    """
    Whether its values are in the order of time.
    """
    return kind.name in CALENDAR


def bounded(value: str) -> str:
    """
    *value*, or where it is very long, its beginning and a digest of it all.
    """
    if len(value) <= _LONGEST:
        return value
    digest = sha256(value.encode(errors="backslashreplace")).hexdigest()[:12]
    return f"{value[:_LONGEST]}… sha256 {digest}"


def _read_kind(name: str, zone: tzinfo) -> Kind:
    if name in _WORDS:
        word = attrgetter(_WORDS[name])
        return Kind(name, lambda entry: word(entry) or "")
    if name in CALENDAR:
        show = CALENDAR[name]
        return Kind(name, lambda entry: show(moment_of(entry.at_s, zone)))
    tag = name.removeprefix(TAG)
    if tag == name or not tag:
        raise ConfigurationError(f"{name!r} is nothing to group by; there are {', '.join(KINDS)}.")
    return Kind(name, lambda entry: bounded(entry.tags.get(tag) or ""))
