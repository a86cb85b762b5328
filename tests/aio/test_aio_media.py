"""
aiobotocore: images and jobs, beside the server's own bill.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import BedrockServer
from bedrock_guard.testing.loopback.operations import JOB

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from aiobotocore.session import get_session

CANVAS, REEL = "amazon.nova-canvas-v1:0", "amazon.nova-reel-v1:0"
RATES = {CANVAS: {"images_standard_1024": "0.04"}, REEL: {"output_video_seconds": "0.08"}}


def test_images_and_jobs_cost_what_the_server_bills() -> None:
    """
    One is told by a body that is read later, the other by its request.
    """

    async def work(guard: Guard, server: BedrockServer) -> Any:
        async with get_session().create_client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        ) as client:
            guarded: Any = guard.attach(client)
            body = {"taskType": "TEXT_IMAGE", "imageGenerationConfig": {"numberOfImages": 3}}
            reply = await guarded.invoke_model(modelId=CANVAS, body=json.dumps(body))
            await reply["body"].read()
            return await guarded.start_async_invoke(
                modelId=REEL,
                modelInput={"taskType": "TEXT_VIDEO"},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://b"}},
            )

    with BedrockServer(rates=RATES) as server, Guard(budget="5 USD", ledger="memory://") as guard:
        reply = asyncio.run(work(guard, server))
        job, images = guard.entries()

        assert (dict(job.usage), job.job) == ({"output_video_seconds": 6}, JOB)
        assert reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"] == "0.48"
        assert dict(images.usage) == {"images_standard_1024": 3}
        assert int(guard.status()[0].spent * 10**9) == server.bill.nanousd == 600_000_000
