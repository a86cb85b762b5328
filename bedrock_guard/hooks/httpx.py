"""
Transports for httpx clients that ask Bedrock themselves: LiteLLM's, `AnthropicBedrock`'s, a program's own.

    httpx.Client(transport=GuardTransport(my_guard))
    httpx.AsyncClient(transport=AsyncGuardTransport(my_guard))

Each request that bills is held for as it goes out on the wire, and ends by what comes back: an SDK's retries
are requests like others. Those of other hosts go through as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from bedrock_guard.hooks.httpx_frames import Frames
from bedrock_guard.hooks.httpx_requests import Holding, hold_for, is_stream, name_of
from bedrock_guard.hooks.threads import in_own_thread, off_loop, run_soon

if TYPE_CHECKING:
    from bedrock_guard.holding import Hold

T = TypeVar("T")

# Errors that say that nothing was sent; by name, as httpx has a successor whose classes are others.
_NOT_SENT: Final = frozenset(["ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"])
_OK: Final = 200


class GuardTransport:
    """
    A transport for `httpx.Client`.

    Args:
        guard: Whose budgets hold.
        transport: What sends; None is httpx's own.
        region: Where neither the signature nor the host tells it.
    """

    def __init__(self, guard: Holding, transport: Any = None, *, region: str | None = None) -> None:
        self._guard = guard
        self._transport = _usual("HTTPTransport") if transport is None else transport
        self._region = region

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(self, *how: object) -> None:
        self._transport.__exit__(*how)

    def close(self) -> None:
        """
        Close what sends.
        """
        self._transport.close()

    def handle_request(self, request: Any) -> Any:
        """
        Hold for *request*, send it, and settle at what comes back.

        Raises:
            BudgetExceeded: It does not fit; nothing is sent.
            UnmeteredOperation: It would bill, and cannot be counted.
        """
        if name_of(request) is not None:  # else it may be an upload to elsewhere
            request.read()
        hold = hold_for(self._guard, request, self._region)
        if hold is None:
            return self._transport.handle_request(request)
        with _Ended(hold) as ended:
            ended.is_sent = True
            response = self._transport.handle_request(request)
            if response.status_code == _OK and is_stream(request):
                frames = Frames(hold)
                if response.is_closed:  # a cache's, or a mock's: read already, and nobody will again
                    frames.see(b"".join(response.stream))
                    frames.end()
                else:
                    response.stream = _stream_class(response.stream.__class__)(response.stream, frames)
            elif response.status_code == _OK:
                content = b"".join(response.stream)
                response.stream.close()
                ended.settle(response, content)
            else:
                hold.rejected(response.status_code, _error_code(response))
        return response


class AsyncGuardTransport:
    """
    A transport for `httpx.AsyncClient` under asyncio; a ledger that waits for a disk does so in a thread.

    Its arguments are those of `GuardTransport`.
    """

    def __init__(self, guard: Holding, transport: Any = None, *, region: str | None = None) -> None:
        self._guard = guard
        self._transport = _usual("AsyncHTTPTransport") if transport is None else transport
        self._region = region

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *how: object) -> None:
        await self._transport.__aexit__(*how)

    async def aclose(self) -> None:
        """
        Close what sends.
        """
        await self._transport.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """
        As `GuardTransport.handle_request`.
        """
        if name_of(request) is not None:
            await request.aread()
        hold = hold_for(self._guard, request, self._region)
        if hold is None:
            return await self._transport.handle_async_request(request)
        ended = _Ended(hold)
        response: Any = None
        try:
            await self._enter(ended)
            ended.is_sent = True
            response = await self._transport.handle_async_request(request)
            if response.status_code == _OK and is_stream(request):
                frames = Frames(hold)
                if response.is_closed:
                    frames.see(b"".join([part async for part in response.stream]))
                    await self._run(frames.end)
                else:
                    response.stream = _async_stream_class(response.stream.__class__)(
                        response.stream, frames, self._run
                    )
            elif response.status_code == _OK:
                content = b"".join([part async for part in response.stream])
                await response.stream.aclose()
                await self._run(lambda: ended.settle(response, content))
            else:
                code = _error_code(response)
                await self._run(lambda: hold.rejected(response.status_code, code))
        except BaseException as error:
            failed = error  # its own name is gone when the thread asks for it
            await self._run(lambda: ended.fail(failed))
            if response is not None:  # nobody else has it, and its connection
                await response.stream.aclose()
            raise
        return response

    async def _enter(self, ended: _Ended) -> None:
        if any(budget.wait_s for budget in self._guard.budgets):
            # Not in the pool: those who wait for room must not keep those from it who make some.
            await in_own_thread(ended.__enter__, give_up=lambda: None)
        else:
            await self._run(ended.__enter__)

    async def _run(self, work: Callable[[], T]) -> T:
        return await off_loop(work) if self._guard.ledger.blocking else work()


class _Ended:
    """
    A hold that ends however its request does, unless a stream keeps it.
    """

    def __init__(self, hold: Hold) -> None:
        self.is_sent = False
        self._hold = hold
        self._is_entered = False

    def __enter__(self) -> Self:
        self._hold.__enter__()
        self._is_entered = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.fail(error)

    def settle(self, response: Any, content: bytes) -> None:
        """
        Settle at *content*, as it came, and give it back to *response*.
        """
        whole = type(response)(_OK, headers=response.headers, content=content)
        response.stream = whole.stream
        self._hold.settle(whole.content, headers=response.headers)

    def fail(self, error: BaseException) -> None:
        """
        End a hold whose request ended with *error*; once.
        """
        if not self._is_entered or self._hold.entry is not None:
            return
        names = {each.__name__ for each in type(error).__mro__}
        if names & _NOT_SENT or not self.is_sent:
            self._hold.rejected(None, type(error).__name__)
        else:
            self._hold.lost(None, type(error).__name__)


def _error_code(response: Any) -> str | None:
    # As botocore reads it: `ValidationException:http://internal.amazon.com/...`.
    code: str | None = response.headers.get("x-amzn-errortype")
    return None if code is None else code.partition(":")[0].rpartition("#")[-1]


def _usual(name: str) -> Any:
    # Imported on use: whoever gives a transport needs none.
    return getattr(import_module("httpx"), name)()


def _drop(frames: Frames) -> None:
    # Nobody has closed the stream, and nobody can any more.
    if not frames.is_ended:
        run_soon(frames.end)


@cache
def _stream_class(base: Any) -> Any:
    """
    A stream of the kind that clients look for, which tells what comes by.
    """

    class GuardedStream(base):  # type: ignore[misc]
        def __init__(self, stream: Any, frames: Frames) -> None:
            self._guarded = stream
            self._frames = frames
            weakref.finalize(self, _drop, frames)

        def __iter__(self) -> Iterator[bytes]:
            try:
                for part in self._guarded:
                    self._frames.see(part)
                    yield part
            except Exception as error:
                self._frames.end(error)
                raise
            self._frames.end()

        def close(self) -> None:
            try:
                self._guarded.close()
            finally:
                self._frames.end()

    return GuardedStream


@cache
def _async_stream_class(base: Any) -> Any:
    """
    The same for async clients.
    """

    class AsyncGuardedStream(base):  # type: ignore[misc]
        def __init__(self, stream: Any, frames: Frames, run: Callable[..., Any]) -> None:
            self._guarded = stream
            self._frames = frames
            self._run = run
            weakref.finalize(self, _drop, frames)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in self._guarded:
                    self._frames.see(part)
                    yield part
            except Exception as error:
                failed = error
                await self._run(lambda: self._frames.end(failed))
                raise
            await self._run(self._frames.end)

        async def aclose(self) -> None:
            try:
                await self._guarded.aclose()
            finally:
                await self._run(self._frames.end)

    return AsyncGuardedStream
