"""
What happened to each HTTP attempt of a call: not sent, rejected, answered, lost.

botocore may send one call three to five times, and an attempt whose answer was
lost may have been billed. AWS documents no charge for errors; 4xx and 503 are
taken as free, because the request was turned away before a model ran.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    SSLError,
)

from bedrock_guard.domain.entry import Attempt, AttemptOutcome
from bedrock_guard.domain.http_status import outcome_of_status

# Raised by the HTTP session before a byte of the request left.
_NOT_SENT: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)


class AttemptLog:
    """
    The attempts of one call, in order; the last may still be open.

    Attributes:
        started: How many have begun.
        last_error: Why the last one was lost, where that is known.
    """

    __slots__ = ("_closed", "_is_open", "_is_sent", "last_error", "started")

    def __init__(self) -> None:
        self._closed: list[Attempt] = []
        self._is_open = False
        self._is_sent = False
        self.started = 0
        self.last_error: BaseException | None = None

    @property
    def lost_last(self) -> bool:
        """
        Whether the attempt before may have been billed without an answer that counts.
        """
        return bool(self._closed) and self._closed[-1].outcome in ("lost", "answered")

    @property
    def is_open(self) -> bool:
        """
        Whether an attempt was begun and has not ended.
        """
        return self._is_open

    def begin(self) -> None:
        """
        A request is being made. One that was answered before it, and is sent again
        all the same, was billed for an answer that nobody will see.
        """
        self.started += 1
        if self._closed and self._closed[-1].outcome == "answered":
            self.replace_last("lost")
        self._is_open, self._is_sent = True, False

    def mark_sent(self) -> None:
        """
        The request is about to leave.
        """
        self._is_sent = True

    def note_answer(self, status: int, parsed: Mapping[str, Any], operation: str = "") -> None:
        """
        An HTTP answer came, of any status.
        """
        outcome = outcome_of_status(status)
        if self.last_error is not None:
            self.forget_errors()
        if outcome == "lost":
            # As botocore would raise it, which raises nothing for an attempt that it tries again.
            response: Any = parsed
            self.last_error = ClientError(response, operation)
        code = None if outcome == "answered" else str(parsed.get("Error", {}).get("Code", "")) or None
        self._close(Attempt(outcome, status, code))

    def note_error(self, error: BaseException | None) -> None:
        """
        No answer came; with *error* None it is not known why.
        """
        self.last_error = error
        free = not self._is_sent or _never_left(error)
        name = None if error is None else type(error).__name__
        self._close(Attempt("not_sent" if free else "lost", None, name))

    def replace_last(self, outcome: AttemptOutcome) -> None:
        """
        The last attempt was answered, but its usage was never learned.
        """
        last = self._closed.pop()
        self._closed.append(Attempt(outcome, last.status, last.error_code))

    def forget_errors(self) -> None:
        """
        Drop the error of a lost attempt, and its frames: they hold the reply that came in the end,
        which would then outlive all who read it.
        """
        error, self.last_error = self.last_error, None
        while error is not None:
            error.__traceback__ = None
            error = error.__context__

    def close(self, error: BaseException | None) -> tuple[Attempt, ...]:
        """
        All attempts, an open one ended by *error*.
        """
        if self._is_open:
            self.note_error(error)
        return tuple(self._closed)

    def _close(self, attempt: Attempt) -> None:
        self._is_open = False
        self._closed.append(attempt)


def _never_left(error: BaseException | None) -> bool:
    # A broken TLS connection may have carried the request; a certificate that was not accepted did not.
    if isinstance(error, SSLError):
        cause = error.kwargs.get("error")
        return any(isinstance(part, ssl.SSLCertVerificationError) for part in _chain(cause))
    return isinstance(error, _NOT_SENT)


def _chain(error: object) -> list[object]:
    """
    An error of urllib3 and what it wraps, in its arguments or as its cause.
    """
    found: list[object] = []
    waiting = [error]
    while waiting and len(found) < 20:
        part = waiting.pop()
        found.append(part)
        if isinstance(part, BaseException):
            waiting += [*part.args, part.__cause__, part.__context__, getattr(part, "reason", None)]
    return found
