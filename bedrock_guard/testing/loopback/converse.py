"""
The dialect of Converse and ConverseStream, the same for every model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from bedrock_guard.testing.loopback.generation import Generation, Usage
from bedrock_guard.testing.loopback.guardrails import converse_trace, input_units
from bedrock_guard.testing.loopback.prompt import Body, Prompt, first_integer, read_parts

_TEXTS: Final = (("toolConfig", "tools"), ("system",), ("messages",))
_MORE: Final = "additionalModelRequestFields"
# A model's own spelling overrides the normalised one, as on Bedrock.
_LIMITS: Final = (
    (_MORE, "max_tokens"),
    (_MORE, "max_completion_tokens"),
    (_MORE, "max_gen_len"),
    (_MORE, "maxTokens"),
    (_MORE, "inferenceConfig", "maxTokens"),
    ("inferenceConfig", "maxTokens"),
)
_COPIES: Final = ((_MORE, "n"),)


def read(body: Body) -> Prompt:
    """
    What a request asks for.
    """
    prompt = Prompt(
        parts=read_parts(body, _TEXTS),
        output_limit=first_integer(body, _LIMITS),
        copies=first_integer(body, _COPIES) or 1,
    )
    return replace(prompt, guardrail_text_units=input_units(prompt)) if "guardrailConfig" in body else prompt


def reply(generation: Generation) -> Mapping[str, object]:
    """
    The whole answer.
    """
    return {
        "metrics": {"latencyMs": generation.latency_ms},
        "output": {"message": {"content": [{"text": generation.text}], "role": "assistant"}},
        "stopReason": _stop_reason(generation),
        "usage": _usage(generation.usage),
        **_served(generation),
        **converse_trace(generation.body, generation.usage),
    }


def events(generation: Generation) -> Iterator[tuple[str, Mapping[str, object]]]:
    """
    The answer as events: one start, the text in pieces, two stops, one metadata.
    """
    yield "messageStart", {"role": "assistant"}
    for piece in generation.pieces:
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": _stop_reason(generation)}
    metrics = {"latencyMs": generation.latency_ms}
    yield (
        "metadata",
        {
            "metrics": metrics,
            "usage": _usage(generation.usage),
            **_served(generation),
            **converse_trace(generation.body, generation.usage),
        },
    )


def _stop_reason(generation: Generation) -> str:
    if generation.blocked:
        return "guardrail_intervened"
    return "max_tokens" if generation.cut else "end_turn"


def _usage(usage: Usage) -> Mapping[str, object]:
    # Both spellings of the cache counts are on the wire; adding them counts twice.
    stated: dict[str, object] = {
        "cacheReadInputTokenCount": usage.cache_read_input_tokens,
        "cacheReadInputTokens": usage.cache_read_input_tokens,
        "cacheWriteInputTokenCount": usage.cache_write_input_tokens,
        "cacheWriteInputTokens": usage.cache_write_input_tokens,
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "serverToolUsage": {},
        "totalTokens": usage.total_tokens,
    }
    by_ttl = (("1h", usage.cache_write_1h_input_tokens), ("5m", usage.cache_write_5m_input_tokens))
    details = [{"inputTokens": tokens, "ttl": ttl} for ttl, tokens in by_ttl if tokens]
    return {"cacheDetails": details, **stated} if details else stated


def _served(generation: Generation) -> Mapping[str, object]:
    served: dict[str, object] = {}
    if generation.service_tier is not None:
        served["serviceTier"] = {"type": generation.service_tier}
    if generation.latency is not None:
        served["performanceConfig"] = {"latency": generation.latency}
    return served
