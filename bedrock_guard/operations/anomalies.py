"""
What a report says that its answer, or the report itself, contradicts.

Whether a report can be right beside the estimate is for `estimators.plausible`; here is what
only who has read the reply can see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bedrock_guard.domain.call import RequestSize
from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Usage
from bedrock_guard.families.counts import CONTRADICTIONS, NEGATIVES, Counts

# Each message has a role, which asks nothing: "assistant" is the longest.
_ROLE_BYTES: Final = 9


def read_anomalies(
    counts: Counts,
    usage: Usage,
    size: RequestSize,
    has_text: Callable[[], bool],
    *,
    output: int | None = None,
) -> tuple[str, ...]:
    """
    The names of what is wrong with *usage*, which *counts* amount to; as good as always none.

    *has_text* tells whether a model wrote anything, to a request of that *size*. *output* is how
    much of it the last word says, where an earlier one may have said more.
    """
    if output is None:
        output = usage.get(OUTPUT_TOKENS, 0)
    if output > 0 and INPUT_TOKENS in usage and CONTRADICTIONS not in counts:
        return ()
    found = ["contradictory"] if CONTRADICTIONS in counts else []
    # One below zero is an anomaly of its own.
    if size.generates and NEGATIVES not in counts:
        lacks_output = output <= 0 and not any(
            meter.startswith("output") for meter in usage if meter != OUTPUT_TOKENS
        )
        has_prompt = size.text_bytes > _ROLE_BYTES * size.messages or size.images > 0 or size.has_unseen
        lacks_input = size.reads_tokens and has_prompt and not any("input" in meter for meter in usage)
        if (lacks_output or lacks_input) and has_text():
            found += ["no_output"] * lacks_output + ["no_input"] * lacks_input
    return tuple(found)
