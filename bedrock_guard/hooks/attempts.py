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
# What nearly every attempt comes to, made once.
_OK: Final = Attempt("answered", 200)


class AttemptLog:
    """
    The attempts of one call, in order; the last may still be open.

    What a log begins with is on the class, so that to make one runs no code.

    Attributes:
        ended: Those that have ended.
        started: How many have begun.
        is_open: Whether an attempt was begun and has not ended.
        is_sent: Whether the last that was begun is about to leave, or has.
        last_error: Why the last one was lost, where that is known.
    """

    ended: tuple[Attempt, ...] = ()
    started = 0
    is_open = False
    is_sent = False
    last_error: BaseException | None = None

    @property
    def lost_last(self) -> bool:
        """
        Whether the attempt before may have been billed without an answer that counts.
        """
        return bool(self.ended) and self.ended[-1].outcome in ("lost", "answered")

    def begin(self) -> None:
        """
        A request is being made. One that was answered before it, and is sent again
        all the same, was billed for an answer that nobody will see.
        """
        self.started += 1
        if self.ended and self.ended[-1].outcome == "answered":
            self.replace_last("lost")
        self.is_open, self.is_sent = True, False

    def mark_sent(self) -> None:
        """
        The request is about to leave.
        """
        self.is_sent = True

    def note_answer(self, status: int, parsed: Mapping[str, Any], operation: str = "") -> None:
        """
        An HTTP answer came, of any status.
        """
        if self.last_error is not None:
            self.forget_errors()
        attempt = _OK if status == 200 else self._answered(status, parsed, operation)
        self.is_open = False
        self.ended = (*self.ended, attempt)

    def note_error(self, error: BaseException | None) -> None:
        """
        No answer came; with *error* None it is not known why.
        """
        self.last_error = error
        free = not self.is_sent or _never_left(error)
        name = None if error is None else type(error).__name__
        self.is_open = False
        self.ended = (*self.ended, Attempt("not_sent" if free else "lost", None, name))

    def replace_last(self, outcome: AttemptOutcome) -> None:
        """
        The last attempt was answered, but its usage was never learned.
        """
        *before, last = self.ended
        self.ended = (*before, Attempt(outcome, last.status, last.error_code))

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
        if self.is_open:
            self.note_error(error)
        return self.ended

    def _answered(self, status: int, parsed: Mapping[str, Any], operation: str) -> Attempt:
        outcome = outcome_of_status(status)
        if outcome == "lost":
            # As botocore would raise it, which raises nothing for an attempt that it tries again.
            response: Any = parsed
            self.last_error = ClientError(response, operation)
        code = None if outcome == "answered" else str(parsed.get("Error", {}).get("Code", "")) or None
        return Attempt(outcome, status, code)


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
