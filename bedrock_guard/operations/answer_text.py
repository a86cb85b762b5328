"""
Whether an answer says anything: one that does, and reports no output tokens, cannot be right.

A guardrail that intervenes answers in its own words, and no model wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.families.limits import at

_INTERVENED: Final = b"INTERVENED"
# Whatever a maker calls what its model wrote, with at least a character in it.
_WRITTEN: Final = re.compile(
    rb'"(?:text|outputText|generation|completion|content|thinking|reasoning|partial_json|arguments)"'
    rb'\s*:\s*"[^"]'
)


def says_something(reply: Mapping[str, Any]) -> bool:
    """
    Whether a reply of Converse holds what a model wrote.
    """
    content = at(reply, ("output", "message", "content"))
    if reply.get("stopReason") == "guardrail_intervened" or not isinstance(content, list):
        return False
    return any(
        isinstance(block, dict) and bool(block.get("text") or block.get("toolUse")) for block in content
    )


def delta_says_something(event: Mapping[str, Any]) -> bool:
    """
    Whether an event of ConverseStream holds what a model wrote.
    """
    delta = at(event, ("contentBlockDelta", "delta"))
    return isinstance(delta, dict) and bool(delta.get("text") or at(delta, ("toolUse", "input")))


def document_says_something(document: bytes) -> bool:
    """
    Whether a JSON document of any maker's, or one chunk, holds what a model wrote.
    """
    return _INTERVENED not in document and _WRITTEN.search(document) is not None
