"""
What the readers make of recorded Bedrock traffic, against what the recordings say verbatim.

The recordings are not part of this repository: a folder beside it holds them,
and without it these tests are skipped.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.eventstream import EventStreamBuffer

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.estimators.bound import bound
from bedrock_guard.operations import OPERATIONS, Free, Operation, Reply

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
GUARDED = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")

# The oracle's own vocabulary: every spelling of a count seen in any recording.
SPELLINGS = {
    "input": (
        "inputTokens input_tokens prompt_tokens inputTokenCount inputTextTokenCount prompt_token_count "
        "x-amzn-bedrock-input-token-count"
    ),
    "output": (
        "outputTokens output_tokens completion_tokens outputTokenCount totalOutputTextTokenCount "
        "generation_token_count x-amzn-bedrock-output-token-count"
    ),
    "read": (
        "cacheReadInputTokens cacheReadInputTokenCount cache_read_input_tokens "
        "x-amzn-bedrock-cache-read-input-token-count"
    ),
    "write": (
        "cacheWriteInputTokens cacheWriteInputTokenCount cache_creation_input_tokens "
        "x-amzn-bedrock-cache-write-input-token-count"
    ),
}
MEANING = {spelling: kind for kind, names in SPELLINGS.items() for spelling in names.split()}


def entries() -> list[dict[str, Any]]:
    index = RECORDINGS / "index.json"
    if not index.exists():
        return []
    return [
        entry
        for entry in json.loads(index.read_text())["recordings"]
        if entry["operation"] in GUARDED and entry["status"] == 200 and entry["authenticity"] != "suspect"
    ]


ENTRIES = entries()

pytestmark = pytest.mark.skipif(
    not ENTRIES, reason=f"no recordings at {RECORDINGS.name} beside the repository"
)


def by_file(entry: dict[str, Any]) -> str:
    return str(entry["file"])


@pytest.mark.parametrize("entry", ENTRIES, ids=by_file)
def test_usage_is_what_the_reply_stated(entry: dict[str, Any]) -> None:
    """
    Every dialect, every place of stating it: what is charged is what AWS reported, to the token.
    """
    interaction = load(entry)

    report = replay(entry, interaction)

    stated = oracle(entry, interaction)
    assert (None if report is None else dict(report.usage)) == stated


@pytest.mark.parametrize("entry", ENTRIES, ids=by_file)
def test_the_bound_is_not_below_what_was_used(entry: dict[str, Any]) -> None:
    """
    A limit is only hard if no real call has ever used more than its estimate.
    """
    interaction = load(entry)
    call = read_call(entry, interaction)
    used = oracle(entry, interaction)
    if call is None or used is None:
        pytest.skip("the recording has no request, or no usage")
    if sent_bytes(interaction) > 2 * len(body_of(interaction["request"])):
        pytest.skip("the source cut the request's text")

    most = bound(call, ModelLimits())

    inputs = sum(quantity for meter, quantity in used.items() if "input" in meter)
    assert all(total_input(usage) >= inputs for usage in most)
    assert all(usage.get("output_tokens", 0) >= used.get("output_tokens", 0) for usage in most)


def test_headers_tell_of_the_cache_whenever_the_body_does() -> None:
    """
    Settling Claude and Nova by headers, with the body unread, rests on this.
    """
    told = 0
    for entry in ENTRIES:
        reports = {report["where"]: report["raw"] for report in entry["usage_reports"]}
        headers, body = reports.get("headers", {}), reports.get("body.usage", {})
        if headers and any(name.startswith("cache") for name in body):
            assert "x-amzn-bedrock-cache-read-input-token-count" in headers
            assert "x-amzn-bedrock-cache-write-input-token-count" in headers
            told += 1

    assert told > 0


def test_every_operation_and_family_was_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A comparison over nothing passes too; the figures say what was compared.
    """
    replayed: Counter[tuple[str, str]] = Counter()
    bounded: Counter[tuple[str, str]] = Counter()
    for entry in ENTRIES:
        interaction = load(entry)
        if oracle(entry, interaction) is None:
            continue
        replayed[entry["operation"], entry["family"]] += 1
        bounded[entry["operation"], entry["family"]] += read_call(entry, interaction) is not None

    with capsys.disabled():
        print()
        for key, number in sorted(replayed.items()):
            print(f"{key[0]:<32}{key[1]:<14}{number:>4} read, {bounded[key]:>4} bounded")
    assert {operation for operation, _ in replayed} == set(GUARDED)
    assert sum(replayed.values()) > 100


# --- reading recordings ---------------------------------------------------------------------


def load(entry: dict[str, Any]) -> dict[str, Any]:
    interaction: dict[str, Any] = json.loads((RECORDINGS / entry["file"]).read_text())
    return interaction


