"""
What the loopback Bedrock generates: quantities, and a text as long as they say.

It knows no wire format and no money; `dialects` and `bill` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

# Four bytes, hence one token by the rule that also counts the input.
FILLER: Final = "bed "
BYTES_PER_FILLER: Final = len(FILLER)

TOKEN_METERS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_5m_input_tokens",
    "cache_write_1h_input_tokens",
)

# The policies of the one guardrail this server has.
GUARDRAIL_METERS: Final = (
    "guardrail_content_policy_units",
    "guardrail_topic_policy_units",
    "guardrail_sensitive_information_policy_units",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """
    Quantities of one generation; they never overlap.

    Attributes:
        input_tokens: Input neither read from nor written to a cache.
        guardrail_text_units: Thousands of characters, charged once a policy.
        media: What is billed beside tokens, by meter.
        has_free_input: Whether the input is counted, and not billed.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_5m_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    guardrail_text_units: int = 0
    media: Mapping[str, int] = field(default_factory=dict)
    has_free_input: bool = False

    @property
    def cache_write_input_tokens(self) -> int:
        """
        Cache writes of either lifetime, as the headers state them.
        """
        return self.cache_write_5m_input_tokens + self.cache_write_1h_input_tokens

    @property
    def total_input_tokens(self) -> int:
        """
        All of the prompt, wherever it came from.
        """
        return self.input_tokens + self.cache_read_input_tokens + self.cache_write_input_tokens

    @property
    def total_tokens(self) -> int:
        """
        What Bedrock calls `totalTokens`: cache reads and writes are in it.
        """
        return self.total_input_tokens + self.output_tokens

    @property
    def caches(self) -> bool:
        """
        Whether any token was read from or written to the prompt cache.
        """
        return bool(self.cache_read_input_tokens or self.cache_write_input_tokens)

    def quantities(self) -> dict[str, int]:
        """
        The same by meter, as the bill takes them.
        """
        metered: dict[str, int] = {meter: getattr(self, meter) for meter in TOKEN_METERS}
        metered.update(dict.fromkeys(GUARDRAIL_METERS, self.guardrail_text_units))
        if self.has_free_input:
            metered = {"output_tokens": self.output_tokens}
        metered.update(self.media)
        return metered


@dataclass(frozen=True, slots=True)
class Generation:
    """
    One run of a model, billed whether or not its answer arrives.

    Attributes:
        cut: The caller's limit ended the text before the model would have.
        stream_chunks: Most pieces its text is streamed in.
        service_tier: Tier that served, if the caller or the script named one.
        latency: Latency mode that served, likewise.
        body: The request that asked for it.
        blocked: A guardrail answered, and no model ran.
        traces: Whether the request asked, by a header, for what a guardrail did.
    """

    model_id: str
    usage: Usage
    text: str = ""
    cut: bool = False
    stream_chunks: int = 32
    service_tier: str | None = None
    latency: str | None = None
    body: Mapping[str, object] = field(default_factory=dict)
    blocked: bool = False
    traces: bool = False

    @property
    def latency_ms(self) -> int:
        """
        An invented duration, the same for the same call.
        """
        return 1 + self.usage.output_tokens

    @property
    def pieces(self) -> tuple[str, ...]:
        """
        The text as it is streamed: never less than a token a piece.
        """
        count = max(1, min(self.stream_chunks, len(self.text) // len(FILLER)))
        step = max(1, -(-len(self.text) // count))
        return tuple(self.text[start : start + step] for start in range(0, len(self.text), step))


@lru_cache(maxsize=64)
def filler(tokens: int) -> str:
    """
    A text of exactly that many tokens.
    """
    return FILLER * tokens
