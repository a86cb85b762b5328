"""
The tag `principal`, and tags that are sent along, on aiobotocore clients.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
import sts_server

from bedrock_guard import Budget, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.session import get_session  # noqa: E402

HELLO: dict[str, Any] = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
NUMBERS = itertools.count()
ROLE = "arn:aws:iam::123456789012:role/Answering"


def run(guard: Guard, *, calls: int = 1, break_credentials: bool = False, beside: Any = None) -> bytes:
    """
    Make *calls* at once with a new client; the body of the last, as it arrived.
    """

    async def main(url: str) -> None:
        session = get_session()
        async with session.create_client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id=f"AKIAAIO{next(NUMBERS)}",
            aws_secret_access_key="secret",
        ) as client:
            if break_credentials:
                client._request_signer._credentials = broken_once(client._request_signer._credentials)
            guard.attach(client)
            await asyncio.gather(*(client.converse(**HELLO) for _ in range(calls)), *(beside or ()))

    with BedrockServer() as server:
        asyncio.run(main(server.url))
        return server.requests[-1].body


def broken_once(credentials: Any) -> Any:
    """
    Credentials that cannot be had at first, as where a metadata service is slow to start.
    """

    class BrokenOnce:
        def __init__(self) -> None:
            self.asked = 0

        async def get_frozen_credentials(self) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("no metadata service")
            return await credentials.get_frozen_credentials()

    return BrokenOnce()


def test_it_is_asked_once_with_the_credentials_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those of an async client can only be awaited.
    """
    with (
        sts_server.running() as sts,
        Guard(
            budgets=[Budget("s", "5 USD", per="principal")], ledger="memory://", principal="lookup"
        ) as guard,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        run(guard, calls=8)

        assert [row.per for row in guard.status()] == [(("principal", ROLE),)]
        assert len(list(guard.entries(outcome="answered"))) == 8
        assert len(sts.asked_by) == 1
        assert sts.asked_by[0].startswith("AKIAAIO")


def test_the_loop_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    STS may take a second; other tasks have work to do.
    """
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while not sts.asked_by:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
            turns += not list(guard.entries())

    with (
        sts_server.running() as sts,
        Guard(
            budgets=[Budget("s", "5 USD", per="principal")], ledger="memory://", principal="lookup"
        ) as guard,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        sts.delay_s = 1.0
        run(guard, beside=[beside()])

    assert turns == 20


def test_credentials_that_cannot_be_had_leave_the_call_untagged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What the tag is for must not be what a call fails by.
    """
    with (
        sts_server.running() as sts,
        Guard(
            budgets=[Budget("s", "5 USD", per="principal")], ledger="memory://", principal="lookup"
        ) as guard,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        run(guard, break_credentials=True)

        assert [row.per for row in guard.status()] == [(("principal", ""),)]
    assert "no metadata service" in caplog.text


def test_tags_are_sent_along() -> None:
    """
    By the same handler as those of boto3's clients.
    """
    with Guard(budget="5 USD", ledger="memory://", tags_to_aws=True) as guard, scope(user="ann"):
        body = run(guard)

    assert json.loads(body)["requestMetadata"] == {"user": "ann"}
