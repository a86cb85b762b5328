"""
aiobotocore clients of Bedrock's other services.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.errors import UnmeteredOperation
from bedrock_guard.testing.bedrock_server import BedrockServer

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.config import AioConfig  # noqa: E402
from aiobotocore.session import get_session  # noqa: E402

MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
RATES = {
    MODEL: {"input_tokens": "0.000006", "output_tokens": "0.00003"},
    f"batch/{MODEL}": {"input_tokens": "0.000003", "output_tokens": "0.000015"},
    "InvokeAgentRuntime": {"calls": "0.02"},
    "gr1": {
        "guardrail_content_policy_units": "0.00015",
        "guardrail_topic_policy_units": "0.00015",
        "guardrail_sensitive_information_policy_units": "0.0001",
    },
}
ASKED = {
    "agentId": "AGENT",
    "agentAliasId": "ALIAS",
    "sessionId": "s1",
    "inputText": "what is it?",
    "enableTrace": True,
}
RUN = {"agentRuntimeArn": "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/mine", "payload": b"{}"}
FLAT = {
    "bedrock-agentcore:InvokeAgentRuntime": "0.02 USD",
    "bedrock-agent-runtime:InvokeAgent": "0.001 USD",
}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture(params=["memory", "sqlite"])
def make_guard(request: Any, tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    ledger = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    guards: list[Guard] = []

    def make(budget: str = "5 USD", **settings: Any) -> Guard:
        guards.append(Guard(budget=budget, ledger=ledger, **settings))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


@asynccontextmanager
async def client_of(guard: Guard, server: BedrockServer, service: str) -> AsyncIterator[Any]:
    async with get_session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=AioConfig(read_timeout=5, retries={"total_max_attempts": 1}),
    ) as client:
        yield guard.attach(client)


def spent_nanousd(guard: Guard) -> int:
    return sum(int(row.spent * 10**9) for row in guard.status())


def test_a_flat_price_is_charged(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    And the reply is left to who asked for it.
    """
    guard = make_guard(flat_prices=FLAT)

    async def main() -> bytes:
        async with client_of(guard, server, "bedrock-agentcore") as client:
            reply = await client.invoke_agent_runtime(**RUN)
            return await reply["response"].read()

    assert asyncio.run(main()) == b'{"result":"done"}'
    assert spent_nanousd(guard) == server.bill.nanousd == 20_000_000


def test_what_cannot_be_counted_is_refused(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    Before anything is sent.
    """

    async def main() -> None:
        async with client_of(make_guard(), server, "bedrock-agentcore") as client:
            await client.invoke_agent_runtime(**RUN)

    with pytest.raises(UnmeteredOperation):
        asyncio.run(main())
    assert server.requests == ()


def test_a_guardrail_is_charged_its_units(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    As its reply states them.
    """
    guard = make_guard()

    async def main() -> None:
        async with client_of(guard, server, "bedrock-runtime") as client:
            await client.apply_guardrail(
                guardrailIdentifier="gr1",
                guardrailVersion="1",
                source="INPUT",
                content=[{"text": {"text": "x" * 2500}}],
            )

    asyncio.run(main())
    assert spent_nanousd(guard) == server.bill.nanousd == 1_200_000


@pytest.mark.parametrize("settings", [{"models": {"agent/AGENT": MODEL}}, {"flat_prices": FLAT}])
def test_a_traced_agent_is_settled_at_what_its_models_used(
    settings: dict[str, Any], make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Held for step by step, also where the ledger waits for a disk.
    """
    guard = make_guard(**settings)

    async def main() -> int:
        async with client_of(guard, server, "bedrock-agent-runtime") as client:
            reply = await client.invoke_agent(**ASKED)
            return len([event async for event in reply["completion"]])

    assert asyncio.run(main()) == 8
    assert spent_nanousd(guard) == server.bill.nanousd
    assert next(guard.entries()).basis == "reported"
    assert [row.pending for row in guard.status()] == [0]


def test_an_agent_whose_budget_is_used_up_is_closed(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Its reader is told why, and what it used is charged.
    """
    guard = make_guard("0.024 USD", flat_prices=FLAT)

    async def main() -> None:
        async with client_of(guard, server, "bedrock-agent-runtime") as client:
            reply = await client.invoke_agent(**ASKED)
            with pytest.raises(BudgetExceeded):
                async for _ in reply["completion"]:
                    pass

    asyncio.run(main())
    assert spent_nanousd(guard) == server.bill.nanousd
    assert [row.pending for row in guard.status()] == [0]
    assert {entry.outcome for entry in guard.entries()} == {"abandoned", "refused"}


def test_a_batch_is_read_held_and_settled(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its input is read beside the event loop, and its hold outlives the client.
    """
    for service, url in (("S3", f"{server.url}/_s3"), ("BEDROCK", server.url)):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": []}
    server.batches.put("s3://files/in.jsonl", json.dumps({"modelInput": body}).encode())
    guard = make_guard(batch_input="read")

    async def main() -> str:
        async with client_of(guard, server, "bedrock") as client:
            reply = await client.create_model_invocation_job(
                jobName="mine",
                roleArn="arn:aws:iam::123456789012:role/batch",
                modelId=MODEL,
                inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://files/in.jsonl"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
            )
            return str(reply["jobArn"])

    job = asyncio.run(main())
    assert guard.status()[0].pending > 0
    server.batches.run(job)
    guard.settle_batch(job)

    assert spent_nanousd(guard) == server.bill.nanousd > 0
