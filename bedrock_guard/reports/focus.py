"""
Entries as charges, in the names of the FinOps Open Cost and Usage Specification (FOCUS).

A line for each meter of a call, whose costs add up to the ledger's to the nano-dollar. Where they do not, by
today's price list, or where the account has prices of its own, a call is one line without a meter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.cost import PRICE_STEPS_PER_NANOUSD, Cost, usd_text
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Ledger, read_all_entries
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.meters import METERS
from bedrock_guard.pricing.calculate import cost
from bedrock_guard.pricing.rows import show_price
from bedrock_guard.pricing.unit_prices import UnitPrices
from bedrock_guard.reports.moments import moment_of
from bedrock_guard.reports.totals import NO_CALLS

PricesOf: TypeAlias = Callable[[Entry], UnitPrices | None]

# Ours are list costs, or those of the account's own prices: never what an invoice says, so no BilledCost
# and no EffectiveCost. What FOCUS has no name for begins with x_, as it asks for.
COLUMNS: Final = (
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeDescription",
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ListCost",
    "ListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "RegionId",
    "ResourceId",
    "ServiceCategory",
    "ServiceName",
    "SkuMeter",
    "Tags",
    "x_EntryId",
    "x_Operation",
    "x_Model",
    "x_Family",
    "x_ServiceTier",
    "x_Outcome",
    "x_Basis",
)

# A month before the last that a datetime can hold: periods end after they begin.
_LAST: Final = datetime(9999, 11, 30, tzinfo=UTC)


def read_focus(ledger: Ledger, where: EntryFilter, prices_of: PricesOf) -> Iterator[dict[str, Any]]:
    """
    The charges of the entries that *where* admits, newest first: for each, a value of `COLUMNS`, or none.

    Tags are a mapping; costs and prices are USD as text.
    """
    for entry in read_all_entries(ledger, where):
        # A cost of which nobody knows the usage is a charge all the same.
        if entry.outcome not in NO_CALLS and (entry.usage or entry.cost_nanousd != 0):
            yield from _charges(entry, prices_of)


def _charges(entry: Entry, prices_of: PricesOf) -> Iterator[dict[str, Any]]:
    whole = _of_call(entry)
    found = None if entry.has_own_prices else _cost(entry, prices_of(entry))
    if found is None:
        yield whole
        return
    left = found.nanousd
    for number, charge in enumerate(found.charges, 1):
        is_last = number == len(found.charges)
        # Rounded down, and what that leaves over is on the last line: the sum is the ledger's.
        nanousd = left if is_last else charge.quantity * charge.unit_price // PRICE_STEPS_PER_NANOUSD
        left -= nanousd
        unit = _unit(charge.meter)
        yield {
            **whole,
            "ChargeDescription": f"{charge.meter} of {whole['x_Model']}",
            "ConsumedQuantity": charge.quantity,
            "ConsumedUnit": unit,
            "ContractedCost": usd_text(nanousd),
            "ListCost": usd_text(nanousd),
            "ListUnitPrice": show_price(charge.unit_price) if charge.unit_price else "0",
            "PricingQuantity": charge.quantity,
            "PricingUnit": unit,
            "SkuMeter": charge.meter,
        }


def _cost(entry: Entry, prices: UnitPrices | None) -> Cost | None:
    """
    What *entry* costs line by line, if that is what it was charged.
    """
    try:
        found = None if prices is None else cost(entry.usage, prices)
    except UnpricedModel:
        return None
    return found if found is not None and found.charges and found.nanousd == entry.cost_nanousd else None


def _of_call(entry: Entry) -> dict[str, Any]:
    began = min(moment_of(entry.at_s), _LAST).replace(microsecond=0)
    ended = began + timedelta(seconds=1 + min(max(0, entry.duration_ms or 0), 86_400_000) // 1000)
    month = datetime(began.year, began.month, 1, tzinfo=UTC)
    listed = entry.list_cost_nanousd if entry.has_own_prices else entry.cost_nanousd
    return {
        "BillingCurrency": "USD",
        "BillingPeriodStart": _iso(month),
        "BillingPeriodEnd": _iso((month + timedelta(days=31)).replace(day=1)),
        "ChargePeriodStart": _iso(began),
        "ChargePeriodEnd": _iso(ended),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{entry.operation} of {entry.model or entry.model_id}",
        "ChargeFrequency": "Usage-Based",
        "ContractedCost": _usd(entry.cost_nanousd),
        "ListCost": _usd(listed),
        "ProviderName": "AWS",
        "RegionId": entry.region,
        "ResourceId": entry.model_id,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Amazon Bedrock",
        "Tags": dict(entry.tags),
        "x_EntryId": entry.id,
        "x_Operation": entry.operation,
        "x_Model": entry.model or entry.model_id,
        "x_Family": entry.family,
        "x_ServiceTier": entry.service_tier,
        "x_Outcome": entry.outcome,
        "x_Basis": entry.basis,
    }


def _unit(meter: str) -> str:
    """
    As FOCUS writes units: `Tokens`, `Text Units`, `Queries`.
    """
    unit = METERS[meter].unit.title() if meter in METERS else "Unit"
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else usd_text(nanousd)


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
