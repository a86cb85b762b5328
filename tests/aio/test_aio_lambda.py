"""
Async clients inside of a Lambda handler, which is sync itself: what its loop left is settled before the reply.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.hooks import threads
from bedrock_guard.testing.bedrock_server import BedrockServer

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from .test_aio import HELLO, INVOKE, RATES, Guarded


@pytest.fixture(params=["memory", "sqlite"])
def guarded(request: Any, tmp_path: Path) -> Iterator[Guarded]:
    ledger = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with BedrockServer(rates=RATES) as server, Guard(budget="5 USD", ledger=ledger) as policy:
        yield Guarded(policy, server)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "dropped"])
def test_async_streams_that_are_left_are_charged_before_the_reply(guarded: Guarded, keeps: bool) -> None:
    """
    A dropped one is on its way to a thread, which freezes with the reply; a kept one has no loop any more.
    """
    kept = []

    async def answer() -> None:
        async with guarded.client() as client:
            stream = (await client.converse_stream(**HELLO))["stream"]
            await anext(aiter(stream))
            body = (await client.invoke_model_with_response_stream(**INVOKE))["body"]
            if keeps:
                kept.extend([stream, body])

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> None:
        asyncio.run(answer())

    handler({}, None)

    assert [row.pending for row in guarded.guard.status()] == [0]
    assert [entry.outcome for entry in guarded.guard.entries()] == ["abandoned"] * 2


def test_a_flush_waits_for_ends_that_threads_will_write(guarded: Guarded) -> None:
    """
    They are handed from thread to thread, so that no finalizer waits for a disk; these are still busy.
    """
    are_free = threading.Event()

    async def answer() -> None:
        async with guarded.client() as client:
            stream = await client.converse_stream(**HELLO)
            for _ in range(threads._MOST_THREADS):
                threads._threads().submit(are_free.wait)
            del stream

    asyncio.run(answer())

    threading.Timer(0.2, are_free.set).start()
    assert guarded.guard.flush(60)
    assert len(list(guarded.guard.entries(outcome="abandoned"))) == 1
    assert [row.pending for row in guarded.guard.status()] == [0]
