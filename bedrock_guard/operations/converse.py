"""
Converse and ConverseStream: one shape of request for every model.

Usage is in the reply's `usage`, or in the stream's last event, `metadata`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bedrock_guard.domain.call import (
    Call,
    ModelRef,
)
from bedrock_guard.domain.usage import (
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    NOTHING,
    OUTPUT_TOKENS,
    USAGE_ALONE,
    Learned,
    Untold,
    UsageReport,
    new_report,
)
from bedrock_guard.families import nova
from bedrock_guard.families.counts import (
    CACHE_WRITE,
    CONTRADICTIONS,
    NEGATIVES,
    Counts,
    CountTable,
    merge,
    read_counts,
    read_lives,
    usage_of,
    with_negatives,
)
from bedrock_guard.families.limits import at
from bedrock_guard.meters.guardrail_bounds import units_beside
from bedrock_guard.operations.anomalies import read_anomalies
from bedrock_guard.operations.answer_text import delta_says_something, says_something
from bedrock_guard.operations.contract import Reply
from bedrock_guard.operations.converse_requests import read_request, read_usual_request
from bedrock_guard.operations.guardrail_trace import has_units, read_guardrail_units
from bedrock_guard.operations.parameters import choice
from bedrock_guard.operations.web_grounding import count_searches, with_searches

_USAGE: Final[CountTable] = (((), nova.FIELDS),)
# As much of a key's name as tells it: text is searched the quicker for a last letter that is rare.
_CACHE_MARK: Final = b'"cach'
# The second spelling of cached tokens, which botocore drops: it is read where it may differ.
_SECOND_MARK: Final = b'InputTokenCount"'
# As AWS writes both, where they agree.
_NONE_CACHED: Final = (
    b'"cacheReadInputTokenCount":0,"cacheReadInputTokens":0,'
    b'"cacheWriteInputTokenCount":0,"cacheWriteInputTokens":0,'
)
_AGREED: Final = (
    b'"cacheReadInputTokenCount":%d,"cacheReadInputTokens":%d,'
    b'"cacheWriteInputTokenCount":%d,"cacheWriteInputTokens":%d,'
)
# What of a reply, and of its usage, tells more than how many tokens there were.
_RARE_PARTS: Final = frozenset(["performanceConfig", "serviceTier", "trace"])
_RARE_COUNTS: Final = frozenset(["cacheDetails", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"])


@dataclass(frozen=True, slots=True)
class Converse:
    """
    Both operations; they differ in where the reply is.
    """

    name: str
    stream_key: str | None = None
    body_key: str | None = None
    reads_headers: ClassVar[bool] = False

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for, and how large it is; never raises.
        """
        call = read_usual_request(self.name, params, region) if model is None else None
        return call or read_request(self.name, params, region, model)

    def read_wire(
        self,
        *,
        model_id: str,
        headers: Mapping[str, str],  # noqa: ARG002 - Converse has all in its body
        body: bytes,
    ) -> Mapping[str, Any]:
        """
        The parameters of a request on the wire; a body that is no JSON has unseen messages.
        """
        try:
            params = json.loads(body)
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            params = {"messages": None}
        return {**params, "modelId": model_id}

    def read_usage(self, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that a reply states.

        Of most replies it is told at once: of text that is not cached, and nothing else is said.
        """
        parsed, _, content = reply
        stated, size = parsed.get("usage"), call.size
        if (
            type(stated) is dict
            and _RARE_PARTS.isdisjoint(parsed)
            and _RARE_COUNTS.isdisjoint(stated)
            and not (size.may_search or size.has_guardrail)
        ):
            sent, made = stated.get("inputTokens"), stated.get("outputTokens")
            read, write = stated.get("cacheReadInputTokens"), stated.get("cacheWriteInputTokens")
            if read is None and write is None:
                is_whole = not content or _CACHE_MARK not in content
            elif type(read) is type(write) is int and read == 0 == write:
                is_whole = not content or _NONE_CACHED in content or _SECOND_MARK not in content
            else:
                is_whole = False
            if is_whole and type(sent) is int and type(made) is int and sent > 0 < made:
                return new_report(UsageReport, ({INPUT_TOKENS: sent, OUTPUT_TOKENS: made}, *USAGE_ALONE))
        return _read_report(parsed, content, call)

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:
        """
        The same, from a body read elsewhere.
        """
        return _read_report(reply.parsed, body, call)

    def open_stream_reader(
        self,
        call: Call,
        reply: Reply | None = None,  # noqa: ARG002 - the metadata event tells all
    ) -> MetadataReader:
        """
        A reader for the events of one stream.
        """
        return MetadataReader(call)


class MetadataReader:
    """
    Waits for the `metadata` event; nothing before it tells usage.
    """

    __slots__ = (
        "_call",
        "_has_text",
        "_is_intervened",
        "_received_bytes",
        "_searches",
        "is_last_word",
        "report",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._has_text = self._is_intervened = False
        self._received_bytes = self._searches = 0
        self.report: UsageReport | None = None
        self.is_last_word = False

    @property
    def learned(self) -> Learned:
        """
        What the events so far have told.
        """
        return Learned(self._received_bytes)

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:
        """
        Read one event; never raises.
        """
        self._received_bytes += len(payload)
        if "metadata" in event:
            metadata = event["metadata"]
            has_text = self._has_text and not self._is_intervened
            self.report = _read_report(
                metadata if isinstance(metadata, dict) else {},
                payload,
                self._call,
                has_text=has_text,
                searches=self._searches,
            )
            self.is_last_word = self.report is not None
        elif "contentBlockStart" in event:
            self._searches += count_searches(event)
        elif not self._has_text:
            self._has_text = delta_says_something(event)
        elif "messageStop" in event:
            self._is_intervened = at(event, ("messageStop", "stopReason")) == "guardrail_intervened"


CONVERSE: Final = Converse("Converse")
CONVERSE_STREAM: Final = Converse("ConverseStream", stream_key="stream")


def _read_report(
    parsed: Mapping[str, Any],
    content: bytes | None,
    call: Call,
    *,
    has_text: bool | None = None,
    searches: int | None = None,
) -> UsageReport | None:
    counts = _read_usage(parsed.get("usage"))
    if content and _may_lack(counts, content):
        counts = merge((counts, _read_usage(_read_raw(content, "usage"))))
    trace = _read_trace(parsed, content) if "trace" in parsed else None
    if trace is not None:
        counts = {**counts, **read_guardrail_units(trace)}
    usage = usage_of(counts, generates=True, marks_1h=call.size.writes_cache == "1h")
    if usage is None:
        return None
    anomalies: tuple[str, ...] = ()
    # What `read_anomalies` finds at once of a usual reply, without the call.
    if OUTPUT_TOKENS not in usage or INPUT_TOKENS not in usage or CONTRADICTIONS in counts:
        anomalies = read_anomalies(
            counts, usage, call.size, lambda: says_something(parsed) if has_text is None else has_text
        )
    if call.size.may_search:
        usage = with_searches(usage, count_searches(parsed) if searches is None else searches)
    is_odd = NEGATIVES in counts
    is_untold = call.size.has_guardrail and not has_units(trace)
    units = units_beside(call.size, usage) if is_untold else NOTHING
    if units:
        usage = {**usage, **units}
    return UsageReport(
        with_negatives(usage, counts) if is_odd else usage,
        choice(parsed["serviceTier"], "type", None) if "serviceTier" in parsed else None,
        choice(parsed["performanceConfig"], "latency", None) if "performanceConfig" in parsed else None,
        anomalies,
        _invoked(parsed["trace"]) if "trace" in parsed else None,
        usage if is_odd else None,
        Untold(units, is_estimate=True) if units else None,
    )


def _invoked(trace: object) -> str | None:
    model_id = at(trace, ("promptRouter", "invokedModelId"))
    return model_id if isinstance(model_id, str) else None


def _read_usage(usage: object) -> Counts:
    counts = read_counts(usage, _USAGE)
    if isinstance(usage, dict) and "cacheDetails" in usage:
        counts.update(read_lives(usage["cacheDetails"]))
    return counts


def _may_lack(counts: Counts, content: bytes) -> bool:
    # Older botocore drops what it does not know: cached tokens, and how long cache writes live.
    if CACHE_READ not in counts or CACHE_WRITE not in counts:
        return INPUT_TOKENS not in counts or _CACHE_MARK in content
    read, write = counts[CACHE_READ], counts[CACHE_WRITE]
    agreed = _AGREED % (read, read, write, write) if read or write else _NONE_CACHED
    if agreed not in content and _SECOND_MARK in content:
        return True
    return bool(write) and CACHE_WRITE_5M not in counts and CACHE_WRITE_1H not in counts


def _read_trace(parsed: Mapping[str, Any], content: bytes | None) -> object:
    # Older botocore drops units of policies that it does not know, too.
    raw = _read_raw(content, "trace") if content and at(parsed["trace"], ("guardrail",)) else None
    return raw or parsed["trace"]


def _read_raw(content: bytes, key: str) -> object:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document.get(key) if isinstance(document, dict) else None
