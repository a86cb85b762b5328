"""
Amazon Titan: text, and embeddings of text and images.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.families.counts import CountTable
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.measure import Measure

TEXT_USAGE: Final[CountTable] = (
    ((), {"inputTextTokenCount": INPUT_TOKENS, "totalOutputTextTokenCount": OUTPUT_TOKENS}),
    (("results",), {"tokenCount": OUTPUT_TOKENS}),
)

TITAN_TEXT: Final = Dialect(
    name="titan",
    usage=TEXT_USAGE,
    default_output=512,
    fallback_output=8_192,
    least_output=8_192,
)
TITAN_EMBEDDINGS: Final = Dialect(
    name="titan",
    parts={"inputImage": Measure.image},
    usage=(((), {"inputTextTokenCount": INPUT_TOKENS}),),
    generates=False,
)
