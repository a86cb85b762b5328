"""
Transports for httpx clients that ask Bedrock themselves: LiteLLM's, `AnthropicBedrock`'s, a program's own.

    httpx.Client(transport=GuardTransport(my_guard))
    httpx.AsyncClient(transport=AsyncGuardTransport(my_guard))

Each request that bills is held for as it goes out on the wire, and ends by what comes back: an SDK's retries
are requests like others. Those of other hosts go through as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from bedrock_guard.errors import GuardError, ReservationClosed
from bedrock_guard.hooks.httpx_frames import Frames
from bedrock_guard.hooks.httpx_refusals import Refusals, check_refusals, reply_of
from bedrock_guard.hooks.httpx_requests import Held, Holding, error_code, hold_for, is_metered
from bedrock_guard.hooks.threads import in_own_thread, off_loop, run_soon

if TYPE_CHECKING:
    from bedrock_guard.holding import Hold

T = TypeVar("T")

# Errors that say that nothing was sent; by name, as httpx has a successor whose classes are others.
_NOT_SENT: Final = frozenset(["ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"])
# Why, where they tell: LiteLLM's transport says ConnectError of an open connection that was reset, too.
_NOT_SENT_CAUSES: Final = _NOT_SENT | {"ClientConnectorError", "ConnectionTimeoutError"}
# Of a request: the guards that hold for it while it is under way.
_HOLDERS: Final = "bedrock_guard"
_OK: Final = 200


class GuardTransport:
    """
    A transport for `httpx.Client`.

    Of several round one client, all must admit a request; one with the same budgets in the same ledger as
    another's leaves it to that.

    Args:
        guard: Whose budgets hold.
        transport: What sends; None is httpx's own.
        region: Where neither the signature nor the host tells it.
        hosts: That are Bedrock's, beside Amazon's own: of a gateway that passes requests on.
        refusals: `"raise"` what `Guard.hold` raises, or `"reply"` with HTTP 400 and the text, for clients
            that take what a transport raises for a lost connection, and try again.

    Raises:
        ConfigurationError: *refusals* is neither.
    """

    def __init__(
        self,
        guard: Holding,
        transport: Any = None,
        *,
        region: str | None = None,
        hosts: Collection[str] = (),
        refusals: Refusals = "raise",
    ) -> None:
        self._guard = guard
        self._transport = _usual("HTTPTransport") if transport is None else transport
        self._terms = _Terms(guard, region, hosts, refusals)

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
        if self._terms.must_read(request):
            request.read()
        try:
            held = self._terms.hold_for(request)
            ended = None if held is None else _Ended(held.hold)
            if ended is not None:
                ended.enter()
        except GuardError as error:
            return self._terms.refuse(request, error)
        if held is None or ended is None:
            return self._transport.handle_request(request)
        with ended, _Marked(request, self._guard):
            ended.is_sent = True
            response = self._transport.handle_request(request)
            if response.status_code == _OK and held.frames is not None:
                if response.is_closed:  # a cache's, or a mock's: read already, and nobody will again
                    held.frames.see(b"".join(response.stream))
                    held.frames.end()
                else:
                    response.stream = _stream_class(response.stream.__class__)(response.stream, held.frames)
            elif response.status_code == _OK:
                content = b"".join(response.stream)
                response.stream.close()
                ended.settle(response, content)
            else:
                held.hold.rejected(response.status_code, error_code(response))
        return response


class AsyncGuardTransport:
    """
    A transport for `httpx.AsyncClient` under asyncio; a ledger that waits for a disk does so in a thread.

    Its arguments are those of `GuardTransport`.
    """

    def __init__(
        self,
        guard: Holding,
        transport: Any = None,
        *,
        region: str | None = None,
        hosts: Collection[str] = (),
        refusals: Refusals = "raise",
    ) -> None:
        self._guard = guard
        self._transport = _usual("AsyncHTTPTransport") if transport is None else transport
        self._terms = _Terms(guard, region, hosts, refusals)

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
        if self._terms.must_read(request):
            await request.aread()
        try:
            held = self._terms.hold_for(request)
        except GuardError as error:
            return self._terms.refuse(request, error)
        if held is None:
            return await self._transport.handle_async_request(request)
        ended = _Ended(held.hold)
        response: Any = None
        try:
            await self._enter(ended)
            ended.is_sent = True
            with _Marked(request, self._guard):
                response = await self._transport.handle_async_request(request)
            await self._see(response, held, ended)
        except BaseException as error:
            failed = error  # its own name is gone when the thread asks for it
            await self._run(lambda: ended.fail(failed))
            if response is not None:  # nobody else has it, and its connection
                await response.stream.aclose()
            if isinstance(error, GuardError) and not ended.is_sent:
                return self._terms.refuse(request, error)
            raise
        return response

    async def _see(self, response: Any, held: Held, ended: _Ended) -> None:
        frames = held.frames
        if response.status_code != _OK:
            code = error_code(response)
            await self._run(lambda: held.hold.rejected(response.status_code, code))
        elif frames is None:
            content = b"".join([part async for part in response.stream])
            await response.stream.aclose()
            await self._run(lambda: ended.settle(response, content))
        elif response.is_closed:
            frames.see(b"".join([part async for part in response.stream]))
            await self._run(frames.end)
        else:
            kind = _async_stream_class(response.stream.__class__)
            leave = partial(_drop, frames) if self._guard.ledger.blocking else frames.end
            response.stream = kind(response.stream, frames, self._run, leave)

    async def _enter(self, ended: _Ended) -> None:
        if any(budget.wait_s for budget in self._guard.budgets):
            # Not in the pool: those who wait for room must not keep those from it who make some.
            await in_own_thread(ended.enter, give_up=lambda: None)
        else:
            await self._run(ended.enter)

    async def _run(self, work: Callable[[], T]) -> T:
        return await off_loop(work) if self._guard.ledger.blocking else work()


class _Terms:
    """
    What a transport holds for, and how it says no.
    """

    def __init__(
        self, guard: Holding, region: str | None, hosts: Collection[str], refusals: Refusals
    ) -> None:
        self._guard = guard
        self._region = region
        self._hosts = frozenset(hosts)
        self._replies = check_refusals(refusals) == "reply"

    def must_read(self, request: Any) -> bool:
        # Else it may be an upload to elsewhere.
        return is_metered(request, self._hosts)

    def hold_for(self, request: Any) -> Held | None:
        holders = request.extensions.get(_HOLDERS, ())
        if any(each is self._guard or self._guard._enforces_the_same(each) for each in holders):
            return None
        return hold_for(self._guard, request, self._region, self._hosts)

    def refuse(self, request: Any, error: GuardError) -> Any:
        if not self._replies:
            raise error
        return reply_of(request, error)


class _Marked:
    """
    A request while a guard holds for it, so that a transport below does not, too.
    """

    def __init__(self, request: Any, guard: object) -> None:
        self._extensions = request.extensions
        self._before = self._extensions.get(_HOLDERS, ())
        self._guard = guard

    def __enter__(self) -> None:
        self._extensions[_HOLDERS] = (*self._before, self._guard)

    def __exit__(self, *how: object) -> None:
        # A client may send the same request again: after a redirect, or once it has signed in.
        self._extensions[_HOLDERS] = self._before


class _Ended:
    """
    A hold that ends however its request does, unless a stream keeps it.
    """

    def __init__(self, hold: Hold) -> None:
        self.is_sent = False
        self._hold = hold
        self._is_entered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.fail(error)

    def enter(self) -> None:
        """
        Hold the money.
        """
        self._hold.__enter__()
        self._is_entered = True

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
        if not self.is_sent or _is_unsent(error):
            self._hold.rejected(None, type(error).__name__)
        else:
            self._hold.lost(None, type(error).__name__)


def _is_unsent(error: BaseException) -> bool:
    if isinstance(error, GuardError):  # of a guard below: it has refused
        return not isinstance(error, ReservationClosed)
    cause = error.__cause__
    return _is_any(error, _NOT_SENT) and (cause is None or _is_any(cause, _NOT_SENT_CAUSES))


def _is_any(error: BaseException, names: frozenset[str]) -> bool:
    return not names.isdisjoint(each.__name__ for each in type(error).__mro__)


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
            finally:  # left by its reader, too, who may close nothing
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
        def __init__(
            self, stream: Any, frames: Frames, run: Callable[..., Any], leave: Callable[[], None]
        ) -> None:
            self._guarded = stream
            self._frames = frames
            self._run = run
            self._leave = leave
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
            except BaseException:
                # Its task is cancelled, or its reader gone: whoever keeps the reply may keep it for ever.
                self._leave()
                raise
            await self._run(self._frames.end)

        async def aclose(self) -> None:
            try:
                await self._guarded.aclose()
            finally:
                await self._run(self._frames.end)

    return AsyncGuardedStream
