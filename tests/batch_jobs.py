"""
Batch jobs of a loopback Bedrock: their input, their creation, and what a guard says of them.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from botocore.config import Config

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

NOVA = "amazon.nova-lite-v1:0"
SONNET_4 = "us.anthropic.claude-sonnet-4-20250514-v1:0"
# Half of what they cost on demand.
RATES = {
    f"batch/{NOVA}": {"input_tokens": "0.00000003", "output_tokens": "0.00000012"},
    f"batch/{SONNET_4}": {"input_tokens": "0.0000015", "output_tokens": "0.0000075"},
}
INPUT = "s3://files/in.jsonl"


def converse_record(number: int, text: str = "hello", tokens: int = 100) -> bytes:
    body = {
        "messages": [{"role": "user", "content": [{"text": text}]}],
        "inferenceConfig": {"maxTokens": tokens},
    }
    return json.dumps({"recordId": f"r{number:010d}", "modelInput": body}).encode() + b"\n"


def put_input(server: BedrockServer, *texts: str, uri: str = INPUT) -> None:
    server.batches.put(uri, b"".join(converse_record(number, text) for number, text in enumerate(texts)))


def client_of(guard: Guard) -> Any:
    retry_once = Config(retries={"total_max_attempts": 1}, read_timeout=5)
    return guard.client("bedrock", region_name="us-east-1", config=retry_once)


def create(guard: Guard, uri: str = INPUT, model: str = NOVA, **params: Any) -> str:
    reply = client_of(guard).create_model_invocation_job(
        jobName="mine",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId=model,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": uri}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        **{"modelInvocationType": "Converse", **params},
    )
    assert "ReservationId" in reply["ResponseMetadata"]["BedrockGuard"]
    assert "CostUSD" not in reply["ResponseMetadata"]["BedrockGuard"]
    return str(reply["jobArn"])


def spent(guard: Guard) -> int:
    return int(guard.status()[0].spent * 10**9)


def pending(guard: Guard) -> Decimal | int:
    return guard.status()[0].pending
