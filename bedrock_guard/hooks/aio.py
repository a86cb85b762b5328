"""
The same for aiobotocore: async shells round the sync handlers, and no second copy of them.

A ledger that may wait for a disk is called in a thread, as is what may ask the control plane; one in
memory inline. One on leases is tried inline, and called in a thread where it has to ask. A call that does not
fit, and may wait for others, is opened in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from bedrock_guard.calls.edge import Lingers, Waits
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.services import CONTROL_PLANE
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.hooks.calls import CONTEXT_KEY, CURRENT, CallState
from bedrock_guard.hooks.events import ClientHooks
from bedrock_guard.hooks.settling import Answer, end_open, reads_content, settle_reply
from bedrock_guard.hooks.threads import in_own_thread, is_on_loop, off_loop, run_soon
from bedrock_guard.open_call import OpenCall


def is_async_client(client: Any) -> bool:
    """
    Whether *client* is aiobotocore's; without importing it.
    """
    return any(base.__module__.partition(".")[0] == "aiobotocore" for base in type(client).__mro__)


class AioClientHooks(ClientHooks):
    """
    The handlers of one async client.
    """

    is_async = True
    _reads_batches = False

    async def async_open(self, **event: Any) -> None:
        """
        before-call: reserve the most that the call can cost, or raise.
        """
        if self._tells_principal and self._principal.is_due:
            await self._principal.ask_off_loop()
        if self._reads_batches:
            await self._batch_input.freeze()
        work: Callable[[], None] | None = partial(self.open, **event)
        run: Callable[[Callable[[], None]], Awaitable[None]] = partial(self._run, is_tried=True)
        while work is not None:
            try:
                await run(work)
            except Lingers as lingering:
                work = lingering.go_on
                run = off_loop if isinstance(lingering, Waits) else self._run_apart
                lingering.__traceback__ = (
                    None  # a future's error holds frames in a cycle, and they the prompt
                )
            else:
                work = None

    async def async_check_retry(self, request: Any, **event: Any) -> None:
        """
        request-created: an attempt is about to be signed and sent.
        """
        state: CallState | None = request.context.get(CONTEXT_KEY)
        work = partial(self.check_retry, request, **event)
        if state is not None and state.attempts.lost_last:
            await self._run(work)
        else:
            work()

    async def async_check_sent(self, request: Any, **event: Any) -> None:
        """
        before-send: what leaves is what was bounded; from here on it may reach AWS.
        """
        state = CURRENT.get()
        work = partial(self.check_sent, request, **event)
        wire = None if state is None else state.wire
        if wire is None or wire.is_same(request.url, request.headers, request.body):
            work()
        else:
            await self._run(work)

    async def async_settle(
        self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any
    ) -> None:
        """
        after-call: the call was answered, by AWS or by another tool's handler.
        """
        state: CallState | None = context.get(CONTEXT_KEY)
        if state is not None and state.opened:
            content = None
            if reads_content(state):
                with suppress(
                    Exception
                ):  # of another tool's answer: there may be none, or it may be botocore's
                    content = http_response.content
                    content = await content if isawaitable(content) else content
            settle = partial(settle_reply, state, parsed, http_response.status_code, Answer(content))
            if self._ends_here(state):
                settle()
            else:
                await self._run(settle)

    async def async_settle_error(self, **event: Any) -> None:
        """
        after-call-error: no answer; what may have been billed is charged.
        """
        await self._run(partial(self.settle_error, **event))

    def _own(self, owners: dict[Pipeline, object]) -> None:
        super()._own(owners)
        self._reads_batches = self._service == CONTROL_PLANE and any(
            pipeline.settings.batch_input == "read" for pipeline in owners
        )

    def _give_up(self, state: CallState | None) -> None:
        if state is not None:
            state.is_over = True
        for pipeline in self.pipelines:
            pipeline.edge.queue.wake()

    def _handler(self, name: str) -> Callable[..., Any]:
        handler: Callable[..., Any] = getattr(self, f"async_{name}", None) or super()._handler(name)
        return handler

    async def _run_apart(self, work: Callable[[], None]) -> None:
        await in_own_thread(work, give_up=partial(self._give_up, CURRENT.get()))

    def _spare_loop(self, pipeline: Pipeline, opened: OpenCall, *, may_linger: bool) -> None:
        opened.may_linger = may_linger
        opened.may_wait = pipeline.edge.quick is None or not is_on_loop()

    def _ends_here(self, state: CallState) -> bool:
        call = state.call
        if self._reads_batches or call is None or call.batch is not None:
            return False
        with suppress(LedgerUnavailable):  # the end will meet that, too, and spoils no reply by it
            return all(
                pipeline.edge.quick is not None and pipeline.edge.quick.ends_at_once(opened.reservation)
                for pipeline, opened in state.opened
            )
        return False

    async def _run(self, work: Callable[[], None], *, is_tried: bool = False) -> None:
        if self._reads_batches or any(
            (pipeline.ledger.blocking and not (is_tried and pipeline.edge.quick))
            or pipeline.settings.resolve_profiles == "lookup"
            for pipeline in self.pipelines
        ):
            await off_loop(work)
        else:
            work()


def async_netted_class(base: Any) -> Any:
    """
    A subclass of an async client's class whose calls cannot end without us, cancelled ones included.
    """

    class Guarded(base):  # type: ignore[misc]
        _is_bedrock_guard = True

        async def _make_api_call(self, operation_name: str, api_params: Mapping[str, Any]) -> Any:
            state = CallState()
            token = CURRENT.set(state)
            try:
                reply = await super()._make_api_call(operation_name, api_params)
                if state.is_open:  # the handlers were taken off under way, or kept from running
                    settle_reply(state, reply, 200, None)
            except GeneratorExit as error:  # the coroutine was dropped: nothing can be awaited any more
                run_soon(partial(end_open, state, error))
                raise
            except BaseException as error:
                if state.blocks:
                    await off_loop(partial(end_open, state, error))
                else:
                    end_open(state, error)
                raise
            else:
                return reply
            finally:
                with suppress(ValueError):  # closed in another context than it began in
                    CURRENT.reset(token)

        async def _convert_to_request_dict(self, *args: Any, **kwargs: Any) -> Any:
            request = await super()._convert_to_request_dict(*args, **kwargs)
            state = CURRENT.get()
            if state is not None and not state.has_begun:
                state.begin(request, kwargs)
            return request

    return Guarded
