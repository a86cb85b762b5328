"""
Which guards of a client count a call whose request may not tell what it uses, and who refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.call import Call
from bedrock_guard.errors import UnmeteredOperation
from bedrock_guard.operations import Operation


def find_counting(
    pipelines: Sequence[Pipeline], operation: Operation, call: Call, *, service: str
) -> tuple[Pipeline, ...]:
    """
    Those of *pipelines* that hold money for *call*; the others let it through uncounted.

    Raises:
        UnmeteredOperation: One can neither count it nor lets it through.
    """
    counting = tuple([pipeline for pipeline in pipelines if pipeline.planner.counts(call)])
    # Each is asked: a shadow keeps what it was asked for.
    allowed = [
        pipeline.allows_unmetered(service, call.operation, call.region)
        for pipeline in pipelines
        if pipeline not in counting
    ]
    if all(allowed):
        return counting
    raise UnmeteredOperation(
        f"{call.operation} of {service} {_why(operation, call)}, and its usage cannot be counted here, so no "
        f'budget could hold. Set flat_prices = {{ "{call.flat_key}" = "0.02 USD" }} to charge each call so '
        'much, or on_unmetered = "allow" to let such calls through uncounted.'
    )


def _why(operation: Operation, call: Call) -> str:
    why = getattr(operation, "why", "") or "may bill"
    return f"{why}, where {call.batch.problem}" if call.batch is not None and call.batch.problem else why
