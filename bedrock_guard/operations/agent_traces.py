"""
What the traces of an agent tell: each model call that ended behind it, and what that used.

    …Trace.modelInvocationInput    traceId, foundationModel
    …Trace.modelInvocationOutput   traceId, metadata.usage

Sums that a trace states elsewhere (`observation.….metadata.usage`) are of the same calls, and are left
out. The raw payload is read: older botocore drops what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Learned, Usage, UsageReport, add, larger
from bedrock_guard.families.counts import Counts, CountTable, read_counts, usage_of
from bedrock_guard.operations.plain import parse_object

_MARK: Final = b'"modelInvocation'
_TRACE_MARK: Final = b'"trace"'
_USAGE: Final[CountTable] = (
    (("metadata", "usage"), {"inputTokens": INPUT_TOKENS, "outputTokens": OUTPUT_TOKENS}),
)


class TraceReader:
    """
    Adds up the model calls that the events of one stream tell of.

    Attributes:
        told: How often a model call has been told to have used more than was known.
    """

    __slots__ = ("_begun", "_call", "_has_trace", "_is_whole", "_models", "_received_bytes", "_used", "told")

    #: Nothing before its end says that a stream has told all.
    report: UsageReport | None = None
    is_last_word = False

    def __init__(self, call: Call, *, is_whole: bool) -> None:
        self._call = call
        self._is_whole = is_whole
        self._models: dict[str, str] = {}
        self._begun: set[str] = set()
        self._used: dict[str, Usage] = {}
        self._has_trace = False
        self._received_bytes = 0
        self.told = 0

    @property
    def learned(self) -> Learned:
        """
        What the events so far have told.
        """
        return Learned(self._received_bytes)

    @property
    def spent(self) -> UsageReport:
        """
        What the model calls so far have used, by model.
        """
        by_model: dict[str, list[Usage]] = {}
        for trace_id, usage in self._used.items():
            model_id = self._models.get(trace_id) or self._call.model.model_id
            by_model.setdefault(model_id, []).append(usage)
        parts = [UsageReport(add(used), model_id=model_id) for model_id, used in by_model.items()]
        return UsageReport(add(self._used.values()), parts=tuple(parts))

    def at_end(self) -> UsageReport | None:
        """
        What the whole stream used, now that it was read to its end; None where a part is not told.
        """
        is_named = self._call.model.model is not None or self._used.keys() <= self._models.keys()
        is_told = self._has_trace and self._begun <= self._used.keys() and is_named
        return self.spent if self._is_whole and is_told else None

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:  # noqa: ARG002
        """
        Read one event; never raises.
        """
        self._received_bytes += len(payload)
        if _TRACE_MARK in payload:
            self._has_trace = True
            if _MARK in payload:
                for name, part in _find_invocations(parse_object(payload)):
                    self._read(name, part)

    def _read(self, name: str, part: Mapping[str, Any]) -> None:
        trace_id = f"{part.get('traceId')}"
        self._begun.add(trace_id)
        if name == "modelInvocationInput":
            model_id = part.get("foundationModel")
            if isinstance(model_id, str) and model_id:
                self._models[trace_id] = model_id
            return
        counts: Counts = read_counts(part, _USAGE)
        usage = usage_of(counts, generates=True, marks_1h=False)
        if usage is None:
            return
        # Told twice it is used once: what was told last may be a running count.
        known = self._used.get(trace_id)
        used = usage if known is None else larger(known, usage)
        if used != known:
            self._used[trace_id] = used
            self.told += 1


def _find_invocations(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    waiting: list[object] = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            for key, value in part.items():
                if key in ("modelInvocationInput", "modelInvocationOutput") and isinstance(value, dict):
                    yield key, value
                elif isinstance(value, dict | list):
                    waiting.append(value)
