"""
Every operation of the guarded services, by the service models of the botocore that is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import UnknownServiceError

from bedrock_guard import Guard
from bedrock_guard.domain.flat_price import parse_flat_price
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations import METERED, OPERATIONS, SERVICES, Free, Unmeterable
from bedrock_guard.operations.free import FREE
from bedrock_guard.operations.unmeterable import UNMETERABLE


def operation_names(service: str) -> list[str]:
    try:
        model: Any = botocore.session.Session().get_service_model(service)
    except UnknownServiceError:  # the oldest botocore knows three of the five
        return []
    return list(model.operation_names)


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_metered_free_or_unmeterable(service: str) -> None:
    """
    Each release of botocore adds some, and what nobody looked at is refused: it must be looked at.
    """
    assert [name for name in operation_names(service) if (service, name) not in OPERATIONS] == []


def test_the_services_are_those_that_have_operations() -> None:
    """
    A service without a line would be guarded, and all of it refused.
    """
    assert {service for service, _ in OPERATIONS} == set(SERVICES) == set(FREE) == set(UNMETERABLE)


def test_no_operation_is_in_two_classes() -> None:
    """
    The last would win without a word.
    """
    free = {(service, name) for service, names in FREE.items() for name in names.split()}
    unmeterable = {(service, name) for service, names in UNMETERABLE.items() for name in names}

    assert not free & unmeterable
    assert not free & METERED.keys()
    assert not unmeterable & METERED.keys()
    assert len(free) == sum(len(names.split()) for names in FREE.values())


def test_what_creates_starts_or_invokes_is_not_free() -> None:
    """
    Such a name is free only where its maker says so: the few that are, are named here.
    """
    verbs = ("Create", "Start", "Invoke", "Generate", "Process", "Retrieve", "Evaluate", "Optimize")
    doubtful = {
        operation.name
        for operation in OPERATIONS.values()
        if isinstance(operation, Free) and operation.name.startswith(verbs)
    }

    assert doubtful == {
        "CreateAutomatedReasoningPolicy",
        "CreateAutomatedReasoningPolicyTestCase",
        "CreateAutomatedReasoningPolicyVersion",
        "CreateGuardrail",
        "CreateGuardrailVersion",
        "CreateInferenceProfile",
        "CreateInvocation",
        "CreatePromptRouter",
        "CreateSession",
    }


def test_every_line_is_named_as_its_key() -> None:
    """
    Hooks find an operation by its key, and entries tell its name.
    """
    for (service, name), operation in OPERATIONS.items():
        assert operation.name == name
        if isinstance(operation, Unmeterable):
            assert operation.service == service
            assert operation.why


@pytest.mark.parametrize(
    ("key", "text", "match"),
    [
        ("InvokeAgentRuntime", "1 USD", "names no operation"),
        ("s3:GetObject", "1 USD", "Services are bedrock-runtime"),
        ("bedrock-agentcore:", "1 USD", "names no operation"),
        ("bedrock-agentcore:InvokeBrowser", "-5 %", "no flat price"),
        ("bedrock-agentcore:InvokeBrowser", "0 USD", "would be no price"),
        ("bedrock-agentcore:InvokeBrowser", "cheap", "is no price"),
        ("bedrock-agentcore:InvokeBrowser", "5000 USD", "cannot be meant"),
        ("bedrock-runtime:Converse", "1 USD", "metered by what each call uses"),
        ("bedrock-runtime:CountTokens", "1 USD", "which is free"),
    ],
)
def test_a_flat_price_that_cannot_hold_is_refused(key: str, text: str, match: str) -> None:
    """
    A typing mistake would leave the operation refused, or a metered one mispriced.
    """
    with pytest.raises(ConfigurationError, match=match):
        Guard(budget="1 USD", ledger="memory://", flat_prices={key: text})


def test_a_flat_price_is_read_to_the_last_digit() -> None:
    """
    In steps of 1e-16 USD, as all prices.
    """
    assert parse_flat_price("bedrock-agentcore:InvokeBrowser", "0.02 USD") == 2 * 10**14
    assert parse_flat_price("bedrock-agentcore:InvokeBrowser", "free") == 0


def test_the_page_on_operations_names_each_that_is_not_free() -> None:
    """
    Who is refused looks there.
    """
    page = (Path(__file__).resolve().parents[2] / "docs/reference/operations.md").read_text()
    unmeterable = {name for names in UNMETERABLE.values() for name in names}

    assert {name for name in unmeterable | {name for _, name in METERED} if f"`{name}`" not in page} == set()
