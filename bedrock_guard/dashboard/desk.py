"""
What all views need: the ledger and the settings, and what was asked in an address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from starlette.requests import Request

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.cli.entry_options import read_where
from bedrock_guard.cli.reading import Reading
from bedrock_guard.dashboard.live import Hub
from bedrock_guard.dashboard.rendering import Pairs
from bedrock_guard.dashboard.sums import Sums
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Clock
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.entry_prices import EntryPrices

# As the options of `entries` are named.
FILTERS: Final[Mapping[str, str]] = {
    "since": "since",
    "until": "until",
    "model": "model",
    "model_id": "model_id",
    "operation": "operation",
    "family": "family",
    "region": "region",
    "tier": "service_tier",
    "outcome": "outcome",
    "basis": "basis",
    "cost_min": "cost_min",
    "cost_max": "cost_max",
    "tokens_min": "tokens_min",
    "tokens_max": "tokens_max",
    "attempts_min": "attempts_min",
    "status": "status",
    "error_code": "error_code",
}
NUMBERS: Final = frozenset({"tokens_min", "tokens_max", "attempts_min", "status"})
LIVE_FILTERS: Final = ("model", "operation", "family", "outcome")
TAG: Final = "tag"
# Each is looked for in every entry.
_MOST_TAGS: Final = 20
# SQLite counts no further.
_LARGEST: Final = 2**63 - 1


class NotFound(Exception):
    """
    What was asked for is not in the ledger.
    """


@dataclass(frozen=True, slots=True)
class Desk:
    """
    What is open, for every request.

    Attributes:
        entry_prices: What units of an entry's call cost, made on use: a price list is large.
    """

    reading: Reading
    matcher: Matcher
    clock: Clock
    sums: Sums
    hub: Hub
    entry_prices: Callable[[], EntryPrices]

    @property
    def zone(self) -> ZoneInfo:
        """
        That of the budgets.
        """
        return self.reading.zone


@dataclass(frozen=True, slots=True)
class View:
    """
    An answer: the same as a page and as data.

    Attributes:
        template: The page's.
        context: What the template shows.
        data: What JSON has.
        given: Filters of the address, for links that keep them.
    """

    template: str
    context: Mapping[str, Any]
    data: Mapping[str, Any]
    given: Pairs = ()


def read_given(request: Request, names: Iterable[str] = FILTERS) -> Pairs:
    """
    The filters in the address that are not empty, in the order of the options; tags at the end.
    """
    params = request.query_params
    pairs = [(name, params[name].strip()) for name in names if params.get(name, "").strip()]
    return [*pairs, *((TAG, tag) for tag in dict.fromkeys(params.getlist(TAG)) if tag)]


def where_of(given: Pairs, zone: ZoneInfo) -> EntryFilter:
    """
    The entries that *given* asks for.

    Raises:
        ConfigurationError: A filter cannot be understood; it is quoted.
    """
    filters: dict[str, Any] = {
        FILTERS[name]: _number(name, value) if name in NUMBERS else value
        for name, value in given
        if name != TAG
    }
    tags = [value for name, value in given if name == TAG]
    if len(tags) > _MOST_TAGS:
        raise ConfigurationError(f"{len(tags)} tags are too many; {_MOST_TAGS} can be asked for at once.")
    return read_where(zone, tags, **filters)


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(_LARGEST)) or int(text) > _LARGEST:
        raise ConfigurationError(f"--{name.replace('_', '-')} {text[:30]!r} is no whole number.")
    return int(text)
