"""
The guard under and over what else lives on a client.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from botocore.stub import Stubber

from bedrock_guard import BudgetExceeded, Guard, guard, guarded_client, guarded_session, unguard
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, NOVA, SONNET, Guarded

STUBBED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1_000, "outputTokens": 10, "totalTokens": 1_010},
    "metrics": {"latencyMs": 1},
}


def test_the_guard_sees_a_stubbed_call(guarded: Guarded) -> None:
    """
    A Stubber answers inside `before-call`; a guard that came later would be bypassed.
    """
    with Stubber(guarded.client) as stubber:
        stubber.add_response("converse", STUBBED)
        guarded.client.converse(**HELLO)

    assert guarded.entry.usage == {"input_tokens": 1_000, "output_tokens": 10}
    assert guarded.entry.cost == Decimal("0.003465")
    assert guarded.pending == [0]


def test_a_stubbed_call_is_refused_too(make_guarded: Callable[..., Guarded]) -> None:
    """
    Users test their refusal paths with a Stubber.
    """
    guarded = make_guarded("0.001 USD")
    with Stubber(guarded.client) as stubber:
        stubber.add_response("converse", STUBBED)
        with pytest.raises(BudgetExceeded):
            guarded.client.converse(**HELLO)


def test_a_stubbed_error_is_free(guarded: Guarded) -> None:
    """
    A short-circuited 4xx comes through `after-call` like a real one.
    """
    with Stubber(guarded.client) as stubber:
        stubber.add_client_error("converse", "ThrottlingException", http_status_code=429)
        with pytest.raises(guarded.client.exceptions.ThrottlingException):
            guarded.client.converse(**HELLO)

    assert (guarded.entry.outcome, guarded.spent_nanousd, guarded.pending) == ("rejected", 0, [0])


def raise_max_tokens(params: dict[str, Any], **_: Any) -> None:
    body = json.loads(params["body"])
    body["inferenceConfig"]["maxTokens"] = 64_000
    params["body"] = json.dumps(body).encode()


def test_a_handler_that_raises_max_tokens_after_the_guard_is_bounded_again(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    What leaves is what counts, not what the caller wrote.
    """
    guarded = make_guarded("5 USD")
    guarded.client.meta.events.register("before-call.bedrock-runtime.Converse", raise_max_tokens)

    guarded.client.converse(**HELLO)

    # 64,000 x 16.50 USD a million is 1.056 USD
    assert guarded.entry.estimated_cost > Decimal("1.056")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd
    assert guarded.pending == [0]


def test_a_handler_that_raises_max_tokens_beyond_the_budget_is_refused(
    make_guarded: Callable[..., Guarded],
) -> None:
    """
    The hold of the smaller request must be given back, too.
    """
    guarded = make_guarded("1 USD")
    guarded.client.meta.events.register("before-call.bedrock-runtime.Converse", raise_max_tokens)

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**HELLO)

    assert guarded.server.requests == ()
    assert (guarded.spent_nanousd, guarded.pending) == (0, [0])


def test_a_handler_that_swaps_the_model_is_priced_at_the_new_one(guarded: Guarded) -> None:
    """
    The model is in the URL; the body stays as it was.
    """

    def swap(params: dict[str, Any], **_: Any) -> None:
        params["url"] = params["url"].replace("amazon.nova-lite-v1%3A0", SONNET.replace(":", "%3A"))

    guarded.client.meta.events.register("before-call.bedrock-runtime.Converse", swap)

    guarded.client.converse(**{**HELLO, "modelId": NOVA})

    assert guarded.server.requests[-1].model_id == SONNET
    assert guarded.entry.model_id == SONNET
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_a_handler_that_raises_ends_the_hold(guarded: Guarded) -> None:
    """
    No event fires when another tool's handler raises before the call is sent.
    """

    def fail(**_: Any) -> None:
        raise RuntimeError("another tool")

    guarded.client.meta.events.register_last("before-call.bedrock-runtime.Converse", fail)

    with pytest.raises(RuntimeError, match="another tool"):
        guarded.client.converse(**HELLO)

    assert (guarded.entry.outcome, guarded.spent_nanousd, guarded.pending) == ("not_sent", 0, [0])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_after_sending_is_charged(guarded: Guarded, interrupt: type[BaseException]) -> None:
    """
    Botocore fires no event for it, and the model goes on.
    """

    def stop(**_: Any) -> None:
        raise interrupt

    guarded.client.meta.events.register("before-parse.bedrock-runtime.Converse", stop)
    guarded.client.meta.events.register("response-received.bedrock-runtime.Converse", stop)

    with pytest.raises(interrupt):
        guarded.client.converse(**HELLO)

    assert guarded.pending == [0]
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd > 0


