"""
The incident, in small: a coding agent whose cache points are lost on the way.

The agent does everything right: it marks its growing context for caching, so
that what it re-sends costs a tenth. Something in the stack drops the marks, no
error is raised, and every turn pays for the whole context again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

MODEL_ID: Final = "us.anthropic.claude-opus-4-6-v1"

# USD a million tokens, from AWS's price page (Geo and In-region), for the server's own bill.
RATES_PER_MILLION: Final = {
    "input_tokens": "5.50",
    "output_tokens": "27.50",
    "cache_read_input_tokens": "0.55",
    "cache_write_5m_input_tokens": "6.875",
    "cache_write_1h_input_tokens": "11",
}

_FIRST_TOKENS: Final = 6_000
_TOKENS_A_TURN: Final = 250
_COMPACTED_AT_TOKENS: Final = 150_000
_MAX_TOKENS: Final = 1_000
# One turn every six seconds, from ten in the evening until eight in the morning.
_TURNS_BY_MORNING: Final = 10 * 3600 // 6
# Four bytes a token, as the loopback server counts.
_LINE: Final = "def f(x): return x + 1  # a line of the code base, 64 bytes long\n"


@dataclass(frozen=True, slots=True)
class Turn:
    """
    What one turn of the agent used.
    """

    uncached_tokens: int
    cached_tokens: int


class Agent:
    """
    A coding agent that re-sends its whole context each turn, marked for caching.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._context = _LINE * (_FIRST_TOKENS // 16)

    def turns(self) -> Iterator[Turn]:
        """
        Work until an error stops it.
        """
        while True:
            reply = self._client.converse(
                modelId=MODEL_ID,
                system=[{"text": "You are a coding agent."}, {"cachePoint": {"type": "default"}}],
                messages=[
                    {
                        "role": "user",
                        "content": [{"text": self._context}, {"cachePoint": {"type": "default"}}],
                    }
                ],
                inferenceConfig={"maxTokens": _MAX_TOKENS},
            )
            usage = reply["usage"]
            yield Turn(usage["inputTokens"], usage.get("cacheReadInputTokens", 0))
            self._context += _LINE * (_TOKENS_A_TURN // 16)


def lose_cache_points(client: Any) -> None:
    """
    Be the layer that drops `cachePoint` blocks in silence, as several real ones did.
    """

    def drop(params: dict[str, Any], **_: Any) -> None:
        params["system"] = _without_points(params["system"])
        params["messages"] = [
            {**message, "content": _without_points(message["content"])} for message in params["messages"]
        ]

    client.meta.events.register("before-parameter-build.bedrock-runtime.Converse", drop)


def rates() -> Mapping[str, Mapping[str, Decimal]]:
    """
    What one token costs, for the loopback server.
    """
    return {MODEL_ID: {meter: Decimal(rate).scaleb(-6) for meter, rate in RATES_PER_MILLION.items()}}


def cost_by_morning(output_tokens: int) -> Decimal:
    """
    What the loop would have come to if nothing had stopped it, in USD.

    It turns every six seconds for ten hours; its context grows as in the demo
    and is compacted at 150,000 tokens.
    """
    rate = rates()[MODEL_ID]
    turns_a_run = (_COMPACTED_AT_TOKENS - _FIRST_TOKENS) // _TOKENS_A_TURN
    sent = sum(_FIRST_TOKENS + _TOKENS_A_TURN * (turn % turns_a_run) for turn in range(_TURNS_BY_MORNING))
    return sent * rate["input_tokens"] + _TURNS_BY_MORNING * output_tokens * rate["output_tokens"]


def _without_points(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block for block in blocks if "cachePoint" not in block]
