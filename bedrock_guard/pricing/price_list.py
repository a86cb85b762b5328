"""
The price list: unit prices by model, place, tier, latency and date.

It holds AWS's list prices, not an account's: private offers, credits, committed
throughput and taxes are not in it. Files are read when a maker is first asked for.
An overlay that `sync` wrote is laid over the packaged prices (`layers`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from os import PathLike
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.call import ModelLimits, ModelRef
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing import layers, offers
from bedrock_guard.pricing.offers import Offer
from bedrock_guard.pricing.overlay import Overlay, load_overlay
from bedrock_guard.pricing.places import IN_REGION, find_places, is_priced_in_usd, is_us_gov
from bedrock_guard.pricing.rows import INDEX, STANDARD, ModelPrices, Row, read_model, read_packaged
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

__all__ = ["PriceBand", "PriceList", "UnitPrices"]

_Dated: TypeAlias = tuple[list[date], list[UnitPrices]]

# Model ids and regions are a caller's strings: without an end the cache would have none.
_MOST_CACHED: Final = 4096
# Asked for by name only, and six times as dear as the rest: no bound for a call that did not ask.
_NO_BOUND: Final = "ultrafast"


class PriceList:
    """
    Unit prices, read from files as `rows` describes them.
    """

    def __init__(
        self,
        read: Callable[[str], Mapping[str, Any]],
        read_overlay: Callable[[], Overlay | None] | None = None,
    ) -> None:
        """
        Read the index; *read* gives a file by its name, *read_overlay* what is laid over all of it.
        """
        index = read(INDEX)
        self._as_of = date.fromisoformat(index["as_of"])
        self._read = read
        self._read_overlay = read_overlay
        self._overlay: Overlay | None = None
        self._makers: tuple[str, ...] = tuple(index["makers"])
        self._packaged_any = _read_any_model(index["any_model"])
        self._packaged_dearest = read_model(INDEX, {"rows": [_everywhere(index["dearest"])]}).rows[0].prices
        self._dearest: UnitPrices | None = None
        self._any: ModelPrices | None = None
        self._any_found: dict[str | None, UnitPrices] = {}
        self._as_of_models: dict[str | None, date] = {}
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._models: dict[str, ModelPrices | None] = {}
        self._found: dict[tuple[str | None, ...], _Dated] = {}
        #: What each source in the list can be trusted for, by its name.
        self.grades: Mapping[str, str] = index.get("grades", {})

    @classmethod
    def packaged(cls) -> PriceList:
        """
        The list that comes with this package, and nothing over it.
        """
        return cls(read_packaged)

    @classmethod
    def installed(cls, path: str | PathLike[str] | None = None) -> PriceList:
        """
        The packaged list under the overlay at *path*, if there is one that can be used.

        The overlay is read when a price is first asked for, and once.
        """
        return cls(read_packaged, lambda: load_overlay(path))

    @property
    def as_of(self) -> date:
        """
        The day of the oldest price in it: an overlay makes it newer if it has all models of the list.
        """
        overlay = self.overlay()
        makers = () if overlay is None else {model.partition(".")[0] for model in overlay.models}
        # Seldom true, and cheap to ask: most files need not be read for it.
        if overlay is None or not set(self._makers).issubset(makers):
            return self._as_of
        return min(
            (self.as_of_model(_foundation_model(model)) for model in self.models()), default=self._as_of
        )

    def as_of_model(self, model: ModelRef) -> date:
        """
        The day that the prices of *model* are of: of the newest row that an overlay has of it,
        else that of the packaged list.
        """
        name = model.model
        if self.overlay() is None or name is None:
            return self._as_of
        if name not in self._as_of_models:
            known = self._model(model)
            days = [
                origin.published
                for row in (() if known is None else known.rows)
                for origin in row.origins.values()
                if origin.published is not None
            ]
            if len(self._as_of_models) >= _MOST_CACHED:
                self._as_of_models.clear()
            self._as_of_models[name] = max([self._as_of, *days])
        return self._as_of_models[name]

    @property
    def packaged_as_of(self) -> date:
        """
        The day the packaged facts were gathered, whatever is laid over them.
        """
        return self._as_of

    @property
    def overlay_as_of(self) -> date | None:
        """
        The day of the newest list in the overlay, or None where there is none.
        """
        overlay = self.overlay()
        return None if overlay is None else overlay.as_of

    @property
    def identity(self) -> tuple[date, str]:
        """
        Equal for two lists with the same prices, as far as one process can have two.
        """
        overlay = self.overlay()
        return self._as_of, "" if overlay is None else overlay.sha256

    def overlay(self) -> Overlay | None:
        """
        What is laid over the packaged list, or None.
        """
        if self._read_overlay is not None:
            self._overlay = self._read_overlay()
            self._read_overlay = None
        return self._overlay

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
        if model.kind == "guardrail":
            return self.any_model(region)
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
        return prices[max(0, bisect_right(days, day_of(at)) - 1)]

    def limits(self, model: ModelRef) -> ModelLimits:
        """
        What the model takes and gives at most; all None for one that the list does not know.
        """
        found = self._model(model)
        return _UNKNOWN if found is None else found.limits

    def model_prices(self, model: ModelRef) -> ModelPrices | None:
        """
        All rows on *model*, or None for one that the list does not know.
        """
        return self._model(model)

    def may_cache(self, name: str) -> bool:
        """
        Whether prompts to the model of this base id may be cached: not where the list knows it, and no price
        of reading them.
        """
        found = self._model(_foundation_model(name))
        return found is None or found.has_cache

    def dearest(self) -> UnitPrices:
        """
        The dearest price in the list of every meter in it: a bound of last resort.

        Leaves out the `ultrafast` tier, which no request can ask for by accident
        and which costs six times as much as any other.
        """
        if self._dearest is None:
            prices = dict(self._packaged_dearest)
            for row in self._overlay_rows():
                for meter, price in row.prices.items() if row.variant != _NO_BOUND else ():
                    prices[meter] = max(prices.get(meter, 0), price)
            self._dearest = _unit_prices("any model", [PriceBand(0, prices)])
        return self._dearest

    def any_model(self, region: str | None = None) -> UnitPrices:
        """
        The meters that cost the same with every model and with none: guardrails, searches.

        Without a *region*, what they cost at the dearest.
        """
        found = self._any_found.get(region)
        if found is None:
            if len(self._any_found) >= _MOST_CACHED:
                self._any_found.clear()
            band = PriceBand(0, self._any_model_at(region, date.max))
            found = self._any_found[region] = _unit_prices("any model", [band])
        return found

    def any_model_prices(self) -> ModelPrices:
        """
        The rows of what costs the same with every model.
        """
        if self._any is None:
            overlay = self.overlay()
            over = () if overlay is None else overlay.any_model
            self._any = layers.merge("any model", self._packaged_any, over) if over else self._packaged_any
        return self._any

    def models(self) -> Iterator[str]:
        """
        The base ids of all models in the list; reads all of its files.
        """
        known: set[str] = set()
        for maker in self._makers:
            known.update(self._maker(maker))
            yield from self._maker(maker)
        overlay = self.overlay()
        yield from () if overlay is None else (model for model in overlay.models if model not in known)

    def _look_up(self, model: ModelRef, region: str | None, service_tier: str, latency: str) -> _Dated:
        known = self._model(model)
        days: list[date] = []
        prices: list[UnitPrices] = []
        if known is not None and is_priced_in_usd(region):
            for day in sorted({*known.starts(), *self.any_model_prices().starts()}):
                offer = _offer(
                    known, model.geography, region, service_tier=service_tier, latency=latency, day=day
                )
                if offer is not None:
                    beside = self._any_model_at(region, day)
                    bands = [PriceBand(above, {**band, **beside}) for above, band in offer.bands.items()]
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
        if name not in self._models:
            if len(self._models) >= _MOST_CACHED:
                self._models.clear()
            self._models[name] = self._read_layers(name)
        return self._models[name]

    def _read_layers(self, name: str) -> ModelPrices | None:
        maker, overlay = name.partition(".")[0], self.overlay()
        entries = self._maker(maker) if maker in self._makers else {}
        over = {} if overlay is None else overlay.models
        spelling = next((each for each in _spellings(name) if each in entries or each in over), None)
        if spelling is None:
            return None
        packaged = read_model(spelling, entries[spelling]) if spelling in entries else None
        if packaged is not None and spelling not in over:
            return packaged
        return layers.merge(spelling, packaged, over[spelling])

    def _any_model_at(self, region: str | None, day: date) -> Mapping[str, int]:
        known = self.any_model_prices()
        found = [
            offers.read_offer(known, place, service_tier=STANDARD, latency="standard", day=day)
            for place in find_places(known.places, IN_REGION, region)
        ]
        # Not dearer in GovCloud: no source says so of what has nothing to do with a model.
        return offers.dearest([offer for offer in found if offer is not None]).bands[0]

    def _overlay_rows(self) -> Iterator[Row]:
        overlay = self.overlay()
        if overlay is not None:
            yield from overlay.any_model
            for rows in overlay.models.values():
                yield from rows

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


def day_of(moment: datetime) -> date:
    """
    The day in UTC; at both ends of time, where there is none, the one that is written.
    """
    try:
        return moment.astimezone(UTC).date()
    except OverflowError:
        return moment.date()


def _foundation_model(name: str) -> ModelRef:
    return ModelRef(name, "foundation-model", name, name.partition(".")[0])


def _spellings(name: str) -> tuple[str, ...]:
    """
    Without a revision an id is revision 0, in the list and where it is asked for; another revision
    is another model, with a price once the list has one.
    """
    return name, f"{name}:0", name.removesuffix(":0")


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


def _everywhere(usd: Mapping[str, str], source: object = "any") -> dict[str, Any]:
    return {"where": [IN_REGION], "usd": usd, "source": source}


def _read_any_model(entry: Mapping[str, Any]) -> ModelPrices:
    return read_model("any model", {"rows": [_everywhere(entry["usd"], entry["source"])]})
