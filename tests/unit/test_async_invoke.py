"""
StartAsyncInvoke: what is read of a request, on the wire too, and of the little that is answered.
"""

from __future__ import annotations

import json

import pytest

from bedrock_guard.domain.usage import Untold
from bedrock_guard.operations.async_invoke import START_ASYNC_INVOKE
from bedrock_guard.operations.contract import Reply

REEL = {"modelId": "amazon.nova-reel-v1:0", "modelInput": {"taskType": "TEXT_VIDEO"}, "outputDataConfig": {}}
ARN = "arn:aws:bedrock:eu-west-1:123456789012:async-invoke/abc"


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"7", b"\xff"])
def test_a_body_that_cannot_be_read_is_of_no_model(body: bytes) -> None:
    """
    A handler after ours may have written anything; then there is no price, and nothing is sent.
    """
    params = START_ASYNC_INVOKE.read_wire(model_id="", headers={}, body=body)

    assert START_ASYNC_INVOKE.read_call(params, region="eu-west-1").model.model is None


def test_a_body_on_the_wire_is_its_parameters() -> None:
    """
    The model is in it, not in the path.
    """
    params = START_ASYNC_INVOKE.read_wire(model_id="", headers={}, body=json.dumps(REEL).encode())
    call = START_ASYNC_INVOKE.read_call(params, region="eu-west-1")

    assert (call.model.model, call.family, call.region) == ("amazon.nova-reel-v1:0", "nova", "eu-west-1")
    assert call.size.beside_tokens == {"output_video_seconds": 6}


@pytest.mark.parametrize(("arn", "job"), [(ARN, ARN), (None, None), (5, None)])
def test_a_job_is_named_where_its_reply_does(arn: object, job: str | None) -> None:
    """
    A reply without a name is a job all the same, and is charged.
    """
    call = START_ASYNC_INVOKE.read_call(REEL, region="eu-west-1")
    reply = Reply({"invocationArn": arn})
    usage = {"output_video_seconds": 6}

    for report in (
        START_ASYNC_INVOKE.read_usage(reply, call),
        START_ASYNC_INVOKE.read_body(b"{}", reply, call),
    ):
        assert (report.usage, report.untold) == (usage, Untold(usage, is_estimate=True, job=job))


def test_there_is_no_stream_to_read() -> None:
    """
    What is fed all the same says nothing.
    """
    reader = START_ASYNC_INVOKE.open_stream_reader(START_ASYNC_INVOKE.read_call(REEL, region="eu-west-1"))

    reader.feed({"metadata": {"usage": {"inputTokens": 5}}}, b"{}")

    assert (reader.report, reader.is_last_word, reader.learned.received_bytes) == (None, False, 0)
