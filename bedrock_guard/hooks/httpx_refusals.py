"""
Refusals as replies: what a client that speaks HTTP is told of a request that was not sent.

SDKs take whatever a transport raises for a lost connection, and try again; of HTTP 400 they say what it says.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, Literal, TypeAlias, get_args

from bedrock_guard.errors import ConfigurationError, GuardError, LedgerUnavailable

Refusals: TypeAlias = Literal["raise", "reply"]

_REFUSED: Final = 400
# Another time it may fit.
_UNAVAILABLE: Final = 503


def check_refusals(refusals: object) -> Refusals:
    """
    *refusals*, if it is one of them.

    Raises:
        ConfigurationError: It is none.
    """
    for known in get_args(Refusals):
        if refusals == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"refusals is {refusals!r}; it is one of 'raise', 'reply'.")


def reply_of(request: Any, error: GuardError) -> Any:
    """
    The reply to *request* that says *error*, as Bedrock, OpenAI and Anthropic each would.

    Not 429, though it is about money: routers take a throttled model out of turn, for everybody.
    """
    # httpx has a successor whose classes are others.
    httpx = import_module(type(request).__module__.partition(".")[0])
    name, text = type(error).__name__, str(error)
    status = _UNAVAILABLE if isinstance(error, LedgerUnavailable) else _REFUSED
    told = {"type": "invalid_request_error", "code": name, "message": text}
    headers = {"x-amzn-errortype": name}
    if status == _REFUSED:
        headers["x-should-retry"] = "false"
    return httpx.Response(
        status, headers=headers, json={"message": text, "type": "error", "error": told}, request=request
    )
