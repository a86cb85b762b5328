"""
Clients of Bedrock's other services, over real sockets: what is free, what is refused, what is charged flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded, Guard, guarded_client, guarded_session
from bedrock_guard.errors import ConfigurationError, UnmeteredOperation
from bedrock_guard.operations import OPERATIONS
from bedrock_guard.testing.bedrock_server import BedrockServer, lost_answer

RUNTIME_ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/mine"
FLAT = {"bedrock-agentcore:InvokeAgentRuntime": "0.02 USD"}
RUN = {"agentRuntimeArn": RUNTIME_ARN, "payload": b"{}"}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates={"InvokeAgentRuntime": {"calls": "0.02"}}) as running:
        yield running


@pytest.fixture
def make_guard() -> Iterator[Callable[..., Guard]]:
    guards: list[Guard] = []

    def make(budget: str = "5 USD/day", **settings: Any) -> Guard:
        guards.append(Guard(budget=budget, ledger="memory://", **settings))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def client_of(guard: Guard, server: BedrockServer, service: str, **config: Any) -> Any:
    return guard.client(
        service,
        region_name="us-east-1",
        endpoint_url=server.url,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=5, **config),
    )


@needs_newer_model
@pytest.mark.parametrize(
    "service",
    ["bedrock", "bedrock-agent-runtime", "bedrock-data-automation-runtime", "bedrock-agentcore"],
)
def test_clients_of_every_service_can_be_guarded(service: str) -> None:
    """
    One budget for all that Bedrock bills.
    """
    client = guarded_client(service, region_name="us-east-1", budget="1 USD", ledger="memory://")

    assert Guard.of(client) is not None


def test_other_services_of_aws_cannot() -> None:
    """
    A guard that does nothing would be believed in.
    """
    with pytest.raises(ConfigurationError, match="'s3' client cannot be guarded"):
        guarded_client("s3", region_name="us-east-1", budget="1 USD", ledger="memory://")


def test_what_is_free_passes_at_an_empty_budget(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    To list models costs nothing, so no budget can refuse it.
    """
    guard = make_guard("0 USD")

    assert client_of(guard, server, "bedrock").list_foundation_models()["modelSummaries"] == []
    assert list(guard.entries()) == []


