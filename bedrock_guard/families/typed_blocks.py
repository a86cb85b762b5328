"""
Content as Anthropic and OpenAI write it: a string, or blocks that say their `type`.

    [{"type": "text", "text": "…"}, {"type": "image", "source": …}]

To add a type: write a reader, and its line in `TYPES`. A type without a line
counts as the JSON it is written in.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.families.documents import add_citations, read_search_result
from bedrock_guard.families.measure import Measure, Reader


def read_messages(seen: Measure, messages: Any) -> None:
    """
    Add a list of messages, tool calls and whatever else they hold included.
    """
    if not isinstance(messages, list):
        seen.odd(messages)
        return
    for message in messages:
        if isinstance(message, dict):
            for key, value in message.items():
                reader = _MESSAGE.get(key)
                if reader:
                    reader(seen, value)
                elif value is not None:
                    seen.json({key: value})
        else:
            seen.odd(message)


def read_content(seen: Measure, content: Any) -> None:
    """
    Add a string or a list of blocks.
    """
    if not isinstance(content, list):
        seen.messages += 1
        seen.text(content)
        return
    seen.messages += len(content)
    for block in content:
        read_block(seen, block)


def read_block(seen: Measure, block: Any) -> None:
    """
    Add one block, by its type.
    """
    kind = block.get("type") if isinstance(block, dict) else None
    reader = TYPES.get(kind) if isinstance(kind, str) else None
    (reader or Measure.json)(seen, block)


def read_tools(seen: Measure, tools: Any) -> None:
    """
    Add a list of tools, those that only name a tool of the maker's included.
    """
    if not isinstance(tools, list):
        seen.odd(tools)
        return
    seen.has_tools = seen.has_tools or bool(tools)
    seen.messages += len(tools)
    for tool in tools:
        kind = tool.get("type", "custom") if isinstance(tool, dict) else "custom"
        (Measure.json if kind in ("custom", "function") else Measure.built_in_tool)(seen, tool)


def media(key: str) -> Reader:
    """
    A reader of blocks that hold an image under *key*.
    """

    def read(seen: Measure, block: Any) -> None:
        seen.image(block)
        seen.json({name: value for name, value in block.items() if name != key})

    return read


def _read_text(seen: Measure, block: Any) -> None:
    seen.text(block.get("text"))
    if len(block) > len(("type", "text")):
        seen.json({name: value for name, value in block.items() if name != "text"})


def _read_tool_result(seen: Measure, block: Any) -> None:
    seen.json({name: value for name, value in block.items() if name != "content"})
    content = block.get("content")
    if isinstance(content, list):
        read_content(seen, content)
    else:
        seen.json(content)


def _read_document(seen: Measure, block: Any) -> None:
    source = block.get("source")
    seen.json({name: value for name, value in block.items() if name != "source"})
    kind = source.get("type") if isinstance(source, dict) else None
    before = seen.text_bytes
    if kind == "text":
        seen.json(source)
    elif kind == "content":
        read_content(seen, source.get("content"))
    else:
        seen.unseen(source)
    add_citations(seen, block, seen.text_bytes - before)


TYPES: Final[dict[str, Reader]] = {
    "text": _read_text,
    "image": media("source"),
    "image_url": media("image_url"),
    "input_image": media("image_url"),
    "document": _read_document,
    "search_result": read_search_result,
    "tool_result": _read_tool_result,
    "input_audio": Measure.unseen,
    "audio_url": Measure.unseen,
    "video": Measure.unseen,
    "video_url": Measure.unseen,
    "file": Measure.unseen,
    "container_upload": Measure.unseen,
}

_MESSAGE: Final[dict[str, Reader]] = {"role": Measure.text, "content": read_content}
