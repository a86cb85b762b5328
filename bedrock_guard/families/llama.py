"""
Meta Llama: one prompt, written out in the model's own template.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.families.counts import CountTable
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.measure import Measure

USAGE: Final[CountTable] = (
    ((), {"prompt_token_count": INPUT_TOKENS, "generation_token_count": OUTPUT_TOKENS}),
)


def read_images(seen: Measure, images: Any) -> None:
    """
    Add a list of images in base64.
    """
    if isinstance(images, list):
        seen.images += len(images)
    else:
        seen.odd(images)


LLAMA: Final = Dialect(
    name="llama",
    parts={"images": read_images},
    usage=USAGE,
    heeded_limits=(("max_gen_len",),),
    default_output=512,
    fallback_output=8_192,
    image_tokens=10_000,
    windows_are_rounded=True,
)
