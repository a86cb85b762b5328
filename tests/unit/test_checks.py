"""
What callers hand in: a mistake is quoted at once, on every ledger alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Budget, Guard, guarded_client, guarded_session
from bedrock_guard.checks import read_filters
from bedrock_guard.domain.budget import parse_budget
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.errors import ConfigurationError, UnpricedModel

NOVA = "amazon.nova-lite-v1:0"


@pytest.fixture(params=["memory://", "sqlite"])
def my_guard(request: Any, tmp_path: Path) -> Iterator[Guard]:
    ledger = request.param if request.param != "sqlite" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with Guard(budget="5 USD", ledger=ledger) as made:
        yield made


@pytest.mark.parametrize(
    ("usage", "says"),
    [
        ({"inputTokens": 10}, "'inputTokens' is no meter"),
        ({"inputTokens": 0}, "'inputTokens' is no meter"),
        ({"input_tokens": -5}, "-5"),
        ({"input_tokens": 1.5}, "1.5"),
        ({"input_tokens": Decimal(1)}, "Decimal"),
        ({"input_tokens": True}, "True"),
        ({"input_tokens": "5"}, "'5'"),
        (5, "Usage is 5"),
        (None, "Usage is None"),
    ],
)
def test_usage_that_cannot_be_is_quoted(my_guard: Guard, usage: Any, says: str) -> None:
    """
    A misspelt meter that cost nothing would look like good news.
    """
    with pytest.raises(ConfigurationError, match=says):
        my_guard.price(NOVA, usage)


@pytest.mark.parametrize("model_id", [None, 5, "", b"amazon.nova-lite-v1:0"])
def test_a_model_id_is_a_string(my_guard: Guard, model_id: Any) -> None:
    """
    The error must not speak of a model named None.
    """
    with pytest.raises(ConfigurationError, match="model id is"):
        my_guard.price(model_id, {})
    with pytest.raises(ConfigurationError, match="model id is"):
        my_guard.estimate("Converse", modelId=model_id)


def test_an_id_that_hides_its_model_is_told_as_such(my_guard: Guard) -> None:
    """
    The ARN of an application profile is right, and says nothing of the model.
    """
    opaque = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef"

    with pytest.raises(UnpricedModel, match="does not tell its model"):
        my_guard.price(opaque, {"input_tokens": 1})


@pytest.mark.parametrize("at", [date(2026, 1, 1), "2026", datetime(2026, 1, 1)])  # noqa: DTZ001
def test_a_moment_knows_its_zone(my_guard: Guard, at: Any) -> None:
    """
    A naive datetime is a different moment on each machine.
    """
    with pytest.raises(ConfigurationError, match="datetime with a zone"):
        my_guard.price(NOVA, {}, at=at)
    with pytest.raises(ConfigurationError, match="datetime with a zone"):
        my_guard.entries(since=at)


@pytest.mark.parametrize(
    "filters",
    [
        {"outcom": "answered"},
        {"outcome": "refusd"},
        {"outcome": ["answered"]},
        {"basis": "x"},
        {"tags": 5},
        {"tags": "x"},
        {"tags": {"a": 1}},
        {"model": 5},
        {"cost_min": 0.1},
        {"cost_min": True},
        {"cost_max": Decimal(-1)},
        {"cost_max": Decimal("nan")},
        {"cost_max": "1"},
        {"tokens_min": 1.0},
        {"tokens_max": -1},
        {"attempts_min": True},
        {"status": "200"},
        {"error_code": 429},
        {"cost_nanousd_min": 5},
    ],
)
def test_a_filter_that_matches_nothing_by_mistake_is_refused(
    my_guard: Guard, filters: dict[str, Any]
) -> None:
    """
    No entries would read as: nothing happened.
    """
    with pytest.raises(ConfigurationError):
        my_guard.entries(**filters)


def test_a_cost_is_asked_for_in_usd() -> None:
    """
    A bound between two nano-dollars admits what is inside it, and nothing else.
    """
    read = read_filters({"cost_min": Decimal("0.0000000011"), "cost_max": 2, "status": None})

    assert read == EntryFilter(cost_nanousd_min=2, cost_nanousd_max=2_000_000_000)
    assert read_filters({"cost_max": Decimal("0.0000000019")}).cost_nanousd_max == 1


def test_a_bound_above_all_figures_is_the_greatest_of_them() -> None:
    """
    SQLite cannot take a greater one.
    """
    read = read_filters({"cost_min": Decimal("1e999999"), "cost_max": 10**30, "tokens_max": 10**30})

    assert {read.cost_nanousd_min, read.cost_nanousd_max, read.tokens_max} == {2**63 - 1}


def test_filters_are_aware_datetimes(my_guard: Guard) -> None:
    """
    The same on every ledger.
    """
    assert list(my_guard.entries(since=datetime(2026, 1, 1, tzinfo=UTC), until=None)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"per": 5},
        {"per": {"a": 1}},
        {"per": [5]},
        {"match": "x"},
        {"match": ["a"]},
        {"match": {"a": 5}},
    ],
)
def test_a_budgets_tags_are_tags(arguments: dict[str, Any]) -> None:
    """
    A budget that matches nothing by mistake limits nothing.
    """
    with pytest.raises(ConfigurationError, match="Budget 'a'"):
        Budget("a", "5 USD", **arguments)


@pytest.mark.parametrize("text", ["1,2,3 USD", "5__,0 USD", "0.0000000001 USD", ":", "a\n: 5 USD"])
def test_a_budget_that_can_be_read_two_ways_is_refused(text: str) -> None:
    """
    A limit that was read as another one is not there.
    """
    with pytest.raises(ConfigurationError):
        parse_budget(text if text != "a\n: 5 USD" else "a\nb: 5 USD")


@pytest.mark.parametrize(
    "arguments",
    [
        {"budgets": 5},
        {"budgets": {"a": "5 USD"}},
        {"tags": 5},
        {"tags": "x"},
        {"tags": {"a": 1}},
        {"settings": 5},
        {"ledger": 5},
        {"ledger": Path("x.db")},
        {"clock": 5},
    ],
)
def test_a_guards_arguments_are_looked_at(arguments: dict[str, Any]) -> None:
    """
    A traceback from inside does not say which argument was wrong.
    """
    budget = {} if "budgets" in arguments else {"budget": "5 USD"}

    with pytest.raises(ConfigurationError):
        Guard(**{"ledger": "memory://", **budget, **arguments})


def test_what_is_no_guard_or_session_is_refused() -> None:
    """
    Positional slips land in these two.
    """
    with pytest.raises(ConfigurationError, match="guard is 5"):
        guarded_client(guard=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="5 is no boto3"):
        guarded_session(5, budget="5 USD", ledger="memory://")  # type: ignore[arg-type]


def test_a_mistake_in_the_environment_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nobody looks for it there.
    """
    monkeypatch.setenv("BEDROCK_GUARD_BUDGET", "5 bananas")

    with pytest.raises(ConfigurationError, match="BEDROCK_GUARD_BUDGET"):
        Guard(ledger="memory://")


def test_another_tools_table_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A comment, or a tool of a similar name, must not hide the settings above it.
    """
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "bedrock-guard.toml").write_text('budget = "8 USD"\nledger = "memory://"\n')
    (inner / "pyproject.toml").write_text("# [tool.bedrock_guard]\n[tool.bedrock_guardian]\nx = 1\n")
    monkeypatch.chdir(inner)

    with Guard() as made:
        assert str(made.budgets[0]) == "default (8 USD)"


def test_calls_are_priced_at_their_own_date() -> None:
    """
    Claude 3.5 Sonnet doubled in price on 2025-12-01; a call of the day before costs the old price.
    """
    asked = {
        "modelId": "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"maxTokens": 1_000},
    }
    costs = []
    for day in (datetime(2025, 11, 30, tzinfo=UTC), datetime(2025, 12, 2, tzinfo=UTC)):
        with Guard(budget="5 USD", ledger="memory://", clock=day.timestamp) as made:
            costs.append(made.estimate("Converse", **asked).cost)

    assert costs[1] == (costs[0] or 0) * 2
