"""
What the readers make of recorded Bedrock traffic, against what the recordings say verbatim.

Pure functions, no client: a failure here names the reader that is wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import pytest
from bounds import most_of

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.domain.usage import UsageReport, total_input
from bedrock_guard.estimators.plausible import judge
from bedrock_guard.operations import OPERATIONS, Free, Operation, Reply

from .recordings import GUARDED, Recording, events, is_missing, oracle, read_recordings

ANSWERED = [recording for recording in read_recordings(GUARDED) if recording.status == 200]

pytestmark = is_missing


@pytest.mark.parametrize("recording", ANSWERED, ids=str)
def test_usage_is_what_the_reply_stated(recording: Recording) -> None:
    """
    Every dialect, every place of stating it: what is charged is what AWS reported, to the token.
    """
    report = replay(recording)

    assert (None if report is None else dict(report.usage)) == oracle(recording)


@pytest.mark.parametrize("recording", ANSWERED, ids=str)
def test_the_bound_is_not_below_what_was_used(recording: Recording) -> None:
    """
    A limit is only hard if no real call has ever used more than its estimate.
    """
    call = read_call(recording)
    used = oracle(recording)
    if call is None or used is None:
        pytest.skip("the recording has no request, or no usage")
    if is_cut(recording):
        pytest.skip("the source cut the request's text")

    for most in most_of(call, ModelLimits()):
        assert total_input(most) >= total_input(used)
        assert most.get("output_tokens", 0) >= used.get("output_tokens", 0)


@pytest.mark.parametrize("recording", ANSWERED, ids=str)
def test_no_real_reply_is_taken_for_an_anomaly(recording: Recording) -> None:
    """
    A rule that real traffic trips over would warn of everything, and so of nothing.
    """
    call, report = read_call(recording), replay(recording)
    if report is None or call is None or is_cut(recording):
        pytest.skip("the recording has no usage, no request, or only a part of it")

    assert all(judge(report, most) is None for most in most_of(call, ModelLimits()))


def test_headers_tell_of_the_cache_whenever_the_body_does() -> None:
    """
    Settling Claude and Nova by headers, with the body unread, rests on this.
    """
    told = 0
    for recording in ANSWERED:
        reports = {report["where"]: report["raw"] for report in recording.indexed["usage_reports"]}
        headers, body = reports.get("headers", {}), reports.get("body.usage", {})
        if headers and any(name.startswith("cache") for name in body):
            assert "x-amzn-bedrock-cache-read-input-token-count" in headers
            assert "x-amzn-bedrock-cache-write-input-token-count" in headers
            told += 1

    assert told > 0


def test_every_operation_and_family_was_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A comparison over nothing passes too; the figures say what was compared.
    """
    told = [recording for recording in ANSWERED if oracle(recording) is not None]
    read = Counter((recording.operation, recording.family) for recording in told)
    bounded = Counter(
        (recording.operation, recording.family)
        for recording in told
        if read_call(recording) is not None and not is_cut(recording)
    )

    with capsys.disabled():
        print()
        for (operation, family), number in sorted(read.items()):
            print(f"{operation:<32}{family:<14}{number:>4} read, {bounded[operation, family]:>4} bounded")
    assert {operation for operation, _ in read} == set(GUARDED)
    assert sum(read.values()) > 100


def operation_of(recording: Recording) -> Operation:
    operation = OPERATIONS["bedrock-runtime", recording.operation]
    assert not isinstance(operation, Free)
    return operation


def read_call(recording: Recording) -> Call | None:
    if not recording.request_body:
        return None
    operation = operation_of(recording)
    params = operation.read_wire(
        model_id=recording.model_id, headers=recording.request_headers, body=recording.request_body
    )
    return operation.read_call(params, region="us-east-1")


def is_cut(recording: Recording) -> bool:
    sent_bytes = int(recording.request_headers.get("content-length", 0))
    return sent_bytes > 2 * len(recording.request_body)


def replay(recording: Recording) -> UsageReport | None:
    operation = operation_of(recording)
    unsent: Mapping[str, str] = {"modelId": recording.model_id}
    call = read_call(recording) or operation.read_call(unsent, region="us-east-1")
    if operation.stream_key:
        reader = operation.open_stream_reader(call)
        for event, payload in events(recording.body):
            reader.feed(event, payload)
        return reader.report
    if operation.body_key:
        reply = Reply(parsed={}, headers=recording.headers)
        return operation.read_usage(reply, call) or operation.read_body(recording.body, reply, call)
    parsed = json.loads(recording.body)
    return operation.read_usage(Reply(parsed, recording.headers, recording.body), call)
