"""
What an attempt's end says of the money.
"""

from __future__ import annotations

import ssl

import pytest
import urllib3.exceptions
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)

from bedrock_guard.hooks.attempts import AttemptLog, outcome_of_status

URL = "https://bedrock-runtime.us-east-1.amazonaws.com"
UNTRUSTED = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate"))
BROKEN = urllib3.exceptions.SSLError(ssl.SSLError("decryption failed or bad record mac"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "answered"),
        (302, "rejected"),
        (400, "rejected"),
        (403, "rejected"),
        (404, "rejected"),
        (408, "lost"),
        (424, "lost"),
        (429, "rejected"),
        (500, "lost"),
        (502, "lost"),
        (503, "rejected"),
        (504, "lost"),
    ],
)
def test_a_status_says_whether_a_model_may_have_run(status: int, outcome: str) -> None:
    """
    What was turned away is free; what a model may have answered is not.
    """
    assert outcome_of_status(status) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EndpointConnectionError(endpoint_url=URL, error="refused"), "not_sent"),
        (ConnectTimeoutError(endpoint_url=URL, error="slow"), "not_sent"),
        (ProxyConnectionError(proxy_url=URL, error="refused"), "not_sent"),
        (SSLError(endpoint_url=URL, error=UNTRUSTED), "not_sent"),
        (SSLError(endpoint_url=URL, error=BROKEN), "lost"),
        (ReadTimeoutError(endpoint_url=URL, error="slow"), "lost"),
        (ConnectionClosedError(endpoint_url=URL), "lost"),
        (KeyboardInterrupt(), "lost"),
        (None, "lost"),
    ],
)
def test_an_error_says_whether_the_request_left(error: BaseException | None, outcome: str) -> None:
    """
    A TLS connection that breaks may have carried the whole request; one refused for its certificate did not.
    """
    log = AttemptLog()
    log.begin()
    log.mark_sent()

    (attempt,) = log.close(error)

    assert attempt.outcome == outcome


def test_nothing_left_before_it_was_sent() -> None:
    """
    No credentials, or a handler that raised: whatever the error, no byte was on the wire.
    """
    log = AttemptLog()
    log.begin()

    assert [attempt.outcome for attempt in log.close(ReadTimeoutError(endpoint_url=URL))] == ["not_sent"]


@pytest.mark.parametrize("status", [408, 424, 500])
def test_the_last_error_is_that_of_the_attempt_that_was_lost(status: int) -> None:
    """
    It is told as the cause of a refusal: none that is over, and none of an attempt that was free.
    """
    answer = {"Error": {"Code": "Odd", "Message": "went wrong"}, "ResponseMetadata": {}}
    log = AttemptLog()
    log.note_error(ReadTimeoutError(endpoint_url=URL))
    log.note_answer(status, answer, "Converse")

    assert isinstance(log.last_error, ClientError)
    assert str(log.last_error) == "An error occurred (Odd) when calling the Converse operation: went wrong"
    for other in (429, 200):
        log.note_answer(status, answer, "Converse")
        log.note_answer(other, answer if other == 429 else {}, "Converse")
        assert log.last_error is None

    log.note_answer(status, answer, "Converse")
    log.forget_errors()
    assert log.last_error is None
