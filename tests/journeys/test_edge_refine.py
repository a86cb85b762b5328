"""
Where a call does not fit by its bytes, Bedrock is asked how large its input is: once, briefly, and nobody
who may not be told is asked again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore_versions import needs_newer_model

from bedrock_guard import Budget, BudgetExceeded
from bedrock_guard.hooks import counting
from bedrock_guard.testing.bedrock_server import BedrockServer, delay, error

from .conftest import NOVA, SONNET, Guarded

pytestmark = needs_newer_model

# 4,000 bytes are 1,000 tokens to the server, and 4,084 to the bound.
TEXT = "word" * 1_000
ASKED: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": TEXT}]}],
    "inferenceConfig": {"maxTokens": 100},
}
# 1,000 tokens in at 3.30 USD a million, 100 out at 16.50: 0.00495 USD. By bytes it is 0.0151 USD.
BUDGET = "0.006 USD"
BODY = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": TEXT}],
}

PATIENCE_S = counting._PATIENCE_S

MakeGuarded = Callable[..., Guarded]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A busy machine may need longer for a count than a caller would wait.
    """
    monkeypatch.setattr(counting, "_PATIENCE_S", 30.0)


def counted(server: BedrockServer) -> list[Any]:
    return [request for request in server.requests if request.operation == "CountTokens"]


def refuse(guarded: Guarded, **changes: Any) -> None:
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**ASKED, **changes})


def test_a_call_that_fits_by_its_count_is_sent(make_guarded: MakeGuarded) -> None:
    """
    The model itself is asked of, not its profile, with all that is input and nothing else.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")

    reply = guarded.client.converse(**ASKED, system=[{"text": "be brief"}])

    (asked,) = counted(guarded.server)
    assert asked.model_id == SONNET.removeprefix("us.")
    assert json.loads(asked.body) == {
        "input": {"converse": {"messages": ASKED["messages"], "system": [{"text": "be brief"}]}}
    }
    assert guarded.entry.counted_input_tokens == 1_002
    assert reply["ResponseMetadata"]["BedrockGuard"]["CountedInputTokens"] == 1_002
    assert guarded.entry.estimated_cost_nanousd == 1_002 * 3_300 + 100 * 16_500
    assert guarded.server.bill.requests == 1
    assert guarded.server.bill.nanousd == guarded.spent_nanousd


@pytest.mark.parametrize("operation", ["invoke_model", "invoke_model_with_response_stream"])
def test_bodies_are_counted_too(make_guarded: MakeGuarded, operation: str) -> None:
    """
    As they are, in base64.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")

    reply = getattr(guarded.client, operation)(modelId=SONNET, body=json.dumps(BODY))
    list(reply["body"])

    assert len(counted(guarded.server)) == 1
    assert guarded.entry.counted_input_tokens == 1_000


def test_nobody_is_asked_where_it_fits_or_could_not(make_guarded: MakeGuarded) -> None:
    """
    A tenth of the bound is the least that a prompt can be.
    """
    roomy = make_guarded("1 USD", refine="count_tokens")
    roomy.client.converse(**ASKED)
    refuse(make_guarded("0.002 USD", refine="count_tokens"))
    refuse(make_guarded(BUDGET))

    assert counted(roomy.server) == []


def test_the_same_is_asked_once(make_guarded: MakeGuarded) -> None:
    """
    A program that tries again and again asks the ledger, not Bedrock.
    """
    guarded = make_guarded("0.004 USD", refine="count_tokens")  # by a tenth of the bound it would fit

    for _ in range(3):
        refuse(guarded)

    assert len(counted(guarded.server)) == 1


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (error(403, code="AccessDeniedException"), 1),
        (error(404, code="ResourceNotFoundException"), 1),
        (error(400, code="ValidationException"), 2),  # of this request only
        (error(429, code="ThrottlingException"), 1),  # for half a minute
        (error(500), 1),
    ],
    ids=["denied", "unknown model", "invalid", "throttled", "failed"],
)
def test_who_does_not_answer_is_not_asked_for_ever(
    make_guarded: MakeGuarded, answer: Any, again: int
) -> None:
    """
    The call is held by its bound, as without; no error of this is the caller's.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")
    guarded.server.always_count(answer)

    for _ in range(2):
        refuse(guarded)
    refuse(guarded, system=[{"text": "another"}])

    assert len(counted(guarded.server)) == again
    assert guarded.pending == [0]


def test_a_denial_holds_for_every_client(make_guarded: MakeGuarded) -> None:
    """
    Each request of a web server may make a client of its own.
    """
    for _ in range(2):
        guarded = make_guarded(BUDGET, refine="count_tokens")
        guarded.server.always_count(error(403, code="AccessDeniedException"))
        refuse(guarded)

    assert len(counted(guarded.server)) == 1


def test_a_fork_asks_for_itself(make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The lock of its parent may be held by a thread that it does not have.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")
    counter = guarded.client._bedrock_guard.count_input.__self__
    assert counter._turn.acquire(timeout=0)
    monkeypatch.setattr("bedrock_guard.hooks.counting.os", SimpleNamespace(getpid=lambda: -1))

    guarded.client.converse(**ASKED)

    assert guarded.entry.counted_input_tokens == 1_000


def test_a_slow_answer_is_not_waited_for(make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A second at most: the caller waits for a model, not for a count.
    """
    monkeypatch.setattr(counting, "_PATIENCE_S", PATIENCE_S)
    guarded = make_guarded(BUDGET, refine="count_tokens")
    guarded.server.always_count(delay(30))
    began = time.monotonic()

    refuse(guarded)

    assert time.monotonic() - began < 20  # the answer itself would take 30


