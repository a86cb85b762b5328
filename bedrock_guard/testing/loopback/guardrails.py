"""
The one guardrail of the loopback Bedrock: content, topics and personal data, a thousand characters at a time.

It looks at what a model is sent and at what it writes. Where it blocks, no model runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bedrock_guard.testing.loopback.generation import BYTES_PER_FILLER, Generation, Usage
from bedrock_guard.testing.loopback.prompt import Body, Prompt, at

_CHARACTERS_PER_TEXT_UNIT: Final = 1000


def text_units(characters: int) -> int:
    """
    The units of one text, of one policy.
    """
    return -(-characters // _CHARACTERS_PER_TEXT_UNIT)


def units_of(prompt: Prompt, output_tokens: int) -> int:
    """
    The units of what a model is sent and what it writes, where a guardrail looks on.
    """
    if not prompt.guardrail_text_units:
        return 0
    return prompt.guardrail_text_units + text_units(output_tokens * BYTES_PER_FILLER)


def input_units(prompt: Prompt) -> int:
    """
    The units of a prompt; a character of it is a byte, and an empty one is a unit all the same.
    """
    return max(1, text_units(sum(part.text_bytes for part in prompt.parts)))


def stated(units: int) -> dict[str, object]:
    """
    The counters as ApplyGuardrail and traces state them.
    """
    return {
        "topicPolicyUnits": units,
        "contentPolicyUnits": units,
        "wordPolicyUnits": 0,
        "sensitiveInformationPolicyUnits": units,
        "sensitiveInformationPolicyFreeUnits": 0,
        "contextualGroundingPolicyUnits": 0,
        "contentPolicyImageUnits": 0,
        "automatedReasoningPolicyUnits": 0,
        "automatedReasoningPolicies": 0,
    }


def converse_trace(body: Body, usage: Usage) -> Mapping[str, object]:
    """
    What a reply of Converse says of it, if it was asked to.
    """
    if at(body, ("guardrailConfig", "trace")) not in ("enabled", "enabled_full"):
        return {}
    return {"trace": {"guardrail": {"inputAssessment": {"g": _assessment(usage)}}}}


def invoke_trace(generation: Generation) -> Mapping[str, object]:
    """
    The same in a body of InvokeModel, which always says whether it intervened.
    """
    if not generation.usage.guardrail_text_units:
        return {}
    action = {"amazon-bedrock-guardrailAction": "INTERVENED" if generation.blocked else "NONE"}
    if not generation.traces:
        return action
    return {
        **action,
        "amazon-bedrock-trace": {"guardrail": {"input": {"g": _assessment(generation.usage)}}},
    }


def _assessment(usage: Usage) -> Mapping[str, object]:
    return {"invocationMetrics": {"usage": stated(usage.guardrail_text_units)}}
