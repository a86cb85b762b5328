"""
Usage: how much of each meter a call used, or could use at most.

A meter is one thing that AWS bills for. Meters never overlap, so usage is a
partition and its cost a plain sum: `input_tokens` are only the uncached ones,
as in Bedrock's own `inputTokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

Usage: TypeAlias = Mapping[str, int]
"""Meter name -> quantity, in whole units of the meter; a meter that was not used is absent."""

NOTHING: Final[Usage] = MappingProxyType({})

INPUT_TOKENS: Final = "input_tokens"
OUTPUT_TOKENS: Final = "output_tokens"
CACHE_READ: Final = "cache_read_input_tokens"
CACHE_WRITE_5M: Final = "cache_write_5m_input_tokens"
CACHE_WRITE_1H: Final = "cache_write_1h_input_tokens"
ROUTED_REQUESTS: Final = "prompt_router_requests"
WEB_GROUNDING_REQUESTS: Final = "web_grounding_requests"

ALL_INPUT_METERS: Final = (INPUT_TOKENS, CACHE_READ, CACHE_WRITE_5M, CACHE_WRITE_1H)
"""Every meter that counts tokens sent to a model, cached or not."""


@dataclass(frozen=True, slots=True)
class Meter:
    """
    One thing that AWS bills for.

    Attributes:
        name: In Bedrock's words, snake case: `"cache_read_input_tokens"`.
        unit: What one of it is: `"token"`, `"text unit"`, `"image"`.
        per_model: Whether its price is a model's; guardrails and searches cost the same with any.
    """

    name: str
    unit: str
    per_model: bool = True


class Untold(NamedTuple):
    """
    What a reply does not say of the usage that its call is charged.

    Attributes:
        usage: The part of the usage that is known from the request, by meter.
        is_estimate: Whether it is only the most that it can be, or all there is.
        job: The ARN of a job that the reply says has begun; None for none.
    """

    usage: Usage
    is_estimate: bool = False
    job: str | None = None


class UsageReport(NamedTuple):
    """
    What a reply said of a call.

    Attributes:
        usage: Quantities by meter; empty when the reply says that nothing was used. Empty, with *untold*,
            is charged at the estimate.
        service_tier: The tier that served, where the reply tells.
        latency: `"standard"` or `"optimized"`, as served, where the reply tells.
        anomalies: What in it contradicts itself; names of `estimators.plausible.ANOMALIES`.
        model_id: Which model of a prompt router's answered, where the reply tells.
        believable: Where counts are below zero, what else is told; None where all may be true.
        untold: What of *usage* the reply did not state; None where it stated all.
        parts: Of an agent, what each of its models used, with that model's id; *usage* is their sum.
    """

    usage: Usage
    service_tier: str | None = None
    latency: str | None = None
    anomalies: tuple[str, ...] = ()
    model_id: str | None = None
    believable: Usage | None = None
    untold: Untold | None = None
    parts: tuple[UsageReport, ...] = ()


# Every reply makes one, and `UsageReport()` takes twice as long.
new_report: Final[Callable[[type[UsageReport], tuple[Any, ...]], UsageReport]] = tuple.__new__
USAGE_ALONE: Final[tuple[Any, ...]] = tuple(UsageReport(NOTHING))[1:]
"""What follows its usage in a report that says nothing else."""


class Learned(NamedTuple):
    """
    What a stream had said of a call before it was left.

    Attributes:
        received_bytes: Of its events, as far as it was read.
        input_usage: The input by meter, once AWS has counted it; None until then.
        told_by: Which event told it, such as `"message_start"`.
    """

    received_bytes: int
    input_usage: Usage | None = None
    told_by: str | None = None


def add(parts: Iterable[Usage]) -> dict[str, int]:
    """
    The sum of *parts*, meter by meter.
    """
    total: dict[str, int] = {}
    for part in parts:
        for meter, quantity in part.items():
            total[meter] = total.get(meter, 0) + quantity
    return total


def larger(one: Usage, other: Usage) -> dict[str, int]:
    """
    The larger quantity of each meter: for two reports of one call that disagree.
    """
    return {**other, **{meter: max(quantity, other.get(meter, quantity)) for meter, quantity in one.items()}}


def total_input(usage: Usage) -> int:
    """
    Tokens sent to the model, cached or not: what context windows and price bands look at.
    """
    get = usage.get
    return get(INPUT_TOKENS, 0) + get(CACHE_READ, 0) + get(CACHE_WRITE_5M, 0) + get(CACHE_WRITE_1H, 0)
