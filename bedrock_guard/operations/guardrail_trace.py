"""
Guardrail units, from the trace that a reply carries when one was asked for.

    Converse      guardrail.inputAssessment.<id>, .outputAssessments.<id>[]
    InvokeModel   guardrail.input.<id>,           .outputs[].<id>
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bedrock_guard.domain.usage import Meter, UsageReport
from bedrock_guard.families.counts import NEGATIVES, Counts, add_count, count, with_negatives
from bedrock_guard.families.limits import at
from bedrock_guard.meters.guardrail_units import BY_FIELD


def read_guardrail_units(trace: Any) -> Counts:
    """
    The units of every assessment in a trace, summed, by meter; empty without one.
    """
    units: dict[str, int] = {}
    for usage in _find_usage(trace):
        units.update(read_units(usage, BY_FIELD, beside=units))
    return units


def has_units(trace: Any) -> bool:
    """
    Whether a trace says what a guardrail used, be it nothing: one may say no more than what it did.
    """
    return any(True for _ in _find_usage(trace))


def _find_usage(trace: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [trace.get("guardrail")] if isinstance(trace, dict) else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict) and "invocationMetrics" in part:
            usage = at(part["invocationMetrics"], ("usage",))
            if isinstance(usage, dict):
                yield usage
        elif isinstance(part, dict):
            waiting.extend(part.values())


def read_units(
    usage: Mapping[str, Any], meters: Mapping[str, Meter], *, beside: Counts | None = None
) -> dict[str, int]:
    """
    The units that *usage* states, by meter, added to those *beside*; what is no count is left out.
    """
    units = dict(beside or {})
    for field, quantity in usage.items():
        meter, read = meters.get(field), count(quantity)
        if meter and read:
            add_count(units, meter.name, read)
    return units


def report_of(units: Counts) -> UsageReport:
    """
    What a reply says that states nothing but *units*.
    """
    usage = {name: quantity for name, quantity in units.items() if quantity > 0 and name != NEGATIVES}
    is_odd = NEGATIVES in units
    return UsageReport(
        with_negatives(usage, units) if is_odd else usage, believable=usage if is_odd else None
    )
