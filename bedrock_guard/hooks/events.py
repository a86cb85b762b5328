"""
Where botocore's events meet the pipeline; the only module that knows them.

    before-parameter-build   the caller's parameters, before validation: kept, by reference
    before-call              validated, not sent: reserve, or refuse
    request-created          attempt 1: what leaves is what was bounded, or bound it again;
                             attempt 2 and later: hold once more, or veto the retry
    before-send              the attempt leaves: from here on it may be billed
    response-received        how the attempt ended
    after-call               an answer, of any HTTP status: settle, or hand over to the stream
    after-call-error         no answer: settle what may have been billed

Retries happen inside one call, between before-call and after-call; each attempt
whose answer was lost is money, held and charged by itself. No event fires for
KeyboardInterrupt or when another tool's handler raises: the safety net round
`_make_api_call` ends what is still open then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.client import BaseClient
from botocore.eventstream import EventStream
from botocore.response import StreamingBody

from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.errors import BudgetExceeded, ConfigurationError, UnmeteredOperation
from bedrock_guard.hooks.calls import CONTEXT_KEY, CURRENT, CallState, Wire, bedrock_headers, model_id_in
from bedrock_guard.hooks.streams import StreamEnd, guard_body, guard_event_stream
from bedrock_guard.operations import OPERATIONS, SERVICES, Free, Operation, Reply
from bedrock_guard.pipeline import Pipeline

log = logging.getLogger("bedrock_guard")

_ATTRIBUTE: Final = "_bedrock_guard"
_SLACK_S: Final = 60.0
_LEAST_HOLD_S: Final = 300.0
_LEGACY_ATTEMPTS: Final = 5

# `*.*` is deliberate: botocore runs wildcard handlers before specific ones, and
# the first before-call handler that answers (a Stubber does) ends the event.
_EVENTS: Final = {
    "before-parameter-build.*.*": "keep_params",
    "before-call.*.*": "open",
    "request-created.{service}": "check_request",
    "before-send.{service}": "mark_sent",
    "response-received.{service}": "note_attempt",
    "after-call.*.*": "settle",
    "after-call-error.*.*": "settle_error",
}


def attach(client: Any, pipeline: Pipeline, *, owner: object) -> None:
    """
    Put *pipeline* round every call of *client*, in place; the same one twice is once.

    *owner* is who `owners_of` tells of: the guard that the pipeline belongs to.

    Raises:
        ConfigurationError: It is no client, or its service is not one that can be guarded.
    """
    if not isinstance(client, BaseClient):
        raise ConfigurationError(f"{client!r} is no boto3 or botocore client, so it cannot be guarded.")
    hooks: ClientHooks | None = client.__dict__.get(_ATTRIBUTE)
    if hooks is None:
        hooks = ClientHooks(client)
        hooks.register(client.meta.events)
        client.__dict__[_ATTRIBUTE] = hooks
        client.__class__ = _netted_class(type(client))
    hooks.add(pipeline, owner)


def detach(client: Any, pipeline: Pipeline) -> None:
    """
    Take *pipeline* off *client*; without any left it is the client that boto3 made.
    """
    hooks: ClientHooks | None = client.__dict__.get(_ATTRIBUTE)
    if hooks is None:
        return
    hooks.remove(pipeline)
    if not hooks.pipelines:
        hooks.unregister(client.meta.events)
        del client.__dict__[_ATTRIBUTE]
        client.__class__ = type(client).__bases__[0]


def owners_of(client: Any) -> tuple[object, ...]:
    """
    Whose pipelines are attached to *client*, the first attached first.
    """
    hooks: ClientHooks | None = getattr(client, "__dict__", {}).get(_ATTRIBUTE)
    return () if hooks is None else tuple(hooks.owners.values())


def _netted_class(base: Any) -> Any:
    """
    A subclass of a client's class whose calls cannot end without us.

    A class, because a closure on the instance would hold the client in a cycle.
    """

    class Guarded(base):  # type: ignore[misc]
        def _make_api_call(self, operation_name: str, api_params: Mapping[str, Any]) -> Any:
            state = CallState()
            token = CURRENT.set(state)
            try:
                # Looked up late, so that what other tools patch into the class still runs.
                return super()._make_api_call(operation_name, api_params)
            except BaseException as error:
                _end_open(state, error)
                raise
            finally:
                CURRENT.reset(token)
                _end_open(state, None)

    Guarded.__name__, Guarded.__qualname__ = base.__name__, base.__qualname__
    Guarded.__module__, Guarded.__doc__ = base.__module__, base.__doc__
    return Guarded


def _end_open(state: CallState, error: BaseException | None) -> None:
    if state.opened and not state.is_handed_over:
        state.end(None, error)


class ClientHooks:
    """
    The handlers of one client. They hold no client, so that it stays collectable.
    """

    def __init__(self, client: BaseClient) -> None:
        service = client.meta.service_model.service_name
        if service not in SERVICES:
            raise ConfigurationError(
                f"A {service!r} client cannot be guarded; can be: {', '.join(map(repr, SERVICES))}."
            )
        self.owners: dict[Pipeline, object] = {}
        self.pipelines: tuple[Pipeline, ...] = ()
        self._service = service
        self._region = client.meta.region_name
        self._client_hold_s = _hold_s(client.meta.config)

    def add(self, pipeline: Pipeline, owner: object) -> None:
        """
        Let *pipeline* see every later call.
        """
        self.owners = {**self.owners, pipeline: owner}
        self.pipelines = tuple(self.owners)

    def remove(self, pipeline: Pipeline) -> None:
        """
        Keep *pipeline* out of every later call.
        """
        self.owners = {each: owner for each, owner in self.owners.items() if each is not pipeline}
        self.pipelines = tuple(self.owners)

    def register(self, events: Any) -> None:
        """
        Register every handler, each before those of other tools.
        """
        for event, handler, unique_id in self._handlers():
            events.register_first(event, handler, unique_id=unique_id)

    def unregister(self, events: Any) -> None:
        """
        Take every handler off.
        """
        for event, handler, unique_id in self._handlers():
            events.unregister(event, handler, unique_id=unique_id)

    def _handlers(self) -> list[tuple[str, Callable[..., Any], str]]:
        # One id for each event: botocore's ids are global to the client, not per event.
        return [
            (event.format(service=self._service), getattr(self, method), f"bedrock_guard.{method}")
            for event, method in _EVENTS.items()
        ]

    def keep_params(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        """
        before-parameter-build: remember the parameters; nothing is reserved yet,
        as presigned URLs and calls that fail validation come this far.
        """
        state = CURRENT.get()
        if state is not None and state.context is None:
            state.context, state.params = context, params
            context[CONTEXT_KEY] = state

    def open(self, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        """
        before-call: reserve the most that the call can cost, or raise.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is None:
            state = context[CONTEXT_KEY] = CallState()
        operation = self._find_operation(model.name)
        if operation is None or state.opened:
            return
        state.operation = operation
        params["body"] = _as_bytes(params.get("body"))
        state.call = operation.read_call(_with_body(operation, state.params, params), region=self._region)
        state.wire = Wire(params["url"], params["headers"], params["body"])
        for pipeline in self.pipelines:
            hold_s = pipeline.settings.hold_s or self._client_hold_s
            state.opened.append((pipeline, pipeline.open(state.call, hold_s=hold_s)))

    def check_request(self, request: Any, **_: Any) -> None:
        """
        request-created: an attempt is about to be signed and sent.
        """
        state: CallState | None = request.context.get(CONTEXT_KEY)
        if state is None or not state.opened or state.operation is None or state.wire is None:
            return
        if not state.wire.is_same(request.url, request.headers, request.data):
            self._bound_again(state, state.operation, request)
        if state.attempts.lost_last:
            try:
                for pipeline, opened in state.opened:
                    pipeline.retry(opened)
            except BudgetExceeded as refusal:
                raise refusal from state.attempts.last_error
        state.attempts.begin()

    def mark_sent(self, **_: Any) -> None:
        """
        before-send: from here on the attempt may reach AWS.
        """
        state = CURRENT.get()
        if state is not None:
            state.attempts.mark_sent()

    def note_attempt(
        self,
        response_dict: Mapping[str, Any] | None,
        parsed_response: Mapping[str, Any] | None,
        context: dict[str, Any],
        exception: BaseException | None,
        **_: Any,
    ) -> None:
        """
        response-received: an attempt was answered, or failed.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is None:
            return
        if response_dict is None or parsed_response is None:
            state.attempts.note_error(exception)
        else:
            state.attempts.note_answer(response_dict["status_code"], parsed_response)

    def settle(self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        """
        after-call: the call was answered, by AWS or by another tool's handler.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is None or not state.opened or state.operation is None or state.call is None:
            return
        if not state.attempts.started:
            state.attempts.note_answer(http_response.status_code, parsed)
        if http_response.status_code >= 300:
            state.end(None)
            return
        operation, reservation_id = state.operation, state.opened[0][1].entry.id
        metadata = parsed.setdefault("ResponseMetadata", {})
        metadata["BedrockGuard"] = {"ReservationId": reservation_id}
        if operation.stream_key is not None and isinstance(parsed.get(operation.stream_key), EventStream):
            state.is_handed_over = True
            stream = parsed[operation.stream_key]
            _settle_by_stream(stream, state, operation, _reply_without(stream, parsed))
            return
        body = None if operation.body_key is None else parsed.get(operation.body_key)
        has_body = isinstance(body, StreamingBody)
        content = None if has_body else _content_of(http_response)
        reply = Reply(parsed, metadata.get("HTTPHeaders", {}), content)
        report = operation.read_usage(reply, state.call)
        if report is None and has_body:
            state.is_handed_over = True
            _settle_by_body(body, state, operation, _reply_without(body, parsed))
            return
        for entry in state.end(report)[:1]:
            metadata["BedrockGuard"]["Basis"] = entry.basis
            if entry.cost_nanousd is not None:
                metadata["BedrockGuard"]["CostUSD"] = usd_text(entry.cost_nanousd)

    def settle_error(self, exception: BaseException, context: dict[str, Any], **_: Any) -> None:
        """
        after-call-error: no answer; what may have been billed is charged.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is not None and state.opened:
            state.end(None, exception)

    def _find_operation(self, name: str) -> Operation | None:
        operation = OPERATIONS.get((self._service, name))
        if operation is None and any(each.settings.on_unmetered == "refuse" for each in self.pipelines):
            raise UnmeteredOperation(
                f"{name} of {self._service} may bill, and its usage cannot be counted here, so no budget "
                'could hold. Set on_unmetered = "allow" to let such calls through uncounted.'
            )
        return None if operation is None or isinstance(operation, Free) else operation

    def _bound_again(self, state: CallState, operation: Operation, request: Any) -> None:
        """
        Another handler changed the request after it was bounded: what leaves is what counts.
        """
        body = _as_bytes(request.data)
        params = operation.read_wire(
            model_id=model_id_in(request.url),
            headers=bedrock_headers(request.headers),
            body=body if isinstance(body, bytes) else bytes(body),
        )
        state.call = operation.read_call(params, region=self._region)
        state.wire = Wire(request.url, request.headers, request.data)
        for pipeline, opened in state.opened:
            pipeline.rebound(opened, state.call)


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
        if reader.report is None:
            state.attempts.replace_last("abandoned" if how in ("closed", "dropped") else "lost")
        state.end(reader.report)

    guard_event_stream(stream, reader, tell)


def _settle_by_body(body: Any, state: CallState, operation: Operation, reply: Reply) -> None:
    def tell(how: StreamEnd, data: bytes) -> None:
        report: UsageReport | None = None
        if how == "end" and state.call is not None:
            report = operation.read_body(data, reply, state.call)
        if report is None:
            state.attempts.replace_last("abandoned" if how in ("closed", "dropped") else "lost")
        state.end(report)

    guard_body(body, tell)


def _with_body(
    operation: Operation, params: Mapping[str, Any], request: Mapping[str, Any]
) -> Mapping[str, Any]:
    """
    The caller's parameters, with an InvokeModel body as it was read from a file.
    """
    if operation.body_key and "body" in params:
        return {**params, "body": request["body"]}
    return params


def _as_bytes(body: Any) -> Any:
    """
    A file's content instead of the file: signing, retries and our bound then see the same bytes.
    """
    if hasattr(body, "read"):
        body = body.read()
    return body.encode() if isinstance(body, str) else body


def _content_of(http_response: Any) -> bytes | None:
    content = getattr(http_response, "content", None)
    return content if isinstance(content, bytes) else None


def _hold_s(config: Any) -> float:
    """
    How long a call of this client can last: (connect + read time-out) x attempts, and slack.
    """
    retries = config.retries or {}
    attempts = int(retries.get("total_max_attempts") or retries.get("max_attempts", _LEGACY_ATTEMPTS - 1) + 1)
    once = float(config.connect_timeout or 0) + float(config.read_timeout or 0)
    return max(_LEAST_HOLD_S, once * max(attempts, 1) + _SLACK_S)
