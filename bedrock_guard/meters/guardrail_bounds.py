"""
How many units a guardrail can bill for, by what it is shown.

Neither a request nor a reply without a trace says which policies a guardrail has, so it is taken to
have all of them. A block of text is counted by itself: AWS may count several together, which is less.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bedrock_guard.domain.call import RequestSize
from bedrock_guard.domain.usage import OUTPUT_TOKENS, Usage, total_input
from bedrock_guard.meters import guardrail_units
from bedrock_guard.meters.guardrail_units import UNIT_CHARACTERS

# By AWS's rule of thumb a token is 4 to 6 characters; twice that for answers of long words.
_TOKEN_CHARACTERS: Final = 8

#: Units of each policy for one text unit: automated reasoning bills each of a guardrail's policies, of
#: which there may be two.
_BY_TEXT: Final[Mapping[str, int]] = MappingProxyType(
    {
        guardrail_units.CONTENT_POLICY.name: 1,
        guardrail_units.TOPIC_POLICY.name: 1,
        guardrail_units.SENSITIVE_INFORMATION_POLICY.name: 1,
        guardrail_units.CONTEXTUAL_GROUNDING_POLICY.name: 1,
        guardrail_units.AUTOMATED_REASONING_POLICY.name: 2,
    }
)


def text_units(text: str) -> int:
    """
    The text units of one text; a character outside of the basic plane may count as two.
    """
    return -(-len(text.encode("utf-16-le", "surrogatepass")) // (2 * UNIT_CHARACTERS))


def units_of(texts: int, images: int) -> Usage:
    """
    What every policy bills for so many text units, and for images.
    """
    units = {meter: times * texts for meter, times in _BY_TEXT.items() if texts}
    return {**units, guardrail_units.CONTENT_POLICY_IMAGE.name: images} if images else units


def units_beside(size: RequestSize, usage: Usage) -> Usage:
    """
    What a guardrail bills for beside a call of that *size* whose model uses *usage*, or at most that.

    Without output there is none to look at: the request was blocked, and no model ran.
    """
    characters = size.text_bytes
    if size.has_unseen:
        characters = max(characters, total_input(usage) * _TOKEN_CHARACTERS)
    texts = characters // UNIT_CHARACTERS + size.messages
    output = usage.get(OUTPUT_TOKENS, 0)
    if output:
        texts += output * _TOKEN_CHARACTERS // UNIT_CHARACTERS + size.candidates
    return units_of(texts, size.images)
