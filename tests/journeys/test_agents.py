"""
Agents, flows and knowledge bases over real sockets: traced, flat, held for step by step, and cut short.

The loopback agent runs its model three times: 800 tokens of instructions and the question, and what it wrote so
far, are before each answer of 200 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from botocore.config import Config
from botocore_versions import IS_NEWEST, needs_newer_model

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.errors import Stopped, UnmeteredOperation, UnpricedModel
from bedrock_guard.hooks import cutoff
from bedrock_guard.testing.bedrock_server import BedrockServer, cut_stream

# Of 6 and 30 USD a million, and 0.06 and 0.24; 1 USD a thousand queries.
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
HELPER = "amazon.nova-lite-v1:0"
RERANKER = "amazon.rerank-v1:0"
EMBEDDER = "amazon.titan-embed-text-v2:0"
RATES = {
    MODEL: {"input_tokens": "0.000006", "output_tokens": "0.00003"},
    HELPER: {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
    RERANKER: {"queries": "0.001"},
    "KB12345678": {"input_tokens": "0.00000002"},
}
ASKED = {"agentId": "AGENT", "agentAliasId": "ALIAS", "sessionId": "s1", "inputText": "what is it?"}
INLINE = {
    "foundationModel": MODEL,
    "instruction": "Answer. " * 6,
    "sessionId": "s1",
    "inputText": "what is it?",
}
FLOW: dict[str, Any] = {
    "flowIdentifier": "FLOW",
    "flowAliasIdentifier": "ALIAS",
    "inputs": [{"nodeName": "in", "nodeOutputName": "document", "content": {"document": "what is it?"}}],
}
# The three steps of either agent, in tokens: 803 + 1,003 + 1,203 and 3 x 200.
STEPS_NANOUSD = 3_009 * 6_000 + 600 * 30_000
MODELS = {"agent/AGENT": MODEL}


def flat(operation: str, price: str) -> dict[str, str]:
    return {f"bedrock-agent-runtime:{operation}": price}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        yield running


@pytest.fixture
def make(server: BedrockServer) -> Iterator[Callable[..., tuple[Any, Guard]]]:
    guards: list[Guard] = []

    def make_one(budget: str = "500 USD", **settings: Any) -> tuple[Any, Guard]:
        limits = {} if "budgets" in settings else {"budget": budget}
        guard = Guard(**{"ledger": "memory://", **limits, **settings})
        guards.append(guard)
        config = Config(retries={"total_max_attempts": 1}, read_timeout=5)
        client = guard.client(
            "bedrock-agent-runtime", region_name="us-east-1", endpoint_url=server.url, config=config
        )
        return client, guard

    yield make_one
    for guard in guards:
        guard.close()


def spent_nanousd(guard: Guard) -> int:
    return sum(int(row.spent * 10**9) for row in guard.status())


def is_at_rest(guard: Guard) -> bool:
    return all(row.pending == 0 for row in guard.status())


@pytest.mark.parametrize("settings", [{"models": MODELS}, {"flat_prices": flat("InvokeAgent", "0.50 USD")}])
def test_a_traced_agent_is_settled_at_what_its_models_used(
    settings: dict[str, Any], make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    Each model call once, whichever way it was held for; the sum that a trace repeats is no other.
    """
    client, guard = make(**settings)

    list(client.invoke_agent(**ASKED, enableTrace=True)["completion"])

    (entry,) = guard.entries()
    assert spent_nanousd(guard) == server.bill.nanousd == STEPS_NANOUSD
    assert (entry.outcome, entry.basis, entry.priced) == ("answered", "reported", "list")
    assert entry.anomalies == ()  # nothing bounds how often a model is called
    assert entry.usage == {"input_tokens": 3_009, "output_tokens": 600}
    assert is_at_rest(guard)


