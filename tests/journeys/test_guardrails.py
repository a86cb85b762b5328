"""
Guardrails over real sockets: by themselves, beside a model, traced and not, and where they block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.testing.bedrock_server import Answer, BedrockServer, guardrail_block, lost_answer, raw

from .conftest import HELLO, RATES, SONNET, Guarded

# From AWS's price page: 0.15 USD a thousand text units, 0.10 for personal data.
UNITS = {
    "guardrail_content_policy_units": "0.00015",
    "guardrail_topic_policy_units": "0.00015",
    "guardrail_sensitive_information_policy_units": "0.0001",
}
CHECK_UNITS = {
    "guardrail_checks_content_filter_units": "0.00007",
    "guardrail_checks_sensitive_information_units": "0.0001",
}
APPLY: dict[str, Any] = {
    "guardrailIdentifier": "gr1",
    "guardrailVersion": "1",
    "source": "INPUT",
    "content": [{"text": {"text": "x" * 2500}}],
}
CONFIG = {"guardrailIdentifier": "gr1", "guardrailVersion": "1"}
TRACED = {**CONFIG, "trace": "enabled"}
INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps({"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}),
    "guardrailIdentifier": "gr1",
    "guardrailVersion": "1",
}


def json_reply(body: bytes) -> Answer:
    return raw(200, {"Content-Type": "application/json"}, body)


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(
        rates={"gr1": UNITS, "guardrail-checks": CHECK_UNITS, SONNET: {**RATES[SONNET], **UNITS}}
    ) as running:
        yield running


@needs_newer_model
def test_a_guardrail_by_itself_is_charged_its_units(guarded: Guarded) -> None:
    """
    2,500 characters are three units of each of its policies: 3 x 0.0004 USD.
    """
    guarded.client.apply_guardrail(**APPLY)

    assert guarded.spent_nanousd == guarded.server.bill.nanousd == 1_200_000
    assert guarded.entry.basis == "reported"
    assert guarded.entry.usage == dict.fromkeys(UNITS, 3)
    assert guarded.entry.tags["model"] == "guardrail/gr1"
    # All policies, automated reasoning twice: 3 x 0.00084 USD.
    assert int(guarded.entry.estimated_cost * 10**9) == 3 * 840_000


@needs_newer_model
def test_what_a_guardrail_may_cost_is_refused_before_it_is_sent(make_guarded: Callable[..., Guarded]) -> None:
    """
    A long text at many policies is no trifle.
    """
    guarded = make_guarded("0.002 USD")

    with pytest.raises(BudgetExceeded):
        guarded.client.apply_guardrail(**APPLY)

    assert guarded.server.requests == ()


@needs_newer_model
@pytest.mark.parametrize("answer", [lost_answer(), json_reply(b"{}"), json_reply(b"{")])
def test_a_guardrail_whose_reply_tells_nothing_is_charged_its_estimate(
    answer: Any, make_guarded: Callable[..., Guarded]
) -> None:
    """
    It looked at the text all the same.
    """
    guarded = make_guarded(config={"retries": {"total_max_attempts": 1}})
    guarded.server.will_answer(answer)

    with pytest.raises(Exception):  # noqa: B017 - botocore's own, one for each
        guarded.client.apply_guardrail(**APPLY)
        raise ClientError({}, "it was answered")

    assert (guarded.entry.outcome, guarded.entry.cost) == ("lost", guarded.entry.estimated_cost)


@needs_newer_model
@pytest.mark.parametrize("stream", [False, True])
def test_a_traced_guardrail_beside_converse_is_charged_to_the_unit(guarded: Guarded, stream: bool) -> None:
    """
    Its units are on the bill beside the tokens.
    """
    if stream:
        for _ in guarded.client.converse_stream(**HELLO, guardrailConfig=TRACED)["stream"]:
            pass
    else:
        guarded.client.converse(**HELLO, guardrailConfig=TRACED)

    assert guarded.spent_nanousd == guarded.server.bill.nanousd
    # One unit of what was asked, and one of the answer of 100 tokens.
    assert guarded.entry.usage["guardrail_topic_policy_units"] == 2
    assert guarded.entry.basis == "reported"


@pytest.mark.parametrize("stream", [False, True])
def test_a_traced_guardrail_beside_invoke_model_is_charged_to_the_unit(
    guarded: Guarded, stream: bool
) -> None:
    """
    The same in a maker's own dialect.
    """
    if stream:
        for _ in guarded.client.invoke_model_with_response_stream(**INVOKE, trace="ENABLED")["body"]:
            pass
    else:
        guarded.client.invoke_model(**INVOKE, trace="ENABLED")["body"].read()

    assert guarded.spent_nanousd == guarded.server.bill.nanousd
    assert guarded.entry.usage["guardrail_topic_policy_units"] == 2


@needs_newer_model
@pytest.mark.parametrize("operation", ["converse", "converse_stream", "invoke_model"])
def test_an_untraced_guardrail_is_charged_what_it_can_have_been(guarded: Guarded, operation: str) -> None:
    """
    Its units are billed, traced or not; what nobody told is an estimate, never nothing.
    """
    params = INVOKE if operation == "invoke_model" else {**HELLO, "guardrailConfig": CONFIG}
    reply = getattr(guarded.client, operation)(**params)
    for key in ("stream", "body"):
        list(reply.get(key, ()))

    assert guarded.spent_nanousd >= guarded.server.bill.nanousd
    assert guarded.entry.basis == "estimated"
    assert guarded.entry.usage["guardrail_topic_policy_units"] >= 2
    # What AWS said is kept as it was said.
    assert set(guarded.entry.reported_usage) == {"input_tokens", "output_tokens"}


@needs_newer_model
@pytest.mark.parametrize("trace", ["enabled", "disabled"])
def test_a_blocked_prompt_is_charged_its_guardrail_only(guarded: Guarded, trace: str) -> None:
    """
    No model ran, so none is paid for; the text was looked at.
    """
    guarded.server.will_answer(guardrail_block())

    guarded.client.converse(**HELLO, guardrailConfig={**CONFIG, "trace": trace})

    usage = guarded.entry.usage
    assert guarded.entry.outcome == "answered"
    assert not any("tokens" in meter for meter in usage)
    assert guarded.server.bill.nanousd == 400_000
    if trace == "enabled":
        assert guarded.spent_nanousd == 400_000
    else:
        assert guarded.spent_nanousd == 840_000  # a unit of every policy


def test_the_hold_of_a_guarded_call_covers_its_guardrail(guarded: Guarded) -> None:
    """
    64,000 tokens of answer are looked at, too: half a million characters.
    """
    long = {**HELLO, "inferenceConfig": {"maxTokens": 64_000}}

    bare = guarded.guard.estimate("Converse", **long)
    looked_at = guarded.guard.estimate("Converse", **long, guardrailConfig=CONFIG)

    assert looked_at.usage["guardrail_content_policy_units"] == 512 + 1 + 1
    assert looked_at.cost is not None
    assert bare.cost is not None
    assert int((looked_at.cost - bare.cost) * 10**9) == 514 * 840_000


CHECKS: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"text": "x" * 1001}, {"text": "y"}]}],
    "checks": {
        "contentFilter": {"categories": [{"category": "HATE"}]},
        "sensitiveInformation": {"entities": [{"type": "NAME"}]},
    },
}


@needs_newer_model
def test_single_checks_are_bounded_by_their_text_and_charged_as_reported(guarded: Guarded) -> None:
    """
    At 0.07 and 0.10 USD a thousand; three units at most, two as reported.
    """
    if not hasattr(guarded.client, "invoke_guardrail_checks"):
        pytest.skip("this botocore does not know it")
    guarded.client.invoke_guardrail_checks(**CHECKS)

    assert guarded.spent_nanousd == guarded.server.bill.nanousd == 2 * (70_000 + 100_000)
    assert int(guarded.entry.estimated_cost * 10**9) == 3 * (70_000 + 100_000)
    assert guarded.entry.basis == "reported"


@needs_newer_model
def test_a_check_without_a_price_is_refused(make_guarded: Callable[..., Guarded]) -> None:
    """
    AWS lists no price for it, and unknown is not free.
    """
    asked = {**CHECKS, "checks": {"promptAttack": {"categories": [{"category": "JAILBREAK"}]}}}
    guarded = make_guarded()
    if not hasattr(guarded.client, "invoke_guardrail_checks"):
        pytest.skip("this botocore does not know it")
    with pytest.raises(UnpricedModel, match="guardrail_checks_prompt_attack_units"):
        guarded.client.invoke_guardrail_checks(**asked)

    own = {"guardrail-checks": {"guardrail_checks_prompt_attack_units": "0.0001 USD"}}
    priced = make_guarded(prices=own)
    priced.client.invoke_guardrail_checks(**asked)
    assert priced.spent_nanousd == 200_000


def test_own_prices_of_guardrails_hold_by_themselves(make_guarded: Callable[..., Guarded]) -> None:
    """
    What a private offer says of a unit is the same with a model and without.
    """
    guarded = make_guarded(prices={"*": dict.fromkeys(UNITS, "0.00001 USD")})
    if hasattr(guarded.client, "apply_guardrail"):
        guarded.client.apply_guardrail(**APPLY)

        assert guarded.spent_nanousd == 3 * 3 * 10_000


def test_policies_that_a_guardrail_lacks_need_not_be_held_for(make_guarded: Callable[..., Guarded]) -> None:
    """
    Who knows them says so, and the estimate without a trace is the bill.
    """
    lacking = ("guardrail_automated_reasoning_policy_units", "guardrail_contextual_grounding_policy_units")
    guarded = make_guarded(prices={"*": dict.fromkeys(lacking, "free")})

    estimate = guarded.guard.estimate("ApplyGuardrail", **APPLY)

    assert estimate.cost is not None
    assert int(estimate.cost * 10**9) == 3 * 400_000


def test_a_hold_round_another_client_takes_a_guardrail(guarded: Guarded) -> None:
    """
    Who sends it with another client names no model.
    """
    with guarded.guard.hold("ApplyGuardrail", APPLY, region="us-east-1") as hold:
        entry = hold.settle({"usage": {"contentPolicyUnits": 3, "topicPolicyUnits": 0}})

    assert entry.usage == {"guardrail_content_policy_units": 3}


@needs_newer_model
def test_a_text_that_another_tool_lengthens_is_bounded_again(guarded: Guarded) -> None:
    """
    What leaves is what is held for, and it still counts as this guardrail's.
    """

    def lengthen(request: Any, **_: Any) -> None:
        request.data = json.dumps({"source": "INPUT", "content": [{"text": {"text": "x" * 5000}}]}).encode()

    guarded.client.meta.events.register("request-created.bedrock-runtime.ApplyGuardrail", lengthen)

    guarded.client.apply_guardrail(**APPLY)

    assert int(guarded.entry.estimated_cost * 10**9) == 5 * 840_000
    assert guarded.entry.tags["model"] == "guardrail/gr1"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd == 5 * 400_000
