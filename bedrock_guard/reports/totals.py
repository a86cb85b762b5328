"""
What several calls come to: how many, how many tokens, what they cost, and how sure that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import CACHE_READ, OUTPUT_TOKENS, total_input

# Entries that stand for no call that has ended: a job that goes on has another one when it does.
NO_CALLS: Final = frozenset(
    {"pending", "refused", "would_refuse", "stop", "resume", "top_up", "judged", "started"}
)


@dataclass(slots=True)
class Totals:
    """
    Sums over entries.

    Attributes:
        calls: That were made; one that was let through by a shadow is one.
        refused: Calls that a budget, a stop or a breaker did not let go.
        would_refuse: Calls that a shadow would not have.
        nanousd: What it cost.
        estimated_nanousd, expired_nanousd: The part of it that AWS did not report: an answer was lost, or a
            process died; the rest is `reported_nanousd`.
        unpriced: Calls whose model has no price, so that the cost leaves them out.
        usage: Quantities by meter.
    """

    calls: int = 0
    refused: int = 0
    would_refuse: int = 0
    nanousd: int = 0
    estimated_nanousd: int = 0
    expired_nanousd: int = 0
    unpriced: int = 0
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def reported_nanousd(self) -> int:
        """
        The part of the cost that rests on what AWS reported.
        """
        return self.nanousd - self.estimated_nanousd - self.expired_nanousd

    @property
    def input_tokens(self) -> int:
        """
        All that were sent, cached or not.
        """
        return total_input(self.usage)

    @property
    def output_tokens(self) -> int:
        """
        All that came back.
        """
        return self.usage.get(OUTPUT_TOKENS, 0)

    @property
    def cache_hit_share(self) -> Fraction | None:
        """
        The share of the tokens sent that was read from a cache; None where none were sent.
        """
        sent = self.input_tokens
        return Fraction(self.usage.get(CACHE_READ, 0), sent) if sent else None

    def add(self, entry: Entry) -> None:
        """
        Count *entry*: a call, or refusals that were alike.
        """
        if entry.outcome in NO_CALLS:
            if entry.outcome == "refused":
                self.refused += entry.count
            elif entry.outcome == "would_refuse":
                self.would_refuse += entry.count
            return
        self.calls += entry.count
        cost = entry.cost_nanousd
        if cost is None:
            self.unpriced += entry.count
        else:
            self.nanousd += cost
            if entry.basis == "expired":
                self.expired_nanousd += cost
            elif entry.basis != "reported":  # a basis of a newer version is weaker, too
                self.estimated_nanousd += cost
        usage = self.usage
        for meter, quantity in entry.usage.items():
            usage[meter] = usage.get(meter, 0) + quantity

    def merge(self, other: Totals) -> None:
        """
        Count what *other* counts, too.
        """
        for name in self.__slots__:
            if name != "usage":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for meter, quantity in other.usage.items():
            self.usage[meter] = self.usage.get(meter, 0) + quantity