def body_of(message: Mapping[str, Any]) -> bytes:
    if message.get("body_base64"):
        return base64.b64decode(message["body_base64"])
    return (message.get("body") or "").encode()


def sent_bytes(interaction: Mapping[str, Any]) -> int:
    return int(headers_of(interaction["request"]).get("content-length", 0))


def headers_of(message: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in message["headers"]}


def operation_of(entry: dict[str, Any]) -> Operation:
    operation = OPERATIONS["bedrock-runtime", entry["operation"]]
    assert not isinstance(operation, Free)
    return operation


def read_call(entry: dict[str, Any], interaction: dict[str, Any]) -> Call | None:
    request = interaction["request"]
    body = body_of(request)
    if not body:
        return None
    path = request.get("uri", "").partition("/model/")[2].rpartition("/")[0]
    operation = operation_of(entry)
    params = operation.read_wire(
        model_id=entry["model_id"] or unquote(path), headers=headers_of(request), body=body
    )
    return operation.read_call(params, region="us-east-1")


def replay(entry: dict[str, Any], interaction: dict[str, Any]) -> UsageReport | None:
    operation = operation_of(entry)
    call = read_call(entry, interaction) or operation.read_call(
        {"modelId": entry["model_id"] or "unknown"}, region="us-east-1"
    )
    response = interaction["response"]
    body, headers = body_of(response), headers_of(response)
    if operation.stream_key:
        return replay_stream(operation, call, body)
    if operation.body_key:
        reply = Reply(parsed={}, headers=headers)
        return operation.read_usage(reply, call) or operation.read_body(body, reply, call)
    return operation.read_usage(Reply(parsed=json.loads(body), headers=headers, content=body), call)


def replay_stream(operation: Operation, call: Call, body: bytes) -> UsageReport | None:
    reader = operation.open_stream_reader(call)
    for event, payload in events(body):
        reader.feed(event, payload)
    return reader.report


def events(body: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    for message in buffer:
        content = json.loads(message.payload)
        if message.headers.get(":event-type") == "chunk":
            yield {"chunk": {"bytes": base64.b64decode(content["bytes"])}}, message.payload
        else:
            yield {message.headers[":event-type"]: content}, message.payload


# --- the oracle -----------------------------------------------------------------------------


def oracle(entry: dict[str, Any], interaction: dict[str, Any]) -> dict[str, int] | None:
    """
    All reports of a recording, the larger of each count, by a rule without families.
    """
    most: Counter[str] = Counter()
    lives: Counter[str] = Counter()
    seen = set()
    for report in entry["usage_reports"]:
        if report["where"] == "event.chunk.message.usage" and not finished(entry):
            continue
        for name, value in numbers(report["raw"]):
            kind = MEANING.get(name)
            if kind:
                most[kind] = max(most[kind], value)
                seen.add(kind)
        for detail in report["raw"].get("cacheDetails") or []:
            lives[detail["ttl"]] = max(lives[detail["ttl"]], detail["inputTokens"])
    is_embedding = "embed" in str(entry["model_id"])
    if "input" not in seen or ("output" not in seen and not is_embedding):
        return None
    untold = most["write"] - lives["5m"] - lives["1h"]
    usage = {
        "input_tokens": most["input"],
        "output_tokens": most["output"],
        "cache_read_input_tokens": most["read"],
        "cache_write_5m_input_tokens": lives["5m"] + untold,
        "cache_write_1h_input_tokens": lives["1h"],
        **guardrail_units(interaction),
    }
    return {meter: quantity for meter, quantity in usage.items() if quantity}


def finished(entry: dict[str, Any]) -> bool:
    """
    Whether a stream went on after its first message, which counts one token of output.
    """
    return any("invocationMetrics" in report["where"] for report in entry["usage_reports"])


def numbers(raw: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in raw.items():
        if name == "results[].tokenCount":
            yield "outputTokens", sum(int(part) for part in value)
        elif isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            yield name, int(value)


def guardrail_units(interaction: dict[str, Any]) -> Counter[str]:
    """
    Units by meter, of every assessment found in the raw text of the reply.
    """
    units: Counter[str] = Counter()
    for text in texts(body_of(interaction["response"])):
        for found in re.finditer(r'"invocationMetrics":(?={)', text):
            metrics, _ = json.JSONDecoder().raw_decode(text, found.end())
            for field, quantity in metrics["usage"].items():
                if field.endswith("Units"):
                    units["guardrail_" + snake(field)] += quantity
    return units


def texts(body: bytes) -> Iterator[str]:
    if body.startswith(b"{"):
        yield body.decode()
    else:
        for event, payload in events(body):
            yield (event["chunk"]["bytes"] if "chunk" in event else payload).decode()


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def total_input(usage: Mapping[str, int]) -> int:
    return sum(quantity for meter, quantity in usage.items() if "input" in meter)
