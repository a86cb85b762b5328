"""
Guardrail units, from the trace that a reply carries when one was asked for.

    Converse      guardrail.inputAssessment.<id>, .outputAssessments.<id>[]
    InvokeModel   guardrail.input.<id>,           .outputs[].<id>
"""

from __future__ import annotations

from typing import Any

from bedrock_guard.families.counts import Counts, add_count, count
from bedrock_guard.meters.guardrail_units import BY_FIELD


def read_guardrail_units(trace: Any) -> Counts:
    """
    The units of every assessment in a trace, summed, by meter; empty without one.
    """
    units: dict[str, int] = {}
    waiting = [trace.get("guardrail")] if isinstance(trace, dict) else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict) and "invocationMetrics" in part:
            _add(units, part["invocationMetrics"])
        elif isinstance(part, dict):
            waiting.extend(part.values())
    return units


def _add(units: dict[str, int], metrics: Any) -> None:
    usage = metrics.get("usage") if isinstance(metrics, dict) else None
    for field, quantity in usage.items() if isinstance(usage, dict) else ():
        meter, read = BY_FIELD.get(field), count(quantity)
        if meter and read:
            add_count(units, meter.name, read)
