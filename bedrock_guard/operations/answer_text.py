"""
Whether an answer says anything: one that does, and reports no output tokens, cannot be right.

A guardrail that intervenes answers in its own words, and no model wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.families.limits import at

_ACTION: Final = b'"amazon-bedrock-guardrailAction"'
_INTERVENED: Final = re.compile(_ACTION + rb'\s*:\s*"INTERVENED"')
# What botocore calls a member that it is too old to know.
_UNKNOWN: Final = "SDK_UNKNOWN_MEMBER"
# Whatever a maker calls what its model wrote, with at least a character in it.
_WRITTEN: Final = re.compile(
    rb'"(?:text|outputText|generation|completion|content|message|thinking|reasoning|partial_json|arguments)"'
    rb'\s*:\s*"[^"]'
)


def says_something(reply: Mapping[str, Any]) -> bool:
    """
    Whether a reply of Converse holds what a model wrote.
    """
    content = at(reply, ("output", "message", "content"))
    if reply.get("stopReason") == "guardrail_intervened" or not isinstance(content, list):
        return False
    return any(_is_written(block) for block in content)


def _is_written(block: object) -> bool:
    if not isinstance(block, dict):
        return False
    reasoning = block.get("reasoningContent")
    return bool(
        block.get("text")
        or block.get("toolUse")
        or at(reasoning, ("reasoningText", "text"))
        or at(reasoning, ("redactedContent",))
        or at(block, ("citationsContent", "content"))
        or block.get(_UNKNOWN)
    )


def delta_says_something(event: Mapping[str, Any]) -> bool:
    """
    Whether an event of ConverseStream holds what a model wrote.
    """
    delta = at(event, ("contentBlockDelta", "delta"))
    if not isinstance(delta, dict):
        return False
    reasoning = delta.get("reasoningContent")
    return bool(
        delta.get("text")
        or at(delta, ("toolUse", "input"))
        or at(reasoning, ("text",))
        or at(reasoning, ("redactedContent",))
        or delta.get(_UNKNOWN)
    )


def document_says_something(document: bytes) -> bool:
    """
    Whether a JSON document of any maker's, or one chunk, holds what a model wrote.
    """
    return _WRITTEN.search(document) is not None and not is_intervened(document)


def is_intervened(document: bytes) -> bool:
    """
    Whether a JSON document says that a guardrail answered; text that only quotes it has escapes.
    """
    return _ACTION in document and _INTERVENED.search(document) is not None
