"""
Mistral: text completions of the first models, chat as OpenAI writes it since Large 2407.

Completions state no usage in their bodies; headers and metrics do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.openai_chat import OPENAI_CHAT

# Templates of the later models say what the model is, at length, where no system prompt does.
MISTRAL: Final[Dialect] = replace(OPENAI_CHAT, name="mistral", image_tokens=5_000, template_tokens=1_000)
LARGE_2407: Final = replace(MISTRAL, least_output=8_192)
PIXTRAL: Final = replace(MISTRAL, least_output=16_384)
FIRST_SMALL: Final = replace(MISTRAL, default_output=512, fallback_output=8_192, least_output=8_192)
FIRST_LARGE: Final = replace(FIRST_SMALL, default_output=8_192)
