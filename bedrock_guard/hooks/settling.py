"""
From an answer to the end of a call: at once, or when its stream or body has been read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from botocore.eventstream import EventStream
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.hooks import aio_streams
from bedrock_guard.hooks.calls import CallState
from bedrock_guard.hooks.cutoff import Cutoff
from bedrock_guard.hooks.ends import StreamEnd
from bedrock_guard.hooks.growth import Growth
from bedrock_guard.hooks.streams import Grows, guard_body, guard_event_stream
from bedrock_guard.operations import Operation, Reply, new_reply
from bedrock_guard.operations.agent_traces import TraceReader
from bedrock_guard.operations.batch import JOB_KEY


class Answer(NamedTuple):
    """
    An answer whose raw body was read before.
    """

    content: object


def reads_content(state: CallState) -> bool:
    """
    Whether the raw body of the answer is read for usage: not where the caller gets a stream of it.
    """
    operation, call = state.operation, state.call
    if operation is None or call is None or call.is_silent:
        return False
    return operation.stream_key is None and operation.body_key is None


def settle_reply(state: CallState, parsed: dict[str, Any], status: int, answer: object) -> None:
    """
    End a call by its answer, whoever gave it, and tell the caller which reservation paid.

    The `content` of *answer* is the raw body, of which botocore drops what it does not know; it is read
    where `reads_content` says so, and it is there.
    """
    operation, call, attempts = state.operation, state.call, state.attempts
    if operation is None or call is None:
        return
    if not attempts.started or attempts.is_open:
        attempts.note_answer(status, parsed)
    if status >= 300:
        state.end(None)
        return
    metadata = parsed.setdefault("ResponseMetadata", {})
    told: dict[str, object] = {"ReservationId": state.opened[0][1].entry.id}
    metadata["BedrockGuard"] = told = told if state.changes is None else {**told, **state.changes}
    if call.batch is not None and state.begin_job(parsed.get(JOB_KEY)):
        return
    report: UsageReport | None = None
    if call.is_silent and not call.is_traced:
        pass
    elif operation.stream_key is None and operation.body_key is None:
        content = getattr(answer, "content", None)
        raw = content if isinstance(content, bytes) else None
        report = operation.read_usage(new_reply(Reply, (parsed, metadata.get("HTTPHeaders", {}), raw)), call)
    else:
        report = _read_or_hand_over(state, operation, call, parsed)
        if state.is_handed_over:
            return
    ended = state.end(report)
    if ended:
        told["Basis"], money = ended[0].basis, ended[0].cost_nanousd
        if money is not None:
            told["CostUSD"] = usd_text(money)


def _read_or_hand_over(
    state: CallState, operation: Operation, call: Call, parsed: dict[str, Any]
) -> UsageReport | None:
    """
    The usage that a reply states which may come with a stream or a body, who own the end where it does not.
    """
    stream = None if operation.stream_key is None else parsed.get(operation.stream_key)
    if isinstance(stream, EventStream):
        _settle_by_stream(stream, state, operation, _reply_without(stream, parsed))
        return None
    report = operation.read_usage(Reply(parsed, parsed["ResponseMetadata"].get("HTTPHeaders", {})), call)
    body = None if operation.body_key is None else parsed.get(operation.body_key)
    if report is None and isinstance(body, StreamingBody):
        _settle_by_body(body, state, operation, _reply_without(body, parsed))
    return report


def end_open(state: CallState, error: BaseException | None) -> None:
    """
    End what nobody else has ended, or will: a call that left by *error*, or in a way unknown.
    """
    state.is_over = True
    if not state.is_open:
        return
    if state.attempts.is_open and isinstance(error, ClientError):
        metadata = error.response.get("ResponseMetadata", {})
        state.attempts.note_answer(int(metadata.get("HTTPStatusCode", 500)), error.response)
    state.end(None, error)


def _reply_without(body: object, parsed: Mapping[str, Any]) -> Reply:
    """
    A reply without its stream or body: what that tells its end to must not hold it in a cycle.
    """
    rest = {name: value for name, value in parsed.items() if value is not body}
    return Reply(rest, parsed["ResponseMetadata"].get("HTTPHeaders", {}))


def _settle_by_stream(stream: Any, state: CallState, operation: Operation, reply: Reply) -> None:
    if state.call is None:
        return
    reader = operation.open_stream_reader(state.call, reply)

    def tell(how: StreamEnd) -> None:
        is_whole = how == "end" and isinstance(reader, TraceReader)
        report = reader.at_end() if is_whole and isinstance(reader, TraceReader) else reader.report
        if report is None and not is_whole:
            _lose_usage(state, how)
        learned = None if report is not None else reader.learned
        state.end(report, learned=learned, is_answered=is_whole)

    grow: Grows | None = Growth(state, reader) if isinstance(reader, TraceReader) else None
    # An agent that is left is never read on: it would go on spending.
    drain_for = _drain_for(state) if grow is None else ()
    if any(pipeline.settings.stream_cutoff != "off" for pipeline, _ in state.opened):
        grow = Cutoff(state, grow)
    if hasattr(stream, "__aiter__"):
        end = aio_streams.guard_event_stream(
            stream, reader, tell, blocks=state.blocks, drain_for=drain_for, grow=grow
        )
    else:
        end = guard_event_stream(stream, reader, tell, drain_for=drain_for, grow=grow)
    state.hand_over(partial(end, "closed"))


def _drain_for(state: CallState) -> tuple[object, ...]:
    """
    The pipelines of a call whose stream is read on when it is left; one that asks for it is enough.
    """
    pipelines = tuple([pipeline for pipeline, _ in state.opened])
    asked = any(pipeline.settings.on_abandoned_stream == "drain" for pipeline in pipelines)
    return pipelines if asked else ()


def _settle_by_body(body: Any, state: CallState, operation: Operation, reply: Reply) -> None:
    def tell(how: StreamEnd, data: bytes) -> None:
        report: UsageReport | None = None
        if how == "end" and state.call is not None:
            report = operation.read_body(data, reply, state.call)
        if report is None:
            _lose_usage(state, how)
        state.end(report)

    if hasattr(body, "__aiter__"):
        end = aio_streams.guard_body(body, tell, blocks=state.blocks)
    else:
        end = guard_body(body, tell)
    state.hand_over(partial(end, "closed"))


def _lose_usage(state: CallState, how: StreamEnd) -> None:
    state.attempts.replace_last("abandoned" if how in ("closed", "dropped") else "lost")
