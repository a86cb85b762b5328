"""
Bedrock's model invocation logs as it writes them, made up: the same each time, with figures chosen by hand.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SONNET = "anthropic.claude-3-sonnet-20240229-v1:0"
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/agent/session-1"
USER = f"arn:aws:iam::{ACCOUNT}:user/ann"
BEGAN = datetime(2026, 11, 20, 8, tzinfo=UTC)


def record(
    number: int = 0, *, after_s: float = 0.0, operation: str = "Converse", **changes: Any
) -> dict[str, Any]:
    """
    Nova Lite, 200 tokens in and 300 out, for 84,000 nano-dollars: 0.06 USD a million in, 0.24 out.
    """
    moment = BEGAN + timedelta(seconds=after_s)
    made: dict[str, Any] = {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "accountId": ACCOUNT,
        "identity": {"arn": ROLE},
        "region": "us-east-1",
        "requestId": f"00000000-0000-4000-8000-{number:012d}",
        "operation": operation,
        "modelId": NOVA,
        "input": {
            "inputContentType": "application/json",
            "inputBodyJson": {
                "messages": [{"role": "user", "content": [{"text": "x" * 600}]}],
                "inferenceConfig": {"maxTokens": 300},
            },
            "inputTokenCount": 200,
        },
        "output": {
            "outputContentType": "application/json",
            "outputBodyJson": converse_reply(200, 300),
            "outputTokenCount": 300,
        },
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def converse_reply(sent: int, written: int, **usage: Any) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "yes"}]}},
        "stopReason": "end_turn",
        "metrics": {"latencyMs": 302},
        "usage": {"inputTokens": sent, "outputTokens": written, "totalTokens": sent + written, **usage},
    }


def counted(sent: int | None, written: int | None, **counts: int) -> dict[str, Any]:
    """
    `input` and `output` of a record whose bodies lie in S3, or were not to be logged.
    """
    path = (
        f"s3://logs/AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/us-east-1/2026/11/20/08/data/x_input.json.gz"
    )
    into: dict[str, Any] = {"inputContentType": "application/json", "inputBodyS3Path": path, **counts}
    out: dict[str, Any] = {"outputContentType": "application/json"}
    if sent is not None:
        into["inputTokenCount"] = sent
    if written is not None:
        out["outputTokenCount"] = written
    return {"input": into, "output": out}


def claude(sent: dict[str, Any], reply: Any, **changes: Any) -> dict[str, Any]:
    """
    An InvokeModel of Claude Haiku 4.5: 1 USD a million in, 5 out, 1.25 to write a cache, 0.10 to read one.
    """
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [], **sent}
    streams = isinstance(reply, list)
    return record(
        **{
            "operation": "InvokeModelWithResponseStream" if streams else "InvokeModel",
            "modelId": HAIKU,
            "input": {"inputContentType": "application/json", "inputBodyJson": body, "inputTokenCount": 0},
            "output": {
                "outputContentType": "application/json",
                "outputBodyJson": reply,
                "outputTokenCount": 0,
            },
            **changes,
        }
    )


def lines(records: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def write_s3(folder: Path, records: Iterable[dict[str, Any]], each: int = 100) -> Path:
    """
    *records* as Bedrock puts them into S3: gzip, so many a file, in a folder for each hour.
    """
    base = folder / "AWSLogs" / ACCOUNT / "BedrockModelInvocationLogs"
    base.mkdir(parents=True, exist_ok=True)
    (base / "amazon-bedrock-logs-permission-check").write_text("")
    batch: list[dict[str, Any]] = []
    number = 0
    for made in records:
        batch.append(made)
        if len(batch) == each:
            _write(base, batch, number)
            batch, number = [], number + 1
    if batch:
        _write(base, batch, number)
    return folder


def _write(base: Path, batch: list[dict[str, Any]], number: int) -> None:
    hour = datetime.fromisoformat(batch[0]["timestamp"])
    place = base / "us-east-1" / f"{hour:%Y/%m/%d/%H}"
    (place / "data").mkdir(parents=True, exist_ok=True)
    (place / "data" / "x_input.json.gz").write_bytes(gzip.compress(b'{"messages": []}', mtime=0))
    (place / f"{hour:%Y%m%dT%H%M%S}Z_{number:06d}.json.gz").write_bytes(gzip.compress(lines(batch), mtime=0))


def busy(count: int, *, users: int = 50, every_s: float = 1.0) -> Iterator[dict[str, Any]]:
    """
    Calls of all kinds, of so many users, as a service makes them; a twentieth is turned away, or fails.
    """
    for number in range(count):
        metadata = {"team": f"team-{number % 7}"} if number % 3 else None
        common: dict[str, Any] = {
            "number": number,
            "after_s": number * every_s,
            "identity": {"arn": f"arn:aws:iam::{ACCOUNT}:user/u{number % users}"},
            "requestMetadata": metadata,
        }
        kind = number % 20
        if kind == 0:
            yield record(**common, errorCode="ThrottlingException", output=None)
        elif kind < 4:
            yield record(**common, operation="ConverseStream", output={"outputBodyJson": events(200, 300)})
        elif kind < 8:
            yield record(**common, **counted(200, 300))
        elif kind < 12:
            yield claude({}, {"type": "message", "content": [], "usage": usage_of_claude(100, 10)}, **common)
        else:
            yield record(**common)


def events(sent: int, written: int) -> list[dict[str, Any]]:
    """
    A ConverseStream, event by event.
    """
    return [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "yes"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": sent, "outputTokens": written}, "metrics": {"latencyMs": 1}}},
    ]


def usage_of_claude(sent: int, written: int, *, read: int = 0, kept: int = 0) -> dict[str, int]:
    return {
        "input_tokens": sent,
        "output_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": kept,
    }
