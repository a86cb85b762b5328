"""
AI21: Jurassic completions, and Jamba, which chats as OpenAI's models do.

Jurassic states its usage in headers only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.openai_chat import OPENAI_CHAT

AI21: Final[Dialect] = replace(
    OPENAI_CHAT,
    name="ai21",
    heeded_limits=(*OPENAI_CHAT.heeded_limits, ("maxTokens",)),
    fallback_output=8_192,
    least_output=4_096,
)
