"""
Every recording, replayed through a guarded client over real HTTP, beside an unguarded one.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError, ParamValidationError
from botocore.response import StreamingBody
from botocore_versions import IS_NEWEST

from bedrock_guard import Guard
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.testing.bedrock_server import BedrockServer, raw

from .recordings import GUARDED, Recording, is_missing, oracle, read_recordings

RECORDINGS = read_recordings(GUARDED)
LIST = PriceList.packaged()
METHODS = {
    "Converse": "converse",
    "ConverseStream": "converse_stream",
    "InvokeModel": "invoke_model",
    "InvokeModelWithResponseStream": "invoke_model_with_response_stream",
}
MINIMAL: dict[str, dict[str, Any]] = {
    "Converse": {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    "ConverseStream": {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    "InvokeModel": {"body": b"{}"},
    "InvokeModelWithResponseStream": {"body": b"{}"},
}
OPTIONS = {
    "guardrailIdentifier": "x-amzn-bedrock-guardrailidentifier",
    "guardrailVersion": "x-amzn-bedrock-guardrailversion",
    "trace": "x-amzn-bedrock-trace",
}

pytestmark = is_missing


@dataclass
class Replayer:
    """
    One guarded and one bare client, on one server.
    """

    server: BedrockServer
    bare: Any
    guarded: Any
    guard: Guard


@pytest.fixture(scope="module")
def replayer() -> Iterator[Replayer]:
    with BedrockServer() as server, Guard(budgets=[], ledger="memory://", on_unpriced="allow") as guard:
        yield Replayer(server, make_client(server), guard.attach(make_client(server)), guard)


def make_client(server: BedrockServer) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_a_recorded_exchange_settles_at_what_aws_reported(replayer: Replayer, recording: Recording) -> None:
    """
    The caller sees what an unguarded caller sees, and the ledger what AWS said.
    """
    replayer.server.always(raw(recording.status, recording.headers, recording.body))
    try:
        bare = call(replayer.bare, recording)
    except ParamValidationError as error:
        if IS_NEWEST:
            raise
        pytest.skip(f"this botocore cannot express the request: {str(error)[:60]}")

    guarded = call(replayer.guarded, recording)

    assert guarded == bare
    entry = next(replayer.guard.entries())
    if recording.status != 200:
        assert (entry.outcome, entry.usage, entry.attempts[0].status) == ("rejected", {}, recording.status)
        assert entry.cost == 0
    elif (stated := oracle(recording)) is None:
        assert entry.basis == "estimated"
        assert entry.reported_usage is None
    else:
        assert dict(entry.usage) == dict(entry.reported_usage or {}) == stated
        assert (entry.outcome, entry.basis) == ("answered", "reported")
        assert entry.cost == by_hand(entry)


def test_enough_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A replay of nothing passes too; the figures say what is compared. The newest botocore skips none.
    """
    counts = Counter((recording.operation, recording.family) for recording in RECORDINGS)
    with capsys.disabled():
        print()
        for (operation, family), number in sorted(counts.items()):
            print(f"{operation:<32}{family:<14}{number:>4} to replay")
        print(f"{'in all':<46}{counts.total():>4} to replay")
    assert counts.total() >= 400


def by_hand(entry: Entry) -> Decimal | None:
    """
    The usage of an entry at the prices of the list, summed and rounded up here; None without a price.
    """
    try:
        prices = LIST.find(
            parse_model_id(entry.model_id),
            region=entry.region,
            service_tier=entry.service_tier,
            latency=entry.latency,
            at=entry.at,
        )
    except UnpricedModel:
        return None
    sent = sum(quantity for meter, quantity in entry.usage.items() if meter.endswith("input_tokens"))
    band = [each for each in prices.bands if each.above_input_tokens < sent or each is prices.bands[0]][-1]
    exact = sum(Decimal(quantity) * band.prices[meter] for meter, quantity in entry.usage.items())
    return (exact / 10**16).quantize(Decimal("1e-9"), ROUND_CEILING)


def call(client: Any, recording: Recording) -> Any:
    """
    What a caller gets: the reply with streams and bodies read, or the error.
    """
    params = request_of(client, recording)
    try:
        reply = getattr(client, METHODS[recording.operation])(**params)
        return {name: read(value) for name, value in reply.items()}
    except ParamValidationError:
        raise
    except Exception as error:
        said = error.response.get("Error") if isinstance(error, ClientError) else str(error)
        return type(error).__name__, said


def read(value: Any) -> Any:
    if isinstance(value, EventStream):
        return list(value)
    if isinstance(value, StreamingBody):
        return value.read()
    if isinstance(value, dict) and "HTTPHeaders" in value:
        # The server fills in what recorders stripped.
        headers = {
            name: each
            for name, each in value["HTTPHeaders"].items()
            if name not in ("date", "x-amzn-requestid")
        }
        left_out = ("BedrockGuard", "RequestId", "HTTPHeaders")
        return {**{name: each for name, each in value.items() if name not in left_out}, "headers": headers}
    return value


def request_of(client: Any, recording: Recording) -> dict[str, Any]:
    """
    The recorded request as parameters; a minimal one where none was recorded.
    """
    model_id = recording.model_id or unquote(recording.path_model_id) or "unknown"
    body = recording.request_body
    if recording.operation.startswith("Invoke"):
        sent = recording.request_headers
        options = {name: sent[header] for name, header in OPTIONS.items() if header in sent}
        return {"modelId": model_id, "body": body or b"{}", **options}
    if "request_not_recorded" in recording.indexed["fidelity"] or not is_json(body):
        return {"modelId": model_id, **MINIMAL[recording.operation]}
    shape = client.meta.service_model.operation_model(recording.operation).input_shape
    return {"modelId": model_id, **from_wire(json.loads(body), shape)}


def is_json(body: bytes) -> bool:
    """
    Whether the recorder kept the request whole; one source cut the end of one.
    """
    try:
        return bool(json.loads(body))
    except ValueError:
        return False


def from_wire(value: Any, shape: Any) -> Any:
    """
    JSON as botocore wants it back: base64 text of blobs as bytes, nulls left out.
    """
    if (
        shape.type_name == "structure"
        and isinstance(value, Mapping)
        and not getattr(shape, "is_document_type", False)
    ):
        return {
            name: from_wire(each, shape.members[name]) if name in shape.members else each
            for name, each in value.items()
            if each is not None
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [from_wire(each, shape.member) for each in value]
    if shape.type_name == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:  # media that the recorder left out
            return b"media"
    return value
