"""
Meters: what AWS bills for, each by its name and unit.

To add one: write it in a file of this folder, beside those it is told with, and
add its line to `METERS`. Meters never overlap: usage is a partition, and cost a
plain sum. A meter that a price list does not know is `UnpricedModel`, never free.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import Meter
from bedrock_guard.meters import guardrail_units, media, requests, tokens

__all__ = ["ANY_MODEL", "FREE", "METERS"]

METERS: Final[dict[str, Meter]] = {
    "input_tokens": tokens.INPUT,
    "output_tokens": tokens.OUTPUT,
    "cache_read_input_tokens": tokens.CACHE_READ,
    "cache_write_5m_input_tokens": tokens.CACHE_WRITE_5M,
    "cache_write_1h_input_tokens": tokens.CACHE_WRITE_1H,
    "input_audio_tokens": media.INPUT_AUDIO_TOKENS,
    "output_audio_tokens": media.OUTPUT_AUDIO_TOKENS,
    "input_image_tokens": media.INPUT_IMAGE_TOKENS,
    "input_images": media.INPUT_IMAGES,
    "input_document_images": media.INPUT_DOCUMENT_IMAGES,
    "images": media.IMAGES,
    "images_standard_1024": media.IMAGES_STANDARD_1024,
    "images_standard_2048": media.IMAGES_STANDARD_2048,
    "images_premium_1024": media.IMAGES_PREMIUM_1024,
    "images_premium_2048": media.IMAGES_PREMIUM_2048,
    "input_audio_seconds": media.INPUT_AUDIO_SECONDS,
    "input_video_seconds": media.INPUT_VIDEO_SECONDS,
    "output_video_seconds": media.OUTPUT_VIDEO_SECONDS,
    "queries": requests.QUERIES,
    "prompt_router_requests": requests.ROUTED,
    "web_grounding_requests": requests.WEB_GROUNDING,
    "guardrail_content_policy_units": guardrail_units.CONTENT_POLICY,
    "guardrail_content_policy_image_units": guardrail_units.CONTENT_POLICY_IMAGE,
    "guardrail_topic_policy_units": guardrail_units.TOPIC_POLICY,
    "guardrail_word_policy_units": guardrail_units.WORD_POLICY,
    "guardrail_sensitive_information_policy_units": guardrail_units.SENSITIVE_INFORMATION_POLICY,
    "guardrail_sensitive_information_policy_free_units": guardrail_units.SENSITIVE_INFORMATION_POLICY_FREE,
    "guardrail_contextual_grounding_policy_units": guardrail_units.CONTEXTUAL_GROUNDING_POLICY,
    "guardrail_automated_reasoning_policy_units": guardrail_units.AUTOMATED_REASONING_POLICY,
    "guardrail_checks_content_filter_units": guardrail_units.CONTENT_FILTER_CHECK,
    "guardrail_checks_prompt_attack_units": guardrail_units.PROMPT_ATTACK_CHECK,
    "guardrail_checks_sensitive_information_units": guardrail_units.SENSITIVE_INFORMATION_CHECK,
}
ANY_MODEL: Final = frozenset(name for name, meter in METERS.items() if not meter.per_model)
FREE: Final = guardrail_units.FREE
