"""
Who may ask, and what a browser may do with the answer.

A page in the same browser may send requests to this machine, and a name of its own may point here (DNS
rebinding). So a request says by which name it came, from which site, and where others can reach the
server, a token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN: Final = "token"  # noqa: S105 - the parameter's name
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_POLICY: Final = (
    "default-src 'none'; "
    "script-src 'self'; "
    "style-src 'self'; "
    "img-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; "
    "base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_METHODS: Final = ("GET", "HEAD")
# Of a browser that says where a request comes from: from here, or from whoever typed the address.
_OUR_SITES: Final = ("same-origin", "none")


@dataclass(frozen=True, slots=True)
class Door:
    """
    Who is let in.

    Attributes:
        hosts: Names by which the server may be asked, in small letters.
        takes_addresses: Whether any IP address will do, too: nobody can point one of those elsewhere.
        token: What every request must show; None asks for none.
    """

    hosts: frozenset[str]
    takes_addresses: bool = False
    token: str | None = None

    @property
    def cookie(self) -> str:
        """
        What a browser keeps in place of the token.
        """
        return hmac.digest((self.token or "").encode(), b"bedrock-guard dashboard", "sha256").hex()

    @property
    def cookie_name(self) -> str:
        """
        Two dashboards on one host have two: cookies know no ports.
        """
        return f"bedrock_guard_{hashlib.sha256(self.cookie.encode()).hexdigest()[:12]}"


class Gate:
    """
    Refuses what must not be answered, and tells the browser what it may do with what is.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer a request, as ASGI has it.
        """
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        refusal = next(filter(None, (check(self._door, request) for check in _CHECKS)), None)
        await (refusal or self._app)(scope, receive, send_guarded)


def _check_host(door: Door, request: Request) -> Response | None:
    host = _hostname(request.headers.get("host", ""))
    if host in door.hosts or (door.takes_addresses and _is_address(host)):
        return None
    return _refusal(421, "This server is not known by that name; --allow-host NAME adds one.")


def _check_method(_: Door, request: Request) -> Response | None:
    if request.method in _METHODS:
        return None
    return _refusal(405, "Nothing can be changed here.", {"Allow": ", ".join(_METHODS)})


def _check_site(_: Door, request: Request) -> Response | None:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if is_ours and (site is None or site in _OUR_SITES):
        return None
    return _refusal(403, "Another site asked for this. To go there yourself, enter the address in a new tab.")


def _check_token(door: Door, request: Request) -> Response | None:
    if door.token is None:
        return None
    given = request.query_params.get(TOKEN)
    if given is not None and _is_same(given, door.token):
        return _let_in(door, request)
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and _is_same(bearer.strip(), door.token):
        return None
    if _is_same(request.cookies.get(door.cookie_name, ""), door.cookie):
        return None
    return _refusal(
        401,
        "This dashboard is shown to those who have its token: open the link that `bedrock-guard dashboard` "
        "printed, or send it as Authorization: Bearer.",
        {"WWW-Authenticate": "Bearer"},
    )


_CHECKS: Final[tuple[Callable[[Door, Request], Response | None], ...]] = (
    _check_host,
    _check_method,
    _check_site,
    _check_token,
)


def _let_in(door: Door, request: Request) -> Response:
    """
    Keep the token in a cookie, and take it out of the address, which may be shown to others.
    """
    rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != TOKEN])
    # Its path alone: `//elsewhere` would be another host.
    path = f"/{request.url.path.lstrip('/')}"
    answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
    answer.set_cookie(door.cookie_name, door.cookie, httponly=True, samesite="strict")
    return answer


def _hostname(host: str) -> str:
    """
    The name in a Host header: `localhost:8765`, `[::1]:8765`.
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers=headers)
