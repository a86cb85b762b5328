"""
A Converse that its budget has no room for is sent to a model that the budget names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bedrock_guard import Budget, BudgetExceeded, Guard
from bedrock_guard.errors import ConfigurationError

from .conftest import NOVA, SONNET, Guarded

MICRO = "us.amazon.nova-micro-v1:0"
ASKED: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 1_000},
}

MakeGuarded = Callable[..., Guarded]


def told(reply: Any) -> Any:
    return reply["ResponseMetadata"]["BedrockGuard"]


def falling(limit: str, *models: str, **fields: Any) -> list[Budget]:
    return [Budget("x", limit, fallback=models, **fields)]


@pytest.mark.parametrize("operation", ["converse", "converse_stream"])
def test_another_model_is_asked_and_charged(make_guarded: MakeGuarded, operation: str) -> None:
    """
    1,000 tokens of Sonnet are 0.0165 USD; of Nova Lite, 0.00024.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA))

    reply = getattr(guarded.client, operation)(**ASKED)
    list(reply.get("stream", ()))

    (request,) = guarded.server.requests
    assert request.model_id == NOVA
    assert json.loads(request.body)["messages"] == ASKED["messages"]
    assert told(reply)["FallbackFrom"] == SONNET
    entry = guarded.entry
    assert (entry.model_id, entry.fallback_from, entry.tags["model"]) == (NOVA, SONNET, NOVA)
    assert entry.cost_nanousd == 2 * 60 + 200 * 240  # 5 bytes are 2 tokens to the server
    assert guarded.server.bill.nanousd == guarded.spent_nanousd
    assert guarded.pending == [0]


def test_the_first_that_fits_is_asked(make_guarded: MakeGuarded) -> None:
    """
    A model without a price is none that fits.
    """
    guarded = make_guarded(
        budgets=falling("0.01 USD", "us.anthropic.claude-opus-4-7", "who.knows-v1:0", MICRO, NOVA)
    )

    guarded.client.converse(**ASKED)

    assert guarded.entry.model_id == MICRO


@pytest.mark.parametrize("on_unpriced", ["refuse", "allow"])
def test_a_model_without_a_price_is_no_way_round_a_budget(
    make_guarded: MakeGuarded, on_unpriced: str
) -> None:
    """
    Let through without a price it costs a budget nothing: nobody knows whether that pays for it.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", "who.knows-v1:0"), on_unpriced=on_unpriced)

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**ASKED)
    assert guarded.server.requests == ()


def test_an_arn_is_written_as_botocore_writes_it(make_guarded: MakeGuarded) -> None:
    """
    With its colons and slashes quoted.
    """
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{NOVA}"
    guarded = make_guarded(budgets=falling("0.01 USD", arn))

    guarded.client.converse(**ASKED)
    by_fallback = guarded.server.requests[-1].path
    guarded.client.converse(**{**ASKED, "modelId": arn})

    assert guarded.server.requests[-1].path == by_fallback


def test_what_fits_is_not_sent_elsewhere(make_guarded: MakeGuarded) -> None:
    """
    A fallback is for the edge of a budget.
    """
    guarded = make_guarded(budgets=falling("1 USD", NOVA))

    reply = guarded.client.converse(**ASKED)

    assert set(told(reply)) == {"ReservationId", "CostUSD", "Basis"}
    assert guarded.entry.model_id == SONNET


def test_a_smaller_answer_comes_before_another_model(make_guarded: MakeGuarded) -> None:
    """
    The order of the steps.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA), clamp="always")

    reply = guarded.client.converse(**ASKED)

    assert "ClampedMaxTokens" in told(reply)
    assert "FallbackFrom" not in told(reply)


def test_a_limit_is_lowered_to_what_the_other_model_writes(make_guarded: MakeGuarded) -> None:
    """
    Bedrock rejects a `maxTokens` above the model's own, 10,000 for Nova Lite.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA))

    reply = guarded.client.converse(**{**ASKED, "inferenceConfig": {"maxTokens": 60_000}})

    assert told(reply)["ClampedMaxTokens"] == 10_000
    assert json.loads(guarded.server.requests[-1].body)["inferenceConfig"]["maxTokens"] == 10_000


def test_with_no_clamp_a_model_that_writes_less_is_not_asked(make_guarded: MakeGuarded) -> None:
    """
    Never is never.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA), clamp="never")

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**ASKED, "inferenceConfig": {"maxTokens": 60_000}})


