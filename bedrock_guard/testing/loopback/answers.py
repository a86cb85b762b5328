"""
What a test may script the loopback Bedrock to answer.

Every answer fits every operation. Where a fault of streams meets a plain body,
or the reverse, the nearest thing that can happen there happens:

    answer           plain body                      stream
    cut_stream       half a body, then closed        closed after n events
    stream_error     the error, by its HTTP status   an exception event
    corrupt_frame    invalid JSON                    a wrong CRC
    broken_json      invalid JSON                    invalid JSON in the last event
    truncated_body   half a body, then closed        closed within the last event

To add one: write a function here that returns an `Answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback.content import JSON_HEADERS, Content, Event, dump, encode
from bedrock_guard.testing.loopback.event_stream import corrupted, event_frame, exception_frame
from bedrock_guard.testing.loopback.generation import Usage
from bedrock_guard.testing.loopback.http_wire import Reply
from bedrock_guard.testing.loopback.tool_calls import ToolCall

# An error's name, its HTTP status and what AWS says with it.
ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "ValidationException": (400, "The provided model identifier is invalid."),
    "ServiceQuotaExceededException": (400, "Your request exceeds the service quota for your account."),
    "ConflictException": (400, "A conflict occurred while performing an API operation."),
    "AccessDeniedException": (403, "You don't have access to the model with the specified model ID."),
    "ExpiredTokenException": (403, "The security token included in the request is expired"),
    "ResourceNotFoundException": (404, "Could not resolve the foundation model from the model identifier."),
    "ModelTimeoutException": (408, "Model has timed out in processing the request."),
    "ModelErrorException": (424, "The system encountered an unexpected error during processing."),
    "ModelStreamErrorException": (424, "The system encountered an unexpected error during processing."),
    "ThrottlingException": (429, "Too many requests, please wait before trying again."),
    "ModelNotReadyException": (429, "Model is not ready for inference, please wait and try again."),
    "InternalServerException": (500, "The system encountered an unexpected error during processing."),
    "ServiceUnavailableException": (503, "Bedrock is unable to process your request."),
}

# The error a bare status stands for.
CODES: Final[Mapping[int, str]] = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}

# Every key under which some family states what was used.
_USAGE_KEYS: Final = frozenset(
    [
        "usage",
        "meta",
        "amazon-bedrock-invocationMetrics",
        "prompt_token_count",
        "generation_token_count",
        "inputTextTokenCount",
        "totalOutputTextTokenCount",
        "tokenCount",
        "inputTokens",
    ]
)
_TOOL_CALLS: Final = count(1)  # an id for each, or agents take a second call for the first
_BROKEN_JSON: Final = b'{"output":{"message"'
_ERROR_NAMESPACE: Final = "http://internal.amazon.com/coral/com.amazon.bedrock/"
# The server frames replies itself, so recorded framing would contradict it.
_FRAMING_HEADERS: Final = frozenset(["content-length", "transfer-encoding", "connection"])


@dataclass(frozen=True, slots=True)
class Answer:
    """
    How one request is answered; each field is one departure from the usual.

    Attributes:
        before_s: Wait before anything is generated.
        bills: Whether the model runs, and is charged for.
        usage: What it uses, instead of what would be counted.
        text: What it writes, instead of filler.
        blocked: Whether a guardrail blocks the prompt, so that no model runs.
        billed: Charged instead of a generation, for replayed replies.
        after_s: Wait between generating and answering.
        shape: From the right answer to the one that is sent.
        reply: Sent instead of any answer.
        silent: The connection is closed without a byte.
    """

    before_s: float = 0.0
    bills: bool = True
    usage: Usage | None = None
    text: str | None = None
    service_tier: str | None = None
    latency: str | None = None
    blocked: bool = False
    billed: Mapping[str, int] | None = None
    after_s: float = 0.0
    shape: Callable[[Content], Reply] = encode
    reply: Reply | None = None
    silent: bool = False


Scripted: TypeAlias = Answer | int

USUAL: Final = Answer()


def answer_of(scripted: Scripted) -> Answer:
    """
    The answer that a test meant; a number is the HTTP status of an error.
    """
    return scripted if isinstance(scripted, Answer) else error(scripted)


def error(status: int, *, billed: bool = False, code: str | None = None) -> Answer:
    """
    An AWS error; with *billed*, the model had already run.

    Raises:
        ValueError: The status has no error of its own and no *code* was given.
    """
    name = code or CODES.get(status)
    if name is None:
        known = ", ".join(map(str, CODES))
        message = f"No Bedrock error has status {status!r}. Known: {known}; or name one with code=."
        raise ValueError(message)
    return Answer(bills=billed, reply=error_reply(status, name))


def converse_reply(
    *,
    input_tokens: int,
    output_tokens: int,
    cache_read_input_tokens: int = 0,
    cache_write_5m_input_tokens: int = 0,
    cache_write_1h_input_tokens: int = 0,
    text: str | None = None,
    service_tier: str | None = None,
    latency: str | None = None,
) -> Answer:
    """
    A success that used exactly this, whatever was asked; for every operation.

    *service_tier* and *latency* say what served, where it is not what was asked for.
    """
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=cache_read_input_tokens,
        cache_write_5m_input_tokens=cache_write_5m_input_tokens,
        cache_write_1h_input_tokens=cache_write_1h_input_tokens,
    )
    return Answer(usage=usage, text=text, service_tier=service_tier, latency=latency)


def tool_call(name: str, /, **arguments: object) -> Answer:
    """
    The model calls a tool, in Converse and in Claude's messages; elsewhere, the usual.
    """
    call = ToolCall(name, arguments, f"tooluse_loopback{next(_TOOL_CALLS)}")
    return Answer(shape=lambda content: encode(call.instead_of_text(content)))


def guardrail_block() -> Answer:
    """
    A guardrail answers in the model's place; where none looks on, the usual.
    """
    return Answer(blocked=True, text="Sorry, I cannot answer that.")


def lost_answer(*, billed: bool = True) -> Answer:
    """
    The connection closes without a byte, after the model ran, or before.
    """
    return Answer(bills=billed, silent=True)


def slow_answer(delay_s: float) -> Answer:
    """
    Generated and billed at once, answered late: for the client's read timeout.
    """
    return Answer(after_s=delay_s)


def delay(delay_s: float) -> Answer:
    """
    A wait, then the usual.
    """
    return Answer(before_s=delay_s)


def cut_stream(*, after_events: int) -> Answer:
    """
    The connection closes after so many events; the whole generation is billed.
    """
    return Answer(shape=partial(_cut, after_events))


def stream_error(code: str = "modelStreamErrorException", *, after_events: int = 1) -> Answer:
    """
    The stream ends in an exception after so many events; billed whole.
    """
    return Answer(shape=partial(_fail, code, after_events))


def corrupt_frame(*, at_event: int = 0) -> Answer:
    """
    One event, the last if there are fewer, has a CRC that does not fit.
    """
    return Answer(shape=partial(_corrupt, at_event))


def missing_usage() -> Answer:
    """
    A success that nowhere says what it used; billed.
    """
    return Answer(shape=lambda content: encode(_without_usage(content)))


def missing_usage_headers() -> Answer:
    """
    A success whose headers do not say what it used; its body may. Billed.
    """
    return Answer(shape=lambda content: encode(replace(content, headers=_without_counts(content.headers))))


def broken_json() -> Answer:
    """
    Status 200 and a body that is not JSON; billed.
    """
    return Answer(shape=_break_json)


def truncated_body() -> Answer:
    """
    More bytes promised than sent, then closed; billed.
    """
    return Answer(shape=_truncate)


def raw(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    *,
    billed: Mapping[str, int] | None = None,
) -> Answer:
    """
    These very bytes; *billed* are the quantities to charge, by meter.

    Length and transfer encoding are the server's own. Drop a `content-encoding`
    that no longer holds yourself.
    """
    kept = {name: value for name, value in dict(headers).items() if name.lower() not in _FRAMING_HEADERS}
    types = [value for name, value in kept.items() if name.lower() == "content-type"]
    streams = any("eventstream" in value for value in types)
    reply = Reply(status, kept, b"", (body,)) if streams else Reply(status, kept, body)
    return Answer(bills=False, billed=billed, reply=reply)


def error_reply(status: int, code: str, message: str | None = None) -> Reply:
    """
    An error as Bedrock states it: its name in a header, its message in the body.
    """
    said = message or ERRORS.get(code, (status, "The request failed."))[1]
    headers = {**JSON_HEADERS, "x-amzn-ErrorType": f"{code}:{_ERROR_NAMESPACE}"}
    return Reply(status, headers, dump({"message": said}))


def _cut(after_events: int, content: Content) -> Reply:
    reply = encode(content)
    if reply.frames is None:
        return _truncate(content)
    return replace(reply, frames=reply.frames[:after_events], hangs_up=True)


def _fail(code: str, after_events: int, content: Content) -> Reply:
    reply = encode(content)
    name = code[:1].upper() + code[1:]
    status, message = ERRORS.get(name, (500, "The request failed."))
    if reply.frames is None:
        return error_reply(status, name)
    last = exception_frame(code, dump({"message": message, "originalStatusCode": status}))
    return replace(reply, frames=(*reply.frames[:after_events], last))


def _corrupt(at_event: int, content: Content) -> Reply:
    reply = encode(content)
    if not reply.frames:
        return _break_json(content)
    frames = list(reply.frames)
    index = min(at_event, len(frames) - 1)
    frames[index] = corrupted(frames[index])
    return replace(reply, frames=tuple(frames))


def _break_json(content: Content) -> Reply:
    reply = encode(content)
    if not reply.frames or not content.events:
        return replace(reply, body=_BROKEN_JSON)
    broken = event_frame(content.events[-1].event_type, _BROKEN_JSON)
    return replace(reply, frames=(*reply.frames[:-1], broken))


def _truncate(content: Content) -> Reply:
    reply = encode(content)
    if not reply.frames:
        return replace(reply, withheld=-(-len(reply.body) // 2), hangs_up=True)
    last = reply.frames[-1]
    return replace(reply, frames=(*reply.frames[:-1], last[: len(last) // 2]), hangs_up=True)


def _without_usage(content: Content) -> Content:
    events = content.events and tuple(
        Event(event.event_type, _stripped(event.document))
        for event in content.events
        if event.event_type != "metadata"
    )
    return Content(_without_counts(content.headers), _stripped(content.document), events)


def _without_counts(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.lower().endswith("-token-count")}


def _stripped(document: Mapping[str, object]) -> dict[str, object]:
    return {key: _strip(value) for key, value in document.items() if key not in _USAGE_KEYS}


def _strip(value: object) -> object:
    if isinstance(value, Mapping):
        return _stripped(value)
    return [_strip(item) for item in value] if isinstance(value, list) else value
