"""
AWS's price list as AWS gives it: records from its API, or from its bulk files.

    GetProducts    {"product": {…}, "terms": {"OnDemand": {"<sku>.<term>": {…}}}}, as a string
    a bulk file    {"products": {"<sku>": {…}}, "terms": {"OnDemand": {"<sku>": {"<sku>.<term>": {…}}}}}

What a record is the price of is told by `usage_types`; here it is taken apart and
its price made exact. Nothing is read from a description.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.cost import PRICE_STEPS_PER_USD
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.usage_types import MARKETPLACE, Kind

SERVICES: Final = ("AmazonBedrock", "AmazonBedrockService", MARKETPLACE)

_GZIP: Final = b"\x1f\x8b"
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,30})?(?:[eE]-[0-9]{1,2})?")
# What a unit is called, what it counts, and how many of them one price is for.
_UNITS: Final[Mapping[str, tuple[Kind, int]]] = {
    "1k tokens": ("tokens", 1_000),
    "1m tokens": ("tokens", 1_000_000),
    "tokens": ("tokens", 1),
    "token": ("tokens", 1),
    "image": ("images", 1),
    "images": ("images", 1),
    "second": ("seconds", 1),
    "seconds": ("seconds", 1),
    "textunit": ("text units", 1),
    "textunits": ("text units", 1),
    "text unit": ("text units", 1),
    "text units": ("text units", 1),
    "imageunit": ("text units", 1),
    "search unit": ("queries", 1),
    "search units": ("queries", 1),
    "query": ("queries", 1),
    "queries": ("queries", 1),
}
# The Marketplace says "Units" for everything: a million tokens, or one of anything else.
_MARKETPLACE_TOKENS: Final = 1_000_000


# AWS announces prices weeks ahead; what is further away is a slip, and would end the price before it.
_LONGEST_NOTICE: Final = timedelta(days=366)


class Record(NamedTuple):
    """
    One product of the price list.

    Attributes:
        version, published: Of the price list that it is from.
        terms: Its on-demand terms, as they are; nothing is known of their shape.
    """

    service: str
    sku: str
    attributes: Mapping[str, str]
    version: str
    published: date
    terms: Sequence[Any]


class ListedPrice(NamedTuple):
    """
    What a record says one unit of its meter costs.

    Attributes:
        steps: In steps of 1e-16 USD, exact.
        note: What was chosen between, or "".
    """

    steps: int
    rate_code: str
    effective_from: date
    note: str


def fetch(
    regions: Sequence[str], *, client: Any = None, on_page: Callable[[str, str, int], None] | None = None
) -> Iterator[Record]:
    """
    Ask AWS's Price List API for the products of *regions*: the one place here that uses a network.

    Needs the permission `pricing:GetProducts`. *on_page* hears of each page:
    service, region, records.
    """
    if client is None:
        import boto3  # noqa: PLC0415  (imported on use)

        # The API is there in few regions; this one has the prices of all.
        client = boto3.client("pricing", region_name="us-east-1")
    for service in SERVICES:
        for region in regions:
            pages = client.get_paginator("get_products").paginate(
                ServiceCode=service,
                Filters=[{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}],
                PaginationConfig={"PageSize": 100},
            )
            for page in pages:
                if on_page is not None:
                    on_page(service, region, len(page["PriceList"]))
                for product in page["PriceList"]:
                    yield _from_product(f"GetProducts, {service} in {region}", product)


def read_file(path: Path, regions: Sequence[str] = ()) -> Iterator[Record]:
    """
    The records of a bulk `index.json`, or of saved GetProducts output; gzipped or not.

    Raises:
        ConfigurationError: It is neither; the text names the file.
    """
    try:
        content = path.read_bytes()
        file = json.loads(gzip.decompress(content) if content.startswith(_GZIP) else content)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(file, dict) and isinstance(file.get("PriceList"), list):
        records: Iterable[Record] = (_from_product(f"{path}", product) for product in file["PriceList"])
    elif isinstance(file, dict) and isinstance(file.get("products"), dict):
        records = _from_bulk(path, file)
    else:
        raise ConfigurationError(
            f"{path} is no price list: it has neither 'products', as a bulk index.json, nor 'PriceList', as "
            "the output of get-products."
        )
    for record in records:
        if not regions or record.attributes.get("regionCode") in regions:
            yield record


def read_price(record: Record, kind: Kind) -> ListedPrice | str:
    """
    The price of one unit, or why it is refused. Of several the dearest counts.
    """
    prices: list[tuple[int, str, date]] = []
    for term in record.terms:
        found = _read_term(record, term, kind)
        if isinstance(found, str):
            return found
        prices += found
    if not prices:
        return "no on-demand price"
    steps, rate_code, start = max(prices)
    note = f"{len(prices)} prices, the dearer counts" if len({each[0] for each in prices}) > 1 else ""
    return ListedPrice(steps, rate_code, start, note)


def _read_term(record: Record, term: object, kind: Kind) -> list[tuple[int, str, date]] | str:
    dimensions = term.get("priceDimensions") if isinstance(term, Mapping) else None
    if not isinstance(term, Mapping) or not isinstance(dimensions, Mapping):
        return "a term not in the shape that is known"
    try:
        start = date.fromisoformat(str(term.get("effectiveDate"))[:10])
    except ValueError:
        return f"an effective date of {term.get('effectiveDate')!r}"
    if start - record.published > _LONGEST_NOTICE:
        return f"a price from {start} on, in a list of {record.published}"
    prices: list[tuple[int, str, date]] = []
    for dimension in dimensions.values():
        if not isinstance(dimension, Mapping):
            return "a price not in the shape that is known"
        steps = _read_dimension(record.service, dimension, kind)
        if isinstance(steps, str):
            return steps
        prices.append((steps, str(dimension.get("rateCode", "")), start))
    return prices


def _read_dimension(service: str, dimension: Mapping[str, Any], kind: Kind) -> int | str:
    per_unit, unit = dimension.get("pricePerUnit"), str(dimension.get("unit", ""))
    if not isinstance(per_unit, Mapping) or "USD" not in per_unit:
        currencies = ", ".join(per_unit) if isinstance(per_unit, Mapping) else ""
        return f"a price in {currencies or 'no currency'}, not in USD"
    text = per_unit["USD"]
    if not isinstance(text, str) or _DECIMAL.fullmatch(text) is None:
        return f"a price of {text!r}"
    counted, per = _read_unit(service, unit, kind)
    if per is None:
        return f"an unknown unit, {unit!r}"
    if counted != kind:
        return f"a unit of {unit!r} for what counts {kind}"
    steps = Fraction(text) * PRICE_STEPS_PER_USD / per
    if steps.denominator != 1:
        return f"a price of {text} for {unit}, not whole at 1e-16 USD"
    return steps.numerator


def _read_unit(service: str, unit: str, kind: Kind) -> tuple[Kind, int | None]:
    name = " ".join(unit.lower().split())
    if name == "units" and service == MARKETPLACE:
        return kind, _MARKETPLACE_TOKENS if kind == "tokens" else 1
    return _UNITS.get(name, (kind, None))


def _from_product(place: str, product: object) -> Record:
    try:
        item: Any = json.loads(product) if isinstance(product, str) else product
        terms = item.get("terms", {}).get("OnDemand", {})
        return _record(item.get("serviceCode", ""), item["product"], item, list(terms.values()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{place}: a product not in the shape that is known: {error!r}.") from error


def _from_bulk(path: Path, file: Mapping[str, Any]) -> Iterator[Record]:
    try:
        terms = file.get("terms", {}).get("OnDemand", {})
        for sku, product in file["products"].items():
            own = list(terms.get(sku, {}).values())
            yield _record(file.get("offerCode", ""), {"sku": sku, **product}, file, own)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: a product not in the shape that is known: {error!r}.") from error


def _record(service: str, product: Mapping[str, Any], listed: Mapping[str, Any], terms: list[Any]) -> Record:
    attributes = {name: str(value) for name, value in product["attributes"].items()}
    published = date.fromisoformat(listed["publicationDate"][:10])
    code = attributes.get("servicecode") or service
    return Record(code, str(product["sku"]), attributes, str(listed.get("version", "")), published, terms)
