"""
The tag `principal`: whose credentials a client has, as STS tells it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
import sts_server

from bedrock_guard import Budget, Guard, scope
from bedrock_guard.domain.principal import read_principal
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks import principal
from bedrock_guard.hooks.principal import PrincipalLookup, Principals
from bedrock_guard.testing.bedrock_server import BedrockServer

HELLO: dict[str, Any] = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
NUMBERS = itertools.count()
PER = [Budget("service", "5 USD/day", per="principal")]


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[sts_server.StsServer]:
    with sts_server.running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        yield server


@pytest.fixture
def make_client() -> Iterator[Callable[..., Any]]:
    with BedrockServer() as server:

        def make(access_key: str = "", **settings: Any) -> Any:
            return boto3.client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=server.url,
                aws_access_key_id=access_key or f"AKIA{next(NUMBERS)}",
                aws_secret_access_key="secret",
                **settings,
            )

        yield make


def keys(guard: Guard) -> list[tuple[tuple[str, str], ...]]:
    return [row.per for row in guard.status()]


def test_a_budget_for_each_principal_is_one_for_each_role(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    Each ECS task assumes its role under a name of its own; by that, each would have the whole budget.
    """
    with Guard(budgets=PER, ledger="memory://", principal="lookup") as guard:
        for task in ("task-1", "task-2"):
            sts.arn = f"arn:aws:sts::123456789012:assumed-role/Answering/{task}"
            client = guard.attach(make_client())
            for _ in range(3):
                client.converse(**HELLO)

        assert keys(guard) == [(("principal", "arn:aws:iam::123456789012:role/Answering"),)]
        assert next(guard.entries()).tags["principal"] == "arn:aws:iam::123456789012:role/Answering"
    assert len(sts.asked_by) == 2, "once for each client, by its own credentials"
    assert len(set(sts.asked_by)) == 2


def test_clients_with_the_same_access_key_ask_once(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    Some programs make a client for each request.
    """
    with Guard(budgets=PER, ledger="memory://", principal="lookup") as guard:
        for _ in range(3):
            guard.attach(make_client("AKIASAME")).converse(**HELLO)

    assert sts.asked_by == ["AKIASAME"]


def test_calls_that_come_together_ask_once_and_all_wait_for_it(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    The first calls of a server come by the dozen, and must not go to the untagged.
    """
    sts.delay_s = 0.2
    with Guard(budgets=PER, ledger="memory://", principal="lookup") as guard:
        client = guard.attach(make_client())
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: client.converse(**HELLO), range(6)))

        assert keys(guard) == [(("principal", "arn:aws:iam::123456789012:role/Answering"),)]
    assert len(sts.asked_by) == 1


