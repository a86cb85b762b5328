"""
One guarded call, end to end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded, guarded_client, scope
from bedrock_guard.errors import UnmeteredOperation, UnpricedModel
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply, error

from .conftest import HELLO, NOVA, SONNET, Guarded


def test_a_call_costs_what_the_server_bills(guarded: Guarded) -> None:
    """
    The ledger is worth nothing if it does not say what AWS will say.
    """
    reply = guarded.client.converse(**HELLO)

    assert reply["output"]["message"]["role"] == "assistant"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
    assert guarded.pending == [0]
    assert guarded.entry.outcome == "answered"
    assert guarded.entry.basis == "reported"
    assert guarded.entry.usage == {"input_tokens": 3, "output_tokens": 100}
    # 3 x 3.30 + 100 x 16.50 USD a million
    assert guarded.entry.cost == Decimal("0.0016599")


def test_the_reply_tells_its_reservation_and_its_cost(guarded: Guarded) -> None:
    """
    A caller can join a reply to its entry without a second look-up.
    """
    reply = guarded.client.converse(**HELLO)

    ours = reply["ResponseMetadata"]["BedrockGuard"]
    assert ours == {"ReservationId": guarded.entry.id, "CostUSD": "0.0016599", "Basis": "reported"}


def test_cached_tokens_are_charged_by_what_they_are(guarded: Guarded) -> None:
    """
    Reads are a tenth, 5-minute writes 1.25x, 1-hour writes 2x of the input price.
    """
    guarded.server.will_answer(
        converse_reply(
            input_tokens=10,
            output_tokens=20,
            cache_read_input_tokens=1_000,
            cache_write_5m_input_tokens=200,
            cache_write_1h_input_tokens=300,
        )
    )

    guarded.client.converse(**HELLO)

    # 10 x 3.30 + 20 x 16.50 + 1000 x 0.33 + 200 x 4.125 + 300 x 6.60 USD a million
    assert guarded.entry.cost == Decimal("0.003498")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_call_that_does_not_fit_never_leaves(make_guarded: Callable[..., Guarded]) -> None:
    """
    Before, not after: nothing is on the wire, so nothing is billed.
    """
    guarded = make_guarded("0.001 USD/day")

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)

    assert guarded.server.requests == ()
    assert (caught.value.budget, caught.value.limit, caught.value.spent) == (
        "default",
        Decimal("0.001"),
        Decimal(0),
    )
    assert (caught.value.model_id, caught.value.operation) == (SONNET, "Converse")
    assert guarded.entry.outcome == "refused"
    assert guarded.pending == [0]


def test_a_refusal_says_what_is_spent_what_it_asked_for_and_what_would_fit(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    A developer who is refused at night must see at once whether to raise the limit or fix the loop.
    """
    guarded = make_guarded("search: 0.003 USD/day")
    guarded.client.converse(**HELLO)

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)

    first, second, third = str(caught.value).splitlines()
    assert first.startswith("search (0.003 USD/day): the call may cost up to $0.00")
    assert first.endswith(", $0.00134 is free")
    assert second.startswith("spent $0.001659 · pending $0.00 · resets 00:00 UTC (in ")
    assert third.startswith("maxTokens=100 is $0.00165 of it; maxTokens<=")


def test_what_the_refusal_says_would_fit_does_fit(make_guarded: Callable[..., Guarded]) -> None:
    """
    Advice that is wrong by one token sends people round in circles.
    """
    guarded = make_guarded("0.0015 USD/day")
    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)
    fits = int(str(caught.value).rpartition("maxTokens<=")[2].split()[0])

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": fits + 1}})
    guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": fits}})

    assert guarded.entry.outcome == "answered"


def test_refusals_that_are_alike_are_one_entry(make_guarded: Callable[..., Guarded]) -> None:
    """
    An agent that hammers at a closed door must not fill the disk.
    """
    guarded = make_guarded("0.001 USD/day", clock=lambda: 1_800_000_000.0)

    for _ in range(5):
        with pytest.raises(BudgetExceeded):
            guarded.client.converse(**HELLO)

    assert [(entry.outcome, entry.count) for entry in guarded.guard.entries()] == [("refused", 5)]


def test_a_throttled_call_that_succeeds_on_retry_is_reserved_once(guarded: Guarded) -> None:
    """
    Botocore retries inside the call; a throttled attempt is free and holds nothing.
    """
    guarded.server.will_answer(429, converse_reply(input_tokens=10, output_tokens=5))

    guarded.client.converse(**HELLO)

    assert [attempt.outcome for attempt in guarded.entry.attempts] == ["rejected", "answered"]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd == 10 * 3_300 + 5 * 16_500


