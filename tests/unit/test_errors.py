"""
Errors as data.
"""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from botocore.exceptions import ClientError

from bedrock_guard.errors import BudgetExceeded, GuardError, LedgerUnavailable, RefusedBudget

RESETS_AT = datetime(2026, 11, 23, tzinfo=UTC)


def refusal() -> BudgetExceeded:
    refused = RefusedBudget(
        budget="search",
        per=(("user", "ann"),),
        limit_text="250 USD/day",
        unit="USD",
        limit=Decimal(250),
        spent=Decimal("231.40"),
        pending=Decimal("17.63"),
        requested=Decimal("1.84"),
        remaining=Decimal("0.97"),
        resets_at=RESETS_AT,
        reason="limit",
        pending_calls=9,
    )
    return BudgetExceeded("figures", (refused,), "us.m", "Converse", {"team": "a"}, 60.0)


@pytest.mark.parametrize("error", [refusal(), LedgerUnavailable("ledger.db is locked", "unknown")])
def test_an_error_survives_pickling(error: GuardError) -> None:
    """
    Worker pools pickle exceptions; one that cannot be rebuilt hangs the pool.
    """
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_refusal_answers_with_the_figures_of_the_budget_that_frees_last() -> None:
    """
    A caller decides by attributes, not by parsing text.
    """
    error = refusal()

    assert (error.budget, error.unit, error.limit, error.spent) == (
        "search",
        "USD",
        Decimal(250),
        Decimal("231.40"),
    )
    assert (error.pending, error.requested, error.remaining) == (
        Decimal("17.63"),
        Decimal("1.84"),
        Decimal("0.97"),
    )
    assert (error.resets_at, error.retry_after_s, error.model_id) == (RESETS_AT, 60.0, "us.m")


def test_a_refusal_is_no_client_error() -> None:
    """
    pydantic-ai and Haystack swallow ClientErrors into errors of their own.
    """
    assert not issubclass(BudgetExceeded, ClientError)


def test_a_refusal_is_found_inside_whatever_wrapped_it() -> None:
    """
    Instructor and CrewAI wrap what a client raises.
    """
    wrapped = ExceptionGroup("all", [ValueError("x"), _chained(refusal())])

    assert isinstance(BudgetExceeded.find(wrapped), BudgetExceeded)
    assert BudgetExceeded.find(ValueError("x")) is None
    assert BudgetExceeded.find(None) is None


def test_an_end_user_is_told_no_figures() -> None:
    """
    What a service's own customers see must not tell its spending.
    """
    assert refusal().public_message == "The usage limit of this service is reached for now. Try again later."


def _chained(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except BudgetExceeded as error:
            raise RuntimeError("agent failed") from error
    except RuntimeError as error:
        return error
