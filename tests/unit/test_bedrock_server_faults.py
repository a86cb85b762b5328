"""
The loopback Bedrock as boto3 sees it: each way a call can end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import ProtocolError

from bedrock_guard.testing.bedrock_server import (
    Answer,
    BedrockServer,
    broken_json,
    converse_reply,
    corrupt_frame,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    slow_answer,
    stream_error,
    truncated_body,
)

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LONG = "long " * 819 + "."  # 4,096 bytes, 1,024 tokens: just enough to be cached
HELLO = {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": "12345678"}]}]}
BODY = json.dumps({"max_tokens": 500, "messages": [{"role": "user", "content": "12345678"}]})


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


def client_of(server: BedrockServer, **config: object):
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="loopback",
        aws_secret_access_key="loopback",
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )


@pytest.fixture
def client(server: BedrockServer):
    bedrock = client_of(server)
    yield bedrock
    bedrock.close()


def call_converse(client) -> dict:
    return client.converse(**HELLO)


def call_converse_stream(client) -> list[dict]:
    with closing(client.converse_stream(**HELLO)["stream"]) as stream:
        return list(stream)


def call_invoke(client) -> dict:
    return json.loads(client.invoke_model(modelId=CLAUDE, body=BODY)["body"].read())


def call_invoke_stream(client, model_id: str = CLAUDE, body: str = BODY) -> list[dict]:
    stream = client.invoke_model_with_response_stream(modelId=model_id, body=body)["body"]
    with closing(stream):
        return [json.loads(event["chunk"]["bytes"]) for event in stream]


CALLS = [call_converse, call_converse_stream, call_invoke, call_invoke_stream]
PLAIN = [call_converse, call_invoke]
STREAMED = [call_converse_stream, call_invoke_stream]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ValidationException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (408, "ModelTimeoutException"),
        (424, "ModelErrorException"),
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (503, "ServiceUnavailableException"),
    ],
)
def test_an_error_is_botocores_own_and_unbilled(
    server: BedrockServer, client, call: Callable, status: int, code: str
) -> None:
    """
    Programs catch exceptions by name, so the name must survive the wire.
    """
    server.will_answer(status)

    with pytest.raises(getattr(client.exceptions, code, ClientError)) as caught:
        call(client)

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert server.bill.requests == 0


def test_an_error_may_come_after_the_model_ran(server: BedrockServer, client) -> None:
    """
    Nobody promises that a failed call is free; a ledger must be tested with one that is not.
    """
    server.will_answer(error(429, code="ModelNotReadyException"), error(500, billed=True))

    with pytest.raises(client.exceptions.ModelNotReadyException):
        client.converse(**HELLO)
    with pytest.raises(client.exceptions.InternalServerException):
        client.converse(**HELLO)

    assert server.bill.lines == {(CLAUDE, "input_tokens"): 2, (CLAUDE, "output_tokens"): 200}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("billed", [True, False])
def test_a_lost_answer_is_a_closed_connection(
    server: BedrockServer, client, call: Callable, billed: bool
) -> None:
    """
    The caller cannot tell whether it was billed; the test can.
    """
    server.will_answer(lost_answer(billed=billed))

    with pytest.raises(ConnectionClosedError):
        call(client)

    assert server.bill.requests == int(billed)


@pytest.mark.parametrize("call", CALLS)
def test_a_slow_answer_is_billed_before_the_client_gives_up(server: BedrockServer, call: Callable) -> None:
    """
    A read timeout ends the wait, not the inference.
    """
    server.will_answer(slow_answer(3600))
    impatient = client_of(server, read_timeout=0.5)

    with pytest.raises(ReadTimeoutError):
        call(impatient)
    impatient.close()
    while not server.bill.requests:  # on a machine so busy that the client was faster
        time.sleep(0.001)

    assert server.bill.requests == 1


@pytest.mark.parametrize("call", STREAMED)
def test_a_cut_stream_breaks_after_its_events(server: BedrockServer, client, call: Callable) -> None:
    """
    The usage never arrives, and the whole generation was billed.
    """
    server.will_answer(cut_stream(after_events=3))

    with pytest.raises(ProtocolError):
        call(client)

    assert server.bill.lines[CLAUDE, "output_tokens"] == 200


def test_the_events_before_the_cut_arrive(server: BedrockServer, client) -> None:
    """
    What was received before a break is what a guard may still learn from.
    """
    server.will_answer(cut_stream(after_events=3))

    with closing(client.converse_stream(**HELLO)["stream"]) as stream:
        events = iter(stream)
        received = [next(iter(next(events))) for _ in range(3)]
        with pytest.raises(ProtocolError):
            next(events)

    assert received == ["messageStart", "contentBlockDelta", "contentBlockDelta"]


@pytest.mark.parametrize("call", STREAMED)
@pytest.mark.parametrize(
    "code", ["modelStreamErrorException", "throttlingException", "internalServerException"]
)
def test_a_stream_error_raises_where_it_is_read(
    server: BedrockServer, client, call: Callable, code: str
) -> None:
    """
    Status 200 was sent long before, so the error can only be an event.
    """
    server.will_answer(stream_error(code, after_events=2))

    with pytest.raises(EventStreamError) as caught:
        call(client)

    assert caught.value.response["Error"]["Code"] == code
    assert server.bill.requests == 1


@pytest.mark.parametrize("call", STREAMED)
@pytest.mark.parametrize("at_event", [0, 3, 999])
def test_a_corrupt_frame_fails_its_checksum(
    server: BedrockServer, client, call: Callable, at_event: int
) -> None:
    """
    A broken byte in the last event loses the usage of a call that was paid.
    """
    server.will_answer(corrupt_frame(at_event=at_event))

    with pytest.raises(ChecksumMismatch):
        call(client)

    assert server.bill.requests == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_reply_may_lack_its_usage(server: BedrockServer, client, call: Callable) -> None:
    """
    A success without a figure must never be booked as free.
    """
    server.will_answer(missing_usage())

    said = json.dumps(call(client), default=str).lower()

    assert "usage" not in said
    assert "token-count" not in said
    assert "invocationmetrics" not in said
    assert server.bill.requests == 1


def test_the_headers_alone_may_lack_it(server: BedrockServer, client) -> None:
    """
    Some models send no counts in headers, and the body must be read for them.
    """
    server.will_answer(missing_usage_headers())

    reply = client.invoke_model(modelId=CLAUDE, body=BODY)

    assert not [name for name in reply["ResponseMetadata"]["HTTPHeaders"] if name.endswith("-token-count")]
    assert json.load(reply["body"])["usage"]["output_tokens"] == 200


SPOILT = [broken_json(), truncated_body(), cut_stream(after_events=1)]


@pytest.mark.parametrize("answer", SPOILT)
def test_a_spoilt_body_of_converse_is_a_success_without_usage(
    server: BedrockServer, client, answer: Answer
) -> None:
    """
    Nothing is raised here, which is why a guard has to notice; older HTTP layers notice half a body.
    """
    server.will_answer(answer)

    try:
        reply = client.converse(**HELLO)
    except ConnectionClosedError:
        assert answer is not SPOILT[0]
    else:
        assert "usage" not in reply
    assert server.bill.requests == 1


@pytest.mark.parametrize("answer", [broken_json(), truncated_body()])
def test_a_spoilt_body_of_invoke_model_fails_when_read(server: BedrockServer, client, answer: Answer) -> None:
    """
    The headers arrived, and with them the usage.
    """
    server.will_answer(answer)
    reply = client.invoke_model(modelId=CLAUDE, body=BODY)

    assert reply["ResponseMetadata"]["HTTPHeaders"]["x-amzn-bedrock-output-token-count"] == "200"
    with closing(reply["body"]), pytest.raises((ResponseStreamingError, ValueError)):
        json.loads(reply["body"].read())


@pytest.mark.parametrize("call", STREAMED)
def test_a_stream_cut_in_its_last_event_never_tells_its_usage(
    server: BedrockServer, client, call: Callable
) -> None:
    """
    All of the text arrived and was paid for; the figure did not.
    """
    server.will_answer(truncated_body())

    with pytest.raises(ProtocolError):
        call(client)

    assert server.bill.requests == 1


def test_a_last_event_that_is_no_json_is_an_empty_one_to_botocore(server: BedrockServer, client) -> None:
    """
    No exception tells of it: the metadata event is there, and holds nothing.
    """
    server.will_answer(broken_json(), broken_json())

    *_, metadata = call_converse_stream(client)
    with closing(client.invoke_model_with_response_stream(modelId=CLAUDE, body=BODY)["body"]) as stream:
        *_, chunk = stream

    assert (metadata, chunk) == ({"metadata": {}}, {"chunk": {}})
    assert server.bill.requests == 2


@pytest.mark.parametrize("call", PLAIN)
def test_a_stream_error_of_a_plain_call_is_its_http_error(
    server: BedrockServer, client, call: Callable
) -> None:
    """
    Every fault meets every operation, so that a matrix of both has no holes.
    """
    server.will_answer(stream_error("throttlingException"))

    with pytest.raises(client.exceptions.ThrottlingException):
        call(client)
    assert server.bill.requests == 1


def test_a_corrupt_frame_of_a_plain_call_is_a_body_that_is_no_json(server: BedrockServer, client) -> None:
    """
    The nearest thing to a broken checksum where there is none.
    """
    server.will_answer(corrupt_frame())

    assert "usage" not in call_converse(client)
    assert server.bill.requests == 1


def test_a_throttled_call_that_is_retried_is_billed_once(server: BedrockServer) -> None:
    """
    A throttled attempt is free, and botocore hides it from the caller.
    """
    server.will_answer(429, converse_reply(input_tokens=10, output_tokens=5))
    patient = client_of(server, retries={"total_max_attempts": 2, "mode": "standard"})

    reply = patient.converse(**HELLO)
    patient.close()

    assert reply["usage"]["inputTokens"] == 10
    assert (len(server.requests), server.bill.requests) == (2, 1)
