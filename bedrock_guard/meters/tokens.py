"""
Tokens: the meters of every model that reads or writes text.

Reasoning is output. A token of the prompt is in one of the four input meters:
plain, read from a cache, or written to one, by how long the entry lives.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain import usage
from bedrock_guard.domain.usage import Meter

INPUT: Final = Meter(usage.INPUT_TOKENS, "token")
OUTPUT: Final = Meter(usage.OUTPUT_TOKENS, "token")
CACHE_READ: Final = Meter(usage.CACHE_READ, "token")
# The shortest life a model sells: 5 minutes for Claude, 30 for models that have only that.
CACHE_WRITE_5M: Final = Meter(usage.CACHE_WRITE_5M, "token")
CACHE_WRITE_1H: Final = Meter(usage.CACHE_WRITE_1H, "token")
