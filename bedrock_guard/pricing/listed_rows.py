"""
Records of AWS's price list as prices of ours: what each is for, and what was left out and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.meters import FREE
from bedrock_guard.pricing.model_names import SAME, find_model
from bedrock_guard.pricing.overlay import is_to_come
from bedrock_guard.pricing.places import CALLED_FROM, GLOBAL, is_priced_in_usd, is_region, places_of_region
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_records import Record, read_price
from bedrock_guard.pricing.usage_types import Scope, Unread, UsageType, read_usage_type


class Key(NamedTuple):
    """
    What a price is for. *model* None is what costs the same with every model.
    """

    model: str | None
    scope: Scope
    region: str
    variant: str
    above_input_tokens: int
    meter: str

    @property
    def where(self) -> tuple[str, ...]:
        """
        The places at which it holds: a regional price also for profiles called from there.
        """
        if self.model is None:
            return (self.region,)
        if self.scope == "global":
            return (f"{GLOBAL}{CALLED_FROM}{self.region}",)
        return places_of_region(self.region)

    def __str__(self) -> str:
        band = f" above {self.above_input_tokens}" if self.above_input_tokens else ""
        tier = "" if self.variant == "default" else f" {self.variant}"
        return f"{self.model or 'any model'} {self.meter}{tier}{band}, {self.scope} in {self.region}"


class Value(NamedTuple):
    """
    A price, and where in AWS's list it is. The dearest of several compares the highest.
    """

    steps: int
    sku: str
    rate_code: str
    effective_from: date
    version: str
    published: date


class Reported(NamedTuple):
    """
    A record that gave no price, or one that was chosen between several.
    """

    sku: str
    usage_type: str
    region: str
    reason: str


@dataclass(slots=True)
class Reading:
    """
    What was read, and what was not.

    Attributes:
        skipped: How many records are of what no call pays, such as provisioned throughput.
        doubled: Where AWS has two prices for one thing; the dearer counts.
    """

    prices: dict[Key, Value] = field(default_factory=dict)
    refused: list[Reported] = field(default_factory=list)
    unmatched: list[Reported] = field(default_factory=list)
    doubled: list[Reported] = field(default_factory=list)
    skipped: int = 0


def read_records(records: Iterable[Record], known: PriceList) -> Reading:
    """
    The prices in *records*; models and thresholds are those that *known* has.
    """
    reading = Reading()
    models = frozenset(known.models())
    makers = frozenset(model.partition(".")[0] for model in models)
    for record in records:
        read = read_usage_type(
            record.service, record.attributes, lambda name: find_model(name, models, makers)
        )
        if isinstance(read, Unread):
            _report(reading, record, read)
            continue
        value = _read_value(reading, record, read)
        above = _threshold(known, read.model) if read.is_long_context else 0
        if isinstance(value, Unread) or above is None:
            unread = value if isinstance(value, Unread) else Unread("unmatched", "no threshold is known")
            _report(reading, record, unread)
            continue
        region = record.attributes["regionCode"]
        for model in _ids_of(read.model):
            _add(reading, record, Key(model, read.scope, region, read.variant, above, read.meter), value)
    return reading


def _read_value(reading: Reading, record: Record, read: UsageType) -> Value | Unread:
    region = record.attributes.get("regionCode", "")
    if not is_region(region):
        return Unread("refused", f"a region of {region!r}")
    if is_to_come(record.published):
        return Unread("refused", f"published on {record.published}, which is to come")
    price = read_price(record, read.kind)
    if isinstance(price, str):
        return Unread("refused", price)
    if not is_priced_in_usd(region):
        return Unread("refused", f"{region} is not billed in USD")
    if price.steps == 0 and read.meter not in FREE:
        return Unread("refused", "a price of 0")
    if price.note:
        _note(reading.doubled, record, price.note)
    return Value(
        price.steps, record.sku, price.rate_code, price.effective_from, record.version, record.published
    )


def _add(reading: Reading, record: Record, key: Key, value: Value) -> None:
    present = reading.prices.get(key)
    if present is not None and present.steps != value.steps:
        other = present.sku if present.sku != record.sku else "another"
        _note(reading.doubled, record, f"{key}: another price in {other}, the dearer counts")
    reading.prices[key] = value if present is None else max(present, value)


def _report(reading: Reading, record: Record, unread: Unread) -> None:
    if unread.verdict == "skipped":
        reading.skipped += 1
    else:
        _note(reading.refused if unread.verdict == "refused" else reading.unmatched, record, unread.reason)


def _note(reports: list[Reported], record: Record, reason: str) -> None:
    attributes = record.attributes
    reports.append(
        Reported(record.sku, attributes.get("usagetype", ""), attributes.get("regionCode", ""), reason)
    )


def _ids_of(model: str | None) -> Iterator[str | None]:
    yield from SAME if model in SAME else (model,)


def _threshold(known: PriceList, model: str | None) -> int | None:
    """
    Above how many tokens the model's long context begins: AWS's list has the price and not the number.
    """
    found = None if model is None else known.model_prices(parse_model_id(model))
    bands = () if found is None else {row.above_input_tokens for row in found.rows}
    return min((above for above in bands if above), default=None)
