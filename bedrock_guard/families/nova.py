"""
Amazon Nova: blocks as in Converse.

Prompts are cached by themselves too, but only what a request marks is billed so.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import CACHE_READ, INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.families import converse_blocks
from bedrock_guard.families.counts import CACHE_WRITE, CountTable
from bedrock_guard.families.dialect import Dialect, says
from bedrock_guard.families.image_sizes import nova_tokens

# Cache counts have two spellings, sometimes both in one report: never their sum.
FIELDS: Final = {
    "inputTokens": INPUT_TOKENS,
    "outputTokens": OUTPUT_TOKENS,
    "cacheReadInputTokens": CACHE_READ,
    "cacheReadInputTokenCount": CACHE_READ,
    "cacheWriteInputTokens": CACHE_WRITE,
    "cacheWriteInputTokenCount": CACHE_WRITE,
}
USAGE: Final[CountTable] = ((("usage",), FIELDS), (("metadata", "usage"), FIELDS))

NOVA: Final = Dialect(
    name="nova",
    parts={
        "messages": converse_blocks.read_messages,
        "system": converse_blocks.read_content,
        "toolConfig": converse_blocks.read_tool_config,
    },
    usage=USAGE,
    usage_marks=(b'"usage"',),
    final=says("metadata", "usage"),
    heeded_limits=(("inferenceConfig", "maxTokens"), ("inferenceConfig", "max_new_tokens")),
    # About a token for 650 pixels, of an image that keeps its size up to 8,000 x 8,000.
    image_tokens=100_000,
    image_rule=nova_tokens,
    # Nova 2: 49 for a prompt of one word, 80 with reasoning, 875 with a tool.
    template_tokens=256,
)
