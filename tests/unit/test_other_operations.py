"""
What requests of guardrails, agents and knowledge bases are read as, the odd ones too, and what traces tell.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bounds import most_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.hooks.calls import model_id_in
from bedrock_guard.meters.guardrail_bounds import text_units
from bedrock_guard.operations import METERED, Operation, Reply
from bedrock_guard.operations.agent_traces import TraceReader
from bedrock_guard.operations.agents import INVOKE_AGENT

SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
OTHERS = {key: each for key, each in METERED.items() if key[1] not in ("Converse", "InvokeModel")}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "content",
    "messages",
    "checks",
    "agentId",
    "enableTrace",
    "foundationModel",
    "bedrockModelConfigurations",
    "retrieveAndGenerateConfiguration",
    "retrievalQuery",
    "retrievalConfiguration",
    "rerankingConfiguration",
    "sources",
    "queries",
    "flowIdentifier",
    "guardrailIdentifier",
]


@pytest.mark.parametrize("key", OTHERS, ids=":".join)
@settings(max_examples=60, deadline=None)
@given(params=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5), body=st.binary(max_size=20))
def test_no_request_and_no_reply_raises(key: tuple[str, str], params: dict[str, Any], body: bytes) -> None:
    """
    What AWS will reject, AWS rejects; an exception of ours would be another program's.
    """
    operation: Operation = OTHERS[key]

    call = operation.read_call(params, region="us-east-1")
    operation.read_call(
        operation.read_wire(model_id="m", headers={}, body=body), region="us-east-1", model=None
    )
    operation.read_usage(Reply(params, content=body), call)
    operation.read_body(body, Reply(params), call)
    reader = operation.open_stream_reader(call)
    reader.feed({}, body)
    reader.feed({}, json.dumps({"trace": {"modelInvocationOutput": str(params)}}).encode())

    assert all(quantity >= 0 for usage in most_of(call, ModelLimits()) for quantity in usage.values())


@pytest.mark.parametrize(
    ("content", "units", "images"),
    [
        ([{"text": {"text": ""}}], 0, 0),
        ([{"text": {"text": "x" * 1000}}], 1, 0),
        ([{"text": {"text": "x" * 1001}}], 2, 0),
        ([{"text": {"text": "x"}}, {"text": {"text": "y"}}], 2, 0),
        ([{"text": {"text": "\N{GRINNING FACE}" * 501}}], 2, 0),
        ([{"image": {"format": "png", "source": {"bytes": b"p"}}}], 0, 1),
        (None, 1000, 0),
        ([{"video": {}}], 1000, 0),
        ([{"text": {"text": 5}}], 1000, 0),
    ],
)
def test_a_guardrail_is_bounded_by_what_it_is_shown(content: object, units: int, images: int) -> None:
    """
    A thousand characters a unit, each block by itself; what cannot be read is as long as AWS takes.
    """
    call = METERED["bedrock-runtime", "ApplyGuardrail"].read_call({"content": content}, region="us-east-1")

    assert call.size.beside_tokens.get("guardrail_topic_policy_units", 0) == units
    assert call.size.beside_tokens.get("guardrail_automated_reasoning_policy_units", 0) == 2 * units
    assert call.size.beside_tokens.get("guardrail_content_policy_image_units", 0) == images


@given(st.text(max_size=3000))
def test_text_units_are_never_low(text: str) -> None:
    """
    By whichever of its characters AWS counts: code points, or what Java calls one.
    """
    assert text_units(text) * 1000 >= len(text)


def test_units_that_older_botocore_drops_are_read_from_the_body() -> None:
    """
    Which policies a guardrail has does not depend on who calls it.
    """
    operation = METERED["bedrock-runtime", "ApplyGuardrail"]
    call = operation.read_call({"content": [{"text": {"text": "x"}}]}, region="us-east-1")
    parsed = {"usage": {"topicPolicyUnits": 1}}
    body = b'{"usage": {"topicPolicyUnits": 1, "automatedReasoningPolicyUnits": 2}}'

    whole, known = (operation.read_usage(Reply(parsed, content=raw), call) for raw in (body, None))

    assert whole is not None
    assert known is not None
    assert whole.usage == {**known.usage, "guardrail_automated_reasoning_policy_units": 2}


def test_checks_that_cannot_be_told_are_all_of_them() -> None:
    """
    A new check has a price, too.
    """
    operation = METERED["bedrock-runtime", "InvokeGuardrailChecks"]
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    one = operation.read_call({"messages": messages, "checks": {"contentFilter": {}}}, region="us-east-1")
    odd = operation.read_call({"messages": messages, "checks": {"tone": {}}}, region="us-east-1")

    assert one.size.beside_tokens == {"guardrail_checks_content_filter_units": 1}
    assert len(odd.size.beside_tokens) == 3


def traced(*traces: dict[str, Any], is_whole: bool = True, agent: str = "A") -> TraceReader:
    call: Call = INVOKE_AGENT.read_call({"agentId": agent, "enableTrace": True}, region="us-east-1")
    reader = TraceReader(call, is_whole=is_whole)
    for trace in traces:
        reader.feed({}, json.dumps({"trace": trace}).encode())
    return reader


def asked(trace_id: str, model: str | None = SONNET) -> dict[str, Any]:
    named = {} if model is None else {"foundationModel": model}
    return {"orchestrationTrace": {"modelInvocationInput": {"traceId": trace_id, **named}}}


def answered(trace_id: str, tokens: int | None = 10, kind: str = "orchestrationTrace") -> dict[str, Any]:
    usage = {} if tokens is None else {"usage": {"inputTokens": tokens, "outputTokens": tokens}}
    return {kind: {"modelInvocationOutput": {"traceId": trace_id, "metadata": usage}}}


@pytest.mark.parametrize("kind", ["preProcessingTrace", "postProcessingTrace", "routingClassifierTrace"])
def test_model_calls_of_every_step_count(kind: str) -> None:
    """
    What goes before and after the answer is billed like it.
    """
    reader = traced(asked("1"), answered("1"), asked("2"), answered("2", 5, kind))

    assert reader.spent.usage == {"input_tokens": 15, "output_tokens": 15}


def test_a_model_call_that_is_told_twice_counts_once() -> None:
    """
    A trace that is sent again was not paid for again; of two counts of it the larger was.
    """
    reader = traced(asked("1"), answered("1"), answered("1"))

    assert (reader.told, reader.spent.usage["input_tokens"]) == (1, 10)

    reader = traced(asked("1"), answered("1"), answered("1", 12), answered("1", 3))

    assert (reader.told, reader.spent.usage["input_tokens"]) == (2, 12)


def test_each_model_is_a_part() -> None:
    """
    Each has a price of its own; a part that names none has the agent's.
    """
    reader = traced(asked("1"), answered("1"), asked("2", "amazon.nova-lite-v1:0"), answered("2", 5))

    parts = {part.model_id: dict(part.usage) for part in reader.spent.parts}
    assert parts == {
        SONNET: {"input_tokens": 10, "output_tokens": 10},
        "amazon.nova-lite-v1:0": {"input_tokens": 5, "output_tokens": 5},
    }


@pytest.mark.parametrize(
    "traces",
    [
        (),  # the reply was asked for traces, and has none
        (asked("1"), answered("1", None)),
        (asked("1"), answered("1"), asked("2")),
        (asked("1", None), answered("1")),
    ],
)
def test_a_stream_that_does_not_tell_all_has_no_report(traces: tuple[dict[str, Any], ...]) -> None:
    """
    What is not told is not free.
    """
    assert traced(*traces).at_end() is None


def test_an_agent_that_called_no_model_used_nothing() -> None:
    """
    It gave control back, or its guardrail blocked: a trace says so.
    """
    report = traced({"guardrailTrace": {"action": "INTERVENED"}}).at_end()

    assert isinstance(report, UsageReport)
    assert report.usage == {}


def test_a_flow_has_no_report_though_its_agents_tell() -> None:
    """
    Its other models do not.
    """
    assert traced(asked("1"), answered("1"), is_whole=False).at_end() is None


@pytest.mark.parametrize(
    ("url", "id_"),
    [
        ("https://host/model/us.anthropic.claude/converse", "us.anthropic.claude"),
        ("https://host/model/arn%3Aaws%3Abedrock/invoke", "arn:aws:bedrock"),
        ("https://host/guardrail/gr1/version/1/apply", "gr1"),
        ("https://host/agents/A1/agentAliases/B/sessions/s/text", "A1"),
        ("https://host/flows/F1/aliases/B", "F1"),
        ("https://host/knowledgebases/K1/retrieve", "K1"),
        ("https://host/", ""),
    ],
)
def test_a_url_tells_whom_it_is_addressed_to(url: str, id_: str) -> None:
    """
    A request that another tool changed is read off the wire, and must count in the same budgets.
    """
    assert model_id_in(url) == id_


def test_an_agent_s_model_is_the_one_that_is_named() -> None:
    """
    By the request of an inline agent, by the settings of another.
    """
    inline = METERED["bedrock-agent-runtime", "InvokeInlineAgent"].read_call(
        {"foundationModel": SONNET, "enableTrace": True}, region="us-east-1"
    )
    named = INVOKE_AGENT.read_call(
        {"agentId": "A", "enableTrace": True}, region="us-east-1", model=parse_model_id(SONNET)
    )

    assert inline.model.model == named.model.model == SONNET
    assert inline.has_bound
    assert named.has_bound


@pytest.mark.parametrize(
    ("fields", "limit", "answers"),
    [
        ({"max_tokens": 64_000}, 64_000, 1),
        ({"max_tokens": 10}, 1_000, 1),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, 32_000, 1),
        ({"max_tokens": "many", "n": 3}, None, 3),
        ({"top_k": 5}, 1_000, 1),
        ("odd", 1_000, 1),
    ],
)
def test_fields_of_a_maker_s_own_count_behind_a_knowledge_base(
    fields: object, limit: int | None, answers: int
) -> None:
    """
    No reply tells how long the answer was, so that what was held for it is what is charged.
    """
    stated = {"inferenceConfig": {"textInferenceConfig": {"maxTokens": 1_000}}}
    base = {
        "modelArn": SONNET,
        "generationConfiguration": {**stated, "additionalModelRequestFields": fields},
        "orchestrationConfiguration": stated,
    }
    call = METERED["bedrock-agent-runtime", "RetrieveAndGenerate"].read_call(
        {"retrieveAndGenerateConfiguration": {"knowledgeBaseConfiguration": base}}, region="us-east-1"
    )

    assert (call.size.output_limit, call.size.candidates) == (limit, answers)


TEXT_SOURCE = {
    "type": "INLINE",
    "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "x" * 4_000}},
}
JSON_SOURCE = {"type": "INLINE", "inlineDocumentSource": {"type": "JSON", "jsonDocument": {"a": "x" * 4_000}}}


@pytest.mark.parametrize(
    ("params", "queries"),
    [
        ({"sources": [TEXT_SOURCE] * 100}, 9),
        ({"sources": [JSON_SOURCE] * 100}, 9),
        ({"sources": [{"type": "NEW", "words": ["x" * 4_000]}] * 100}, 9),
        ({"sources": [None]}, 1),
        ({"sources": [TEXT_SOURCE], "queries": [{"type": "TEXT", "textQuery": {"text": "?"}}] * 3}, 3),
        ({"sources": None}, 10),
        ({}, 10),
    ],
)
def test_a_long_document_is_reranked_as_several(params: dict[str, Any], queries: int) -> None:
    """
    AWS counts documents of 500 tokens, by Rerank as by InvokeModel.
    """
    asked = {"queries": [{"type": "TEXT", "textQuery": {"text": "what is it?"}}], **params}
    call = METERED["bedrock-agent-runtime", "Rerank"].read_call(asked, region="us-east-1")

    assert call.size.beside_tokens == {"queries": queries}


@pytest.mark.parametrize(("results", "queries"), [(None, 2), (1, 1), (100, 35), ("many", 35)])
def test_passages_that_are_reranked_may_be_long(results: object, queries: int) -> None:
    """
    How long they are is not in the request.
    """
    model = {"modelConfiguration": {"modelArn": "amazon.rerank-v1:0"}}
    search = {
        "numberOfResults": results,
        "rerankingConfiguration": {"bedrockRerankingConfiguration": model},
    }
    call = METERED["bedrock-agent-runtime", "Retrieve"].read_call(
        {"retrievalConfiguration": {"vectorSearchConfiguration": search}}, region="us-east-1"
    )

    assert call.spent is not None
    assert call.spent.usage == {"queries": queries}


def test_sources_that_the_request_holds_are_read_once() -> None:
    """
    Only a knowledge base has its question put anew; its limits are those of both prompts.
    """
    operation = METERED["bedrock-agent-runtime", "RetrieveAndGenerate"]
    limit = {"inferenceConfig": {"textInferenceConfig": {"maxTokens": 10}}}

    def read(name: str, **stages: Any) -> Call:
        asked = {name: {"modelArn": SONNET, **stages}}
        return operation.read_call({"retrieveAndGenerateConfiguration": asked}, region="us-east-1")

    own = read("externalSourcesConfiguration", generationConfiguration=limit)
    half = read("knowledgeBaseConfiguration", generationConfiguration=limit)
    both = read("knowledgeBaseConfiguration", generationConfiguration=limit, orchestrationConfiguration=limit)

    assert (own.times, own.size.output_limit) == (1, 10)
    assert (half.times, half.size.output_limit) == (2, None)
    assert (both.times, both.size.output_limit) == (2, 10)


@pytest.mark.parametrize(
    "search",
    [{"implicitFilterConfiguration": {"modelArn": SONNET}}, {"rerankingModelType": "MANAGED"}],
)
@pytest.mark.parametrize("name", ["Retrieve", "RetrieveAndGenerate"])
def test_models_that_nobody_can_bound_take_a_flat_price(name: str, search: dict[str, Any]) -> None:
    """
    A filter that a model writes, and a reranker that AWS chooses, are told nowhere.
    """
    retrieval = {"managedSearchConfiguration": search}
    base = {"knowledgeBaseConfiguration": {"modelArn": SONNET, "retrievalConfiguration": retrieval}}
    call = METERED["bedrock-agent-runtime", name].read_call(
        {"retrievalConfiguration": retrieval, "retrieveAndGenerateConfiguration": base},
        region="us-east-1",
        model=parse_model_id(SONNET),
    )

    assert not call.has_bound
