"""
The price list: unit prices by model, place, tier, latency and date.

It holds AWS's list prices, not an account's: private offers, credits, committed
throughput and taxes are not in it. Files are read when a maker is first asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.call import ModelLimits, ModelRef
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing import offers
from bedrock_guard.pricing.offers import Offer
from bedrock_guard.pricing.places import find_places, is_priced_in_usd, is_us_gov
from bedrock_guard.pricing.rows import INDEX, ModelPrices, read_model, read_packaged, read_prices
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

__all__ = ["PriceBand", "PriceList", "UnitPrices"]

_Dated: TypeAlias = tuple[list[date], list[UnitPrices]]

# Model ids and regions are a caller's strings: without an end the cache would have none.
_MOST_CACHED: Final = 4096


class PriceList:
    """
    Unit prices, read from files as `rows` describes them.

    Attributes:
        as_of: The day its facts were gathered.
    """

    def __init__(self, read: Callable[[str], Mapping[str, Any]]) -> None:
        """
        Read the index; *read* gives a file by its name.
        """
        index = read(INDEX)
        self.as_of = date.fromisoformat(index["as_of"])
        self._read = read
        self._makers: tuple[str, ...] = tuple(index["makers"])
        self._any_model = read_prices(INDEX, index["any_model"]["usd"])
        self._dearest = _unit_prices("any model", [PriceBand(0, read_prices(INDEX, index["dearest"]))])
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._models: dict[str, ModelPrices | None] = {}
        self._found: dict[tuple[str | None, ...], _Dated] = {}

    @classmethod
    def packaged(cls) -> PriceList:
        """
        The list that comes with this package.
        """
        return cls(read_packaged)

    def find(
        self,
        model: ModelRef,
        *,
        region: str | None,
        service_tier: str = "default",
        latency: str = "standard",
        at: datetime | None = None,
    ) -> UnitPrices:
        """
        What *model*'s meters cost when it is called in *region*.

        Where the list leaves it open, the dearest that could apply: a bare id
        costs what its geography costs, an unknown geography or region what the
        dearest known one does. *at* None is the newest price.

        Raises:
            UnpricedModel: The list has no price for that.
        """
        region = region or model.region
        key = (model.model, model.geography, region, service_tier, latency)
        found = self._found.get(key)
        if found is None:
            found = self._look_up(model, region, service_tier, latency)
            if len(self._found) >= _MOST_CACHED:
                self._found.clear()
            self._found[key] = found
        days, prices = found
        if at is None or len(days) == 1:
            return prices[-1]
        return prices[max(0, bisect_right(days, at.astimezone(UTC).date()) - 1)]

    def limits(self, model: ModelRef) -> ModelLimits:
        """
        What the model takes and gives at most; all None for one that the list does not know.
        """
        found = self._model(model)
        return _UNKNOWN if found is None else found.limits

    def dearest(self) -> UnitPrices:
        """
        The dearest price in the list of every meter in it: a bound of last resort.

        Leaves out the `ultrafast` tier, which no request can ask for by accident
        and which costs six times as much as any other.
        """
        return self._dearest

    def any_model(self) -> UnitPrices:
        """
        The meters that cost the same with every model and with none: guardrails, searches.
        """
        return _unit_prices("any model", [PriceBand(0, self._any_model)])

    def models(self) -> Iterator[str]:
        """
        The base ids of all models in the list; reads all of its files.
        """
        for maker in self._makers:
            yield from self._maker(maker)

    def _look_up(self, model: ModelRef, region: str | None, service_tier: str, latency: str) -> _Dated:
        known = self._model(model)
        days: list[date] = []
        prices: list[UnitPrices] = []
        if known is not None and is_priced_in_usd(region):
            for day in known.starts():
                offer = _offer(
                    known, model.geography, region, service_tier=service_tier, latency=latency, day=day
                )
                if offer is not None:
                    bands = [PriceBand(above, band | self._any_model) for above, band in offer.bands.items()]
                    days.append(day)
                    prices.append(
                        UnitPrices(
                            known.model,
                            model.geography,
                            region,
                            service_tier,
                            latency,
                            tuple(bands),
                            offer.derived,
                        )
                    )
        if not prices:
            raise UnpricedModel(self._refusal(model, region, service_tier, latency))
        return days, prices

    def _model(self, model: ModelRef) -> ModelPrices | None:
        name = model.model
        if name is None:
            return None
        maker = name.partition(".")[0]
        if maker not in self._makers:
            return None
        if name not in self._models:
            if len(self._models) >= _MOST_CACHED:
                self._models.clear()
            entries = self._maker(maker)
            spelling = next((each for each in _spellings(name) if each in entries), None)
            self._models[name] = None if spelling is None else read_model(spelling, entries[spelling])
        return self._models[name]

    def _maker(self, maker: str) -> Mapping[str, Any]:
        if maker not in self._entries:
            self._entries[maker] = self._read(maker)["models"]
        return self._entries[maker]

    def _refusal(self, model: ModelRef, region: str | None, service_tier: str, latency: str) -> str:
        tier = "" if service_tier == "default" else f", tier {service_tier}"
        speed = "" if latency == "standard" else f", latency {latency}"
        return (
            f"No price for {model.model_id!r} in {region or 'any region'}{tier}{speed} "
            f"(price list of {self.as_of}).\n"
            + ("" if model.model else "This id does not tell its model. ")
            + 'Set on_unpriced = "allow" to let such calls pass without a price, or "upper_bound" to '
            "charge them at the dearest price of the list."
        )


_UNKNOWN: Final = ModelLimits()


def _spellings(name: str) -> tuple[str, ...]:
    """
    An id without a revision in the list stands for all of the model's revisions; one
    asked for without is revision 0.
    """
    return name, f"{name}:0", name.partition(":")[0]


def _offer(
    model: ModelPrices, geography: str, region: str | None, *, service_tier: str, latency: str, day: date
) -> Offer | None:
    places = find_places(model.places, geography, region)
    found = [
        offers.read_offer(model, place, service_tier=service_tier, latency=latency, day=day)
        for place in places
    ]
    known = [offer for offer in found if offer is not None]
    if not known:
        return None
    is_gov = is_us_gov(geography) or is_us_gov(region)
    has_gov = any(is_us_gov(place) for place in places)
    return (
        offers.times(offers.dearest(known), offers.US_GOV)
        if is_gov and not has_gov
        else offers.dearest(known)
    )


def _unit_prices(name: str, bands: list[PriceBand]) -> UnitPrices:
    return UnitPrices(name, "any", None, "any", "any", tuple(bands))
