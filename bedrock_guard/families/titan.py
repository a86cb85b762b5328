"""
Amazon Titan: text, and embeddings of text and images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.families.beside_tokens import Beside
from bedrock_guard.families.counts import CountTable
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.measure import Measure
from bedrock_guard.meters import media

TEXT_USAGE: Final[CountTable] = (
    ((), {"inputTextTokenCount": INPUT_TOKENS, "totalOutputTextTokenCount": OUTPUT_TOKENS}),
    (("results",), {"tokenCount": OUTPUT_TOKENS}),
)

TITAN_TEXT: Final = Dialect(
    name="titan",
    usage=TEXT_USAGE,
    heeded_limits=(("textGenerationConfig", "maxTokenCount"),),
    default_output=512,
    fallback_output=8_192,
    least_output=8_192,
)
TITAN_EMBEDDINGS: Final = Dialect(
    name="titan",
    usage=(((), {"inputTextTokenCount": INPUT_TOKENS}),),
    text_window=8_192,
    generates=False,
)


def _read_image(body: Mapping[str, Any]) -> Beside:
    return Beside({} if body.get("inputImage") is None else _IMAGE, reads_tokens=True)


def _skip(_seen: Measure, _value: Any) -> None:
    """
    Leave out an image, which has no tokens here: it is billed by the piece.
    """


_IMAGE: Final = {media.INPUT_IMAGES.name: 1}
# Text by the token, and the image beside it.
TITAN_IMAGE_EMBEDDINGS: Final = replace(
    TITAN_EMBEDDINGS,
    parts={"inputImage": _skip},
    beside=_read_image,
    most_beside=Beside(_IMAGE, reads_tokens=True),
)
