"""
A record of Bedrock's model invocation logs, as the call that it was.

Of a request its size is kept, of a reply its usage, by the same readers that read them in a call; where a
body was not logged, by the counts that the record states beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from bedrock_guard.budgets.loops import fingerprint
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import AttemptOutcome
from bedrock_guard.domain.http_status import outcome_of_status
from bedrock_guard.domain.principal import read_principal
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.families import family_of
from bedrock_guard.families.counts import count
from bedrock_guard.holding import fingerprint_of
from bedrock_guard.operations import Operation, Reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM
from bedrock_guard.operations.other_clients import read_events
from bedrock_guard.operations.parameters import choice, string_pairs
from bedrock_guard.planning import Planner
from bedrock_guard.replay.documents import parse
from bedrock_guard.reports.grouping import bounded
from bedrock_guard.resolving import read_call

_SCHEMA: Final = "ModelInvocationLog"

# Of each operation, who reads a reply that was logged whole, and one that was logged as its events.
_READERS: Final[dict[str, tuple[Operation, Operation]]] = {
    each.name: readers
    for readers in ((CONVERSE, CONVERSE_STREAM), (INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM))
    for each in readers
}
_COUNTS: Final[Mapping[str, tuple[str, str]]] = {
    "inputTokens": ("input", "inputTokenCount"),
    "outputTokens": ("output", "outputTokenCount"),
    "cacheReadInputTokens": ("input", "cacheReadInputTokenCount"),
    "cacheWriteInputTokens": ("input", "cacheWriteInputTokenCount"),
}
# The same counts as InvokeModel's replies have them, in headers.
_HEADERS: Final[Mapping[str, str]] = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
# The HTTP status of each error that Bedrock Runtime documents; one that is unknown may have been billed.
_STATUSES: Final[Mapping[str, int]] = {
    "AccessDeniedException": 403,
    "ConflictException": 400,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
_LOST: Final = 500
# What wraps records in CloudWatch Logs: lists of events, and the text of each.
_LISTS: Final = ("events", "logEvents", "Records")
_TEXTS: Final = ("message", "@message")
# Before, there was no Bedrock; and after the other, windows may end beyond what a calendar holds.
_FIRST: Final = datetime(2023, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
# No call uses more of a meter.
_MOST_COUNTED: Final = 10**9
# As AWS takes ARNs and model ids; what is longer is none, and is told by its beginning.
_LONGEST: Final = 2_048


class UnreadableRecord(Exception):
    """
    A record does not tell what call it is of; the text says what is wrong.
    """


class LoggedCall(NamedTuple):
    """
    One call that was logged.

    Attributes:
        at_s: When, seconds since 1970.
        status: The HTTP status of its error; None for none.
        error_code: AWS's.
        report: What it used; None where the record does not tell.
        has_request: Whether its request was logged, so that its bound is known; else it holds what it used.
        request_id: AWS's; empty where the record has none.
        request: Tells whether another asked the same; None where nobody wants to know.
        place: The file and the line that it is from.
    """

    at_s: float
    call: Call
    outcome: AttemptOutcome
    status: int | None
    error_code: str | None
    report: UsageReport | None
    has_request: bool
    request_id: str
    request: bytes | None
    place: str


def unwrap(value: Any) -> Iterator[Any]:
    """
    The records in *value*: itself, or what CloudWatch Logs wraps them in, as their text.
    """
    waiting = [value]  # in lists within lists, however deep
    while waiting:
        each = waiting.pop()
        inner = _inner(each)
        if inner is None:
            yield each
        else:
            waiting.extend(reversed(inner))


def _inner(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and "schemaType" not in value:
        for name in _LISTS:
            if isinstance(value.get(name), list):
                return list(value[name])
        for name in _TEXTS:
            if name in value:
                return [value[name]]
    return None


class RecordReader:
    """
    Reads records for one guard: its settings tell what is behind opaque model ids.
    """

    def __init__(self, planner: Planner, *, keeps_fingerprints: bool = False) -> None:
        self._planner = planner
        self._keeps_fingerprints = keeps_fingerprints

    def read(self, record: Any, place: str) -> LoggedCall:
        """
        The call that *record* is of, which may be its text.

        Raises:
            UnreadableRecord: It is of none, or does not tell which.
        """
        try:
            return self._read(_read_text(record) if isinstance(record, str) else record, place)
        except (RecursionError, UnicodeError):
            raise UnreadableRecord("it is nested too deep, or has text that is none") from None

    def _read(self, record: Any, place: str) -> LoggedCall:
        if not isinstance(record, dict) or not _is_ours(record):
            raise UnreadableRecord(f"it is no {_SCHEMA}")
        at_s = _read_moment(record.get("timestamp"))
        operation, region = _text(record, "operation"), _text(record, "region")
        if operation not in _READERS:
            raise UnreadableRecord(
                f"operation {_shown(operation)} is none that is replayed: {', '.join(_READERS)}"
            )
        body = _body(record, "input", "inputBodyJson")
        params = _params(operation, _text(record, "modelId"), body)
        call = _as_logged(read_call([self._planner], _READERS[operation][0], params, region=region), record)
        call = call._replace(operation=operation)
        counts = _counts(record)
        if body is None:
            call = _sized(call, counts)
        code = record.get("errorCode")
        status = None if not code else _STATUSES.get(str(code), _LOST)
        outcome: AttemptOutcome = "answered" if status is None else outcome_of_status(status)
        report = None if outcome == "rejected" else _read_report(operation, call, record, counts)
        if outcome == "lost" and report is not None and any(report.usage.values()):
            outcome = "answered"  # it broke off, and was counted
        elif report is None and outcome == "answered":
            outcome = "lost"
        return LoggedCall(
            at_s,
            call,
            outcome,
            status,
            None if not code else bounded(str(code)),
            None if outcome == "lost" else report,
            body is not None,
            bounded(str(record.get("requestId") or "")),
            # A client is asked by its URL, which has both.
            fingerprint(region.encode(), operation.encode(), fingerprint_of(params))
            if self._keeps_fingerprints and body is not None
            else None,
            place,
        )


def _is_ours(record: Mapping[str, Any]) -> bool:
    # Who keeps logs elsewhere may have cut what says nothing of the call.
    named = record.get("schemaType")
    return named == _SCHEMA or (named is None and "modelId" in record)


def _read_text(text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        raise UnreadableRecord("the message of its event is no JSON") from None


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise UnreadableRecord(f"it has no {name}")
    if len(value) > _LONGEST:
        raise UnreadableRecord(f"{name} {_shown(value)} is {len(value):,} characters long")
    return value


def _read_moment(text: Any) -> float:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError):
        moment = None
    if moment is None or not _FIRST <= moment < _LAST:
        raise UnreadableRecord(f"timestamp {_shown(text)} is no moment since {_FIRST.year}")
    return moment.timestamp()


def _body(record: Mapping[str, Any], part: str, name: str) -> Any:
    """
    A body that was logged in its record; None where it was not, or lies in S3.
    """
    within = record.get(part)
    body = within.get(name) if isinstance(within, dict) else None
    if isinstance(body, str):
        try:
            body = parse(body)
        except ValueError:
            return None
    return body or None


def _params(operation: str, model_id: str, body: Any) -> dict[str, Any]:
    if _READERS[operation][0] is CONVERSE:
        # Without a body nothing is known of the messages.
        return {**(body if isinstance(body, dict) else {"messages": None}), "modelId": model_id}
    return {"modelId": model_id} if body is None else {"modelId": model_id, "body": json.dumps(body)}


def _as_logged(call: Call, record: Mapping[str, Any]) -> Call:
    """
    *call* with what its record tells beside the body: who made it, with which tags, on which tier.
    """
    identity, tier = record.get("identity"), record.get("serviceTier")
    tags = {**call.request_tags, **string_pairs(record.get("requestMetadata"))}
    arn = choice(identity, "arn", "")
    return call._replace(
        request_tags={_short(name): _short(value) for name, value in tags.items()},
        service_tier=choice(tier, "type", tier if isinstance(tier, str) and tier else call.service_tier),
        latency=choice(record.get("performanceConfig"), "latency", call.latency),
    ).by(_short(read_principal(arn)))


def _counts(record: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name, (part, field) in _COUNTS.items():
        within = record.get(part)
        number = count(within.get(field)) if isinstance(within, dict) else None
        if number is not None and number >= 0:
            found[name] = number
    return found


def _sized(call: Call, counts: Mapping[str, int]) -> Call:
    """
    *call*, whose request was not logged, as large as its record counts it; where that does not tell, as large
    as its model takes, which is all that is known of images in any case.
    """
    ceiling = family_of(call.model).ceiling()
    if "inputTokens" not in counts or (ceiling.generates and "outputTokens" not in counts):
        return call._replace(size=ceiling)
    tokens = sum(number for name, number in counts.items() if name != "outputTokens")
    if max(tokens, counts.get("outputTokens", 0)) > _MOST_COUNTED:
        return call._replace(size=ceiling)
    size = ceiling._replace(
        has_unseen=False,
        counted_tokens=tokens,
        output_limit=counts.get("outputTokens", 0),
        writes_cache="5m" if counts.get("cacheWriteInputTokens") else None,
    )
    return call._replace(size=size)


def _read_report(
    operation: str, call: Call, record: Mapping[str, Any], counts: Mapping[str, int]
) -> UsageReport | None:
    """
    What the reply states; where it was not logged, or states nothing, what its record counts.
    """
    whole, streamed = _READERS[operation]
    body = _body(record, "output", "outputBodyJson")
    report: UsageReport | None = None
    if isinstance(body, list):
        reader = streamed.open_stream_reader(call, Reply({}))
        for event in read_events(streamed, body):
            reader.feed(event, b"")
        report = reader.report
    elif isinstance(body, dict):
        report = whole.read_body(json.dumps(body).encode(), Reply(body if whole is CONVERSE else {}), call)
    if report is not None:
        return report
    if whole is CONVERSE:
        return whole.read_body(b"", Reply({"usage": dict(counts)}), call)
    headers = {_HEADERS[name]: str(number) for name, number in counts.items()}
    return whole.read_body(b"", Reply({}, headers), call)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else bounded(text)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
