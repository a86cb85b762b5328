"""
What telemetry tells of a call, and what that is called: one table for all exporters.

Names that begin with `gen_ai.` are those of OpenTelemetry's semantic conventions for generative AI, as of its
version 1.41, which AWS's and OpenTelemetry's own tools write; `bedrock_guard.` are ours. It tells figures and
names; never a word of a prompt or a reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from bedrock_guard.domain import metric_names
from bedrock_guard.domain.cost import NANOUSD_PER_USD
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    NOTHING,
    OUTPUT_TOKENS,
    Usage,
    total_input,
)

T = TypeVar("T")

Value: TypeAlias = str | int | float | Sequence[str]

TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""Bounds of histograms of tokens, as the conventions have them."""

DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Of seconds."""

METER: Final = "bedrock_guard.meter"
"""The attribute of a metric that is told for each meter."""


class Name(NamedTuple):
    """
    What a call is told by.

    Attributes:
        text: What it is, for the documentation.
        read: It, of an entry; None where the call has none.
        attribute: Of the span, and of metrics if it *is_of_metrics*: those have few values.
        dimension: In CloudWatch; None where it is none.
        is_early: Whether it is known before the call is made, and told then.
    """

    text: str
    read: Callable[[Entry], Value | None]
    attribute: str
    is_of_metrics: bool = False
    dimension: str | None = None
    is_early: bool = False


class Figure(NamedTuple):
    """
    What a call came to.

    Attributes:
        text: What it is, for the documentation.
        read: It, of an entry; None where the call has none.
        attribute: Of the span; None where it is none.
        is_early: Whether it is known before the call is made, and told then.
        metric: In OpenTelemetry; None where it is none.
        kind: Of that metric.
        unit: Of that metric, by UCUM where that has one.
        fixed: Attributes of that metric beside the names.
        emf: Metric in CloudWatch; None where it is none.
        emf_unit: Of that metric.
    """

    text: str
    read: Callable[[Entry], float | None]
    attribute: str | None = None
    is_early: bool = False
    metric: str | None = None
    kind: Literal["counter", "histogram"] = "counter"
    unit: str = ""
    fixed: tuple[tuple[str, str], ...] = ()
    emf: str | None = None
    emf_unit: str = "NoUnit"


# Of InvokeModel, by what is in the name of the model; else it is a chat.
_BY_MODEL: Final = {
    "embed": "embeddings",
    "rerank": "rerank",
    "titan-text": "text_completion",
    "titan-image": "generate_content",
    "canvas": "generate_content",
    "reel": "generate_content",
    "luma": "generate_content",
    "stability": "generate_content",
}
_BY_OPERATION: Final = {
    "Converse": "chat",
    "ConverseStream": "chat",
    "InvokeInlineAgent": "invoke_agent",
    "InvokeAgentRuntime": "invoke_agent",
    "InvokeFlow": "invoke_workflow",
    "Retrieve": "retrieval",
}
_OF_MODELS: Final = frozenset({"InvokeModel", "InvokeModelWithResponseStream", "StartAsyncInvoke"})
_WORD: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])")
_FAILED: Final = frozenset({"rejected", "lost", "not_sent"})
# The conventions' word for an error that has no name.
_UNKNOWN: Final = "_OTHER"
_LEAST_FAILURE: Final = 300


def _operation_name(entry: Entry) -> str:
    name = entry.operation
    if name in _OF_MODELS:
        model = entry.model or entry.model_id
        return next((word for part, word in _BY_MODEL.items() if part in model), "chat")
    return _BY_OPERATION.get(name) or _WORD.sub("_", name).lower()


def _error_type(entry: Entry) -> str | None:
    if entry.outcome == "refused":
        return "Stopped" if entry.budget is None else "BudgetExceeded"
    if entry.outcome in _FAILED:
        if not entry.attempts:
            return _UNKNOWN
        last = entry.attempts[-1]
        # Of a stream that broke off, the status is 200.
        is_failure = last.status is not None and last.status >= _LEAST_FAILURE
        return last.error_code or (str(last.status) if is_failure else _UNKNOWN)
    return "Stopped" if entry.reason == "stopped" else None


def _is_call(entry: Entry) -> bool:
    return entry.outcome not in ("refused", "pending")


def _of_call(read: Callable[[Entry], T | None]) -> Callable[[Entry], T | None]:
    return lambda entry: read(entry) if _is_call(entry) else None


def _usd(nanousd: int | None) -> float | None:
    return None if nanousd is None else nanousd / NANOUSD_PER_USD


def _reported(*meters: str) -> Callable[[Entry], int | None]:
    # Only what AWS said is told as tokens that were used: an estimate is the most that they can be.
    def read(entry: Entry) -> int | None:
        usage = entry.reported_usage
        found = () if usage is None else [usage[meter] for meter in meters if meter in usage]
        return sum(found) if found else None

    return read


def _reported_input(entry: Entry) -> int | None:
    # The conventions count cached tokens as input, too.
    return None if not entry.reported_usage else total_input(entry.reported_usage) or None


NAMES: Final = (
    Name(
        "the provider, `aws.bedrock`",
        lambda _: "aws.bedrock",
        "gen_ai.provider.name",
        is_of_metrics=True,
        is_early=True,
    ),
    Name("the same, by its older name", lambda _: "aws.bedrock", "gen_ai.system", is_early=True),
    Name(
        "`chat`, `embeddings`, `text_completion`, `generate_content`, `invoke_agent`, `invoke_workflow`, "
        "`retrieval`; else AWS's name of the operation, in snake case",
        _operation_name,
        "gen_ai.operation.name",
        is_of_metrics=True,
        is_early=True,
    ),
    Name(
        "the model id that was asked for",
        lambda entry: entry.fallback_from or entry.model_id,
        "gen_ai.request.model",
        is_of_metrics=True,
        is_early=True,
    ),
    Name(
        "the model behind it that is charged, where that is known",
        lambda entry: entry.model,
        "gen_ai.response.model",
        is_of_metrics=True,
        dimension="model",
    ),
    Name(
        "AWS's error code, or the name of an exception, where the call failed; `_OTHER` where there is none, "
        "as of a stream that broke off; `BudgetExceeded` or `Stopped`",
        _error_type,
        "error.type",
        is_of_metrics=True,
    ),
    Name("of the entry in the ledger", lambda entry: entry.id, "bedrock_guard.entry.id", is_early=True),
    Name(
        "how the call ended: `answered`, `rejected`, `lost`, `abandoned`, `not_sent`, `refused`",
        lambda entry: None if entry.outcome == "pending" else entry.outcome,
        "bedrock_guard.outcome",
        is_of_metrics=True,
    ),
    Name(
        "how it was charged: `reported`, by what AWS said; or `estimated`",
        _of_call(lambda entry: entry.basis),
        "bedrock_guard.basis",
        is_of_metrics=True,
        dimension="basis",
    ),
    Name(
        "the budget that refused",
        lambda entry: entry.budget,
        "bedrock_guard.budget",
        is_of_metrics=True,
        dimension=metric_names.DIMENSION_BUDGET,
    ),
    Name(
        "the service tier",
        lambda entry: entry.service_tier,
        "bedrock_guard.service_tier",
        is_of_metrics=True,
    ),
    Name(
        "budgets that had no room, and let it go on",
        lambda entry: entry.exceeded or None,
        "bedrock_guard.exceeded",
    ),
    Name(
        "who let it through without the ledger: `on_ledger_error`",
        lambda entry: entry.allowed_by,
        "bedrock_guard.allowed_by",
    ),
)

FIGURES: Final = (
    Figure(
        "calls that ended",
        _of_call(lambda _: 1),
        metric="bedrock_guard.calls",
        unit="{call}",
        emf=metric_names.CALLS,
        emf_unit="Count",
    ),
    Figure(
        "calls that were refused",
        lambda entry: entry.count if entry.outcome == "refused" else None,
        metric="bedrock_guard.refused_calls",
        unit="{call}",
        emf=metric_names.REFUSED_CALLS,
        emf_unit="Count",
    ),
    Figure(
        "what it cost, in USD, by the account's prices",
        _of_call(lambda entry: _usd(entry.cost_nanousd)),
        "bedrock_guard.cost_usd",
        metric="bedrock_guard.cost",
        unit="USD",
        emf=metric_names.COST_USD,
    ),
    Figure(
        "with such prices, the cost at list price",
        _of_call(lambda entry: _usd(entry.list_cost_nanousd)),
        "bedrock_guard.list_cost_usd",
    ),
    Figure(
        "what was reserved for its first attempt, in USD; of a refused call, what would have been",
        lambda entry: _usd(entry.estimated_cost_nanousd),
        "bedrock_guard.reserved_usd",
        is_early=True,
    ),
    Figure(
        "of calls that ended, what was reserved for their first attempts, in USD",
        _of_call(lambda entry: _usd(entry.estimated_cost_nanousd)),
        metric="bedrock_guard.reserved",
        unit="USD",
        emf=metric_names.RESERVED_USD,
    ),
    Figure(
        "input that AWS reported, cached tokens included",
        _reported_input,
        "gen_ai.usage.input_tokens",
        metric="gen_ai.client.token.usage",
        kind="histogram",
        unit="{token}",
        fixed=(("gen_ai.token.type", "input"),),
    ),
    Figure(
        "output that AWS reported",
        _reported(OUTPUT_TOKENS),
        "gen_ai.usage.output_tokens",
        metric="gen_ai.client.token.usage",
        kind="histogram",
        unit="{token}",
        fixed=(("gen_ai.token.type", "output"),),
    ),
    Figure("of the input, what a cache had", _reported(CACHE_READ), "gen_ai.usage.cache_read.input_tokens"),
    Figure(
        "of the input, what was written to one",
        _reported(CACHE_WRITE_5M, CACHE_WRITE_1H),
        "gen_ai.usage.cache_creation.input_tokens",
    ),
    Figure(
        "how long it took, streams to their end, in seconds",
        lambda entry: None if entry.duration_ms is None else entry.duration_ms / 1000,
        metric="gen_ai.client.operation.duration",
        kind="histogram",
        unit="s",
    ),
    Figure(
        "how long it took, streams to their end, in milliseconds",
        lambda entry: entry.duration_ms,
        emf=metric_names.DURATION_MS,
        emf_unit="Milliseconds",
    ),
    Figure(
        "HTTP requests that it took",
        _of_call(lambda entry: len(entry.attempts)),
        "bedrock_guard.attempts",
    ),
    Figure(
        "the limit on output that it was sent with, where a guard lowered it",
        lambda entry: entry.clamped_max_tokens,
        "bedrock_guard.clamped_max_tokens",
    ),
    Figure("how long it waited for room", lambda entry: entry.waited_ms or None, "bedrock_guard.waited_ms"),
)

USAGE: Final = "bedrock_guard.usage"
"""Metric in OpenTelemetry of what was charged of each meter; in CloudWatch, each meter is a metric."""

USED_SHARE: Final = "bedrock_guard.budget.used_share"
"""Gauge in OpenTelemetry of each budget that keeps one balance."""

TAG: Final = "bedrock_guard.tag."
"""What attributes of tags begin with."""

TAG_DIMENSION: Final = "tag_"
"""What dimensions of tags begin with."""

IS_GEN_AI: Final = "gen_ai."
"""What names of the conventions begin with."""


def usage_of(entry: Entry) -> Usage:
    """
    What is charged for *entry*, by meter; nothing for one that was refused.
    """
    return entry.usage if _is_call(entry) else NOTHING
