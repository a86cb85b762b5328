"""
How often a model searched the web for an answer: each time AWS bills a fee, which no usage states.

The tool runs at AWS; what was asked of it stands in the answer, as any use of a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.domain.usage import WEB_GROUNDING_REQUESTS, Usage
from bedrock_guard.families.limits import at

_RUN_AT_AWS: Final = "server_tool_use"
_SEARCH: Final = "nova_grounding"
_INTERPRETER: Final = "nova_code_interpreter"


def count_searches(document: Mapping[str, Any]) -> int:
    """
    The searches in a reply, or in one event of a stream; a tool of AWS's whose name is new counts as one.
    """
    content = at(document, ("output", "message", "content"))
    blocks = content if isinstance(content, list) else [at(document, ("contentBlockStart", "start"))]
    return sum(_is_search(at(block, ("toolUse",))) for block in blocks)


def with_searches(usage: Usage, searches: int) -> Usage:
    """
    *usage*, and the fee of so many *searches*.
    """
    return {**usage, WEB_GROUNDING_REQUESTS: searches} if searches else usage


def _is_search(use: object) -> bool:
    name = at(use, ("name",))
    # Older botocore drops the type.
    return bool(name == _SEARCH or (at(use, ("type",)) == _RUN_AT_AWS and name != _INTERPRETER))
