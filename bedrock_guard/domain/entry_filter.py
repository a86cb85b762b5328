"""
Which entries of a journal somebody wants to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bedrock_guard.domain.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """
    Which entries to read; None does not narrow.

    Attributes:
        since, until: Seconds since 1970; from `since` on, up to but not including `until`.
        outcome, operation, model, model_id, family, region, service_tier, basis: Equal to.
        tags: Each of these tags has this value.
        cost_nanousd_min, cost_nanousd_max: Both included; a call without a price is in neither.
        tokens_min, tokens_max: Of `tokens_of`, both included.
        attempts_min: At least so many HTTP requests.
        status, error_code: That of at least one of the attempts.
    """

    since: float | None = None
    until: float | None = None
    outcome: str | None = None
    operation: str | None = None
    model: str | None = None
    model_id: str | None = None
    family: str | None = None
    region: str | None = None
    service_tier: str | None = None
    basis: str | None = None
    tags: Mapping[str, str] | None = None
    cost_nanousd_min: int | None = None
    cost_nanousd_max: int | None = None
    tokens_min: int | None = None
    tokens_max: int | None = None
    attempts_min: int | None = None
    status: int | None = None
    error_code: str | None = None

    def admits(self, entry: Entry) -> bool:
        """
        Whether *entry* is among those asked for.
        """
        return (
            _is_between(entry.at_s, self.since, None)
            and (self.until is None or entry.at_s < self.until)
            and all(
                wanted is None or getattr(entry, name) == wanted
                for name in EQUAL_FILTERS
                for wanted in (getattr(self, name),)
            )
            and all(entry.tags.get(tag) == value for tag, value in (self.tags or {}).items())
            and _is_between(entry.cost_nanousd, self.cost_nanousd_min, self.cost_nanousd_max)
            and (
                (self.tokens_min is None and self.tokens_max is None)
                or _is_between(tokens_of(entry), self.tokens_min, self.tokens_max)
            )
            and _is_between(len(entry.attempts), self.attempts_min, None)
            and (self.status is None or any(each.status == self.status for each in entry.attempts))
            and (
                self.error_code is None or any(each.error_code == self.error_code for each in entry.attempts)
            )
        )


# Names that an entry and its filter have in common.
EQUAL_FILTERS: Final = (
    "outcome",
    "operation",
    "model",
    "model_id",
    "family",
    "region",
    "service_tier",
    "basis",
)
TOKENS_SUFFIX: Final = "_tokens"


def tokens_of(entry: Entry) -> int:
    """
    Every token that *entry* is charged for: input, output, and of caches.
    """
    return sum(quantity for meter, quantity in entry.usage.items() if meter.endswith(TOKENS_SUFFIX))


def _is_between(figure: float | None, least: float | None, most: float | None) -> bool:
    if least is None and most is None:
        return True
    return figure is not None and (least is None or figure >= least) and (most is None or figure <= most)