def test_nobody_is_asked_where_nobody_wants_to_know(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    It is a request to another service, so it is opted in to.
    """
    with Guard(budgets=PER, ledger="memory://") as guard:
        guard.attach(make_client()).converse(**HELLO)

        assert keys(guard) == [(("principal", ""),)]
        assert "principal" not in next(guard.entries()).tags
    assert sts.asked_by == []


def test_of_two_guards_only_the_one_that_asked_has_the_tag(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    What one guard is told must not change another's balances.
    """
    with (
        Guard(budgets=PER, ledger="memory://", principal="lookup") as asking,
        Guard(budgets=PER, ledger="memory://") as other,
    ):
        other.attach(asking.attach(make_client())).converse(**HELLO)

        assert keys(asking) == [(("principal", "arn:aws:iam::123456789012:role/Answering"),)]
        assert keys(other) == [(("principal", ""),)]


@pytest.mark.parametrize("setting", ["off", "lookup"])
def test_it_cannot_be_set_by_a_program_or_its_users(
    sts: sts_server.StsServer, make_client: Callable[..., Any], setting: str
) -> None:
    """
    A fact of the call that an end user's metadata could claim would be no fact.
    """
    sts.status = 403
    with pytest.raises(ConfigurationError, match="'principal' is a built-in tag"), scope(principal="me"):
        pass
    with Guard(budgets=PER, ledger="memory://", principal=setting) as guard:
        with guard.hold(
            "Converse", {**HELLO, "requestMetadata": {"principal": "boss"}}, region="eu-west-1"
        ) as h:
            h.rejected()

        assert keys(guard) == [(("principal", ""),)]


def test_without_an_answer_the_tag_is_absent_and_that_is_told_once(
    sts: sts_server.StsServer, make_client: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """
    STS may be out of reach of a private network; the calls are still within the budget.
    """
    sts.status = 403
    with Guard(budgets=PER, ledger="memory://", principal="lookup") as guard:
        client = guard.attach(make_client("AKIADENIED"))
        for _ in range(3):
            client.converse(**HELLO)
        guard.attach(make_client("AKIADENIED")).converse(**HELLO)

        assert keys(guard) == [(("principal", ""),)]
    assert len(sts.asked_by) == 2, "once for each client"
    assert [record.levelname for record in caplog.records if "could not be looked up" in record.message] == [
        "WARNING"
    ]
    with Guard(budgets=PER, ledger="memory://", principal="lookup", untagged="refuse") as strict:
        client = strict.attach(make_client("AKIADENIED"))
        with pytest.raises(ConfigurationError, match="carries no tag 'principal'"):
            client.converse(**HELLO)


def test_what_could_not_be_learned_is_asked_again_later(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    A network that was down for a second must not leave a process untagged for its life.
    """
    now = [0.0]
    lookup = PrincipalLookup(make_client("AKIALATER"), now=lambda: now[0], principals=Principals())
    sts.status = 403

    assert [lookup.find(), lookup.find(), len(sts.asked_by)] == ["", "", 1]
    sts.status, now[0] = 200, 299.0
    assert [lookup.find(), len(sts.asked_by)] == ["", 1]
    now[0] = 300.0
    assert lookup.find() == "arn:aws:iam::123456789012:role/Answering"
    now[0] = 10_000.0
    assert [lookup.find(), len(sts.asked_by)] == ["arn:aws:iam::123456789012:role/Answering", 2]


def test_while_one_asks_again_others_go_on_without(
    sts: sts_server.StsServer, make_client: Callable[..., Any]
) -> None:
    """
    Only the first answer is worth waiting for.
    """
    now = [0.0]
    lookup = PrincipalLookup(make_client(), now=lambda: now[0], principals=Principals())
    sts.status = 403
    lookup.find()
    now[0] = 300.0
    with lookup._lock:  # as another call's that asks
        assert lookup.find() == ""
    assert len(sts.asked_by) == 1


def test_a_client_without_credentials_of_its_own_has_no_principal(
    sts: sts_server.StsServer, make_client: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """
    A Bedrock API key is a bearer token, which STS knows nobody by.
    """
    client = make_client()
    client._request_signer._signature_version = "bearer"

    assert PrincipalLookup(client, principals=Principals()).find() == ""
    assert "it signs with a bearer token" in caplog.text
    assert sts.asked_by == []
    client._request_signer._signature_version, client._request_signer._credentials = "v4", None
    assert PrincipalLookup(client, principals=Principals()).find() == ""
    assert "it has none" in caplog.text


def test_the_process_remembers_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Temporary credentials have new keys every hour.
    """
    monkeypatch.setattr(principal, "_MOST_REMEMBERED", 2)
    known = Principals()
    for number in range(5):
        known.learn(f"{number}", "arn")

    assert [known.get(f"{number}") for number in range(5)] == ["", "", "", "", "arn"]


@pytest.mark.parametrize(
    ("arn", "is_"),
    [
        ("arn:aws:sts::123:assumed-role/Name/session", "arn:aws:iam::123:role/Name"),
        ("arn:aws-us-gov:sts::123:assumed-role/Name/i-0abc", "arn:aws-us-gov:iam::123:role/Name"),
        (
            "arn:aws:sts::123:assumed-role/AWSReservedSSO_Admin_0a/ann@bank.example",
            "arn:aws:iam::123:role/AWSReservedSSO_Admin_0a",
        ),
        ("arn:aws:iam::123:user/path/ann", "arn:aws:iam::123:user/path/ann"),
        ("arn:aws:iam::123:root", "arn:aws:iam::123:root"),
        ("arn:aws:sts::123:federated-user/ann", "arn:aws:sts::123:federated-user/ann"),
    ],
)
def test_an_assumed_role_is_its_role(arn: str, is_: str) -> None:
    """
    The name that somebody assumed it under is another for each process.
    """
    assert read_principal(arn) == is_
