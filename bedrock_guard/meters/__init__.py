"""
Meters: what AWS bills for, each by its name and unit.

To add one: write it in a file of this folder, beside those it is told with, and
add its line to `METERS`. Meters never overlap: usage is a partition, and cost a
plain sum. A meter that a price list does not know is `UnpricedModel`, never free.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import Meter
from bedrock_guard.meters import guardrail_units, requests, tokens

__all__ = ["METERS"]

METERS: Final[dict[str, Meter]] = {
    "input_tokens": tokens.INPUT,
    "output_tokens": tokens.OUTPUT,
    "cache_read_input_tokens": tokens.CACHE_READ,
    "cache_write_5m_input_tokens": tokens.CACHE_WRITE_5M,
    "cache_write_1h_input_tokens": tokens.CACHE_WRITE_1H,
    "prompt_router_requests": requests.ROUTED,
    "guardrail_content_policy_units": guardrail_units.CONTENT_POLICY,
    "guardrail_content_policy_image_units": guardrail_units.CONTENT_POLICY_IMAGE,
    "guardrail_topic_policy_units": guardrail_units.TOPIC_POLICY,
    "guardrail_word_policy_units": guardrail_units.WORD_POLICY,
    "guardrail_sensitive_information_policy_units": guardrail_units.SENSITIVE_INFORMATION_POLICY,
    "guardrail_sensitive_information_policy_free_units": guardrail_units.SENSITIVE_INFORMATION_POLICY_FREE,
    "guardrail_contextual_grounding_policy_units": guardrail_units.CONTEXTUAL_GROUNDING_POLICY,
    "guardrail_automated_reasoning_policy_units": guardrail_units.AUTOMATED_REASONING_POLICY,
}
