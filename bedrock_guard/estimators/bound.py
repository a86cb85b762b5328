"""
The most a call can use, from sizes and limits alone: free, and never low.

A token is at least a byte of text, and no model reads more than its context
window or writes more than it is let. Guardrail units, images that a model
makes, and whatever AWS bills beside tokens are not bounded here.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.call import Call, ModelLimits, RequestSize
from bedrock_guard.domain.usage import (
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    ROUTED_REQUESTS,
    Usage,
)
from bedrock_guard.families import Family, family_of

# The template around each message, block or tool.
_MESSAGE_TOKENS: Final = 16
_IMAGE_MARKS: Final = 10
# Tools bring a system prompt of the maker's: 804 tokens is the largest known.
_TOOLS_TOKENS: Final = 1_000
# Larger than the window of any model that lists describe without one.
_UNKNOWN_WINDOW: Final = 2_000_000
# A limit above the model's own is refused by AWS, but lists may put that too low.
_LIMIT_BELIEVED: Final = 1_000_000


def bound(call: Call, limits: ModelLimits) -> tuple[Usage, ...]:
    """
    What the call can use at most, as alternatives: whatever it does use costs no more
    than the dearest of them, and counts no more in any unit than the largest.

    A prompt is plain input, or written to a cache, or both in parts: then it costs
    something between two of the alternatives.
    """
    size = call.size
    family = family_of(call.model)
    tokens = input_tokens(size, limits, family)
    output = output_tokens(size, limits, family) if size.generates else 0
    meters = _INPUT_METERS[size.writes_cache or ("5m" if family.caches_by_itself else None)]
    rest = {OUTPUT_TOKENS: output} if output else {}
    if call.is_routed:
        rest[ROUTED_REQUESTS] = 1
    return tuple([{meter: tokens, **rest} for meter in meters])


_INPUT_METERS: Final[dict[str | None, tuple[str, ...]]] = {
    None: (INPUT_TOKENS,),
    "5m": (INPUT_TOKENS, CACHE_WRITE_5M),
    "1h": (INPUT_TOKENS, CACHE_WRITE_5M, CACHE_WRITE_1H),
}


def input_tokens(size: RequestSize, limits: ModelLimits, family: Family) -> int:
    """
    The most tokens that a request can be: its bytes, or the model's whole window; what Bedrock has counted.
    """
    if size.counted_tokens is not None:
        return size.counted_tokens
    window = max(limits.max_input_tokens or _UNKNOWN_WINDOW, size.max_input_tokens or 0)
    text = size.text_bytes + _MESSAGE_TOKENS * size.messages + family.template_tokens
    if size.has_tools:
        text += _TOOLS_TOKENS
    images = size.images * (size.image_tokens + _IMAGE_MARKS)
    if not size.generates:
        # The window of an embedding model is that of each text, of which there may be many.
        return min(window if size.has_unseen else text, window * size.messages) + images
    return window if size.has_unseen else min(text + images, window)


def output_tokens(size: RequestSize, limits: ModelLimits, family: Family) -> int:
    """
    The most tokens that can be written: the limit, or all that the model can.
    """
    most = max(limits.max_output_tokens or family.fallback_output, family.least_output)
    if size.output_limit is None:
        return most * size.candidates
    return min(size.output_limit, max(most, _LIMIT_BELIEVED)) * size.candidates
