"""
Batch jobs of an async client: their input is read off the loop, by the client's own credentials.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from batch_jobs import INPUT, NOVA, pending, put_input
from botocore_versions import needs_newer_model

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import BedrockServer
from bedrock_guard.testing.loopback.http_wire import Head, Reply

pytest.importorskip("aiobotocore")
pytestmark = needs_newer_model


def test_the_input_is_read_by_the_clients_own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those of the default chain may be another account's, or none; and a loop must not wait for S3.
    """
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    readers: list[str] = []
    with BedrockServer() as server, Guard(budget="5 USD", batch_input="read") as guard:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{server.url}/_s3")
        put_input(server, "hello")
        serve = server.batches.serve

        def note(head: Head) -> Reply:
            readers.append(head.headers.get("authorization", ""))
            return serve(head)

        monkeypatch.setattr(server.batches, "serve", note)
        made_in = note_threads(monkeypatch)

        asyncio.run(create(guard, server.url))

        assert pending(guard) > 0
        assert all("Credential=AKIDOFTHECLIENT/" in each for each in readers)
        assert len(readers) == 2
        assert made_in
        assert threading.main_thread() not in made_in


def note_threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """
    In which threads clients of S3 are made from now on.
    """
    from bedrock_guard.hooks.batch_input import InputReader

    threads: list[threading.Thread] = []
    make = InputReader._make_client

    def noting(self: InputReader) -> Any:
        threads.append(threading.current_thread())
        return make(self)

    monkeypatch.setattr(InputReader, "_make_client", noting)
    return threads


async def create(guard: Guard, url: str) -> None:
    """
    Begin a job.
    """
    from aiobotocore.session import get_session

    made = get_session().create_client(
        "bedrock",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIDOFTHECLIENT",
        aws_secret_access_key="secret",
    )
    async with made as client:
        guard.attach(client)
        await client.create_model_invocation_job(
            jobName="mine",
            roleArn="arn:aws:iam::123456789012:role/batch",
            modelId=NOVA,
            modelInvocationType="Converse",
            inputDataConfig={"s3InputDataConfig": {"s3Uri": INPUT}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        )
