"""
Anthropic: Claude, by the Messages API and by the older text completions.

The images of newer models are larger: 4,784 tokens at most, against about 1,568
up to the 4.6 generation. A model that is not listed here counts as new.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
)
from bedrock_guard.families import typed_blocks
from bedrock_guard.families.counts import CACHE_WRITE, CountTable
from bedrock_guard.families.dialect import Dialect, says
from bedrock_guard.families.image_sizes import claude_tokens
from bedrock_guard.families.measure import Measure

_FIELDS: Final = {
    "input_tokens": INPUT_TOKENS,
    "output_tokens": OUTPUT_TOKENS,
    "cache_read_input_tokens": CACHE_READ,
    "cache_creation_input_tokens": CACHE_WRITE,
}
_LIVES: Final = {
    "ephemeral_5m_input_tokens": CACHE_WRITE_5M,
    "ephemeral_1h_input_tokens": CACHE_WRITE_1H,
}
USAGE: Final[CountTable] = (
    (("usage",), _FIELDS),
    (("usage", "cache_creation"), _LIVES),
    (("message", "usage"), _FIELDS),
    (("message", "usage", "cache_creation"), _LIVES),
)

# What summing up a long prompt took is here only: the rest of `usage` is of the answer alone.
_ROUNDS: Final[CountTable] = (
    (("usage", "iterations"), _FIELDS),
    (("message", "usage", "iterations"), _FIELDS),
)

ANTHROPIC: Final = Dialect(
    name="anthropic",
    parts={
        "messages": typed_blocks.read_messages,
        "system": typed_blocks.read_content,
        "tools": typed_blocks.read_tools,
        "output_format": Measure.answer_format,
        "output_config": Measure.answer_format,
    },
    usage=USAGE,
    rounds=_ROUNDS,
    usage_marks=(b'"usage"',),
    # message_start counts the first tokens of the answer only.
    final=says("delta", "stop_reason"),
    opening="message_start",
    heeded_limits=(("max_tokens",), ("max_tokens_to_sample",)),
    image_tokens=4_800,
    image_rule=claude_tokens,
)
UP_TO_4_6: Final = replace(ANTHROPIC, image_tokens=1_600)
CLAUDE_3: Final = replace(UP_TO_4_6, fallback_output=4_096)
CLAUDE_3_5: Final = replace(UP_TO_4_6, fallback_output=8_192, least_output=8_192)
# Lists say 8,192; the model writes 64,000, and 128,000 with a beta.
CLAUDE_3_7: Final = replace(UP_TO_4_6, least_output=64_000)
CLAUDE_2: Final = replace(UP_TO_4_6, fallback_output=8_191)