def test_what_buys_by_the_hour_is_refused_by_name(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    One call of it can cost more than a month of the others.
    """
    bedrock = client_of(make_guard(), server, "bedrock")

    with pytest.raises(UnmeteredOperation, match="buys throughput, which bills by the hour") as caught:
        bedrock.create_provisioned_model_throughput(
            modelUnits=1, provisionedModelName="mine", modelId="amazon.nova-lite-v1:0"
        )

    assert 'flat_prices = { "bedrock:CreateProvisionedModelThroughput" = ' in str(caught.value)
    assert 'on_unmetered = "allow"' in str(caught.value)
    assert server.requests == ()


def test_an_operation_that_no_table_has_is_refused(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each release of botocore adds some, and what is not known is not free.
    """
    monkeypatch.delitem(OPERATIONS, ("bedrock", "ListFoundationModels"))

    with pytest.raises(UnmeteredOperation, match="is not known to this version"):
        client_of(make_guard(), server, "bedrock").list_foundation_models()

    allowed = make_guard(flat_prices={"bedrock:ListFoundationModels": "0.01 USD"})
    client_of(allowed, server, "bedrock").list_foundation_models()
    assert next(allowed.entries()).cost == Decimal("0.01")


@needs_newer_model
def test_a_flat_price_is_held_and_charged(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    What nothing tells is charged as the account says, and the caller's body is left to the caller.
    """
    guard = make_guard("0.05 USD", flat_prices=FLAT)
    agentcore = client_of(guard, server, "bedrock-agentcore")

    reply = agentcore.invoke_agent_runtime(**RUN)

    assert reply["response"].read() == b'{"result":"done"}'
    assert reply["ResponseMetadata"]["BedrockGuard"]["CostUSD"] == "0.02"
    agentcore.invoke_agent_runtime(**RUN)
    with pytest.raises(BudgetExceeded):
        agentcore.invoke_agent_runtime(**RUN)
    refused, last, _ = guard.entries()
    assert refused.outcome == "refused"
    assert (last.outcome, last.basis, last.cost) == ("answered", "estimated", Decimal("0.02"))
    assert last.usage == {"flat_priced_calls": 1}
    assert last.tags["model"] == "bedrock-agentcore:InvokeAgentRuntime"
    assert sum(int(row.spent * 10**9) for row in guard.status()) == server.bill.nanousd == 40_000_000


@needs_newer_model
@pytest.mark.parametrize(("answer", "charged"), [(429, "0"), (lost_answer(), "0.02")])
def test_a_flat_price_is_charged_as_any_call(
    answer: Any, charged: str, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Rejected is free, lost may have been billed.
    """
    guard = make_guard(flat_prices=FLAT)
    server.will_answer(answer)

    with pytest.raises(Exception):  # noqa: B017 - botocore's own, one for each
        client_of(guard, server, "bedrock-agentcore").invoke_agent_runtime(**RUN)

    assert next(guard.entries()).cost == Decimal(charged)
    assert [row.pending for row in guard.status()] == [0]


@needs_newer_model
def test_what_is_allowed_passes_uncounted(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    The setting that the error names must work.
    """
    guard = make_guard("0 USD", on_unmetered="allow")

    reply = client_of(guard, server, "bedrock-agentcore").invoke_agent_runtime(**RUN)

    assert reply["response"].read() == b'{"result":"done"}'
    assert list(guard.entries()) == []


@needs_newer_model
def test_of_two_guards_the_one_without_a_price_refuses(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    All must admit; and where both do, only the one that can count it does.
    """
    priced, strict, lax = make_guard(flat_prices=FLAT), make_guard(), make_guard(on_unmetered="allow")
    refused = strict.attach(client_of(priced, server, "bedrock-agentcore"))
    with pytest.raises(UnmeteredOperation):
        refused.invoke_agent_runtime(**RUN)
    with pytest.raises(UnmeteredOperation):
        lax.attach(client_of(strict, server, "bedrock-agentcore")).invoke_agent_runtime(**RUN)
    lax.attach(client_of(priced, server, "bedrock-agentcore")).invoke_agent_runtime(**RUN)

    assert [len(list(guard.entries())) for guard in (priced, strict, lax)] == [1, 0, 0]


@needs_newer_model
def test_a_shadow_lets_it_through_and_says_so(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    And what it would have been charged flat, it is.
    """
    guard = make_guard("0.01 USD", mode="shadow", flat_prices=FLAT)
    agentcore = client_of(guard, server, "bedrock-agentcore")
    agentcore.invoke_agent_runtime(**RUN)
    with pytest.raises(ClientError):  # the loopback server does not know it; it was sent
        agentcore.list_memory_records(memoryId="memory-0123456789", namespace="/")

    reasons = [(entry.operation, entry.reason) for entry in guard.entries(outcome="would_refuse")]
    assert sorted(reasons) == [("InvokeAgentRuntime", "budget"), ("ListMemoryRecords", "unmetered")]


@needs_newer_model
def test_a_session_guards_clients_of_all_services(server: BedrockServer) -> None:
    """
    A framework makes whichever it needs.
    """
    session = guarded_session(boto3.Session(), budget="1 USD", ledger="memory://")

    runtime = session.client("bedrock-runtime", region_name="us-east-1")
    agentcore = session.client("bedrock-agentcore", region_name="us-east-1")

    assert Guard.of(runtime) is Guard.of(agentcore) is not None


@needs_newer_model
def test_tags_for_bedrocks_logs_are_not_tried_where_none_are_taken(
    make_guard: Callable[..., Guard], server: BedrockServer, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A warning for each operation that has no such parameter would hide those that matter.
    """
    guard = make_guard(flat_prices=FLAT, tags_to_aws=True, tags={"team": "search"})

    client_of(guard, server, "bedrock-agentcore").invoke_agent_runtime(**RUN)

    assert "requestMetadata" not in caplog.text
