"""
The files of the price list: what is in them, and how they are read.

`index.json` names the makers and holds what costs the same with every model;
`<maker>.json` holds, for each model, its limits and rows such as

    {"where": ["eu", "us"], "above_input_tokens": 200000,
     "usd": {"input_tokens": "0.0000066", …}, "source": "litellm"}

*where* lists geographies, regions for calls inside one, or `"eu@eu-west-1"` for
a geography called from one region. Absent keys mean: the `default` tier,
`standard` latency, above 0 tokens, for all time. A price is a decimal string in
USD per unit, or `"free"`; `"0"` is neither. *source* is one for the row or one
for each meter, by the names in the index, which grades them. Rows of an overlay
also say when they were *published*, and by which *sku* and *rate_code*.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import resources
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.domain.cost import PRICE_STEPS_PER_USD
from bedrock_guard.domain.usage import CACHE_READ
from bedrock_guard.errors import ConfigurationError

INDEX: Final = "index"
STANDARD: Final = "default"
OPTIMIZED: Final = "optimized"
DERIVED: Final = "derived"
FREE: Final = "free"

Layer: TypeAlias = Literal["packaged", "overlay", "own"]

_PRICE: Final = re.compile(r"(?P<whole>[0-9]{1,9})(?:\.(?P<fraction>[0-9]{1,16})0*)?")


class Origin(NamedTuple):
    """
    Where one price is from.

    Attributes:
        source: By the names in the index.
        effective_from, effective_to: As the row said, before layers were merged.
        published, rate_code: Of the price list that an overlay was made from.
    """

    layer: Layer
    source: str
    effective_from: date | None = None
    effective_to: date | None = None
    published: date | None = None
    rate_code: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """
    Prices that hold together: at these places, for this variant, band and time.

    Attributes:
        variant: A service tier, or `OPTIMIZED`.
        prices: Meter -> steps of 1e-16 USD per unit.
        derived: Meters whose source says that the price was worked out.
        origins: Meter -> where its price is from.
    """

    where: tuple[str, ...]
    variant: str
    above_input_tokens: int
    effective_from: date | None
    effective_to: date | None
    prices: Mapping[str, int]
    derived: frozenset[str]
    origins: Mapping[str, Origin]

    def holds_on(self, day: date) -> bool:
        """
        Whether *day* is in `[effective_from, effective_to)`.
        """
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_to is None or day < self.effective_to
        )


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """
    All that the list has on one model.
    """

    model: str
    limits: ModelLimits
    rows: tuple[Row, ...]

    @property
    def places(self) -> frozenset[str]:
        """
        Where the list has a standard price for it.
        """
        return frozenset(place for row in self.rows if row.variant == STANDARD for place in row.where)

    @property
    def has_cache(self) -> bool:
        """
        Whether a source knows what it costs to read its prompts from a cache.
        """
        return any(CACHE_READ in row.prices and CACHE_READ not in row.derived for row in self.rows)

    def starts(self) -> list[date]:
        """
        The days on which a price changed, the first one before all time.
        """
        return sorted({row.effective_from or date.min for row in self.rows} | {date.min})

    def find(self, place: str, variant: str, day: date) -> list[Row]:
        """
        The bands of one variant at one place on one day; empty when there are none.
        """
        return [
            row for row in self.rows if row.variant == variant and place in row.where and row.holds_on(day)
        ]


def read_packaged(name: str) -> Mapping[str, Any]:
    """
    One file of the packaged list, by its name without `.json`.
    """
    file = resources.files("bedrock_guard.pricing").joinpath("data", f"{name}.json")
    content: Mapping[str, Any] = json.loads(file.read_bytes())
    return content


def read_model(model: str, entry: Mapping[str, Any], layer: Layer = "packaged") -> ModelPrices:
    """
    One model of a maker's file.

    Raises:
        ConfigurationError: A price in it is none.
    """
    limits = ModelLimits(entry.get("max_input_tokens"), entry.get("max_output_tokens"))
    return ModelPrices(model, limits, tuple(_read_row(model, row, layer) for row in entry["rows"]))


def read_prices(name: str, usd: Mapping[str, str]) -> dict[str, int]:
    """
    Decimal strings as steps of 1e-16 USD; *name* is for the error.
    """
    return {
        meter: 0 if price == FREE else parse_price(f"{name}, {meter}", price) for meter, price in usd.items()
    }


def parse_price(name: str, text: object) -> int:
    """
    A price above 0 in steps of 1e-16 USD, exact.

    Raises:
        ConfigurationError: It is not a decimal string, is 0, or has digits below 1e-16.
    """
    # By digits, not `Decimal`: that would round to whatever context the program has set.
    found = _PRICE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(
            f"{name}: {text!r} is not a price. It is USD per unit, a decimal string, at most 16 decimals."
        )
    steps = int(found["whole"] + (found["fraction"] or "").ljust(16, "0"))
    if steps == 0:
        raise ConfigurationError(
            f'{name}: a price of {text!r} would be no price. Write "free" for what is free.'
        )
    return steps


def show_price(steps: int) -> str:
    """
    Steps of 1e-16 USD as the files have them: a decimal string, or `"free"`.
    """
    whole, fraction = divmod(steps, PRICE_STEPS_PER_USD)
    return f"{whole}.{fraction:016}".rstrip("0").rstrip(".") if steps else FREE


def _read_row(model: str, row: Mapping[str, Any], layer: Layer) -> Row:
    prices = read_prices(model, row["usd"])
    start, end = _day(row.get("effective_from")), _day(row.get("effective_to"))
    source = row["source"]
    sources = dict.fromkeys(prices, source) if isinstance(source, str) else {m: source[m] for m in prices}
    published, rate_code = _day(row.get("published")), row.get("rate_code")
    return Row(
        where=tuple(row["where"]),
        variant=row.get("service_tier") or row.get("latency") or STANDARD,
        above_input_tokens=row.get("above_input_tokens", 0),
        effective_from=start,
        effective_to=end,
        prices=prices,
        derived=frozenset(meter for meter, named in sources.items() if named.startswith(DERIVED)),
        origins={
            meter: Origin(layer, named, start, end, published, rate_code) for meter, named in sources.items()
        },
    )


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
