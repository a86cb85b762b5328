"""
Guardrail units: what a guardrail's policies bill for, on input and output alike.

A text unit is up to 1,000 characters looked at by one policy.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import Meter


def _meter(name: str, unit: str = "text unit") -> Meter:
    # A guardrail costs the same with every model.
    return Meter(f"guardrail_{name}", unit, per_model=False)


CONTENT_POLICY: Final = _meter("content_policy_units")
CONTENT_POLICY_IMAGE: Final = _meter("content_policy_image_units", "image")
TOPIC_POLICY: Final = _meter("topic_policy_units")
WORD_POLICY: Final = _meter("word_policy_units")
SENSITIVE_INFORMATION_POLICY: Final = _meter("sensitive_information_policy_units")
SENSITIVE_INFORMATION_POLICY_FREE: Final = _meter("sensitive_information_policy_free_units")
CONTEXTUAL_GROUNDING_POLICY: Final = _meter("contextual_grounding_policy_units")
AUTOMATED_REASONING_POLICY: Final = _meter("automated_reasoning_policy_units")
# The second family of AWS's price list, for checks that are called by themselves.
CONTENT_FILTER_CHECK: Final = _meter("checks_content_filter_units")
SENSITIVE_INFORMATION_CHECK: Final = _meter("checks_sensitive_information_units")
# No list has its price yet, so it is none of those that are the same with every model.
PROMPT_ATTACK_CHECK: Final = Meter("guardrail_checks_prompt_attack_units", "text unit")

UNIT_CHARACTERS: Final = 1_000

#: What AWS says is free; a price of 0 anywhere else is a gap in a list.
FREE: Final = frozenset({WORD_POLICY.name, SENSITIVE_INFORMATION_POLICY_FREE.name})

# As `GuardrailUsage` names them. `automatedReasoningPolicies` counts policies, not units.
BY_FIELD: Final[dict[str, Meter]] = {
    "contentPolicyUnits": CONTENT_POLICY,
    "contentPolicyImageUnits": CONTENT_POLICY_IMAGE,
    "topicPolicyUnits": TOPIC_POLICY,
    "wordPolicyUnits": WORD_POLICY,
    "sensitiveInformationPolicyUnits": SENSITIVE_INFORMATION_POLICY,
    "sensitiveInformationPolicyFreeUnits": SENSITIVE_INFORMATION_POLICY_FREE,
    "contextualGroundingPolicyUnits": CONTEXTUAL_GROUNDING_POLICY,
    "automatedReasoningPolicyUnits": AUTOMATED_REASONING_POLICY,
}

# As `GuardrailChecksUsageResults` names them, and a request does.
BY_CHECK: Final[dict[str, Meter]] = {
    "contentFilter": CONTENT_FILTER_CHECK,
    "promptAttack": PROMPT_ATTACK_CHECK,
    "sensitiveInformation": SENSITIVE_INFORMATION_CHECK,
}
