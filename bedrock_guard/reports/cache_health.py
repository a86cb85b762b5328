"""
How well prompt caches work: the share of input that is read from them, what the rest costs, and what it
could have saved.

A cache that is turned off by mistake changes no answer and no error rate, only the bill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, TypeAlias

from bedrock_guard.domain.cost import round_up
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import ReadsEntries, read_all_entries
from bedrock_guard.domain.usage import CACHE_READ, CACHE_WRITE_1H, CACHE_WRITE_5M, INPUT_TOKENS, total_input
from bedrock_guard.pricing.calculate import rates_for
from bedrock_guard.pricing.unit_prices import UnitPrices
from bedrock_guard.reports.grouping import MOST_GROUPS, Kind, bounded
from bedrock_guard.reports.totals import NO_CALLS

PricesOf: TypeAlias = Callable[[Entry], UnitPrices | None]
Offender: TypeAlias = tuple[str, str]
"""A tag, and a value of it."""

_WRITES: Final = (CACHE_WRITE_5M, CACHE_WRITE_1H)


@dataclass(slots=True)
class CacheFigures:
    """
    Sums over calls whose usage AWS reported; money in steps of 1e-16 USD, at the prices of their day.

    Attributes:
        calls: How many there are.
        uncached_tokens, read_tokens, written_tokens: Input, by what caches had to do with it.
        uncached_steps: What the uncached input costs.
        saved_steps: How much less what was read costs than uncached, less what writing costs more; below 0
            where more was written than came back.
        could_save_steps: How much less the uncached input would cost, were all of it read from a cache: the
            most that there is to gain. 0 for models without a price for that.
        unpriced: Calls of which nobody knows the prices; their money is left out.
    """

    calls: int = 0
    uncached_tokens: int = 0
    read_tokens: int = 0
    written_tokens: int = 0
    uncached_steps: int = 0
    saved_steps: int = 0
    could_save_steps: int = 0
    unpriced: int = 0

    @property
    def hit_share(self) -> Fraction | None:
        """
        The share of the input that was read from a cache; None where there was no input.
        """
        sent = self.uncached_tokens + self.read_tokens + self.written_tokens
        return Fraction(self.read_tokens, sent) if sent else None

    @property
    def uncached_nanousd(self) -> int:
        """
        What the uncached input costs.
        """
        return round_up(self.uncached_steps)

    @property
    def saved_nanousd(self) -> int:
        """
        What caches have saved.
        """
        return round_up(self.saved_steps)

    @property
    def could_save_nanousd(self) -> int:
        """
        The most that they could save besides.
        """
        return round_up(self.could_save_steps)

    def add(self, other: CacheFigures) -> None:
        """
        Count what *other* counts, too.
        """
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class CacheHealth:
    """
    How well caches work.

    Attributes:
        over_time: By hour, day, week or month, in order.
        offenders: By tag and value, those first that could save most.
        left_out: Calls whose usage is an estimate: what of it would have been read, nobody knows.
        is_cut: Whether there were more values of tags than are told apart.
    """

    total: CacheFigures = field(default_factory=CacheFigures)
    over_time: Sequence[tuple[str, CacheFigures]] = ()
    offenders: Sequence[tuple[Offender, CacheFigures]] = ()
    left_out: int = 0
    is_cut: bool = False


def read_cache_health(
    ledger: ReadsEntries,
    where: EntryFilter,
    *,
    time: Kind,
    prices_of: PricesOf,
    tags: Sequence[str] = (),
    most_groups: int = MOST_GROUPS,
) -> CacheHealth:
    """
    How well caches work for the calls that *where* admits; by *tags*, or by all that they have.
    """
    health = CacheHealth()
    over_time: dict[str, CacheFigures] = {}
    offenders: dict[Offender, CacheFigures] = {}
    for entry in read_all_entries(ledger, where):
        if entry.outcome in NO_CALLS or not total_input(entry.usage):
            continue
        if entry.basis != "reported":
            health.left_out += entry.count
            continue
        figures = _figures(entry, prices_of)
        health.total.add(figures)
        over_time.setdefault(time.of(entry), CacheFigures()).add(figures)
        for tag in tags or entry.tags:
            offender = bounded(tag), bounded(entry.tags.get(tag) or "")
            if offender in offenders or len(offenders) < most_groups:
                offenders.setdefault(offender, CacheFigures()).add(figures)
            else:
                health.is_cut = True
    health.over_time = sorted(over_time.items())
    health.offenders = sorted(
        offenders.items(), key=lambda each: (-each[1].could_save_steps, -each[1].uncached_tokens, each[0])
    )
    return health


def _figures(entry: Entry, prices_of: PricesOf) -> CacheFigures:
    usage, prices = entry.usage, prices_of(entry)
    uncached, read = usage.get(INPUT_TOKENS, 0), usage.get(CACHE_READ, 0)
    figures = CacheFigures(entry.count, uncached, read, sum(usage.get(meter, 0) for meter in _WRITES))
    rates = {} if prices is None else rates_for(usage, prices)
    full = rates.get(INPUT_TOKENS)
    if full is None:
        figures.unpriced = entry.count
        return figures
    cached = rates.get(CACHE_READ, full)
    figures.uncached_steps = uncached * full
    figures.could_save_steps = uncached * max(0, full - cached)
    figures.saved_steps = read * (full - cached) - sum(
        usage.get(meter, 0) * (rates.get(meter, full) - full) for meter in _WRITES
    )
    return figures
