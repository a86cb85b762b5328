"""
A lower limit in a request: in every spelling, with thinking kept valid, and never a higher one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.domain.call import Call, ModelKind
from bedrock_guard.families import limits
from bedrock_guard.operations import OPERATIONS, Free
from bedrock_guard.operations.output_limit import OutputLimit, read_output_limit

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
ANSWER = 256


def call_of(operation: str, model_id: str, document: Any) -> Call:
    found = OPERATIONS["bedrock-runtime", operation]
    assert not isinstance(found, Free)
    body = json.dumps(document).encode()
    return found.read_call(found.read_wire(model_id=model_id, headers={}, body=body), region="us-east-1")


def read(operation: str, model_id: str, document: Any) -> OutputLimit | None:
    call = call_of(operation, model_id, document)
    return read_output_limit(call, json.dumps(document).encode(), answer=ANSWER)


def lowered(operation: str, model_id: str, document: Any, tokens: int) -> Any:
    how = read(operation, model_id, document)
    body = None if how is None else how.lowered(tokens)
    return None if body is None else json.loads(body)


SPELLINGS = [
    ("Converse", SONNET, {}, {"inferenceConfig": {"maxTokens": 500}}),
    (
        "ConverseStream",
        SONNET,
        {"inferenceConfig": {"topP": 1}},
        {"inferenceConfig": {"topP": 1, "maxTokens": 500}},
    ),
    ("Converse", SONNET, {"inferenceConfig": {"maxTokens": 900}}, {"inferenceConfig": {"maxTokens": 500}}),
    (
        "Converse",
        "openai.gpt-oss-120b-1:0",
        {"additionalModelRequestFields": {"max_completion_tokens": 900, "seed": 1}},
        {"additionalModelRequestFields": {"max_completion_tokens": 500, "seed": 1}},
    ),
    (
        "Converse",
        SONNET,
        {"inferenceConfig": {"maxTokens": 100}, "additionalModelRequestFields": {"max_tokens": 900}},
        {"inferenceConfig": {"maxTokens": 100}, "additionalModelRequestFields": {"max_tokens": 500}},
    ),
    ("InvokeModel", SONNET, {"max_tokens": 900}, {"max_tokens": 500}),
    ("InvokeModel", "anthropic.claude-v2:1", {"max_tokens_to_sample": 900}, {"max_tokens_to_sample": 500}),
    ("InvokeModel", "amazon.nova-lite-v1:0", {}, {"inferenceConfig": {"maxTokens": 500}}),
    (
        "InvokeModel",
        "amazon.nova-lite-v1:0",
        {"inferenceConfig": {"max_new_tokens": 900}},
        {"inferenceConfig": {"max_new_tokens": 500}},
    ),
    ("InvokeModel", "amazon.titan-text-express-v1", {}, {"textGenerationConfig": {"maxTokenCount": 500}}),
    ("InvokeModel", "meta.llama3-70b-instruct-v1:0", {}, {"max_gen_len": 500}),
    ("InvokeModel", "mistral.mistral-large-2407-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModel", "cohere.command-r-plus-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModel", "ai21.jamba-1-5-mini-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModel", "deepseek.r1-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModel", "openai.gpt-oss-120b-1:0", {}, {"max_completion_tokens": 500}),
    ("InvokeModel", "qwen.qwen3-32b-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModel", "writer.palmyra-x5-v1:0", {}, {"max_tokens": 500}),
    ("InvokeModelWithResponseStream", "qwen.qwen3-32b-v1:0", {"max_tokens": 900}, {"max_tokens": 500}),
    # Another family's spelling limits nothing, so the right one is put beside it.
    ("InvokeModel", "qwen.qwen3-32b-v1:0", {"maxTokens": 90}, {"maxTokens": 90, "max_tokens": 500}),
    (
        "Converse",
        "qwen.qwen3-32b-v1:0",
        {"additionalModelRequestFields": {"max_gen_len": 900}},
        {"additionalModelRequestFields": {"max_gen_len": 500}, "inferenceConfig": {"maxTokens": 500}},
    ),
]


@pytest.mark.parametrize(("operation", "model_id", "document", "expected"), SPELLINGS)
def test_a_limit_is_lowered_where_it_is_or_put_where_the_family_takes_it(
    operation: str, model_id: str, document: Any, expected: Any
) -> None:
    """
    A limit in a place that a model does not read would be held, and not kept.
    """
    rest = {"messages": [{"role": "user", "content": "ü\ud800 1e3"}]}

    assert lowered(operation, model_id, {**rest, **document}, 500) == {**rest, **expected}
    # And it is read back as what was put in.
    assert call_of(operation, model_id, {**rest, **expected}).size.output_limit == 500


UNTOUCHABLE = {
    "Nova 2 with high effort": (
        "Converse",
        NOVA_2,
        {"additionalModelRequestFields": {"reasoningConfig": {"maxReasoningEffort": "high"}}},
    ),
    "the same by InvokeModel": (
        "InvokeModel",
        NOVA_2,
        {"inferenceConfig": {"reasoningConfig": {"maxReasoningEffort": "high"}}},
    ),
    "a prompt resource": ("Converse", "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ", {}),
    "Claude, which needs a limit": ("InvokeModel", SONNET, {"messages": []}),
    "Claude, with a limit of Nova's": ("InvokeModel", SONNET, {"inferenceConfig": {"maxTokens": 900}}),
    "a family that is not known": ("InvokeModel", "who.knows-v1:0", {}),
    "a limit in words": ("InvokeModel", SONNET, {"max_tokens": "many"}),
    "a limit below zero": ("InvokeModel", SONNET, {"max_tokens": -5}),
    "a structure that is none": ("InvokeModel", "amazon.nova-lite-v1:0", {"inferenceConfig": "fast"}),
    "what no JSON has": ("InvokeModel", SONNET, {"max_tokens": 900, "temperature": float("nan")}),
    "a list": ("InvokeModel", SONNET, [1]),
}


@pytest.mark.parametrize("name", UNTOUCHABLE)
def test_what_cannot_be_given_a_limit_is_left_alone(name: str) -> None:
    """
    A request that AWS would take must not become one that it rejects.
    """
    assert lowered(*UNTOUCHABLE[name], 500) is None


@pytest.mark.parametrize("body", [None, b"", b"{", b"[" * 100_000, "text", 1])
def test_what_is_no_json_is_left_to_aws(body: Any) -> None:
    """
    Not ours to raise.
    """
    call = call_of("InvokeModel", SONNET, {"max_tokens": 5})

    assert read_output_limit(call, body, answer=ANSWER) is None


THINKING = [
    ({"max_tokens": 20_000, "thinking": {"type": "enabled", "budget_tokens": 16_000}}, 5_000, 4_744),
    ({"max_tokens": 20_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}, 5_000, 2_000),
    ({"max_tokens": 20_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}, 1_280, 1_024),
]


@pytest.mark.parametrize(("document", "tokens", "thinks"), THINKING)
def test_a_thinking_budget_stays_below_its_limit(document: Any, tokens: int, thinks: int) -> None:
    """
    Claude refuses a `budget_tokens` under 1,024, or not below `max_tokens`; 256 are for the answer.
    """
    made = lowered("InvokeModel", SONNET, document, tokens)

    assert made["max_tokens"] == tokens
    assert made["thinking"] == {"type": "enabled", "budget_tokens": thinks}


def test_thinking_raises_the_least_that_a_request_can_be_lowered_to() -> None:
    """
    1,024 to think and 256 to say.
    """
    how = read("InvokeModel", SONNET, {"max_tokens": 9_000, "thinking": {"budget_tokens": 4_000}})

    assert how is not None
    assert how.least == 1_280
    assert how.lowered(1_279) is None


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    """
    As it counts for the bound: numpy and JavaScript write it so.
    """
    document = {"max_tokens": 9_000.0, "thinking": {"type": "enabled", "budget_tokens": 4_000.0}}

    assert lowered("InvokeModel", SONNET, document, 2_000) == {
        "max_tokens": 2_000,
        "thinking": {"type": "enabled", "budget_tokens": 1_744},
    }


NUMBERS = st.integers(1, 200_000)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": NUMBERS,
        "max_completion_tokens": NUMBERS,
        "max_gen_len": NUMBERS,
        "inferenceConfig": st.fixed_dictionaries(
            {}, optional={"maxTokens": NUMBERS, "max_new_tokens": NUMBERS}
        ),
        "thinking": st.fixed_dictionaries({"budget_tokens": st.integers(1_024, 100_000)}),
        "reasoning": st.fixed_dictionaries({"max_tokens": NUMBERS}),
        "n": st.integers(1, 4),
    },
)


@given(
    document=DOCUMENTS,
    tokens=st.integers(1, 150_000),
    model_id=st.sampled_from([SONNET, "openai.gpt-5.5", NOVA_2]),
)
def test_no_limit_is_ever_raised(document: dict[str, Any], tokens: int, model_id: str) -> None:
    """
    A clamp that gave more than was asked for would be our bill.
    """
    how = read("InvokeModel", model_id, document)
    body = None if how is None else how.lowered(tokens)
    if body is None:
        return
    made = json.loads(body)
    for path, names in (*limits.LIMITS, *limits.BUDGETS):
        before, after = limits.at(document, path) or {}, limits.at(made, path) or {}
        for name in names & before.keys():
            assert after[name] <= min(before[name], tokens)
    assert (limits.output_limit(made) or 0) <= tokens
    assert made.get("n") == document.get("n")


@pytest.mark.parametrize("kind", ["imported-model", "endpoint"])
def test_a_model_with_a_dialect_of_its_own_is_given_no_limit(kind: ModelKind) -> None:
    """
    An imported Qwen takes `max_gen_len`, whatever `models` says of its price.
    """
    call = call_of("InvokeModel", "qwen.qwen3-32b-v1:0", {"prompt": "hello"})
    call = call._replace(model=call.model._replace(kind=kind))
    how = read_output_limit(call, b'{"prompt": "hello"}', answer=ANSWER)

    assert how is not None
    assert how.lowered(500) is None
