"""
Where botocore's events meet the pipeline.

    before-call              validated, not sent: reserve, or refuse
    request-created          attempt 2 and later: hold once more, or veto the retry
    before-send              what leaves is what was bounded, or bound it again, or veto it;
                             from here on the attempt may be billed
    response-received        how the attempt ended
    after-call               an answer, of any HTTP status: settle, or hand over to the stream
    after-call-error         no answer: settle what may have been billed

Retries happen inside one call, between before-call and after-call; each attempt
whose answer was lost is money, held and charged by itself. No event fires for
KeyboardInterrupt or when another tool's handler raises: the safety net round
`_make_api_call` (`hooks.attach`) ends what is still open then. It also keeps what
the request was made of, by reference, from where botocore makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from botocore.client import BaseClient

from bedrock_guard.calls.drafting import Source
from bedrock_guard.calls.edge import Lingers, Waits
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.call import Call
from bedrock_guard.errors import ConfigurationError, GuardError
from bedrock_guard.hooks.batch_input import InputReader
from bedrock_guard.hooks.calls import CONTEXT_KEY, CURRENT, CallState, Wire
from bedrock_guard.hooks.changes import draft_of
from bedrock_guard.hooks.counting import InputCounter
from bedrock_guard.hooks.lookup import ProfileLookup
from bedrock_guard.hooks.metering import find_counting
from bedrock_guard.hooks.principal import PrincipalLookup
from bedrock_guard.hooks.settling import settle_reply
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations import OPERATIONS, SERVICES, Free, Operation, Unmeterable, unknown
from bedrock_guard.planning import Planner
from bedrock_guard.resolving import resolve

_SLACK_S: Final = 60.0
_LEAST_HOLD_S: Final = 300.0
_LEGACY_ATTEMPTS: Final = 5
# A client without a read time-out; Bedrock itself gives up after an hour.
_ENDLESS_S: Final = 3600.0

# `*.*` is deliberate: botocore runs wildcard handlers before specific ones, and
# the first before-call handler that answers (a Stubber does) ends the event.
_EVENTS: Final = {
    "before-call.*.*": "open",
    "request-created.{service}": "check_retry",
    "before-send.{service}": "check_sent",
    "response-received.{service}": "note_attempt",
    "after-call.*.*": "settle",
    "after-call-error.*.*": "settle_error",
}


class ClientHooks:
    """
    The handlers of one client. They hold no client, so that it stays collectable.
    """

    is_async = False

    def __init__(self, client: BaseClient) -> None:
        service = client.meta.service_model.service_name
        if service not in SERVICES:
            raise ConfigurationError(
                f"A {service!r} client cannot be guarded; can be: {', '.join(map(repr, SERVICES))}."
            )
        self.owners: dict[Pipeline, object] = {}
        self.pipelines: tuple[Pipeline, ...] = ()
        self.planners: tuple[Planner, ...] = ()
        self._service = service
        self._region = client.meta.region_name
        self._client_hold_s = _hold_s(client.meta.config)
        self._look_up = ProfileLookup(client).find
        self.count_input = InputCounter(client).count
        self._batch_input = InputReader(client, is_async=self.is_async)
        self._principal = PrincipalLookup(client, is_async=self.is_async)
        self._tells_principal = False

    def add(self, pipeline: Pipeline, owner: object) -> None:
        """
        Let *pipeline* see every later call.
        """
        self._own({**self.owners, pipeline: owner})

    def remove(self, pipeline: Pipeline) -> None:
        """
        Keep *pipeline* out of every later call.
        """
        self._own({each: owner for each, owner in self.owners.items() if each is not pipeline})

    def _own(self, owners: dict[Pipeline, object]) -> None:
        self.owners = owners
        self.pipelines = tuple(owners)
        self.planners = tuple([pipeline.planner for pipeline in owners])
        self._tells_principal = any(planner.settings.principal == "lookup" for planner in self.planners)

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
            (event.format(service=self._service), self._handler(name), f"bedrock_guard.{name}")
            for event, name in _EVENTS.items()
        ]

    def _handler(self, name: str) -> Callable[..., Any]:
        handler: Callable[..., Any] = getattr(self, name)
        return handler

    def open(self, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        """
        before-call: reserve the most that the call can cost, or raise.
        """
        operation = OPERATIONS.get((self._service, model.name)) or unknown(self._service, model.name)
        if isinstance(operation, Free):
            return
        state = context[CONTEXT_KEY] if CONTEXT_KEY in context else _unseen_state(context)
        if state.opened:
            return
        state.operation = operation
        asked = {} if isinstance(operation, Unmeterable) else _read_params(state, operation, params)
        state.call = self.read_call(operation, asked)
        state.params = None
        pipelines = self.pipelines
        if state.call.flat_key:
            pipelines = find_counting(pipelines, operation, state.call, service=self._service)
        self._hold(state, state.call, pipelines, partial(draft_of, self, state, state.call, params))

    def _hold(self, state: CallState, call: Call, pipelines: Sequence[Pipeline], source: Source) -> None:
        for number, pipeline in enumerate(pipelines):
            opened = pipeline.open(call if state.draft is None else state.draft.call)
            state.opened.append((pipeline, opened))
            if pipeline.loops is not None and state.wire is not None:
                pipeline.loops.see_request(opened, state.wire.fingerprint)
            if self.is_async:
                self._spare_loop(pipeline, opened, may_linger=False)
            hold_s = pipeline.settings.hold_s or self._client_hold_s
            try:
                pipeline.reserve(opened, hold_s=hold_s, source=source)
            except Lingers as error:
                rest, lingers = pipelines[number + 1 :], not isinstance(error, Waits)
                again = partial(self._go_on, state, call, rest, source, may_linger=lingers)
                raise type(error)(again) from None
            if state.draft is not None:
                state.draft.admit()
        if state.draft is not None:
            state.draft.put_in()
            _tell_others(state, state.draft.notes)
            state.draft = None  # it holds the prompt
        if state.is_over:  # its task was dropped while a thread reserved for it
            state.end(None)

    def _go_on(
        self, state: CallState, call: Call, rest: Sequence[Pipeline], source: Source, *, may_linger: bool
    ) -> None:
        """
        Open a call where its ledger may be asked, or where it may be kept waiting.
        """
        pipeline, opened = state.opened[-1]
        self._spare_loop(pipeline, opened, may_linger=may_linger)
        opened.give_back_end()
        pipeline.reserve(opened, hold_s=pipeline.settings.hold_s or self._client_hold_s, source=source)
        if state.draft is not None:
            state.draft.admit()
        self._hold(state, call, rest, source)

    def _spare_loop(self, pipeline: Pipeline, opened: OpenCall, *, may_linger: bool) -> None:
        """
        Say what a call may be kept waiting for; there is nothing to say where no event loop waits with it.
        """

    def check_retry(self, request: Any, **_: Any) -> None:
        """
        request-created: an attempt is about to be signed and sent.
        """
        state: CallState | None = request.context.get(CONTEXT_KEY)
        if state is None or not state.opened:
            return
        attempts = state.attempts
        if attempts.ended and attempts.lost_last:
            try:
                for pipeline, opened in state.opened:
                    pipeline.retry(opened)
            except GuardError as refusal:
                raise refusal from attempts.last_error
        attempts.begin()
        if CURRENT.get() is not state:  # another tool called round our net: there is no later look
            self._check_wire(state, request, "data")
            attempts.mark_sent()

    def check_sent(self, request: Any, **_: Any) -> None:
        """
        before-send: what leaves is what was bounded; from here on it may reach AWS.
        """
        state = CURRENT.get()
        if state is not None and state.opened:
            wire = state.wire
            # As usual: the same body, and no headers to look through.
            if (
                wire is None
                or wire.given is not None
                or request.body is not wire.body
                or request.url != wire.url
            ):
                self._check_wire(state, request, "body")
            state.attempts.is_sent = True

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
        if state is None or not state.opened:
            return
        if response_dict is None or parsed_response is None:
            state.attempts.note_error(exception)
        else:
            name = "" if state.operation is None else state.operation.name
            state.attempts.note_answer(response_dict["status_code"], parsed_response, name)

    def settle(self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        """
        after-call: the call was answered, by AWS or by another tool's handler.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is not None and state.opened:
            settle_reply(state, parsed, http_response.status_code, http_response)

    def settle_error(self, exception: BaseException, context: dict[str, Any], **_: Any) -> None:
        """
        after-call-error: no answer; what may have been billed is charged.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is not None and state.opened:
            state.end(None, exception)

    def read_call(self, operation: Operation, params: Mapping[str, Any]) -> Call:
        """
        What a request asks for, and who asks.
        """
        call = operation.read_call(params, region=self._region)
        if call.model.model is None:
            call = resolve(self.planners, operation, params, call, region=self._region, look_up=self._look_up)
        if call.batch is not None:
            call = self._batch_input.read(call, self.planners)
        return call.by(self._principal.find()) if self._tells_principal else call

    def _check_wire(self, state: CallState, request: Any, attribute: str) -> None:
        """
        Bound again what another handler changed; *attribute* holds the body of this kind of request.
        """
        body, operation = getattr(request, attribute), state.operation
        if operation is None or state.wire is None or state.wire.is_same(request.url, request.headers, body):
            return
        content = _as_bytes(body)
        if content is not body and body is not None:  # it was a file, and is read now
            setattr(request, attribute, content)
        before, state.wire = state.wire, _wire_of(operation, request.url, request.headers, content)
        counted = None if state.call is None else state.call.size.counted_tokens
        state.call = self.read_call(operation, state.wire.read(operation))
        if counted is not None and (before.url, before.body) == (request.url, content):
            state.call = state.call.counted(counted)
        if state.call.flat_key:
            holding = [pipeline for pipeline, _ in state.opened]
            find_counting(holding, operation, state.call, service=self._service)
        for pipeline, opened in state.opened:
            pipeline.rebound(opened, state.call)


def _unseen_state(context: dict[str, Any]) -> CallState:
    """
    The state of a call where botocore was called in a way that our net does not see.
    """
    current = CURRENT.get()
    state = CallState() if current is None or current.opened else current
    state.params = None
    context[CONTEXT_KEY] = state
    return state


def _tell_others(state: CallState, notes: Mapping[str, Any]) -> None:
    """
    Let guards that had admitted another request have on their books what is sent instead.
    """
    if state.call is None:
        return
    for pipeline, opened in state.opened[:-1]:
        if opened.plan.call != state.call:
            pipeline.rebound(opened, state.call)
            opened.entry = opened.entry.changed(**notes)


def _read_params(state: CallState, operation: Operation, request: dict[str, Any]) -> Mapping[str, Any]:
    """
    The parameters that *request* was made of: the caller's, or what it says now if a
    handler before ours changed it. A body that is a file is read, once and for all.
    """
    wire, body = state.wire, request["body"]
    if wire is not None and not operation.reads_headers:
        wire.given = None
        is_as_made = body is wire.body and request["url"] == wire.url and type(body) is bytes
        if is_as_made and state.params is not None and operation.body_key is None:  # as usual
            return state.params
    body = _as_bytes(body)
    is_changed = wire is None or not wire.is_same(request["url"], request["headers"], request["body"])
    if wire is None or is_changed or body is not request["body"]:
        request["body"] = body
        wire = state.wire = _wire_of(operation, request["url"], request["headers"], body)
    if is_changed or state.params is None:
        return wire.read(operation)
    if operation.body_key and "body" in state.params:
        return {**state.params, "body": request["body"]}
    return state.params


def _wire_of(operation: Operation, url: str, headers: Mapping[str, str], body: Any) -> Wire:
    return Wire(url, headers if operation.reads_headers else None, body)


def _as_bytes(body: Any) -> Any:
    """
    A file's content instead of the file: signing, retries and our bound then see the same bytes.
    """
    if hasattr(body, "read"):
        body = body.read()
    return body.encode() if isinstance(body, str) else body


def _hold_s(config: Any) -> float:
    """
    How long a call of this client can last: (connect + read time-out) x attempts, and slack.
    """
    retries = config.retries or {}
    attempts = int(retries.get("total_max_attempts") or retries.get("max_attempts", _LEGACY_ATTEMPTS - 1) + 1)
    once = sum(
        _ENDLESS_S if each is None else float(each) for each in (config.connect_timeout, config.read_timeout)
    )
    return max(_LEAST_HOLD_S, once * max(attempts, 1) + _SLACK_S)
