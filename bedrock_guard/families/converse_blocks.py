"""
Content as Converse and Nova write it: blocks of one key, which names their kind.

    [{"text": "…"}, {"image": {"source": …}}, {"toolResult": {"content": [ … ]}}]

To add a kind: write a reader, and its line in `BLOCKS`. A kind without a line
counts as the JSON it is written in. Only the keys of a block are kinds: what a
user's tool calls its arguments is text.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.families.documents import (
    PLAIN_FORMATS,
    add_citations,
    read_plain_bytes,
    read_search_result,
)
from bedrock_guard.families.measure import Measure, Reader


def read_messages(seen: Measure, messages: Any) -> None:
    """
    Add a list of messages.
    """
    if not isinstance(messages, (list, tuple)):
        seen.odd(messages)
        return
    for message in messages:
        if isinstance(message, dict):
            for key, value in message.items():
                # A role is ASCII, which spares a call.
                if key == "role" and type(value) is str and value.isascii():
                    seen.text_bytes += len(value)
                else:
                    _MESSAGE.get(key, Measure.json)(seen, value)
        else:
            seen.odd(message)


def read_content(seen: Measure, content: Any) -> None:
    """
    Add a list of blocks.
    """
    if not isinstance(content, (list, tuple)):
        seen.odd(content)
        return
    seen.messages += len(content)
    for block in content:
        if isinstance(block, dict):
            for kind, value in block.items():
                # Most blocks are text, and most text is ASCII, which spares a call.
                if kind == "text" and type(value) is str and value.isascii():
                    seen.text_bytes += len(value)
                else:
                    BLOCKS.get(kind, Measure.json)(seen, value)
        else:
            seen.odd(block)


def read_tool_config(seen: Measure, config: Any) -> None:
    """
    Add the tools of a request, and how to choose among them.
    """
    if not isinstance(config, dict):
        seen.odd(config)
        return
    for key, value in config.items():
        _TOOL_CONFIG.get(key, Measure.json)(seen, value)


def read_cache_point(seen: Measure, point: Any) -> None:
    """
    Note a cache point.
    """
    seen.mark_cache(point.get("ttl") if isinstance(point, dict) else None)


def _read_tools(seen: Measure, tools: Any) -> None:
    if not isinstance(tools, (list, tuple)):
        seen.odd(tools)
        return
    seen.has_tools = seen.has_tools or bool(tools)
    seen.messages += len(tools)
    for tool in tools:
        if isinstance(tool, dict):
            for kind, value in tool.items():
                _TOOLS.get(kind, Measure.json)(seen, value)
        else:
            seen.odd(tool)


def _read_tool_result(seen: Measure, result: Any) -> None:
    if not isinstance(result, dict):
        seen.odd(result)
        return
    for key, value in result.items():
        _TOOL_RESULT.get(key, Measure.json)(seen, value)


def _read_result_content(seen: Measure, content: Any) -> None:
    # Templates write results as JSON within the prompt, so text is escaped there.
    if not isinstance(content, (list, tuple)):
        seen.odd(content)
        return
    seen.messages += len(content)
    for block in content:
        for kind, value in block.items() if isinstance(block, dict) else [("", block)]:
            (Measure.json if kind == "text" else BLOCKS.get(kind, Measure.json))(seen, value)


def _read_reasoning(seen: Measure, reasoning: Any) -> None:
    # What is redacted or signed is the whole thought, encrypted: as long as its base64.
    redacted = reasoning.get("redactedContent") if isinstance(reasoning, dict) else None
    if isinstance(redacted, bytes | bytearray):
        seen.text_bytes += (len(redacted) + 2) // 3 * 4
        seen.json({key: value for key, value in reasoning.items() if key != "redactedContent"})
    else:
        seen.json(reasoning)


def _read_guarded(seen: Measure, guarded: Any) -> None:
    for kind, value in guarded.items() if isinstance(guarded, dict) else [("", guarded)]:
        (Measure.image if kind == "image" else Measure.json)(seen, value)


def _read_document(seen: Measure, document: Any) -> None:
    source = document.get("source") if isinstance(document, dict) else None
    if not isinstance(source, dict):
        seen.odd(document)
        return
    seen.json({key: value for key, value in document.items() if key != "source"})
    before = seen.text_bytes
    for key, value in source.items():
        if key == "bytes" and document.get("format") in PLAIN_FORMATS:
            read_plain_bytes(seen, value)
        else:
            _DOCUMENT_SOURCE.get(key, Measure.unseen)(seen, value)
    add_citations(seen, document, seen.text_bytes - before)


def _read_added_tool(seen: Measure, tool: Any) -> None:
    seen.has_tools = True
    seen.json(tool)


def _read_system_tool(seen: Measure, tool: Any) -> None:
    seen.has_unseen = True
    seen.may_search = not (isinstance(tool, dict) and tool.get("name") == _INTERPRETER) or seen.may_search


BLOCKS: Final[dict[str, Reader]] = {
    "text": Measure.text,
    "toolUse": Measure.json,
    "toolResult": _read_tool_result,
    "reasoningContent": _read_reasoning,
    "image": Measure.image,
    "document": _read_document,
    "video": Measure.unseen,
    "audio": Measure.unseen,
    "cachePoint": read_cache_point,
    "guardContent": _read_guarded,
    "searchResult": read_search_result,
    "citationsContent": Measure.json,
    "toolAddition": _read_added_tool,
    "toolRemoval": Measure.json,
}

_MESSAGE: Final[dict[str, Reader]] = {"role": Measure.text, "content": read_content}
_TOOL_CONFIG: Final[dict[str, Reader]] = {"tools": _read_tools}
# A system tool runs at AWS and feeds its results back: web pages, files. Searches have a fee, code has none.
_TOOLS: Final[dict[str, Reader]] = {"systemTool": _read_system_tool, "cachePoint": read_cache_point}
_INTERPRETER: Final = "nova_code_interpreter"
_TOOL_RESULT: Final[dict[str, Reader]] = {"content": _read_result_content}
_DOCUMENT_SOURCE: Final[dict[str, Reader]] = {"text": Measure.text, "content": Measure.json}
