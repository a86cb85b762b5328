"""
Reads recorded Bedrock traffic, and says what it states of usage, by a rule without families.

The recordings are not part of this repository: a folder beside it holds them,
and without it these tests are skipped.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.eventstream import EventStreamBuffer

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
GUARDED = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")

is_missing = pytest.mark.skipif(
    not (FOLDER / "index.json").exists(), reason=f"no folder {FOLDER.name} beside the repository"
)

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


@dataclass(frozen=True)
class Recording:
    """
    One recorded exchange, and its line in the index.
    """

    indexed: Mapping[str, Any]

    def __str__(self) -> str:
        return str(self.indexed["file"])

    @property
    def operation(self) -> str:
        return str(self.indexed["operation"])

    @property
    def family(self) -> str:
        return str(self.indexed["family"])

    @property
    def status(self) -> int:
        return int(self.indexed["status"])

    @property
    def model_id(self) -> str:
        return self.indexed["model_id"] or unquote(self.path_model_id)

    @property
    def path_model_id(self) -> str:
        uri = str(self.interaction["request"].get("uri", ""))
        return uri.partition("/model/")[2].rpartition("/")[0]

    @property
    def interaction(self) -> dict[str, Any]:
        return read_interaction(str(self))

    @property
    def request_body(self) -> bytes:
        return body_of(self.interaction["request"])

    @property
    def request_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.interaction["request"]["headers"]}

    @property
    def body(self) -> bytes:
        return body_of(self.interaction["response"])

    @property
    def headers(self) -> dict[str, str]:
        """
        As they can be sent again: framing is the server's own, and bodies are stored decoded.
        """
        headers = {name.lower(): value for name, value in self.interaction["response"]["headers"]}
        if "content_encoding_header_stale" in self.indexed["fidelity"]:
            headers.pop("content-encoding", None)
        if self.operation in ("ConverseStream", "InvokeModelWithResponseStream") and self.status == 200:
            headers["content-type"] = "application/vnd.amazon.eventstream"
        return headers


def read_recordings(operations: Iterable[str]) -> list[Recording]:
    """
    The recordings of *operations*, but for those that show signs of having been made up.
    """
    index = FOLDER / "index.json"
    if not index.exists():
        return []
    return [
        Recording(entry)
        for entry in json.loads(index.read_text())["recordings"]
        if entry["operation"] in operations and entry["authenticity"] != "suspect"
    ]


@functools.lru_cache(maxsize=8)
def read_interaction(file: str) -> dict[str, Any]:
    interaction: dict[str, Any] = json.loads((FOLDER / file).read_text())
    return interaction


def body_of(message: Mapping[str, Any]) -> bytes:
    if message.get("body_base64"):
        return base64.b64decode(message["body_base64"])
    return (message.get("body") or "").encode()


def events(body: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    for message in buffer:
        content = json.loads(message.payload)
        if message.headers.get(":event-type") == "chunk":
            yield {"chunk": {"bytes": base64.b64decode(content["bytes"])}}, message.payload
        else:
            yield {message.headers[":event-type"]: content}, message.payload


def oracle(recording: Recording) -> dict[str, int] | None:
    """
    All reports of a recording, the larger of each count; None where it does not say.
    """
    most: Counter[str] = Counter()
    lives: Counter[str] = Counter()
    seen = set()
    for report in recording.indexed["usage_reports"]:
        if report["where"] == "event.chunk.message.usage" and not finished(recording):
            continue
        for name, value in numbers(report["raw"]):
            kind = MEANING.get(name)
            if kind:
                most[kind] = max(most[kind], value)
                seen.add(kind)
        for detail in report["raw"].get("cacheDetails") or []:
            lives[detail["ttl"]] = max(lives[detail["ttl"]], detail["inputTokens"])
    is_embedding = "embed" in recording.model_id
    if "input" not in seen or ("output" not in seen and not is_embedding):
        return None
    untold = most["write"] - lives["5m"] - lives["1h"]
    usage = {
        "input_tokens": most["input"],
        "output_tokens": most["output"],
        "cache_read_input_tokens": most["read"],
        "cache_write_5m_input_tokens": lives["5m"] + untold,
        "cache_write_1h_input_tokens": lives["1h"],
        **guardrail_units(recording),
    }
    return {meter: quantity for meter, quantity in usage.items() if quantity}


def finished(recording: Recording) -> bool:
    """
    Whether a stream went on after its first message, which counts one token of output.
    """
    return any("invocationMetrics" in report["where"] for report in recording.indexed["usage_reports"])


def numbers(raw: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in raw.items():
        if name == "results[].tokenCount":
            yield "outputTokens", sum(int(part) for part in value)
        elif isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            yield name, int(value)


def guardrail_units(recording: Recording) -> Counter[str]:
    """
    Units by meter, of every assessment found in the raw text of the reply.
    """
    units: Counter[str] = Counter()
    for text in texts(recording.body):
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
