"""
Searches of the web that a model makes for an answer: held for, and charged as often as it made them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bounds import most_of

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.operations.contract import Operation, Reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.price_list import PriceList

NOVA = "us.amazon.nova-2-lite-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "what is new?"}]}]
USAGE = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
METER = "web_grounding_requests"


def asked(operation: Operation, *names: str) -> Call:
    document = {
        "messages": MESSAGES,
        "toolConfig": {"tools": [{"systemTool": {"name": name}} for name in names]},
    }
    params = document if operation in (CONVERSE, CONVERSE_STREAM) else {"body": json.dumps(document)}
    return operation.read_call({"modelId": NOVA, **params}, region="us-east-1")


def use(name: str = "nova_grounding", kind: str | None = "server_tool_use") -> dict[str, Any]:
    return {"toolUse": {"name": name, "toolUseId": "1", "input": {}, **({"type": kind} if kind else {})}}


@pytest.mark.parametrize("operation", [CONVERSE, INVOKE_MODEL])
@pytest.mark.parametrize(
    ("names", "may_search"),
    [
        (("nova_grounding",), True),
        (("nova_code_interpreter",), False),
        (("nova_grounding", "nova_code_interpreter"), True),
        (("something_new",), True),
        ((), False),
    ],
)
def test_a_tool_that_searches_is_held_for(
    operation: Operation, names: tuple[str, ...], may_search: bool
) -> None:
    """
    Each search has a fee beside the tokens; running code has none.
    """
    (usage,) = most_of(asked(operation, *names), ModelLimits(1_000_000, 64_000))

    assert usage.get(METER) == (10 if may_search else None)


BLOCKS = [
    ([{"text": "nothing"}], None),
    ([use(), {"toolResult": {"type": "nova_grounding_result"}}, use(), {"text": "found"}], 2),
    ([use(kind=None)], 1),
    ([use("something_new")], 1),
    ([use("nova_code_interpreter"), use("of_the_caller", kind="tool_use")], None),
    ([None, 5, {"toolUse": 5}, {"toolUse": {"name": ["nova_grounding"]}}], None),
]


@pytest.mark.parametrize(("blocks", "searches"), BLOCKS)
def test_searches_are_charged_as_often_as_they_were_made(blocks: list[Any], searches: int | None) -> None:
    """
    The answer shows each, whichever operation it came by.
    """
    reply = {"output": {"message": {"role": "assistant", "content": blocks}}, "usage": USAGE}
    starts = [{"contentBlockStart": {"start": block}} for block in blocks]
    by_chunk = INVOKE_MODEL_WITH_RESPONSE_STREAM
    headers = {"x-amzn-bedrock-input-token-count": "10", "x-amzn-bedrock-output-token-count": "5"}
    stream = CONVERSE_STREAM.open_stream_reader(asked(CONVERSE_STREAM, "nova_grounding"))
    chunks = by_chunk.open_stream_reader(asked(by_chunk, "nova_grounding"))
    for start in starts:
        stream.feed(start, b"{}")
    for chunk in [*starts, {"metadata": {"usage": USAGE}}]:
        chunks.feed({"chunk": {"bytes": json.dumps(chunk).encode()}}, b"")
    stream.feed({"metadata": {"usage": USAGE}}, b"{}")

    assert INVOKE_MODEL.read_usage(Reply({}, headers), asked(INVOKE_MODEL, "nova_grounding")) is None
    for report in (
        CONVERSE.read_usage(Reply(reply), asked(CONVERSE, "nova_grounding")),
        INVOKE_MODEL.read_body(
            json.dumps(reply).encode(), Reply({}, headers), asked(INVOKE_MODEL, "nova_grounding")
        ),
        stream.report,
        chunks.report,
    ):
        assert report is not None
        assert report.usage.get(METER) == searches


def test_a_search_has_a_price() -> None:
    """
    30 USD for a thousand, with any model.
    """
    prices = PriceList.packaged().find(asked(CONVERSE).model, region="us-east-1")

    assert nanousd({METER: 10}, prices)[0] == 300_000_000
