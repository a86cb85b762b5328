"""
The most a call can use, from sizes and limits alone: free, and never low.

A token is at least a byte of text, and no model reads more than its context
window or writes more than it is let. What is billed beside tokens is read from the
request (`RequestSize.beside_tokens`); a guardrail beside a model looks at both of their texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bedrock_guard.domain.call import ROUTER, USUAL_SIZE, Call, ModelLimits, ModelRef, RequestSize
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


@dataclass(frozen=True, slots=True)
class Room:
    """
    What a model takes and gives at most, as far as that does not depend on the request.

    Attributes:
        window: Its context window, in tokens.
        most_output: The most tokens of one answer.
        believed_output: The highest limit on them that is believed to be one.
        template_tokens: What its family adds to every request.
        cached: By the life of cache entries that a request marks, the meters that its input may land on.
    """

    window: int
    most_output: int
    believed_output: int
    template_tokens: int
    cached: Mapping[str | None, tuple[str, ...]]


def room_of(model: ModelRef, limits: ModelLimits) -> Room:
    """
    The room of *model*, whose *limits* a list tells.
    """
    family = family_of(model)
    most = max(limits.max_output_tokens or family.fallback_output, family.least_output)
    return Room(
        _window(limits, family),
        most,
        max(most, _LIMIT_BELIEVED),
        family.template_tokens,
        _SELF_CACHED if family.caches_by_itself else _CACHED,
    )


def bound(call: Call, room: Room) -> tuple[Usage, ...]:
    """
    What the call can use at most, as alternatives: whatever it does use costs no more than the dearest of
    them, and counts no more in any unit than the largest. *room* is that of its model.

    A prompt is plain input, or written to a cache, or both in parts: then it costs
    something between two of the alternatives.
    """
    size = call.size
    tokens, output = tokens_of(size, room)
    rest = {OUTPUT_TOKENS: output} if output else {}
    if call.model.kind == ROUTER:
        rest[ROUTED_REQUESTS] = 1
    if size.beside_tokens:
        rest.update(size.beside_tokens)
    if size.may_search:
        rest[WEB_GROUNDING_REQUESTS] = _MOST_SEARCHES
    if size.has_guardrail:
        rest |= units_beside(size, {INPUT_TOKENS: tokens, OUTPUT_TOKENS: output})
    if not size.reads_tokens:
        return (rest,)
    alternatives = []
    for meter in room.cached[size.writes_cache]:
        usage = {meter: tokens, **rest}
        alternatives.append(usage if call.times == 1 else add([usage] * call.times))
    return tuple(alternatives)


def tokens_of(size: RequestSize, room: Room) -> tuple[int, int]:
    """
    The most tokens that a request can send, and be answered with: its bytes, or the model's whole window, or
    what Bedrock has counted; its limit, or all that the model can.
    """
    tokens, output = tokens_of_text(size, room)
    if size[6:] == USUAL_SIZE:
        return min(room.window, tokens), output
    return _unusual_input(size, tokens, room), output * size.candidates if size.generates else 0


def tokens_of_text(size: RequestSize, room: Room) -> tuple[int, int]:
    """
    The same, as far as its text alone tells, and as if the model had no window.
    """
    tokens = size.text_bytes + _MESSAGE_TOKENS * size.messages + room.template_tokens
    if size.has_tools:
        tokens += _TOOLS_TOKENS
    limit = size.output_limit
    if limit is None:
        return tokens, room.most_output
    return tokens, min(room.believed_output, limit)


def _unusual_input(size: RequestSize, tokens: int, room: Room) -> int:
    if size.counted_tokens is not None:
        return size.counted_tokens
    window = max(room.window, size.max_input_tokens or 0)
    images = size.images * (size.image_tokens + _IMAGE_MARKS)
    images -= size.sized_images * size.image_tokens - size.sized_image_tokens
    if not size.generates:
        # The window of an embedding model is that of each text, of which there may be many.
        return min(window if size.has_unseen else tokens, window * size.messages) + images
    return window if size.has_unseen else min(tokens + images, window)


def _window(limits: ModelLimits, family: Family) -> int:
    listed = limits.max_input_tokens
    if not listed:
        return family.text_window or _UNKNOWN_WINDOW
    whole = -(-listed * _IN_TWOS // _IN_TENS) if family.windows_are_rounded else listed
    return max(whole, family.least_window)


_CACHED: Final[Mapping[str | None, tuple[str, ...]]] = {
    None: (INPUT_TOKENS,),
    "5m": (INPUT_TOKENS, CACHE_WRITE_5M),
    "1h": (INPUT_TOKENS, CACHE_WRITE_5M, CACHE_WRITE_1H),
}
# Of models that cache what they are sent, marked or not.
_SELF_CACHED: Final = {**_CACHED, None: _CACHED["5m"]}
