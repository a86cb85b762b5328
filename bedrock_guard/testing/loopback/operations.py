"""
The operations of the loopback Bedrock: what each reads, and how it answers.

To add one: write a `read` and an `answer`, and add its line to `OPERATIONS`
under the end of its path.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bedrock_guard.testing.loopback import converse
from bedrock_guard.testing.loopback.content import Content, Event, ServerSentEvent
from bedrock_guard.testing.loopback.dialects import Dialect, dialect_of
from bedrock_guard.testing.loopback.generation import Generation, Usage
from bedrock_guard.testing.loopback.guardrails import input_units, invoke_trace, stated, text_units
from bedrock_guard.testing.loopback.prompt import Body, Prompt, at

_GUARDRAIL_HEADER: Final = "x-amzn-bedrock-guardrailidentifier"
# The one job that there is.
JOB: Final = "arn:aws:bedrock:us-east-1:123456789012:async-invoke/loopback0001"
_COUNT_HEADER: Final = "x-amzn-bedrock-{}-token-count"


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A request, parsed.

    Attributes:
        model_id: As the caller gave it, percent-decoding done.
        headers: By lower-case name.
    """

    model_id: str
    headers: Mapping[str, str]
    body: Body


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation.

    Attributes:
        served_as: Service tier and latency the caller asked for.
        resource: What its path begins with.
        billed: Whether it costs money; others leave bill, cache and script alone.
    """

    name: str
    read: Callable[[Asked], Prompt]
    answer: Callable[[Generation], Content]
    served_as: Callable[[Asked], tuple[str | None, str | None]]
    resource: str = "model"
    billed: bool = True


def parse(raw: bytes) -> Body:
    """
    A JSON object.

    Raises:
        ValueError: It is not one.
    """
    body = json.loads(raw)
    if not isinstance(body, dict):
        message = "Malformed input request, please reformat your input and try again."
        raise ValueError(message)  # noqa: TRY004 - like any other malformed body
    return body


def find_bare(method: str, path: str, body: bytes) -> tuple[str, Operation] | None:
    """
    The model that a body names, where the path has none, and the operation; an empty name where the body is
    malformed, which is told elsewhere.
    """
    key, operation = _BARE.get(path, ("", None)) if method == "POST" else ("", None)
    if operation is None:
        return None
    try:
        return str(parse(body).get(key, "")), operation
    except ValueError:
        return "", operation


def _read_converse(asked: Asked) -> Prompt:
    return converse.read(asked.body)


def _answer_converse(generation: Generation) -> Content:
    return Content(document=converse.reply(generation))


def _answer_converse_stream(generation: Generation) -> Content:
    return Content(events=tuple(Event(name, document) for name, document in converse.events(generation)))


def _converse_served_as(asked: Asked) -> tuple[str | None, str | None]:
    tier = at(asked.body, ("serviceTier", "type"))
    latency = at(asked.body, ("performanceConfig", "latency"))
    return (tier if isinstance(tier, str) else None, latency if isinstance(latency, str) else None)


def _read_invoke(asked: Asked) -> Prompt:
    prompt = dialect_of(asked.model_id, asked.body).read(asked.body)
    if _GUARDRAIL_HEADER not in asked.headers:
        return prompt
    return replace(prompt, guardrail_text_units=input_units(prompt))


def _answer_invoke(generation: Generation) -> Content:
    dialect = dialect_of(generation.model_id, generation.body)
    counts = _count_headers(generation.usage, dialect)
    latency = {"x-amzn-bedrock-invocation-latency": str(generation.latency_ms)}
    headers = {**counts, **latency, **_served_headers(generation)}
    return Content(headers, {**dialect.reply(generation), **invoke_trace(generation)})


def _answer_invoke_stream(generation: Generation) -> Content:
    dialect = dialect_of(generation.model_id, generation.body)
    chunks = list(dialect.chunks(generation))
    metrics = {"amazon-bedrock-invocationMetrics": _metrics(generation, dialect)}
    chunks[-1] = {**chunks[-1], **metrics, **invoke_trace(generation)}
    headers = {"x-amzn-bedrock-content-type": "application/json", **_served_headers(generation)}
    return Content(headers, events=tuple(Event("chunk", chunk) for chunk in chunks))


def _invoke_served_as(asked: Asked) -> tuple[str | None, str | None]:
    headers = asked.headers
    return (
        headers.get("x-amzn-bedrock-service-tier"),
        headers.get("x-amzn-bedrock-performanceconfig-latency"),
    )


def _answer_chat(generation: Generation) -> Content:
    dialect = dialect_of(generation.model_id, generation.body)
    if not generation.body.get("stream"):
        return Content(document=dialect.reply(generation))
    tells_usage = at(generation.body, ("stream_options", "include_usage")) is True
    chunks = [chunk for chunk in dialect.chunks(generation) if chunk.get("choices") or tells_usage]
    events = tuple(ServerSentEvent("", chunk) for chunk in (*chunks, {}))
    return Content({"Content-Type": "text/event-stream"}, events=events)


def _chat_served_as(asked: Asked) -> tuple[str | None, str | None]:
    tier = asked.body.get("service_tier")
    return (tier if isinstance(tier, str) else None, None)


def _count_headers(usage: Usage, dialect: Dialect) -> dict[str, str]:
    counts = {"input": usage.input_tokens}
    if dialect.writes:
        counts["output"] = usage.output_tokens
    if dialect.caches or usage.caches:
        counts["cache-read-input"] = usage.cache_read_input_tokens
        counts["cache-write-input"] = usage.cache_write_input_tokens
    return {_COUNT_HEADER.format(name): str(count) for name, count in counts.items()}


def _served_headers(generation: Generation) -> dict[str, str]:
    served = {
        "x-amzn-bedrock-service-tier": generation.service_tier,
        "x-amzn-bedrock-performanceconfig-latency": generation.latency,
    }
    return {name: value for name, value in served.items() if value is not None}


def _metrics(generation: Generation, dialect: Dialect) -> dict[str, int]:
    usage = generation.usage
    metrics = {
        "inputTokenCount": usage.input_tokens,
        "outputTokenCount": usage.output_tokens,
        "invocationLatency": generation.latency_ms,
        "firstByteLatency": 1,
    }
    if dialect.caches or usage.caches:
        metrics["cacheReadInputTokenCount"] = usage.cache_read_input_tokens
        metrics["cacheWriteInputTokenCount"] = usage.cache_write_input_tokens
    return metrics


def _read_job(asked: Asked) -> Prompt:
    body = asked.body.get("modelInput")
    if not isinstance(body, Mapping):
        message = "Malformed input request: #: required key [modelInput] not found."
        raise ValueError(message)  # noqa: TRY004 - like any other malformed body
    return dialect_of(asked.model_id, body).read(body)


def _answer_job(_generation: Generation) -> Content:
    return Content(document={"invocationArn": JOB})


def _read_count(asked: Asked) -> Prompt:
    conversation = at(asked.body, ("input", "converse"))
    if isinstance(conversation, Mapping):
        return converse.read(conversation)
    body = parse(b64decode(str(at(asked.body, ("input", "invokeModel", "body")))))
    return dialect_of(asked.model_id, body).read(body)


def _answer_count(generation: Generation) -> Content:
    return Content(document={"inputTokens": generation.usage.input_tokens})


def _read_guardrail(asked: Asked) -> Prompt:
    blocks = asked.body.get("content")
    texts = [at(block, ("text", "text")) for block in blocks] if isinstance(blocks, list) else []
    characters = sum(len(text) for text in texts if isinstance(text, str))
    return Prompt(writes=False, guardrail_text_units=text_units(characters))


def _answer_guardrail(generation: Generation) -> Content:
    units = generation.usage.guardrail_text_units
    return Content(document={"usage": stated(units), "action": "NONE", "outputs": [], "assessments": []})


def _as_nobody(_asked: Asked) -> tuple[str | None, str | None]:
    return None, None


# By the end of the path: /model/ID/converse, /guardrail/ID/version/V/apply; /async-invoke is all of one.
OPERATIONS: Final[Mapping[str, Operation]] = {
    "converse": Operation("Converse", _read_converse, _answer_converse, _converse_served_as),
    "converse-stream": Operation(
        "ConverseStream", _read_converse, _answer_converse_stream, _converse_served_as
    ),
    "invoke": Operation("InvokeModel", _read_invoke, _answer_invoke, _invoke_served_as),
    "invoke-with-response-stream": Operation(
        "InvokeModelWithResponseStream", _read_invoke, _answer_invoke_stream, _invoke_served_as
    ),
    "async-invoke": Operation("StartAsyncInvoke", _read_job, _answer_job, _as_nobody, resource=""),
    "count-tokens": Operation("CountTokens", _read_count, _answer_count, _as_nobody, billed=False),
    "apply": Operation(
        "ApplyGuardrail", _read_guardrail, _answer_guardrail, _as_nobody, resource="guardrail"
    ),
}

# Paths without a model, and where the body has it.
_BARE: Final[Mapping[str, tuple[str, Operation]]] = {
    "/async-invoke": ("modelId", OPERATIONS["async-invoke"]),
    "/openai/v1/chat/completions": (
        "model",
        Operation("ChatCompletions", _read_invoke, _answer_chat, _chat_served_as),
    ),
}
