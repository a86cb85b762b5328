"""
The most a call can use, from sizes and limits alone: free, and never low.

A token is at least a byte of text, and no model reads more than its context
window or writes more than it is let. What is billed beside tokens is read from the
request (`RequestSize.beside_tokens`); a guardrail beside a model looks at both of their texts.
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
    WEB_GROUNDING_REQUESTS,
    Usage,
    add,
)
from bedrock_guard.families import Family, family_of
from bedrock_guard.meters.guardrail_bounds import units_beside

# The template around each message, block or tool.
_MESSAGE_TOKENS: Final = 16
_IMAGE_MARKS: Final = 10
# Tools bring a system prompt of the maker's: 804 tokens is the largest known.
_TOOLS_TOKENS: Final = 1_000
# How often a model may search for one answer is not documented; it is charged for as often as it did.
_MOST_SEARCHES: Final = 10
# Larger than the window of any model that lists describe without one.
_UNKNOWN_WINDOW: Final = 2_000_000
# Lists give a thousand where models give 1,024, and a million where they give 1,048,576.
_IN_TWOS: Final = 2**20
_IN_TENS: Final = 10**6
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
    if size.beside_tokens:
        rest.update(size.beside_tokens)
    if size.may_search:
        rest[WEB_GROUNDING_REQUESTS] = _MOST_SEARCHES
    if size.has_guardrail:
        rest |= units_beside(size, {INPUT_TOKENS: tokens, OUTPUT_TOKENS: output})
    if not size.reads_tokens:
        return (rest,)
    if call.times > 1:
        return tuple([add([{meter: tokens, **rest}] * call.times) for meter in meters])
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
    window = max(_window(limits, family), size.max_input_tokens or 0)
    text = size.text_bytes + _MESSAGE_TOKENS * size.messages + family.template_tokens
    if size.has_tools:
        text += _TOOLS_TOKENS
    images = size.images * (size.image_tokens + _IMAGE_MARKS)
    if size.sized_images:
        images -= size.sized_images * size.image_tokens - size.sized_image_tokens
    if not size.generates:
        # The window of an embedding model is that of each text, of which there may be many.
        return min(window if size.has_unseen else text, window * size.messages) + images
    return window if size.has_unseen else min(text + images, window)


def _window(limits: ModelLimits, family: Family) -> int:
    listed = limits.max_input_tokens
    if not listed:
        return family.text_window or _UNKNOWN_WINDOW
    whole = -(-listed * _IN_TWOS // _IN_TENS) if family.windows_are_rounded else listed
    return max(whole, family.least_window)


def output_tokens(size: RequestSize, limits: ModelLimits, family: Family) -> int:
    """
    The most tokens that can be written: the limit, or all that the model can.
    """
    most = max(limits.max_output_tokens or family.fallback_output, family.least_output)
    if size.output_limit is None:
        return most * size.candidates
    return min(size.output_limit, max(most, _LIMIT_BELIEVED)) * size.candidates
