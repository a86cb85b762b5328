"""
Alerts to a URL: JSON that is signed, or what Slack takes.

    X-Bedrock-Guard-Signature: t=1795305600,v1=<hex of HMAC-SHA256(secret, "<t>.<body>")>

The time is signed with the body, so that a receiver can refuse what somebody sends again later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

from bedrock_guard.alerts.clients import check_texts
from bedrock_guard.domain.alert import Alert
from bedrock_guard.errors import ConfigurationError

SIGNATURE: Final = "X-Bedrock-Guard-Signature"

# What is posted, by shape.
SHAPES: Final[dict[str, Callable[[Alert], str]]] = {
    "json": Alert.to_json,
    "slack": lambda alert: json.dumps({"text": _escape(alert.text)}),
}


class WebhookSink:
    """
    Posts each alert; an answer other than 2xx is a failure, a redirect too.

    Args:
        url: http or https.
        secret: Signs what is posted; without, nothing does.
        secret_env: The environment variable that holds the secret, for settings files.
        shape: `"json"`, or `"slack"` for Slack's incoming webhooks.
        timeout_s: How long an answer is waited for, in seconds.
    """

    def __init__(
        self,
        *,
        url: str,
        secret: str | None = None,
        secret_env: str | None = None,
        shape: str = "json",
        timeout_s: float = 5.0,
    ) -> None:
        check_texts("webhook", url=url, secret=secret, secret_env=secret_env)
        _check_url(url)
        if shape not in SHAPES:
            raise ConfigurationError(f"Sink 'webhook': shape is {shape!r}; it is one of {', '.join(SHAPES)}.")
        is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
        if not is_number or not 0 < timeout_s <= 10:
            raise ConfigurationError(
                f"Sink 'webhook': timeout_s is {timeout_s!r}; it is seconds, 10 at most."
            )
        self._url = url
        self._secret = _read_secret(secret, secret_env)
        self._write = SHAPES[shape]
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_OnlySuccess())

    def send(self, alert: Alert) -> None:
        """
        Post it.
        """
        body = self._write(alert).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "bedrock_guard"}
        if self._secret is not None:
            headers[SIGNATURE] = sign(body, self._secret, at_s=int(time.time()))
        request = urllib.request.Request(self._url, data=body, headers=headers)  # noqa: S310 - http(s), above
        with self._opener.open(request, timeout=self._timeout_s) as answer:
            answer.read(1)


def sign(body: bytes, secret: str, *, at_s: int) -> str:
    """
    The signature of *body*, sent at *at_s* seconds since 1970.
    """
    signed = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={signed.hexdigest()}"


def _escape(text: str) -> str:
    """
    *text* for Slack, which takes `<!channel>` in a tag for a call to everybody.
    """
    # https://api.slack.com/reference/surfaces/formatting: these three.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _check_url(url: str) -> None:
    """
    Refuse what no request can be sent to. The URL may hold a secret, so no message quotes it.
    """
    username = None
    try:
        parts = urlsplit(url)
        username = parts.username
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        is_one = False
    if not is_one or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(
            "Sink 'webhook': url is no http or https URL, or has spaces, line ends or letters beyond ASCII."
        )
    if username is not None:
        raise ConfigurationError("Sink 'webhook': url has a user name, which is not sent; use secret.")


def _read_secret(secret: str | None, secret_env: str | None) -> str | None:
    if secret_env is None:
        return secret
    if secret is not None:
        raise ConfigurationError("Sink 'webhook': secret and secret_env were both given; write one of them.")
    found = os.environ.get(secret_env)
    if not found:
        raise ConfigurationError(f"Sink 'webhook': secret_env names {secret_env!r}, which is not set.")
    return found


class _OnlySuccess(urllib.request.HTTPErrorProcessor):
    """
    Every answer but a success is an error: to follow a redirect would send what is signed elsewhere.
    """

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        """
        The same answer, if it is a success.
        """
        if not 200 <= response.status < 300:
            raise HTTPError(request.full_url, response.status, response.reason, response.headers, response)
        return response

    https_response = http_response