def test_where_no_thread_can_be_had_nobody_is_asked(
    make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The caller is refused for the budget, not told of our threads; and the next may ask.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as bare:
        bare.setattr(
            threading, "Thread", type("Thread", (), {"__init__": lambda *_, **__: None, "start": start})
        )
        refuse(guarded)
    guarded.client.converse(**ASKED)

    assert guarded.entry.counted_input_tokens == 1_000
    assert guarded.pending == [0]


def test_the_memory_of_answers_has_an_end(make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A role has other credentials every hour, for as long as the process lives.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")
    counter = guarded.client._bedrock_guard.count_input.__self__
    for rotation in range(200):
        monkeypatch.setattr(counter, "_credentials", SimpleNamespace(access_key=f"key {rotation}"))
        monkeypatch.setattr(counter, "_again_at", float("inf"))
        refuse(guarded)

    assert len(counting._COUNTS) <= 64


@pytest.mark.parametrize(
    "changes",
    [
        {"modelId": "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ"},
        {
            "outputConfig": {
                "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}
            }
        },
        {"modelId": NOVA, "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
    ],
    ids=["prompt resource", "answer format", "system tool"],
)
def test_what_is_not_counted_is_not_asked(make_guarded: MakeGuarded, changes: Any) -> None:
    """
    A count that leaves something out would be too low.
    """
    guarded = make_guarded(
        BUDGET,
        refine="count_tokens",
        models={"arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ": SONNET},
    )

    refuse(guarded, **changes)

    assert counted(guarded.server) == []


def test_bodies_with_a_system_tool_are_not_counted(make_guarded: MakeGuarded) -> None:
    """
    The model reads what the tool finds, and is asked again with it: whole pages, which no count knew.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")
    body = {
        "messages": ASKED["messages"],
        "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]},
    }

    with pytest.raises(BudgetExceeded):
        guarded.client.invoke_model(modelId=NOVA, body=json.dumps(body))

    assert counted(guarded.server) == []


def test_a_count_leaves_more_for_the_answer(make_guarded: MakeGuarded) -> None:
    """
    First the input as it is, then what of the output fits beside it.
    """
    guarded = make_guarded("0.01 USD", refine="count_tokens", clamp="always")

    reply = guarded.client.converse(**{**ASKED, "inferenceConfig": {"maxTokens": 4_000}})

    # All of it, as a quarter is less than the input.
    fits = (10_000_000 - 1_000 * 3_300) // 16_500
    assert reply["ResponseMetadata"]["BedrockGuard"]["ClampedMaxTokens"] == fits == 406
    assert guarded.server.bill.nanousd == guarded.spent_nanousd <= 10_000_000


def test_a_header_that_is_added_later_takes_no_count_away(make_guarded: MakeGuarded) -> None:
    """
    The body is what was counted; another body is not.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")

    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Bedrock-Trace"] = "ENABLED"

    guarded.client.meta.events.register_first("request-created.bedrock-runtime", add)

    guarded.client.converse(**ASKED)

    assert guarded.entry.counted_input_tokens == 1_000
    assert guarded.entry.estimated_cost_nanousd == 1_000 * 3_300 + 100 * 16_500


def test_another_body_was_not_counted(make_guarded: MakeGuarded) -> None:
    """
    By its bytes it does not fit.
    """
    guarded = make_guarded(BUDGET, refine="count_tokens")

    def lengthen(request: Any, **_: Any) -> None:
        request.data = request.data.replace(b"wordword", b"wordwordword", 1)

    guarded.client.meta.events.register_first("request-created.bedrock-runtime", lengthen)

    refuse(guarded)
    assert guarded.server.bill.requests == 0


def test_counting_is_no_call_of_ours(make_guarded: MakeGuarded) -> None:
    """
    No entry, no request of a budget, no tally: it is free, and the guard asks it for itself.
    """
    guarded = make_guarded(
        budgets=[Budget("usd", BUDGET), Budget("calls", "1 requests")], refine="count_tokens"
    )

    guarded.client.converse(**ASKED)

    assert len(list(guarded.guard.entries())) == 1
    assert [row.spent for row in guarded.guard.status() if row.unit == "requests"] == [1]


def test_tokens_of_another_model_are_counted_anew(make_guarded: MakeGuarded) -> None:
    """
    Each has a tokenizer of its own.
    """
    guarded = make_guarded(
        budgets=[Budget("x", "1200 tokens", fallback=[NOVA])], refine="count_tokens", clamp="never"
    )

    guarded.client.converse(**ASKED)
    refuse(guarded)

    assert {request.model_id for request in counted(guarded.server)} <= {SONNET.removeprefix("us."), NOVA}
