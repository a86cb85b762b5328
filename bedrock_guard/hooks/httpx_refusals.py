"""
Refusals as replies: what a client that speaks HTTP is told of a request that was not sent.

SDKs take whatever a transport raises for a lost connection, and try again; of HTTP 400 they say what it says.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

from bedrock_guard.errors import ConfigurationError, GuardError, LedgerUnavailable

Refusals: TypeAlias = Literal["raise", "reply"]

_REFUSED: Final = 400
# Another time it may fit.
_UNAVAILABLE: Final = 503


def check_refusals(refusals: Refusals) -> Refusals:
    """
    *refusals*, if it is one of them.

    Raises:
        ConfigurationError: It is none.
    """
    if refusals in {"raise", "reply"}:
        return refusals
    raise ConfigurationError(f"refusals is {refusals!r}; it is one of 'raise', 'reply'.")


def reply_of(request: Any, error: GuardError) -> Any:
    """
    The reply to *request* that says *error*: Bedrock's own, or OpenAI's where its API is asked.

    Not 429, though it is about money: a router takes a model that is throttled out of turn, for everybody.
    """
    # httpx has a successor whose classes are others.
    httpx = import_module(type(request).__module__.partition(".")[0])
    name, text = type(error).__name__, str(error)
    told: dict[str, Any] = {"message": text}
    if "/openai/" in request.url.path:
        told = {"error": {"message": text, "type": "invalid_request_error", "code": name}}
    headers = {"x-amzn-errortype": name}
    if isinstance(error, LedgerUnavailable):
        return httpx.Response(_UNAVAILABLE, headers=headers, json=told, request=request)
    headers["x-should-retry"] = "false"  # the SDKs' own word
    return httpx.Response(_REFUSED, headers=headers, json=told, request=request)
