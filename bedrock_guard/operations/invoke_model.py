"""
InvokeModel and InvokeModelWithResponseStream: bodies in each maker's own dialect.

Usage is in headers, in the body, or in the stream's last chunk; where two of
them disagree, the larger counts, meter by meter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bedrock_guard.domain.call import Call, ModelRef
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    CACHE_READ,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Learned,
    Untold,
    Usage,
    UsageReport,
)
from bedrock_guard.families import Family, family_of
from bedrock_guard.families.counts import (
    CACHE_WRITE,
    INVOCATION_METRICS,
    NEGATIVES,
    Counts,
    CountTable,
    merge,
    read_counts,
    usage_of,
    with_negatives,
)
from bedrock_guard.families.limits import output_limit, rounds
from bedrock_guard.meters.guardrail_bounds import units_beside
from bedrock_guard.operations.anomalies import read_anomalies
from bedrock_guard.operations.answer_text import document_says_something, is_intervened
from bedrock_guard.operations.beside_tokens import headers_tell, with_beside, without_input
from bedrock_guard.operations.contract import Reply
from bedrock_guard.operations.guardrail_trace import has_units, read_guardrail_units
from bedrock_guard.operations.output_limit import OWN_DIALECT
from bedrock_guard.operations.parameters import choice, dearer_tier, string_pairs
from bedrock_guard.operations.web_grounding import count_searches, with_searches

_TIER: Final = "x-amzn-bedrock-service-tier"
_LATENCY: Final = "x-amzn-bedrock-performanceconfig-latency"
_TRACE: Final = "amazon-bedrock-trace"
_METRICS_MARK: Final = f'"{INVOCATION_METRICS}"'.encode()

_HEADERS: Final[CountTable] = (
    (
        (),
        {
            "x-amzn-bedrock-input-token-count": INPUT_TOKENS,
            "x-amzn-bedrock-output-token-count": OUTPUT_TOKENS,
            "x-amzn-bedrock-cache-read-input-token-count": CACHE_READ,
            "x-amzn-bedrock-cache-write-input-token-count": CACHE_WRITE,
        },
    ),
)

# Parameters of InvokeModel that travel as headers.
_WIRE: Final = {
    "serviceTier": _TIER,
    "performanceConfigLatency": _LATENCY,
    "guardrailIdentifier": "x-amzn-bedrock-guardrailidentifier",
    "requestMetadata": "x-amzn-bedrock-request-metadata",
}


@dataclass(frozen=True, slots=True)
class InvokeModel:
    """
    Both operations; they differ in where the reply is.
    """

    name: str
    stream_key: str | None = None
    body_key: str | None = None
    reads_headers: ClassVar[bool] = True

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for, and how large it is; never raises.
        """
        model = model or parse_model_id(str(params.get("modelId")))
        family = family_of(model)
        body = _parse(params.get("body"))
        size = family.read_request(body) if body is not None else family.ceiling()
        if body is not None and model.kind in OWN_DIALECT:
            size = size._replace(output_limit=output_limit(body))
        has_guardrail, is_prompt = "guardrailIdentifier" in params, model.kind == "prompt"
        if has_guardrail or is_prompt:
            size = size._replace(has_guardrail=has_guardrail, has_unseen=size.has_unseen or is_prompt)
        return Call(
            operation=self.name,
            model=model,
            family=family.name,
            region=model.region or region,
            size=size,
            service_tier=dearer_tier(params.get("serviceTier"), (body or {}).get("service_tier")),
            latency=choice(params, "performanceConfigLatency", "standard"),
            request_tags=string_pairs(params.get("requestMetadata")),
            times=1 if body is None else rounds(body),
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        """
        The parameters of a request on the wire.
        """
        lower = {str(name).lower(): value for name, value in headers.items()}
        sent = {name: _decode(lower[header]) for name, header in _WIRE.items() if header in lower}
        return {"modelId": model_id, "body": body, **sent}

    def read_usage(self, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that headers state, where the body could not say more.
        """
        counts = read_counts(reply.headers, _HEADERS)
        if not _suffices(counts, call):
            return None
        return _report(counts, {}, reply, call)

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that headers and body state.
        """
        document = _parse(body) or {}
        headers = read_counts(reply.headers, _HEADERS)
        counts = merge((headers, family_of(call.model).read_counts(document)))
        return _report(counts, document, reply, call, lambda: document_says_something(body))

    def open_stream_reader(self, call: Call, reply: Reply | None = None) -> ChunkReader:
        """
        A reader for the chunks of one stream.
        """
        return ChunkReader(call, reply or Reply(parsed={}))


class ChunkReader:
    """
    Adds up what chunks state; most state nothing, and are not even parsed.
    """

    __slots__ = (
        "_call",
        "_counts",
        "_family",
        "_has_text",
        "_input",
        "_last_output",
        "_marks",
        "_received_bytes",
        "_reply",
        "_searches",
        "is_last_word",
        "report",
    )

    def __init__(self, call: Call, reply: Reply) -> None:
        self._call = call
        self._reply = reply
        self._family: Family = family_of(call.model)
        self._marks = (_METRICS_MARK, *self._family.usage_marks)
        self._counts: Counts = {}
        self._has_text = not call.size.generates  # then there is nothing to look for
        self._input: tuple[str, Usage] | None = None
        self._last_output: int | None = None
        self._received_bytes = self._searches = 0
        self.report: UsageReport | None = None
        self.is_last_word = False

    @property
    def learned(self) -> Learned:
        """
        What the chunks so far have told.
        """
        told_by, input_usage = self._input or (None, None)
        return Learned(self._received_bytes, input_usage, told_by)

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:  # noqa: ARG002
        """
        Read one event; never raises.
        """
        try:
            data = event["chunk"]["bytes"]
            self._received_bytes += len(data)
            if not self._has_text:
                self._has_text = document_says_something(data)
            if self._call.size.may_search:
                self._searches += count_searches(_parse(data) or {})
            for mark in self._marks:
                if mark in data:
                    break
            else:
                return
        except (KeyError, TypeError):
            return  # an exception of the stream, or a chunk without bytes
        self._read(data)

    def _read(self, data: bytes) -> None:
        chunk = _parse(data)
        if chunk is None:
            return
        counts = self._family.read_counts(chunk)
        self._counts = merge((self._counts, counts))
        self._learn_input(chunk)
        is_last = isinstance(chunk.get(INVOCATION_METRICS), dict)
        if is_last or self._family.is_final(chunk):
            if OUTPUT_TOKENS in counts:  # of the whole: what is told when a message begins is not
                self._last_output = max(self._last_output or 0, counts[OUTPUT_TOKENS])
            self.report = _report(
                self._counts,
                chunk,
                self._reply,
                self._call,
                lambda: self._has_text and not is_intervened(data),
                output=self._last_output,
                searches=self._searches,
            )
            self.is_last_word = is_last and self.report is not None

    def _learn_input(self, chunk: Mapping[str, Any]) -> None:
        # A tool that runs at the maker's reads more later, and which tools do is not told.
        told_by = None if self._call.size.has_tools else self._family.opens_with(chunk)
        if told_by is not None:
            size = self._call.size
            usage = usage_of(self._counts, generates=False, marks_1h=size.writes_cache == "1h") or {}
            own = {meter: quantity for meter, quantity in usage.items() if meter in ALL_INPUT_METERS}
            if own and min(own.values()) > 0:
                self._input = told_by, own


INVOKE_MODEL: Final = InvokeModel("InvokeModel", body_key="body")
INVOKE_MODEL_WITH_RESPONSE_STREAM: Final = InvokeModel("InvokeModelWithResponseStream", stream_key="body")


def _suffices(counts: Counts, call: Call) -> bool:
    if call.size.has_guardrail or call.size.may_search or call.times > 1:
        return False
    if call.size.beside_tokens:
        return headers_tell(counts, call.size, family_of(call.model))
    if call.size.generates and not (
        counts.get(OUTPUT_TOKENS)
        and (counts.get(INPUT_TOKENS) or counts.get(CACHE_READ) or counts.get(CACHE_WRITE))
    ):
        # Whether that can be right is for the body to say.
        return False
    if call.size.writes_cache == "1h" and counts.get(CACHE_WRITE):
        # Headers do not split cache writes by how long they live.
        return False
    tells_cache = CACHE_READ in counts and CACHE_WRITE in counts
    return tells_cache or (call.size.writes_cache is None and family_of(call.model).headers_suffice)


def _report(
    counts: Counts,
    document: Mapping[str, Any],
    reply: Reply,
    call: Call,
    has_text: Callable[[], bool] = lambda: False,
    *,
    output: int | None = None,
    searches: int | None = None,
) -> UsageReport | None:
    size = call.size
    if _TRACE in document:
        counts = {**counts, **read_guardrail_units(document[_TRACE])}
    if not size.reads_tokens:
        counts = without_input(counts)
    usage = usage_of(counts, generates=size.generates, marks_1h=size.writes_cache == "1h")
    if usage is None:
        return None
    untold = None
    if size.beside_tokens:
        made = family_of(call.model).read_made(document, size.beside_tokens)
        if made is not None and not made:
            return None  # an answer that shows nothing: it may be billed as asked for
        usage, untold = with_beside(usage, made, size)
    if size.may_search:
        usage = with_searches(usage, count_searches(document) if searches is None else searches)
    if size.has_guardrail and not has_units(document.get(_TRACE)):
        units, rest = units_beside(size, usage), {} if untold is None else untold.usage
        usage, untold = {**usage, **units}, Untold({**rest, **units}, is_estimate=True)
    is_odd = NEGATIVES in counts
    return UsageReport(
        with_negatives(usage, counts) if is_odd else usage,
        choice(reply.parsed, "serviceTier", choice(reply.headers, _TIER, None)),
        choice(reply.parsed, "performanceConfigLatency", choice(reply.headers, _LATENCY, None)),
        read_anomalies(counts, usage, size, has_text, output=output),
        None,
        usage if is_odd else None,
        untold,
    )


def _parse(body: object) -> dict[str, Any] | None:
    if not isinstance(body, bytes | bytearray | str):
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _decode(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