def test_fields_of_one_maker_are_not_sent_to_another(make_guarded: MakeGuarded) -> None:
    """
    `thinking` is Claude's: Nova would reject it.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA))

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**ASKED, additionalModelRequestFields={"top_k": 5})
    assert guarded.server.requests == ()


def test_bodies_are_one_maker_s(make_guarded: MakeGuarded) -> None:
    """
    Only Converse asks every model alike.
    """
    guarded = make_guarded(budgets=falling("0.001 USD", NOVA))
    body = json.dumps({"max_tokens": 1_000, "messages": []})

    with pytest.raises(BudgetExceeded):
        guarded.client.invoke_model(modelId=SONNET, body=body)


def test_the_refusal_is_of_the_model_that_was_asked(make_guarded: MakeGuarded) -> None:
    """
    Figures of a model that nobody named would explain nothing.
    """
    guarded = make_guarded(budgets=falling("0.00001 USD", NOVA))

    with pytest.raises(BudgetExceeded, match="the call may cost up to") as caught:
        guarded.client.converse(**ASKED)

    assert caught.value.model_id == SONNET
    assert caught.value.tags["model"] == SONNET.removeprefix("us.")
    # By hand: 5 bytes and a role of 4, and the template, at 3.30 USD a million; 1,000 tokens at 16.50.
    assert int(caught.value.requested * 10**9) == (5 + 4 + 16 + 64) * 3_300 + 1_000 * 16_500


def test_budgets_are_those_of_the_model_that_is_asked(make_guarded: MakeGuarded) -> None:
    """
    A budget of one model has no say in another's; and its own must have room.
    """
    budgets = [
        Budget("sonnet", "0.01 USD", match={"model": "anthropic.*"}, fallback=[NOVA]),
        Budget("nova", "1 requests", match={"model": "amazon.*"}),
    ]
    guarded = make_guarded(budgets=budgets)

    guarded.client.converse(**ASKED)
    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**ASKED)

    assert caught.value.budget == "sonnet"
    rows = {row.budget: row for row in guarded.guard.status()}
    assert (rows["sonnet"].spent, rows["nova"].spent) == (0, 1)


def test_a_stopped_model_is_not_asked_instead(make_guarded: MakeGuarded) -> None:
    """
    The call is refused for its budget, as without.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA))
    guarded.guard.stop(match={"model": NOVA}, reason="incident")

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**ASKED)
    assert guarded.server.requests == ()
    (refused,) = guarded.guard.entries(outcome="refused")  # nobody has called the model that is stopped
    assert (refused.model_id, refused.control) == (SONNET, None)


def test_a_model_whose_stop_is_over_is_asked_again(make_guarded: MakeGuarded) -> None:
    """
    By what the ledger says now, not by what was known when another call was stopped.
    """
    guarded = make_guarded(budgets=falling("0.01 USD", NOVA))
    stop = guarded.guard.stop(match={"model": NOVA}, reason="incident")
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**ASKED)
    guarded.guard.resume(stop)

    guarded.client.converse(**ASKED)

    assert guarded.entry.fallback_from == SONNET


@pytest.mark.parametrize("fallback", [[""], [1], 5, [NOVA, NOVA], None])
def test_what_is_no_model_is_refused(fallback: Any) -> None:
    """
    At the door, with what would be one.
    """
    with pytest.raises(ConfigurationError, match="it is model ids"):
        Budget("x", "1 USD", fallback=fallback)


def test_a_guard_that_had_admitted_the_first_model_holds_and_charges_the_other(
    make_guarded: MakeGuarded,
) -> None:
    """
    Guards on one client decide one after the other, and what is sent is what each has on its books.
    """
    guarded = make_guarded("1 USD")
    with Guard(budgets=falling("0.01 USD", NOVA), ledger="memory://") as other:
        other.attach(guarded.client)

        guarded.client.converse(**ASKED)

        assert guarded.entry.model_id == next(other.entries()).model_id == NOVA
        assert guarded.entry.fallback_from == next(other.entries()).fallback_from == SONNET
        assert guarded.server.bill.nanousd == guarded.spent_nanousd
        assert guarded.pending == [0]


def test_a_guard_that_has_no_room_for_the_other_model_refuses_it(make_guarded: MakeGuarded) -> None:
    """
    The other may be dearer to it: Nova has used up its own budget.
    """
    guarded = make_guarded(
        budgets=[Budget("all", "1 USD"), Budget("nova", "1 output_tokens", match={"model": NOVA})]
    )
    with Guard(budgets=falling("0.01 USD", NOVA), ledger="memory://") as other:
        other.attach(guarded.client)

        with pytest.raises(BudgetExceeded, match="nova"):
            guarded.client.converse(**ASKED)

        assert guarded.server.requests == ()
        assert guarded.pending == [0, 0]
        assert other.status()[0].pending == 0
