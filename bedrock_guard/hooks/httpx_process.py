"""
A guard round every httpx client of this process, whoever made it and when.

For programs that make their clients out of reach. What sends is put round, not what a client is made of: each
of these classes has one method that every request of its clients goes through.

To add a transport: its line in `TRANSPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from bedrock_guard.hooks.httpx import AsyncGuardTransport, GuardTransport
from bedrock_guard.hooks.httpx_refusals import Refusals, check_refusals
from bedrock_guard.hooks.httpx_requests import Holding

# Of packages that may not be there: the module, its class, and the method that sends.
TRANSPORTS: Final = (
    ("httpx", "HTTPTransport", "handle_request"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpx2", "HTTPTransport", "handle_request"),
    ("httpx2", "AsyncHTTPTransport", "handle_async_request"),
    ("litellm.llms.custom_httpx.aiohttp_transport", "LiteLLMAiohttpTransport", "handle_async_request"),
)


def guard_transports(
    guard: Holding, *, region: str | None = None, hosts: Collection[str] = (), refusals: Refusals = "raise"
) -> Callable[[], None]:
    """
    Put *guard* round what every httpx client of this process sends; what is returned takes it off.

    *region*, *hosts* and *refusals* are those of `GuardTransport`. Again with another guard, both must admit
    a request, and come off in the reverse order.

    Raises:
        ConfigurationError: *refusals* is none that there is.
    """
    options = {"region": region, "hosts": frozenset(hosts), "refusals": check_refusals(refusals)}
    undo = []
    for module, name, method in TRANSPORTS:
        with suppress(ImportError):
            kind: Any = getattr(import_module(module), name)
            original = getattr(kind, method)
            setattr(kind, method, _guarded(original, method, guard, options))
            undo.append(partial(setattr, kind, method, original))

    def take_off() -> None:
        for put_back in undo:
            put_back()

    return take_off


def _guarded(original: Any, method: str, guard: Holding, options: dict[str, Any]) -> Any:
    wrapped = GuardTransport if method == "handle_request" else AsyncGuardTransport

    # A coroutine function stays one: what it returns is a coroutine.
    @wraps(original)
    def send(transport: Any, request: Any) -> Any:
        sends = _Sends(partial(original, transport))
        return getattr(wrapped(guard, sends, **options), method)(request)

    return send


class _Sends:
    """
    One method of a transport, as a transport.
    """

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.handle_request = self.handle_async_request = send
