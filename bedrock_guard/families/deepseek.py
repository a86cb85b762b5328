"""
DeepSeek: text completions or chat.

Bodies state no usage; headers and metrics do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bedrock_guard.families import llama
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.openai_chat import OPENAI_CHAT, USAGE

# Lists say 8,000 and 8,192; the API takes 32,768.
DEEPSEEK: Final[Dialect] = replace(
    OPENAI_CHAT, name="deepseek", usage=(*USAGE, *llama.USAGE), least_output=32_768
)