@pytest.mark.parametrize("status", [400, 403, 404, 429, 503])
def test_a_rejected_call_is_free(guarded: Guarded, status: int) -> None:
    """
    AWS turned it away before a model ran; money that stayed held would block the key.
    """
    guarded.server.always(status)

    with pytest.raises(ClientError):
        guarded.client.converse(**HELLO)

    assert guarded.entry.outcome == "rejected"
    assert guarded.entry.attempts[-1].status == status
    assert guarded.entry.attempts[-1].error_code
    assert (guarded.spent_nanousd, guarded.pending) == (0, [0])


@pytest.mark.parametrize("status", [408, 424, 500])
@pytest.mark.parametrize("billed", [True, False])
def test_an_error_of_a_model_that_ran_is_charged_at_its_estimate(
    guarded: Guarded, status: int, billed: bool
) -> None:
    """
    Nobody knows whether AWS bills it; the books must not be below the bill.
    """
    guarded.server.always(error(status, billed=billed))

    with pytest.raises(ClientError):
        guarded.client.converse(**HELLO)

    assert {attempt.outcome for attempt in guarded.entry.attempts} == {"lost"}
    assert guarded.entry.basis == "estimated"
    assert guarded.spent_nanousd == guarded.entry.estimated_cost * 10**9 * len(guarded.entry.attempts)
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd
    assert guarded.pending == [0]


def test_lost_answers_can_be_released(make_guarded: Callable[..., Guarded]) -> None:
    """
    Some would rather trust that AWS bills no errors.
    """
    guarded = make_guarded(on_lost_reply="release")
    guarded.server.always(500)

    with pytest.raises(ClientError):
        guarded.client.converse(**HELLO)

    assert (guarded.spent_nanousd, guarded.pending) == (0, [0])
    assert guarded.entry.basis == "estimated"


def test_an_unpriced_model_is_refused_before_it_is_sent(guarded: Guarded) -> None:
    """
    A model at 0 USD is a way round every budget.
    """
    with pytest.raises(UnpricedModel, match=r"meta\.llama9-70b"):
        guarded.client.converse(**{**HELLO, "modelId": "meta.llama9-70b-v1:0"})

    assert guarded.server.requests == ()


def test_an_unpriced_model_can_be_allowed_and_says_so(make_guarded: Callable[..., Guarded]) -> None:
    """
    Then its requests and tokens still count, and its cost is None, never 0.
    """
    guarded = make_guarded(budgets=["usd: 1 USD", "calls: 1 requests"], on_unpriced="allow")

    guarded.client.converse(**{**HELLO, "modelId": "meta.llama9-70b-v1:0"})

    assert guarded.entry.cost is None
    assert [row.spent for row in guarded.guard.status()] == [Decimal("0.00"), 1]
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**HELLO, "modelId": "meta.llama9-70b-v1:0"})


def test_an_unpriced_model_can_be_priced_at_the_dearest(make_guarded: Callable[..., Guarded]) -> None:
    """
    A new model works on its first day, and the budget still holds.
    """
    guarded = make_guarded("5 USD", on_unpriced="upper_bound")

    guarded.client.converse(**{**HELLO, "modelId": "meta.llama9-70b-v1:0"})

    assert guarded.entry.cost > Decimal("0.0016599")


def speak(client: Any) -> None:
    """
    The operation that boto3 has no method for, and all that a method would call.
    """
    params = {"modelId": "amazon.nova-sonic-v1:0", "body": {"chunk": {"bytes": b"x"}}}
    client._make_api_call("InvokeModelWithBidirectionalStream", params)


@needs_newer_model
def test_an_operation_that_bills_and_has_no_reader_is_refused(guarded: Guarded) -> None:
    """
    A second road to the same bill must not be open.
    """
    with pytest.raises(UnmeteredOperation, match="InvokeModelWithBidirectionalStream"):
        speak(guarded.client)

    assert guarded.server.requests == ()


@needs_newer_model
def test_an_allowed_unmetered_operation_passes_uncounted(make_guarded: Callable[..., Guarded]) -> None:
    """
    The setting that the error names must work.
    """
    guarded = make_guarded(on_unmetered="allow")

    with pytest.raises(ClientError):  # the loopback server has no such route
        speak(guarded.client)

    assert list(guarded.guard.entries()) == []


@needs_newer_model
def test_counting_tokens_is_free(make_guarded: Callable[..., Guarded]) -> None:
    """
    AWS does not charge for CountTokens; refusing it would take away the way to spend less.
    """
    guarded = make_guarded("0 USD")
    reply = guarded.client.count_tokens(modelId=SONNET, input={"converse": {"messages": HELLO["messages"]}})

    assert reply["inputTokens"] > 0


