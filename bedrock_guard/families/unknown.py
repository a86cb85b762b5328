"""
Models whose id does not say whose they are, and makers without a line: every dialect at once.

Of all that a request or a reply may mean, the largest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.families import (
    anthropic,
    cohere,
    converse_blocks,
    llama,
    nova,
    openai_chat,
    titan,
    typed_blocks,
)
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.measure import Measure

_STREAMING: Final = (anthropic.ANTHROPIC, nova.NOVA, cohere.COMMAND, openai_chat.OPENAI_CHAT)


def _read_messages(seen: Measure, messages: Any) -> None:
    if not isinstance(messages, list):
        seen.odd(messages)
        return
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            seen.json({key: value for key, value in message.items() if key != "content"})
            _read_content(seen, content)
        else:
            typed_blocks.read_messages(seen, [message])


def _read_content(seen: Measure, content: Any) -> None:
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, dict) and "type" not in block:
            converse_blocks.read_content(seen, [block])
        else:
            typed_blocks.read_content(seen, [block])


def _is_final(chunk: Mapping[str, Any]) -> bool:
    return any(family.is_final(chunk) for family in _STREAMING)


UNKNOWN: Final = Dialect(
    name="unknown",
    parts={
        "messages": _read_messages,
        "system": _read_content,
        "tools": typed_blocks.read_tools,
        "toolConfig": converse_blocks.read_tool_config,
        "images": llama.read_images,
        "output_format": Measure.answer_format,
        "output_config": Measure.answer_format,
        "response_format": Measure.answer_format,
    },
    usage=(
        *anthropic.USAGE,
        *nova.USAGE,
        *titan.TEXT_USAGE,
        *llama.USAGE,
        *cohere.USAGE,
        *openai_chat.USAGE,
    ),
    usage_marks=tuple({mark for family in _STREAMING for mark in family.usage_marks}),
    final=_is_final,
    vectors=("embedding", "embeddings", "embeddingsByType"),
    image_tokens=max(family.image_tokens for family in _STREAMING),
    template_tokens=1_000,
    caches_by_itself=True,
    headers_suffice=False,
    windows_are_rounded=True,
    fallback_output=openai_chat.GROK.fallback_output,
)
