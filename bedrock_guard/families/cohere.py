"""
Cohere: Command, Command R and embeddings.

Bodies state no usage, but for the last chunk of Command R; headers do.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.families import typed_blocks
from bedrock_guard.families.counts import CountTable
from bedrock_guard.families.dialect import Dialect, says
from bedrock_guard.families.measure import Measure

_FIELDS: Final = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
USAGE: Final[CountTable] = (
    (("meta", "billed_units"), _FIELDS),
    (("response", "meta", "billed_units"), _FIELDS),
)


def _read_items(seen: Measure, items: Any) -> None:
    if not isinstance(items, list):
        seen.odd(items)
        return
    seen.messages += len(items)
    for item in items:
        seen.text(item)


def _read_inputs(seen: Measure, inputs: Any) -> None:
    for item in inputs if isinstance(inputs, list) else [inputs]:
        if isinstance(item, dict):
            typed_blocks.read_content(seen, item.get("content"))
        else:
            seen.odd(item)


def _read_images(seen: Measure, images: Any) -> None:
    if isinstance(images, list):
        seen.images += len(images)
        seen.messages += len(images)
    else:
        seen.odd(images)


COMMAND: Final = Dialect(
    name="cohere",
    parts={
        "messages": typed_blocks.read_messages,
        "chat_history": _read_items,
        "documents": _read_items,
        "tools": typed_blocks.read_tools,
        "tool_results": _read_items,
    },
    usage=USAGE,
    usage_marks=(b'"billed_units"',),
    final=says("is_finished"),
    heeded_limits=(("max_tokens",),),
    fallback_output=8_192,
    windows_are_rounded=True,
)
EMBED: Final = Dialect(
    name="cohere",
    parts={"texts": _read_items, "images": _read_images, "inputs": _read_inputs},
    usage=USAGE,
    # 1,610 for 512 x 512, by the guide of another cloud; AWS makes none larger than 2,458,624 pixels.
    image_tokens=16_000,
    generates=False,
)