def test_every_budget_must_admit_and_all_or_none_are_held(make_guarded: Callable[..., Guarded]) -> None:
    """
    A call that one budget refuses must not eat room in another.
    """
    guarded = make_guarded(budgets=["roomy: 5 USD", "tight: 0.001 USD"])

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)

    assert caught.value.budget == "tight"
    assert guarded.pending == [0, 0]


def test_tokens_and_requests_are_counted_as_billed(make_guarded: Callable[..., Guarded]) -> None:
    """
    The incident's author asked for a limit on uncached input.
    """
    units = ("tokens", "total_input_tokens", "uncached_input_tokens", "cache_write_tokens", "output_tokens")
    guarded = make_guarded(budgets=["r: 9 requests", *(f"{unit}: 1M {unit}/day" for unit in units)])
    guarded.server.will_answer(
        converse_reply(
            input_tokens=1,
            output_tokens=2,
            cache_read_input_tokens=30,
            cache_write_5m_input_tokens=400,
        )
    )

    guarded.client.converse(**HELLO)

    assert [row.spent for row in guarded.guard.status()] == [1, 433, 431, 1, 400, 2]


@needs_newer_model
def test_tags_choose_the_budget_and_metadata_cannot(make_guarded: Callable[..., Guarded]) -> None:
    """
    What an end user sends along must not decide whose money is spent.
    """
    from bedrock_guard import Budget

    guarded = make_guarded(budgets=[Budget("team", "5 USD", per="team")], tags={"team": "search"})
    metadata = {"requestMetadata": {"team": "ads", "ticket": "7"}}

    guarded.client.converse(**HELLO, **metadata)
    with scope(team="infra") as tally:
        guarded.client.converse(**HELLO, **metadata)

    assert [dict(row.per)["team"] for row in guarded.guard.status()] == ["infra", "search"]
    assert guarded.entry.tags["ticket"] == "7"
    assert (tally.calls, tally.cost) == (1, guarded.entry.cost)
    assert tally.usage == guarded.entry.usage


def test_an_entry_says_what_the_call_was(guarded: Guarded) -> None:
    """
    Reports are made of these.
    """
    guarded.client.converse(**HELLO)

    entry = guarded.entry
    assert (entry.operation, entry.model_id, entry.region) == ("Converse", SONNET, "us-east-1")
    assert (entry.model, entry.family) == ("anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic")
    assert entry.tags["model"] == entry.model
    assert entry.estimated_cost > entry.cost
    assert entry.at.tzinfo is not None
    assert entry.attempts[0].status == 200


def test_nothing_a_prompt_or_reply_says_is_kept(make_guarded: Callable[..., Guarded], tmp_path: Any) -> None:
    """
    Silent about content: a ledger must be safe to show to anyone who may see figures.
    """
    path = tmp_path / "ledger.db"
    guarded = make_guarded(ledger=f"sqlite:///{path}")
    guarded.server.will_answer(converse_reply(input_tokens=1, output_tokens=1, text="SECRETREPLY"))

    guarded.client.converse(
        modelId=SONNET, messages=[{"role": "user", "content": [{"text": "SECRETPROMPT"}]}]
    )
    guarded.guard.close()

    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"SECRET" not in content
    assert SONNET.encode() in content


def test_the_readme_call_keeps_boto3s_own_arguments(server: BedrockServer) -> None:
    """
    `config=` is botocore's, and a positional region is boto3's second argument.
    """
    from botocore.config import Config

    client = guarded_client(
        "bedrock-runtime",
        "eu-west-1",
        endpoint_url=server.url,
        config=Config(read_timeout=7),
        budget="5 USD/day",
        ledger="memory://",
    )

    assert client.meta.config.read_timeout == 7
    assert client.meta.region_name == "eu-west-1"
    assert client.converse(**{**HELLO, "modelId": NOVA})["usage"]["outputTokens"] == 100


def test_an_estimate_is_what_the_call_will_hold(guarded: Guarded) -> None:
    """
    Asking first must give the figure that decides.
    """
    estimate = guarded.guard.estimate("Converse", **HELLO)

    guarded.client.converse(**HELLO)

    assert estimate.cost == guarded.entry.estimated_cost
    assert estimate.lines == {"default": estimate.cost}
    assert len(guarded.server.requests) == 1


def test_a_body_given_as_a_file_is_sent_and_bounded_whole(guarded: Guarded) -> None:
    """
    On a retry botocore rewinds a file to its start, not to where the caller had it.
    """
    from io import BytesIO

    body = {"anthropic_version": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    file = BytesIO(b"xxx" + json.dumps(body).encode())
    file.seek(3)
    guarded.server.will_answer(503)

    guarded.client.invoke_model(modelId=SONNET, body=file)

    assert [json.loads(request.body)["max_tokens"] for request in guarded.server.requests] == [9, 9]
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
