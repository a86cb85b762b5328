"""
Guardrail units: what a guardrail's policies bill for, on input and output alike.

A text unit is up to 1,000 characters looked at by one policy.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import Meter

CONTENT_POLICY: Final = Meter("guardrail_content_policy_units", "text unit")
CONTENT_POLICY_IMAGE: Final = Meter("guardrail_content_policy_image_units", "image")
TOPIC_POLICY: Final = Meter("guardrail_topic_policy_units", "text unit")
WORD_POLICY: Final = Meter("guardrail_word_policy_units", "text unit")
SENSITIVE_INFORMATION_POLICY: Final = Meter("guardrail_sensitive_information_policy_units", "text unit")
SENSITIVE_INFORMATION_POLICY_FREE: Final = Meter(
    "guardrail_sensitive_information_policy_free_units", "text unit"
)
CONTEXTUAL_GROUNDING_POLICY: Final = Meter("guardrail_contextual_grounding_policy_units", "text unit")
AUTOMATED_REASONING_POLICY: Final = Meter("guardrail_automated_reasoning_policy_units", "text unit")

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
