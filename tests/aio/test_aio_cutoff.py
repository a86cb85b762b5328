"""
`stream_cutoff` with aiobotocore: a stream that is being read when its calls are stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import Stopped
from bedrock_guard.hooks import cutoff
from bedrock_guard.hooks.drains import DRAINS
from bedrock_guard.testing.bedrock_server import BedrockServer

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from .test_aio import HELLO, INVOKE, RATES, Guarded

BOTH = pytest.mark.parametrize("operation", ["converse_stream", "invoke_model_with_response_stream"])


@pytest.fixture(params=["memory", "sqlite"])
def make(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Guarded]]:
    """
    A ledger inline, and one that is read in a thread; stops are looked at with each event.
    """
    monkeypatch.setattr(cutoff, "LOOK_EVERY_S", 0.0)
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with ExitStack() as opened:

        def make_one(**settings: Any) -> Guarded:
            server = opened.enter_context(BedrockServer(rates=RATES))
            return Guarded(opened.enter_context(Guard(budget="5 USD", ledger=url, **settings)), server)

        yield make_one


async def read_and_stop(guarded: Guarded, operation: str, count: int) -> list[Any]:
    """
    The events of a stream whose calls are stopped after *count* of them.
    """
    async with guarded.client() as client:
        asked = HELLO if operation == "converse_stream" else INVOKE
        reply = await getattr(client, operation)(**asked)
        events = []
        async for event in reply.get("stream") or reply["body"]:
            events.append(event)
            if len(events) == count:
                guarded.guard.stop(reason="it loops")
        return events


@BOTH
@pytest.mark.parametrize("on_abandoned_stream", ["charge", "drain"])
def test_a_stream_is_closed_when_its_calls_are_stopped(
    make: Callable[..., Guarded], operation: str, on_abandoned_stream: str
) -> None:
    """
    Charged as one that is left, and never read on.
    """
    guarded = make(stream_cutoff="on_stop", on_abandoned_stream=on_abandoned_stream)

    with pytest.raises(Stopped, match="it loops"):
        asyncio.run(read_and_stop(guarded, operation, 3))

    entry = next(guarded.guard.entries(outcome="abandoned"))
    assert (entry.reason, entry.basis, entry.cost) == ("stopped", "estimated", entry.estimated_cost)
    assert entry.received_bytes
    assert (guarded.guard.status()[0].spent, guarded.guard.status()[0].pending) == (entry.cost, 0)
    assert len(DRAINS) == 0


@BOTH
def test_by_default_a_stream_may_finish(make: Callable[..., Guarded], operation: str) -> None:
    """
    It is paid for.
    """
    guarded = make()

    assert len(asyncio.run(read_and_stop(guarded, operation, 3))) > 3

    assert next(guarded.guard.entries(outcome="answered")).basis == "reported"


@BOTH
def test_a_stream_that_has_told_its_usage_is_complete(make: Callable[..., Guarded], operation: str) -> None:
    """
    Its last event is the reader's, and its charge what AWS reports.
    """
    whole = len(asyncio.run(read_and_stop(make(), operation, -1)))
    guarded = make(stream_cutoff="on_stop")

    assert len(asyncio.run(read_and_stop(guarded, operation, whole - 1))) == whole

    assert next(guarded.guard.entries(outcome="answered")).basis == "reported"
