"""
The call of a tool in the place of an answer's text, so that agents can be tested.

In Converse, whole and streamed, and in Claude's messages; other bodies keep their text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback.content import Content, Event

Document: TypeAlias = Mapping[str, object]

_TEXT_EVENTS: Final = frozenset(["contentBlockDelta", "contentBlockStop"])
_TEXT_CHUNKS: Final = frozenset(["content_block_start", "content_block_delta", "content_block_stop"])


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    What a model asks a program to do.
    """

    name: str
    arguments: Document
    id: str

    def instead_of_text(self, content: Content) -> Content:
        """
        The same answer, with the call in it.
        """
        if content.events is None:
            return replace(content, document=self._in_document(content.document))
        chunked = any(event.event_type == "chunk" for event in content.events)
        say = self._in_chunks if chunked else self._in_events
        return replace(content, events=tuple(say(content.events)))

    def _in_document(self, document: Document) -> Document:
        if "stopReason" in document:
            used = {"toolUse": {"toolUseId": self.id, "name": self.name, "input": self.arguments}}
            message = {"role": "assistant", "content": [used]}
            return {**document, "output": {"message": message}, "stopReason": "tool_use"}
        if document.get("type") == "message":
            block = {"type": "tool_use", "id": self.id, "name": self.name, "input": self.arguments}
            return {**document, "content": [block], "stop_reason": "tool_use"}
        return document

    def _in_events(self, events: Iterable[Event]) -> Iterator[Event]:
        start = {"toolUse": {"toolUseId": self.id, "name": self.name}}
        delta = {"toolUse": {"input": json.dumps(self.arguments)}}
        for event in events:
            if event.event_type == "messageStop":
                yield Event("contentBlockStart", {"contentBlockIndex": 0, "start": start})
                yield Event("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta})
                yield Event("contentBlockStop", {"contentBlockIndex": 0})
                yield Event("messageStop", {**event.document, "stopReason": "tool_use"})
            elif event.event_type not in _TEXT_EVENTS:
                yield event

    def _in_chunks(self, events: tuple[Event, ...]) -> Iterator[Event]:
        if events[0].document.get("type") != "message_start":
            yield from events
            return
        block = {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(self.arguments)}
        call: tuple[Document, ...] = (
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
        )
        ended = {"stop_reason": "tool_use", "stop_sequence": None}
        for event in events:
            if event.document["type"] == "message_delta":
                yield from (Event("chunk", document) for document in call)
                yield Event("chunk", {**event.document, "delta": ended})
            elif event.document["type"] not in _TEXT_CHUNKS:
                yield event
