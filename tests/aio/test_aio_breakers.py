"""
Breakers on aiobotocore clients: calls and streams settle, and are looked at, in other threads.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import Stopped
from bedrock_guard.testing.bedrock_server import BedrockServer

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.session import get_session  # noqa: E402

URLS = {"memory": "memory://", "sqlite": "sqlite:///{}/ledger.db"}


def params(text: str) -> dict[str, Any]:
    return {
        "modelId": "amazon.nova-lite-v1:0",
        "messages": [{"role": "user", "content": [{"text": text}]}],
        "inferenceConfig": {"maxTokens": 10},
    }


async def run(url: str, guard: Guard, texts: list[str], *, streams: bool) -> str:
    """
    One call after another, until one is stopped: why.
    """
    async with get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    ) as client:
        guard.attach(client)
        for text in texts:
            try:
                if streams:
                    reply = await client.converse_stream(**params(text))
                    _ = [event async for event in reply["stream"]]
                else:
                    await client.converse(**params(text))
            except Stopped as stop:
                return stop.reason
    return ""


@pytest.mark.parametrize("ledger", URLS)
@pytest.mark.parametrize("streams", [False, True])
def test_calls_and_streams_count(tmp_path: Path, ledger: str, *, streams: bool) -> None:
    """
    And the call that makes the figures enough is the last.
    """
    condition = "cache_hit >= 0.5 after 1K total_input_tokens"
    with (
        BedrockServer() as server,
        Guard(
            budgets=[], breakers=[f"cache: {condition}"], ledger=URLS[ledger].format(tmp_path), settings={}
        ) as guard,
    ):
        texts = [f"question {number} " * 1000 for number in range(9)]
        reason = asyncio.run(run(server.url, guard, texts, streams=streams))

        assert reason.startswith("prompt caching does nothing: 0.0 % of")
        assert len(server.requests) == 1


@pytest.mark.parametrize("ledger", URLS)
def test_a_loop_is_stopped_before_it_is_sent(tmp_path: Path, ledger: str) -> None:
    """
    By the request as it is written, whoever writes it.
    """
    breakers = ["loop: same_request <= 3/hour"]
    with (
        BedrockServer() as server,
        Guard(
            budgets=[],
            breakers=breakers,
            ledger=URLS[ledger].format(tmp_path),
            settings={},
            clock=lambda: 1_795_305_600.0,
        ) as guard,
    ):
        reason = asyncio.run(run(server.url, guard, ["hello", "another", *["hello"] * 9], streams=False))

        assert reason.startswith("a loop: one request was made 4 times in one hour by one process")
        assert len(server.requests) == 4
