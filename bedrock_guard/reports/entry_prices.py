"""
What a unit cost, when and where an entry's call was made; by the account's own prices, where there are.

It is worked out anew, by the price list that is installed now: an entry keeps its cost, not its prices.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import GuardError
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.unit_prices import UnitPrices
from bedrock_guard.reports.moments import moment_of

_MOST_KNOWN: Final = 4096
_DAY_S: Final = 86_400


class _Asked(NamedTuple):
    model_id: str
    model: str | None
    region: str
    service_tier: str
    latency: str
    day: int


class EntryPrices:
    """
    The unit prices of entries, found once for all calls that are alike on a day.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._known: dict[_Asked, UnitPrices | None] = {}

    def of(self, entry: Entry) -> UnitPrices | None:
        """
        Of the call of *entry*; None where nobody knows them.
        """
        asked = _Asked(
            entry.model_id,
            entry.model,
            entry.region,
            entry.service_tier,
            entry.latency,
            int(moment_of(entry.at_s).timestamp()) // _DAY_S,
        )
        if asked not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[asked] = self._find(asked)
        return self._known[asked]

    def _find(self, asked: _Asked) -> UnitPrices | None:
        # An id that no list has was another model's by the settings of its day, which the entry names.
        for name in dict.fromkeys(filter(None, (asked.model_id, asked.model))):
            try:
                return self._planner.find_prices(
                    parse_model_id(name),
                    region=asked.region,
                    service_tier=asked.service_tier,
                    latency=asked.latency,
                    at=moment_of(asked.day * _DAY_S),
                )
            except GuardError:
                continue
        return None
