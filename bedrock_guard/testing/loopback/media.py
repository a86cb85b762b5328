"""
What the loopback Bedrock bills that is no token: images, seconds, queries; and how it answers with them.

A medium lasts as long as its name says (`s3://bucket/90s.mp4` is 90 seconds), or a
second for each thousand characters of its base64. An edited image is as large as the PNG
that was sent; a document is a document to rerank, however long.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback.dialect_replies import VECTOR, Document, stop
from bedrock_guard.testing.loopback.generation import Generation
from bedrock_guard.testing.loopback.prompt import Body, at

Quantities: TypeAlias = Mapping[str, int]

_PNG_START: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_SIZE: Final = slice(16, 24)
_LASTS: Final = re.compile(r"/(\d+)s\.\w+$")
_DOCUMENTS_A_QUERY: Final = 100
_SMALL_SIDE: Final = 1_024
# Tasks that give the image back that they were sent, in its size.
_EDITED: Final[Mapping[str, tuple[str, str]]] = {
    "INPAINTING": ("inPaintingParams", "image"),
    "OUTPAINTING": ("outPaintingParams", "image"),
    "BACKGROUND_REMOVAL": ("backgroundRemovalParams", "image"),
}


def png(width: int, height: int) -> str:
    """
    The head of a PNG of that size, in base64: as much as anybody looks at.
    """
    return b64encode(_PNG_START + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x06").decode()


def read_canvas(body: Body) -> Quantities:
    """
    The images of Nova Canvas, by quality and size.
    """
    quality = at(body, ("imageGenerationConfig", "quality")) or "standard"
    size = _SMALL_SIDE if max(_sides(body)) <= _SMALL_SIDE else 2 * _SMALL_SIDE
    return {f"images_{quality}_{size}": _images(body)}


def read_titan(body: Body) -> Quantities:
    """
    The images of Titan, of any size.
    """
    return {"images": _images(body)}


def pictures(generation: Generation) -> Document:
    """
    As many pictures as were asked for.
    """
    count = sum(generation.usage.media.values())
    return {"images": [png(*_sides(generation.body))] * count, "error": None}


def read_rerank(body: Body) -> Quantities:
    """
    A query for each hundred documents.
    """
    documents = body.get("documents")
    count = len(documents) if isinstance(documents, list) else 0
    return {"queries": max(1, -(-count // _DOCUMENTS_A_QUERY))}


def ranks(generation: Generation) -> Document:
    """
    The documents in the order they came.
    """
    documents = generation.body.get("documents")
    count = len(documents) if isinstance(documents, list) else 0
    return {"results": [{"index": index, "relevance_score": 0.5} for index in range(count)]}


def read_titan_embedding(body: Body) -> Quantities:
    """
    The image beside the text that Titan embeds.
    """
    return {"input_images": 1} if "inputImage" in body else {}


def read_nova_embedding(body: Body) -> Quantities:
    """
    What Nova embeds that is no text.
    """
    params = body.get("singleEmbeddingParams") or body.get("segmentedEmbeddingParams")
    used: dict[str, int] = {}
    if at(params, ("image",)) is not None:
        is_document = at(params, ("image", "detailLevel")) == "DOCUMENT_IMAGE"
        used["input_document_images" if is_document else "input_images"] = 1
    for kind in ("audio", "video"):
        if at(params, (kind,)) is not None:
            used[f"input_{kind}_seconds"] = _lasts(at(params, (kind, "source")))
    return used


def read_marengo(body: Body) -> Quantities:
    """
    What Marengo embeds, by its `inputType`.
    """
    kind = body.get("inputType")
    if kind in ("audio", "video"):
        source = at(body, (str(kind), "mediaSource")) or body.get("mediaSource")
        return {f"input_{kind}_seconds": _lasts(source)}
    return {"text": {"queries": 1}, "image": {"input_images": 1}}.get(
        str(kind), {"queries": 1, "input_images": 1}
    )


def marengo(_generation: Generation) -> Document:
    """
    One vector.
    """
    return {"data": [{"embedding": VECTOR}]}


def read_pegasus(body: Body) -> Quantities:
    """
    The video that Pegasus watches.
    """
    return {"input_video_seconds": _lasts(body.get("mediaSource"))}


def pegasus(generation: Generation) -> Document:
    """
    What Pegasus writes: no usage in the body.
    """
    return {"message": generation.text, "finishReason": stop(generation, "length", "stop")}


def read_reel(body: Body) -> Quantities:
    """
    The seconds that Nova Reel makes.
    """
    shots = at(body, ("multiShotManualParams", "shots"))
    if isinstance(shots, list):
        return {"output_video_seconds": 6 * len(shots)}
    return {"output_video_seconds": _integer(body, ("videoGenerationConfig", "durationSeconds"), 6)}


def read_luma(body: Body) -> Quantities:
    """
    The seconds that Luma Ray makes.
    """
    return {"output_video_seconds": int(str(body.get("duration", "5s")).rstrip("s"))}


def _images(body: Body) -> int:
    return _integer(body, ("imageGenerationConfig", "numberOfImages"), 1)


def _sides(body: Body) -> tuple[int, int]:
    edited = at(body, _EDITED.get(str(body.get("taskType")), ("",)))
    if isinstance(edited, str):
        size = b64decode(edited)[_PNG_SIZE]
        return int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")
    width, height = (
        _integer(body, ("imageGenerationConfig", side), _SMALL_SIDE) for side in ("width", "height")
    )
    return width, height


def _integer(body: Body, path: tuple[str, ...], default: int) -> int:
    value = at(body, path)
    if value is None:
        return default
    if not isinstance(value, int) or value < 1:
        message = f"Malformed input request: #/{'/'.join(path)}: expected a positive integer."
        raise ValueError(message)
    return value


def _lasts(source: object) -> int:
    uri = at(source, ("s3Location", "uri"))
    named = _LASTS.search(uri) if isinstance(uri, str) else None
    if named:
        return int(named[1])
    inline = at(source, ("base64String",)) or at(source, ("bytes",))
    return -(-len(inline) // 1000) if isinstance(inline, str) else 1
