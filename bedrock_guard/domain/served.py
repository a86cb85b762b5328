"""
A call as AWS served it, which may be otherwise than it was asked for.
"""

from __future__ import annotations

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import UsageReport


def as_served(call: Call, report: UsageReport) -> Call:
    """
    *call* as it was served: AWS bills the tier, the latency and the model that answered.
    """
    tier, latency = report.service_tier or call.service_tier, report.latency or call.latency
    if tier != call.service_tier or latency != call.latency:
        call = call._replace(service_tier=tier, latency=latency)
    if report.model_id is not None and call.is_routed:
        call = call._replace(model=parse_model_id(report.model_id)._replace(kind=call.model.kind))
    return call