@needs_newer_model
def test_a_traced_inline_agent_names_its_model_itself(
    make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    So that no setting is needed.
    """
    client, guard = make()

    list(client.invoke_inline_agent(**INLINE, enableTrace=True)["completion"])

    assert spent_nanousd(guard) == server.bill.nanousd == STEPS_NANOUSD
    assert next(guard.entries()).model == MODEL


@needs_newer_model
def test_what_a_request_s_own_guardrail_bills_is_in_no_trace(
    make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    So it must not be 0: a flat price says what all of it may come to.
    """
    asked = {
        **INLINE,
        "enableTrace": True,
        "guardrailConfiguration": {"guardrailIdentifier": "g1", "guardrailVersion": "1"},
    }
    with pytest.raises(UnmeteredOperation, match="flat_prices"):
        make()[0].invoke_inline_agent(**asked)

    client, guard = make(flat_prices=flat("InvokeInlineAgent", "0.50 USD"))
    list(client.invoke_inline_agent(**asked)["completion"])

    assert spent_nanousd(guard) == 500_000_000 > STEPS_NANOUSD
    assert is_at_rest(guard)


def test_each_model_behind_an_agent_has_its_own_price(
    make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    A helper at a fiftieth of the price must not be charged as the other.
    """
    client, guard = make(models={"agent/MIXED": MODEL})

    list(client.invoke_agent(**{**ASKED, "agentId": "MIXED"}, enableTrace=True)["completion"])

    assert spent_nanousd(guard) == server.bill.nanousd
    assert server.bill.lines[HELPER, "output_tokens"] == 200


def test_own_prices_hold_behind_an_agent(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    A private offer is not lost on the way through an agent.
    """
    client, guard = make(models=MODELS, prices={"anthropic.*": {"*": "-50 %"}})

    list(client.invoke_agent(**ASKED, enableTrace=True)["completion"])

    (entry,) = guard.entries()
    assert spent_nanousd(guard) == STEPS_NANOUSD // 2
    assert int((entry.list_cost or 0) * 10**9) == STEPS_NANOUSD


@pytest.mark.parametrize("change", [{}, {"enableTrace": True}])
def test_an_agent_that_cannot_be_bounded_is_refused(
    change: dict[str, Any], make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    Neither the request nor the reply tells what its models use, or which they are.
    """
    client, guard = make()

    with pytest.raises(UnmeteredOperation, match="every model call behind it") as caught:
        client.invoke_agent(**ASKED, **change)

    assert 'flat_prices = { "bedrock-agent-runtime:InvokeAgent" = ' in str(caught.value)
    assert "enableTrace=True" in str(caught.value)
    assert server.requests == ()
    assert list(guard.entries()) == []


def test_an_untraced_agent_is_charged_its_flat_price(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    At the answer, read or not, for nothing more will be told.
    """
    client, guard = make("1 USD", flat_prices=flat("InvokeAgent", "0.40 USD"))

    client.invoke_agent(**ASKED)
    client.invoke_agent(**ASKED)
    with pytest.raises(BudgetExceeded):
        client.invoke_agent(**ASKED)

    assert spent_nanousd(guard) == 800_000_000
    assert is_at_rest(guard)


def test_an_agent_that_passes_its_flat_price_holds_more(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    The first step is 10,818,000 nano-dollars, and the flat price is less: from then on, what is used is held.
    """
    client, guard = make(flat_prices=flat("InvokeAgent", "0.001 USD"))
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]

    held = [int(guard.status()[0].pending * 10**9) for _ in stream]

    steps = [(803 + 200 * step) * 6_000 + 200 * 30_000 for step in range(3)]
    sums = [sum(steps[: step + 1]) for step in range(3)]
    # Model calls are told in pairs; then the sum, and the answer.
    assert held[:6] == [1_000_000, sums[0], sums[0], sums[1], sums[1], sums[2]]
    assert spent_nanousd(guard) == STEPS_NANOUSD


@pytest.mark.parametrize("ledger", ["memory://", "sqlite"])
def test_an_agent_whose_budget_is_used_up_is_closed(
    ledger: str, make: Callable[..., tuple[Any, Guard]], tmp_path: Any
) -> None:
    """
    It goes on as long as it is let; what it has used is charged, and its reader is told why.
    """
    url = ledger if ledger != "sqlite" else f"sqlite:///{tmp_path}/ledger.db"
    client, guard = make("0.024 USD", ledger=url, flat_prices=flat("InvokeAgent", "0.001 USD"))
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]

    with pytest.raises(BudgetExceeded):
        list(stream)

    entries = {entry.outcome: entry for entry in guard.entries()}
    assert entries["abandoned"].basis == "estimated"
    # The third step passed the limit, and was used when it was told of.
    assert spent_nanousd(guard) == STEPS_NANOUSD
    assert is_at_rest(guard)
    with pytest.raises(AttributeError):  # as any stream that was closed
        next(iter(stream))


def test_a_hold_by_steps_covers_the_next_step(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    Where the model is known, one more call of it is always held: the window, and all that it can write.
    """
    client, guard = make(models=MODELS)
    one_call = 200_000 * 6_000 + 8_192 * 30_000
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]

    held = [int(guard.status()[0].pending * 10**9) for _ in stream]

    assert held[0] == one_call
    assert held[1] == one_call + 803 * 6_000 + 200 * 30_000
    assert spent_nanousd(guard) == STEPS_NANOUSD


def test_an_agent_that_is_held_for_a_step_ahead_stays_in_its_budget(
    make: Callable[..., tuple[Any, Guard]],
) -> None:
    """
    Before a step that may not fit it is closed, not after.
    """
    one_call = 200_000 * 6_000 + 8_192 * 30_000
    client, guard = make("1.46 USD", models=MODELS)

    with pytest.raises(BudgetExceeded) as caught:
        list(client.invoke_agent(**ASKED, enableTrace=True)["completion"])

    assert caught.value.operation == "InvokeAgent"
    assert spent_nanousd(guard) <= 1_460_000_000
    assert (
        spent_nanousd(guard) == one_call + 803 * 6_000 + 200 * 30_000
    )  # as it was held, after the first step


@pytest.mark.parametrize("leave", ["close", "drop", "cut"])
def test_an_agent_that_is_left_is_charged_no_less_than_it_used(
    leave: str, make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    AWS may go on with it: what was held when it was left is charged.
    """
    client, guard = make(models=MODELS)
    if leave == "cut":
        server.will_answer(cut_stream(after_events=3))
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]

    if leave == "cut":
        with pytest.raises(Exception):  # noqa: B017 - urllib3's own
            list(stream)
    else:
        events = iter(stream)
        for _ in range(3):
            next(events)
        if leave == "close":
            stream.close()
    del stream
    events = None

    (entry,) = guard.entries()
    assert entry.outcome in ("abandoned", "lost")
    assert spent_nanousd(guard) >= 200_000 * 6_000
    assert is_at_rest(guard)


def test_an_agent_is_held_for_where_it_was_called(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    Who reads its stream may have left the scope, or the day, in which it was let through.
    """
    now = [1_780_000_000.0]
    budgets = [Budget("user", "500 USD/day", per="user")]
    settings = {"clock": lambda: now[0], "flat_prices": flat("InvokeAgent", "0.001 USD")}
    client, guard = make(budgets=budgets, **settings)
    with scope(user="alice"):
        events = iter(client.invoke_agent(**ASKED, enableTrace=True)["completion"])
    now[0] += 86_400
    with scope(user="bob"):
        for _ in range(2):
            next(events)
    held = {dict(balance.key.per)["user"]: balance.pending for balance in guard.ledger.balances()}
    assert held == {"alice": (803 * 6_000 + 200 * 30_000)}

    list(events)

    spent = {dict(balance.key.per)["user"]: balance.spent for balance in guard.ledger.balances()}
    assert spent == {"alice": STEPS_NANOUSD}


def test_an_agent_that_is_stopped_is_closed(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    A stop is for what spends, and an agent does while it runs.
    """
    client, guard = make(flat_prices=flat("InvokeAgent", "0.001 USD"))
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]
    guard.stop(match={"operation": "InvokeAgent"}, reason="enough")

    with pytest.raises(Stopped):
        list(stream)

    assert spent_nanousd(guard) == 803 * 6_000 + 200 * 30_000
    assert is_at_rest(guard)


def test_an_agent_is_not_drained(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    To read it on would let it go on spending, and nobody holds for what it uses then.
    """
    client, guard = make(flat_prices=flat("InvokeAgent", "0.50 USD"), on_abandoned_stream="drain")
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]

    stream.close()

    assert next(guard.entries()).outcome == "abandoned"
    assert spent_nanousd(guard) == 500_000_000


def test_a_shadow_cuts_no_agent_short(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    It is tried out, and its reader gets the whole answer.
    """
    client, guard = make("0.002 USD", mode="shadow", flat_prices=flat("InvokeAgent", "0.001 USD"))

    events = list(client.invoke_agent(**ASKED, enableTrace=True)["completion"])

    assert "chunk" in events[-1]
    assert spent_nanousd(guard) == STEPS_NANOUSD


@needs_newer_model
def test_a_flow_is_charged_flat_and_what_is_traced_beyond(
    make: Callable[..., tuple[Any, Guard]],
) -> None:
    """
    Only agents in it are traced: the flat price is for the rest, and has room for them.
    """
    client, dear = make(flat_prices=flat("InvokeFlow", "0.50 USD"))
    list(client.invoke_flow(**FLOW, enableTrace=True)["responseStream"])
    client, cheap = make(flat_prices=flat("InvokeFlow", "0.01 USD"))
    list(client.invoke_flow(**FLOW, enableTrace=True)["responseStream"])
    client, untraced = make(flat_prices=flat("InvokeFlow", "0.01 USD"))
    list(client.invoke_flow(**FLOW)["responseStream"])

    assert spent_nanousd(dear) == 500_000_000
    steps = 6_000 * 3_009 - 3 * 3 * 6_000 + 600 * 30_000  # no inputText: 800 tokens before the first
    assert spent_nanousd(cheap) == steps
    assert spent_nanousd(untraced) == 10_000_000
    assert {next(guard.entries()).outcome for guard in (dear, cheap, untraced)} == {"answered"}


def generate(**base: Any) -> dict[str, Any]:
    configuration = {"knowledgeBaseId": "KB12345678", "modelArn": MODEL, **base}
    return {
        "input": {"text": "what is it?"},
        "retrieveAndGenerateConfiguration": {
            "type": "KNOWLEDGE_BASE",
            "knowledgeBaseConfiguration": configuration,
        },
    }


RERANKED = {
    "rerankingConfiguration": {
        "type": "BEDROCK_RERANKING_MODEL",
        "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": RERANKER}},
    }
}
LIMITED = {"inferenceConfig": {"textInferenceConfig": {"maxTokens": 1000}}}


def test_retrieve_and_generate_is_held_and_charged_at_two_full_windows(
    make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    The reply does not tell what was found, and what is found is what costs.
    """
    client, guard = make()

    client.retrieve_and_generate(**generate())

    (entry,) = guard.entries()
    assert spent_nanousd(guard) == 2 * (200_000 * 6_000 + 8_192 * 30_000)
    assert spent_nanousd(guard) >= server.bill.nanousd
    assert (entry.outcome, entry.basis, entry.model) == ("answered", "estimated", MODEL)
    assert entry.reported_usage is None


@needs_newer_model
def test_retrieve_and_generate_heeds_limits_rerankers_and_streams(
    make: Callable[..., tuple[Any, Guard]],
) -> None:
    """
    Both of its prompts have a limit, and what it found is put in order by another model.
    """
    client, guard = make()

    reply = client.retrieve_and_generate_stream(
        **generate(
            generationConfiguration=LIMITED,
            orchestrationConfiguration=LIMITED,
            retrievalConfiguration={"vectorSearchConfiguration": RERANKED},
        )
    )

    assert [list(event) for event in reply["stream"]] == [["output"]]
    assert spent_nanousd(guard) == 2 * (200_000 * 6_000 + 1_000 * 30_000) + 2 * 1_000_000


def test_a_refusal_says_nothing_of_a_limit_that_nobody_set(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    `maxTokens` is no parameter of agents, nor of what is behind a knowledge base.
    """
    client, _ = make("1 USD", models=MODELS)

    for call in (
        lambda: client.retrieve_and_generate(**generate()),
        lambda: client.invoke_agent(**ASKED, enableTrace=True),
    ):
        with pytest.raises(BudgetExceeded) as caught:
            call()
        assert "maxTokens" not in str(caught.value)


def test_a_flat_price_replaces_what_the_request_tells(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    Who has seen the bill knows better than two full windows.
    """
    client, guard = make(flat_prices=flat("RetrieveAndGenerate", "0.03 USD"))

    client.retrieve_and_generate(**generate())
    reranked = {"retrievalConfiguration": {"vectorSearchConfiguration": RERANKED}}
    client.retrieve_and_generate(**generate(**(reranked if IS_NEWEST else {})))

    assert spent_nanousd(guard) == 2 * 30_000_000  # and it has room for a reranker


def test_a_search_is_charged_the_embedding_of_its_question(
    make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    Where the settings say by which model; without, nobody knows.
    """
    asked = {"knowledgeBaseId": "KB12345678", "retrievalQuery": {"text": "what is it?"}}
    client, _ = make()
    with pytest.raises(UnmeteredOperation, match=r"\[models\]"):
        client.retrieve(**asked)
    client, guard = make(models={"knowledge-base/KB12345678": EMBEDDER})

    client.retrieve(**asked)

    assert 0 < server.bill.nanousd <= spent_nanousd(guard) < 10_000


def test_a_model_that_nobody_knows_has_no_price(make: Callable[..., tuple[Any, Guard]]) -> None:
    """
    As with any other call.
    """
    client, _ = make()

    with pytest.raises(UnpricedModel):
        client.retrieve_and_generate(**generate(modelArn="meta.llama9-70b-instruct-v1:0"))


@needs_newer_model
@pytest.mark.parametrize(("documents", "queries"), [(1, 1), (100, 1), (101, 2), (1000, 10)])
def test_rerank_is_charged_a_query_for_a_hundred_documents(
    documents: int, queries: int, make: Callable[..., tuple[Any, Guard]], server: BedrockServer
) -> None:
    """
    As AWS bills it, by the request alone.
    """
    client, guard = make()
    document = {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "x"}}}

    client.rerank(
        queries=[{"type": "TEXT", "textQuery": {"text": "what is it?"}}],
        sources=[document] * documents,
        rerankingConfiguration={
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": RERANKER}},
        },
    )

    assert spent_nanousd(guard) == server.bill.nanousd == queries * 1_000_000
    assert next(guard.entries()).usage == {"queries": queries}
    assert next(guard.entries()).cost == Decimal(queries) / 1000


def test_an_agent_whose_steps_all_fit_is_closed_by_a_stop_only_where_that_is_wanted(
    make: Callable[..., tuple[Any, Guard]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is charged what is held for it, or what it has used, if that is more.
    """
    monkeypatch.setattr(cutoff, "LOOK_EVERY_S", 0.0)
    client, guard = make(flat_prices=flat("InvokeAgent", "0.50 USD"), stream_cutoff="on_stop")
    stream = client.invoke_agent(**ASKED, enableTrace=True)["completion"]
    guard.stop(reason="enough")

    with pytest.raises(Stopped):
        list(stream)

    assert next(guard.entries(outcome="abandoned")).reason == "stopped"
    assert spent_nanousd(guard) == 500_000_000
    assert is_at_rest(guard)
