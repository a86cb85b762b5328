"""
Every way a call can end that is billed beside tokens: one settle, and books that are not below the bill.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore_versions import IS_NEWEST

from bedrock_guard import Guard
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    broken_json,
    corrupt_frame,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    stream_error,
    truncated_body,
)

from .fault_cells import WatchedLedger
from .test_media import CANVAS, COHERE_RERANK, PEGASUS, RATES, REEL, images

VIDEO = {
    "inputPrompt": "what?",
    "mediaSource": {"s3Location": {"uri": "s3://b/60s.mp4"}},
    "maxOutputTokens": 50,
}


def draw(client: Any) -> None:
    client.invoke_model(modelId=CANVAS, body=json.dumps(images(numberOfImages=2)))["body"].read()


def rank(client: Any) -> None:
    body = {"query": "cat", "documents": ["a cat"] * 150}
    client.invoke_model(modelId=COHERE_RERANK, body=json.dumps(body))["body"].read()


def film(client: Any) -> None:
    client.start_async_invoke(
        modelId=REEL,
        modelInput={"taskType": "TEXT_VIDEO"},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://b"}},
    )


def watch(client: Any) -> None:
    list(client.invoke_model_with_response_stream(modelId=PEGASUS, body=json.dumps(VIDEO))["body"])


CALLS: list[Callable[[Any], None]] = [draw, rank, watch, *([film] if IS_NEWEST else [])]
FAULTS: dict[str, Any] = {
    "none": 200,
    "400": 400,
    "billed 408": error(408, billed=True),
    "424": error(424),
    "billed 500": error(500, billed=True),
    "429": 429,
    "lost": lost_answer(),
    "lost unbilled": lost_answer(billed=False),
    "broken JSON": broken_json(),
    "truncated": truncated_body(),
    "no usage": missing_usage(),
    "no usage headers": missing_usage_headers(),
    "cut": cut_stream(after_events=0),
    "error event": stream_error(after_events=0),
    "corrupt frame": corrupt_frame(),
}


@pytest.mark.parametrize("ledger_url", ["memory://", "sqlite:///{}/l.db"], ids=["memory", "sqlite"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_each_end_settles_once_and_not_below_the_bill(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    call: Callable[[Any], None],
    fault: str,
    ledger_url: str,
) -> None:
    """
    What AWS may have billed is charged, for each attempt; what it rejected is free.
    """
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket._sleep_amount", lambda *_: 0.0)
    ledger: Any = WatchedLedger(open_ledger(ledger_url.format(tmp_path), clock=time.time))
    with BedrockServer(RATES) as server, Guard(budget="search: 100 USD", ledger=ledger) as guard:
        client = guard.attach(
            boto3.client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=server.url,
                config=Config(retries={"mode": "standard"}),
            )
        )
        if fault != "none":
            server.always(FAULTS[fault])

        with suppress(Exception):
            call(client)

        (row,), entry = guard.status(), next(guard.entries())
        assert (ledger.held, ledger.ended, row.pending) == (1, 1, 0)
        assert int(row.spent * 10**9) >= server.bill.nanousd
        if entry.outcome == "rejected":
            assert row.spent == 0
        else:
            assert entry.usage
            # What an attempt was held for is the most that it is charged.
            assert entry.cost <= entry.estimated_cost * len(entry.attempts)
        if fault == "none" and call is not watch:
            assert int(row.spent * 10**9) == server.bill.nanousd
    ledger.close()
