"""
Chat completions as OpenAI writes them: gpt-oss, GPT, and the many makers who follow.

`prompt_tokens` counts what was read from a cache too, unlike anywhere else on
Bedrock; the meters keep the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bedrock_guard.domain.usage import CACHE_READ, OUTPUT_TOKENS
from bedrock_guard.families import typed_blocks
from bedrock_guard.families.counts import CACHE_WRITE, PROMPT, CountTable
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.measure import Measure

USAGE: Final[CountTable] = (
    (("usage",), {"prompt_tokens": PROMPT, "completion_tokens": OUTPUT_TOKENS}),
    (
        ("usage", "prompt_tokens_details"),
        {
            "cached_tokens": CACHE_READ,
            "cache_write_tokens": CACHE_WRITE,
            "cache_creation_tokens": CACHE_WRITE,
        },
    ),
)


def ends(chunk: Mapping[str, Any]) -> bool:
    """
    Whether a chunk comes after the last piece of the answer: some servers count along with every piece.
    """
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return all(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


OPENAI_CHAT: Final = Dialect(
    name="openai_chat",
    parts={
        "messages": typed_blocks.read_messages,
        "tools": typed_blocks.read_tools,
        "response_format": Measure.answer_format,
    },
    usage=USAGE,
    usage_marks=(b'"usage"',),
    final=ends,
    heeded_limits=(("max_tokens",), ("max_completion_tokens",)),
    # Qwen's largest: 16,384 patches and their marks.
    image_tokens=17_000,
    # gpt-oss: 68 for a prompt of one word, and more for the harder thinking.
    template_tokens=256,
    # Lists give a thousand where models give 1,024: 8,000 for 8,192, 32,000 for 32,768.
    least_output=32_768,
    windows_are_rounded=True,
)
# Lists say 16,384; the answer and its reasoning may fill the context.
GPT_OSS: Final = replace(OPENAI_CHAT, least_output=128_000)
# They cache prompts unasked; only the body tells how much of a prompt was read from the cache.
READING: Final = replace(OPENAI_CHAT, headers_suffice=False)
# The same, and lists give a price for what is written.
CACHING: Final = replace(READING, caches_by_itself=True)
# An answer may fill the context.
GROK: Final = replace(READING, fallback_output=500_000, least_output=500_000)
