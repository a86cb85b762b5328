"""
Agents of the loopback Bedrock: each runs models, one after the other, and traces them where asked.

An agent runs its model three times, and what it has read and written is before it each time. The agent
`MIXED` has a helper of another model. A knowledge base puts ten passages before its model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback.content import Content, Event
from bedrock_guard.testing.loopback.other_operation import OtherOperation, Ran
from bedrock_guard.testing.loopback.prompt import Body, at, tokens

MODEL: Final = "anthropic.claude-3-5-sonnet-20240620-v1:0"
HELPER: Final = "amazon.nova-lite-v1:0"

_STEPS: Final = 3
_INSTRUCTION_TOKENS: Final = 800
_PASSAGES_TOKENS: Final = 2_000
_ANSWER: Final = "The answer is 42."


_Step: TypeAlias = tuple[str, Mapping[str, int]]


def _text_tokens(body: Body) -> int:
    text = body.get("inputText") or at(body, ("input", "text")) or ""
    return tokens(len(str(text).encode()), 0)


def _steps(models: tuple[str, ...], body: Body, output_tokens: int) -> Iterator[_Step]:
    before = _INSTRUCTION_TOKENS + _text_tokens(body)
    for step in range(_STEPS):
        yield models[step % len(models)], {"input_tokens": before, "output_tokens": output_tokens}
        before += output_tokens


def _traces(steps: Iterable[_Step]) -> Iterator[Mapping[str, object]]:
    for number, (model_id, used) in enumerate(steps):
        asked = {"traceId": f"t-{number}", "foundationModel": model_id, "type": "ORCHESTRATION"}
        usage = {"inputTokens": used["input_tokens"], "outputTokens": used["output_tokens"]}
        answered = {"traceId": f"t-{number}", "metadata": {"usage": usage}}
        yield {"orchestrationTrace": {"modelInvocationInput": asked}}
        yield {"orchestrationTrace": {"modelInvocationOutput": answered}}
    # The sum once more, which who adds it counts twice.
    final = {"text": _ANSWER, "metadata": {"usage": {"inputTokens": 1, "outputTokens": 1}}}
    yield {"orchestrationTrace": {"observation": {"traceId": "t-9", "finalResponse": final}}}


def _run_agent(id_: str, body: Body, output_tokens: int) -> Ran:
    inline = body.get("foundationModel")
    models = (str(inline),) if inline else (MODEL, HELPER) if id_ == "MIXED" else (MODEL,)
    steps = list(_steps(models, body, output_tokens))
    events = [Event("trace", {"trace": trace}) for trace in _traces(steps)] if body.get("enableTrace") else []
    return Ran(Content(events=(*events, Event("chunk", {"text": _ANSWER}))), tuple(steps))


def _run_flow(_id: str, body: Body, output_tokens: int) -> Ran:
    steps = list(_steps((MODEL,), body, output_tokens))
    elements = {"agentTraces": [{"trace": trace} for trace in _traces(steps)]}
    traced = Event("flowTraceEvent", {"trace": {"nodeDependencyTrace": {"traceElements": elements}}})
    done = Event("flowCompletionEvent", {"completionReason": "SUCCESS"})
    return Ran(Content(events=(traced, done) if body.get("enableTrace") else (done,)), tuple(steps))


def _generate(body: Body, output_tokens: int) -> tuple[tuple[str, Mapping[str, int]], ...]:
    base = at(body, ("retrieveAndGenerateConfiguration", "knowledgeBaseConfiguration"))
    model_id = str(at(base, ("modelArn",)))
    asked = _text_tokens(body)
    anew = {"input_tokens": asked + _INSTRUCTION_TOKENS, "output_tokens": asked}
    answer = {"input_tokens": asked + _PASSAGES_TOKENS, "output_tokens": output_tokens}
    return (model_id, anew), (model_id, answer)


def _run_generation(_id: str, body: Body, output_tokens: int) -> Ran:
    document = {"sessionId": "s", "output": {"text": _ANSWER}}
    return Ran(Content(document=document), _generate(body, output_tokens))


def _run_generation_stream(_id: str, body: Body, output_tokens: int) -> Ran:
    return Ran(Content(events=(Event("output", {"text": _ANSWER}),)), _generate(body, output_tokens))


def _run_retrieval(id_: str, body: Body, _output_tokens: int) -> Ran:
    text = str(at(body, ("retrievalQuery", "text")))
    embedded = {"input_tokens": tokens(len(text.encode()), 0)}
    return Ran(Content(document={"retrievalResults": []}), ((id_, embedded),))


AGENTS: Final = (
    OtherOperation(
        "InvokeAgent",
        "POST",
        re.compile("/agents/(?P<id>[^/]+)/agentAliases/[^/]+/sessions/[^/]+/text"),
        _run_agent,
    ),
    OtherOperation("InvokeInlineAgent", "POST", re.compile("/agents/(?P<id>[^/]+)"), _run_agent),
    OtherOperation("InvokeFlow", "POST", re.compile("/flows/(?P<id>[^/]+)/aliases/[^/]+"), _run_flow),
    OtherOperation("RetrieveAndGenerate", "POST", re.compile("/retrieveAndGenerate"), _run_generation),
    OtherOperation(
        "RetrieveAndGenerateStream", "POST", re.compile("/retrieveAndGenerateStream"), _run_generation_stream
    ),
    OtherOperation("Retrieve", "POST", re.compile("/knowledgebases/(?P<id>[^/]+)/retrieve"), _run_retrieval),
)
