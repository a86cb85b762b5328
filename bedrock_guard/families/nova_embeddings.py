"""
Amazon Nova's multimodal embeddings: text by the token, images by the piece, sound and video by the second.

A request without segments takes 30 seconds of a medium; one with them, by StartAsyncInvoke
only, takes hours. How long a medium lasts is told nowhere, so it is charged at the longest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.domain.usage import Usage
from bedrock_guard.families.beside_tokens import Beside
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.limits import at
from bedrock_guard.families.measure import Measure
from bedrock_guard.meters import media

_SINGLE: Final = "singleEmbeddingParams"
_SEGMENTED: Final = "segmentedEmbeddingParams"
_SINGLE_S: Final = 30
_SEGMENTED_S: Final = 4 * 3_600
# The shortest segment that text can be cut into, in characters.
_SEGMENT: Final = 800
# A text in S3 may have 634 MB, by AWS's quotas of asynchronous embeddings.
_S3_TEXT_BYTES: Final = 634 * 2**20
_IMAGES: Final[dict[str, str]] = {
    "STANDARD_IMAGE": media.INPUT_IMAGES.name,
    "DOCUMENT_IMAGE": media.INPUT_DOCUMENT_IMAGES.name,
}


def _seconds(longest_s: int) -> dict[str, Usage]:
    # Of a video, its sound may be embedded, and billed, apart.
    audio = {media.INPUT_AUDIO_SECONDS.name: longest_s}
    return {"audio": audio, "video": {**audio, media.INPUT_VIDEO_SECONDS.name: longest_s}}


_MEDIA: Final[dict[str, dict[str, Usage]]] = {
    _SINGLE: _seconds(_SINGLE_S),
    _SEGMENTED: _seconds(_SEGMENTED_S),
}
_MOST: Final = Beside(_MEDIA[_SEGMENTED]["video"], reads_tokens=True, is_exact=False)


def _read_beside(body: Mapping[str, Any]) -> Beside:
    found = [key for key in _MEDIA if key in body]
    params = body[found[0]] if len(found) == 1 else None
    if not isinstance(params, dict):
        return _MOST
    usage: dict[str, int] = {}
    is_exact = True
    for kind, lasting in _MEDIA[found[0]].items():
        if params.get(kind) is not None:
            usage |= lasting
            is_exact = False
    if params.get("image") is not None:
        level = at(params, ("image", "detailLevel"))
        usage[_IMAGES.get(level if isinstance(level, str) else "", _IMAGES["STANDARD_IMAGE"])] = 1
    return Beside(usage, reads_tokens=not usage or params.get("text") is not None, is_exact=is_exact)


def _read_params(seen: Measure, params: Any) -> None:
    for key, value in params.items() if isinstance(params, dict) else [("", params)]:
        _PARAMS.get(key, Measure.json)(seen, value)


def _read_segmented(seen: Measure, params: Any) -> None:
    before = seen.text_bytes
    if at(params, ("text", "source")) is not None:
        seen.text_bytes += _S3_TEXT_BYTES
    else:
        _read_params(seen, params)
    # Each segment has marks of its own.
    seen.messages += (seen.text_bytes - before) // _SEGMENT + 1


def _read_text(seen: Measure, text: Any) -> None:
    if isinstance(text, dict) and "source" in text:
        seen.unseen(text)
    else:
        seen.json(text)


def _skip(_seen: Measure, _value: Any) -> None:
    """
    Leave out a medium, which has no tokens: it is billed by the piece or by the second.
    """


_PARAMS: Final = {"text": _read_text, "image": _skip, "audio": _skip, "video": _skip}

NOVA_EMBEDDINGS: Final = Dialect(
    name="nova",
    parts={_SINGLE: _read_params, _SEGMENTED: _read_segmented},
    beside=_read_beside,
    most_beside=_MOST,
    text_window=8_192,
    vectors=("embeddings",),
    generates=False,
)
