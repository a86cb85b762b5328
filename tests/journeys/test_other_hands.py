"""
Tools that lay hands on a request before the guard has seen it, or while it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from .conftest import HELLO, NOVA, SONNET, Guarded
from .test_other_tools import STUBBED

MORE = json.dumps({"messages": HELLO["messages"], "inferenceConfig": {"maxTokens": 900}}).encode()


@pytest.mark.parametrize(
    "event", ["provide-client-params", "before-parameter-build", "before-call", "before-send"]
)
def test_a_url_that_is_presigned_within_a_call_is_none_of_it(guarded: Guarded, event: str) -> None:
    """
    Botocore makes its request where it makes the call's own, which may be after it.
    """
    asked: list[str] = []

    def presign(**_: Any) -> None:
        if not asked:
            asked.append("once")
            asked.append(guarded.client.generate_presigned_url("converse", Params={**HELLO, "modelId": NOVA}))

    name = "bedrock-runtime" if event == "before-send" else "bedrock-runtime.Converse"
    guarded.client.meta.events.register_first(f"{event}.{name}", presign)

    guarded.client.converse(**HELLO)

    assert len(asked) == 2
    assert (guarded.entry.model_id, guarded.pending) == (SONNET, [0])
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0


@pytest.mark.parametrize("is_positional", [False, True])
def test_a_tool_that_makes_the_request_of_other_parameters_is_bounded_at_those(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, is_positional: bool
) -> None:
    """
    What was given to botocore last is what is sent, however it was given.
    """
    above = type(guarded.client)
    make = above._convert_to_request_dict

    def make_other(client: Any, api_params: Any, operation_model: Any, endpoint_url: str, **rest: Any) -> Any:
        other = {**api_params, "modelId": NOVA}
        if is_positional:
            return make(client, other, operation_model, endpoint_url, rest.pop("context"), **rest)
        given = {"api_params": other, "operation_model": operation_model, "endpoint_url": endpoint_url}
        return make(client, **given, **rest)

    monkeypatch.setattr(above, "_convert_to_request_dict", make_other)

    guarded.client.converse(**HELLO)

    assert guarded.server.requests[-1].model_id == guarded.entry.model_id == NOVA
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("body", MORE), ("body", MORE.decode()), ("url", NOVA)],
    ids=["body", "text", "model"],
)
def test_what_is_changed_before_the_guard_looks_is_bounded(guarded: Guarded, key: str, value: Any) -> None:
    """
    What the request was made of is not what would be sent; a Stubber lets no later look happen.
    """
    guarded.client.converse(**HELLO)
    before = guarded.entry

    def change(params: dict[str, Any], **_: Any) -> None:
        params[key] = params[key].replace(_quoted(SONNET), _quoted(value)) if key == "url" else value

    _register_before_ours(guarded, "before-call.*.*", change)
    with Stubber(guarded.client) as stubber:
        stubber.add_response("converse", STUBBED)
        guarded.client.converse(**HELLO)

    if key == "url":
        assert guarded.entry.model_id == NOVA
    else:
        assert guarded.entry.estimated_cost > before.estimated_cost


@pytest.mark.parametrize("event", ["before-call.*.*", "before-send.bedrock-runtime"])
@pytest.mark.parametrize("method", ["invoke_model", "invoke_model_with_response_stream"])
def test_a_header_that_is_added_to_invoke_model_is_read(guarded: Guarded, event: str, method: str) -> None:
    """
    Its tier is one, and decides the price.
    """

    def add(params: Any = None, request: Any = None, **_: Any) -> None:
        headers = params["headers"] if request is None else request.headers
        headers["X-Amzn-Bedrock-Service-Tier"] = "priority"

    def call() -> Any:
        list(getattr(guarded.client, method)(modelId=SONNET, body=json.dumps(body))["body"])
        return guarded.entry.estimated_cost

    body = {"max_tokens": 10, "messages": HELLO["messages"]}
    usual = call()

    _register_before_ours(guarded, event, add)

    assert call() > usual


def _register_before_ours(guarded: Guarded, event: str, handler: Callable[..., None]) -> None:
    guarded.guard.detach(guarded.client)
    guarded.client.meta.events.register_first(event, handler)
    guarded.guard.attach(guarded.client)


def _quoted(model_id: str) -> str:
    return model_id.replace(":", "%3A")
