"""
Writer Palmyra: chat or completions, as OpenAI writes them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.openai_chat import OPENAI_CHAT

WRITER: Final[Dialect] = replace(OPENAI_CHAT, name="writer", fallback_output=8_192, least_output=8_192)
# Lists say 128,000.
PALMYRA_X5: Final[Dialect] = replace(WRITER, least_window=1_048_576)