def test_no_credentials_costs_nothing(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The call was reserved, and never left.
    """

    def fail(**_: Any) -> None:
        from botocore.exceptions import NoCredentialsError

        raise NoCredentialsError

    guarded.client.meta.events.register("before-sign.bedrock-runtime.Converse", fail)

    with pytest.raises(Exception, match="credentials"):
        guarded.client.converse(**HELLO)

    assert (guarded.entry.outcome, guarded.spent_nanousd, guarded.pending) == ("not_sent", 0, [0])


def test_a_server_that_is_not_there_costs_nothing(make_guarded: Callable[..., Guarded]) -> None:
    """
    Connection refused: three attempts, none of which left.
    """
    guarded = make_guarded(config={"connect_timeout": 1})
    guarded.server.stop()

    with pytest.raises(Exception, match="Could not connect"):
        guarded.client.converse(**HELLO)

    assert guarded.entry.outcome == "not_sent"
    assert {attempt.outcome for attempt in guarded.entry.attempts} == {"not_sent"}
    assert guarded.pending == [0]


def test_a_presigned_url_reserves_nothing(guarded: Guarded) -> None:
    """
    It sends nothing, and its events look like the start of a call.
    """
    assert guarded.client.generate_presigned_url("invoke_model", Params={"modelId": NOVA, "body": "{}"})

    assert guarded.pending == [0]


def test_motos_invoke_model_is_settled_as_estimated(make_guarded: Callable[..., Guarded]) -> None:
    """
    Moto answers `{}` without usage; a test suite on moto must see the money move all the same.
    """
    moto = pytest.importorskip("moto")
    import boto3

    with moto.mock_aws():
        guard = Guard(budget="5 USD", ledger="memory://")
        client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1"))
        body = json.dumps({"max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]})
        client.invoke_model(modelId=SONNET, body=body)["body"].read()

    entry = next(guard.entries())
    assert entry.basis == "estimated"
    assert entry.cost == entry.estimated_cost > 0


@pytest.mark.parametrize("instrument", ["before", "after"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opentelemetry_works_under_and_over(
    server: BedrockServer, make_client: Callable[..., Any], instrument: str
) -> None:
    """
    It patches `_make_api_call` and wraps streams; both must still see every call.
    """
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    guard = Guard(budget="5 USD", ledger="memory://")
    if instrument == "after":
        client = guard.attach(make_client())
    BotocoreInstrumentor().instrument(tracer_provider=provider)
    try:
        if instrument == "before":
            client = guard.attach(make_client())
        client.converse(**HELLO)
        events = list(client.converse_stream(**HELLO)["stream"])
    finally:
        BotocoreInstrumentor().uninstrument()

    assert "metadata" in events[-1]
    assert len(exporter.get_finished_spans()) == 2
    assert [entry.basis for entry in guard.entries()] == ["reported", "reported"]
    assert guard.status()[0].spent * 10**9 == server.bill.nanousd


def test_a_method_bound_or_patched_earlier_is_guarded(
    make_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Instructor binds `client.converse` when it is built, before anyone could guard it.
    """
    client = make_client()
    bound = client.converse
    guarding = Guard(budget="0 USD", ledger="memory://")
    guarding.attach(client)

    with pytest.raises(BudgetExceeded):
        bound(**HELLO)


def test_the_same_guard_twice_is_once(guarded: Guarded) -> None:
    """
    A framework and a program may both attach it.
    """
    guarded.guard.attach(guarded.client)

    guarded.client.converse(**HELLO)

    assert len(list(guarded.guard.entries())) == 1


def test_guards_stack_and_all_must_admit(make_client: Callable[..., Any], server: BedrockServer) -> None:
    """
    A later refusal gives back what the earlier guards held.
    """
    roomy, tight = Guard(budget="5 USD", ledger="memory://"), Guard(budget="0 USD", ledger="memory://")
    client = tight.attach(roomy.attach(make_client()))

    with pytest.raises(BudgetExceeded):
        client.converse(**HELLO)

    assert roomy.status()[0].pending == 0
    assert next(roomy.entries()).outcome == "not_sent"
    assert Guard.of(client) is roomy
    tight.detach(client)
    client.converse(**HELLO)
    assert roomy.status()[0].spent * 10**9 == server.bill.nanousd


def test_guarding_again_is_once_and_with_other_budgets_an_error(make_client: Callable[..., Any]) -> None:
    """
    Two limits of which one is forgotten would be a surprise either way.
    """
    client = make_client()

    assert guard(client, budget="5 USD", ledger="memory://") is client
    assert guard(client, budget="5 USD", ledger="memory://") is client
    with pytest.raises(ConfigurationError, match=r"already guarded, by default \(5 USD\)"):
        guard(client, budget="6 USD", ledger="memory://")


def test_unguard_gives_back_the_bare_client(make_client: Callable[..., Any]) -> None:
    """
    Nothing of ours may stay behind.
    """
    client = make_client()
    made_by_boto3, attributes = type(client), set(vars(client))

    unguard(guard(client, budget="0 USD", ledger="memory://"))

    assert (type(client), set(vars(client))) == (made_by_boto3, attributes)
    assert client.converse(**HELLO)["usage"]
    assert Guard.of(client) is None


def test_the_type_of_a_client_looks_as_ever(guarded: Guarded) -> None:
    """
    Frameworks check types and print names.
    """
    from botocore.client import BaseClient

    assert isinstance(guarded.client, BaseClient)
    assert type(guarded.client).__name__ == "BedrockRuntime"
    assert type(guarded.client).__module__ == "botocore.client"


@pytest.mark.parametrize("thing", [object(), None, "client"])
def test_what_is_no_client_is_refused(thing: object) -> None:
    """
    A session passed by mistake must not look guarded.
    """
    with pytest.raises(ConfigurationError, match="no boto3 or botocore client"):
        Guard(budget="5 USD", ledger="memory://").attach(thing)


def test_a_client_of_another_service_is_refused_by_name() -> None:
    """
    A guarded S3 client would count nothing and say nothing.
    """
    with pytest.raises(ConfigurationError, match="'s3'"):
        guarded_client("s3", region_name="us-east-1", budget="5 USD", ledger="memory://")


def test_guard_and_budget_together_are_refused() -> None:
    """
    One of the two would have to be ignored.
    """
    shared = Guard(budget="5 USD", ledger="memory://")

    with pytest.raises(ConfigurationError, match="guard= and budget="):
        guarded_client(guard=shared, budget="6 USD", region_name="us-east-1")


def test_clients_can_share_one_guard(server: BedrockServer) -> None:
    """
    `memory://` is private to its guard, so sharing is by passing the guard, or a session.
    """
    import boto3

    shared = Guard(budget="5 USD", ledger="memory://")
    session = boto3.Session(region_name="us-east-1")
    clients = [
        guarded_client(guard=shared, session=session, endpoint_url=server.url),
        shared.client(region_name="us-east-1", endpoint_url=server.url),
    ]

    for client in clients:
        client.converse(**HELLO)

    assert len(list(shared.entries())) == 2
    assert shared.status()[0].spent * 10**9 == server.bill.nanousd


def test_a_guarded_sessions_later_clients_are_guarded(server: BedrockServer) -> None:
    """
    Strands takes a session and makes its own client; other services stay as they are.
    """
    session = guarded_session(budget="0 USD", ledger="memory://")
    client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url)

    with pytest.raises(BudgetExceeded):
        client.converse(**HELLO)

    assert session.client("s3", region_name="us-east-1").meta.service_model.service_name == "s3"
    assert Guard.of(session.client("sts", region_name="us-east-1")) is None
