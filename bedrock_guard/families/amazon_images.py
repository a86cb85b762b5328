"""
Amazon's image generators, Titan Image and Nova Canvas: billed by the image, by its size and quality.

The tasks that edit an image give it back in its own size, which the request does not
state and the reply shows: a PNG says its size in its first bytes.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.domain.usage import Usage
from bedrock_guard.families.beside_tokens import Beside, how_many
from bedrock_guard.families.dialect import Dialect
from bedrock_guard.families.limits import at
from bedrock_guard.meters import media

_MOST_IMAGES: Final = 5
_DEFAULT_SIDE: Final = 1_024
_CONFIG: Final = "imageGenerationConfig"
# The tasks whose images are as large as the request says.
_SIZED_TASKS: Final = ("TEXT_IMAGE", "COLOR_GUIDED_GENERATION", "IMAGE_VARIATION")
# By quality, then up to 1,024 pixels a side, and above.
_CANVAS: Final[dict[str, tuple[str, str]]] = {
    "standard": (media.IMAGES_STANDARD_1024.name, media.IMAGES_STANDARD_2048.name),
    "premium": (media.IMAGES_PREMIUM_1024.name, media.IMAGES_PREMIUM_2048.name),
}
_PNG: Final = b"\x89PNG\r\n\x1a\n"
# In base64: of the signature, the first chunk's head, and width and height.
_PNG_HEAD: Final = 32


def _count(body: Mapping[str, Any]) -> int:
    config = body.get(_CONFIG)
    if config is not None and not isinstance(config, dict):
        return _MOST_IMAGES
    return how_many(at(body, (_CONFIG, "numberOfImages")), default=1, most=_MOST_IMAGES)


def _read_titan(body: Mapping[str, Any]) -> Beside:
    return Beside({media.IMAGES.name: _count(body)})


def _read_canvas(body: Mapping[str, Any]) -> Beside:
    config = body.get(_CONFIG)
    config = {} if config is None else config
    quality = config.get("quality", "standard") if isinstance(config, dict) else None
    small, large = _CANVAS.get(quality if isinstance(quality, str) else "", _CANVAS["premium"])
    is_small = body.get("taskType") in _SIZED_TASKS and isinstance(config, dict) and _is_small(config)
    return Beside({small if is_small else large: _count(body)})


def _is_small(config: Mapping[str, Any]) -> bool:
    sides = [how_many(config.get(side), default=_DEFAULT_SIDE, most=2_048) for side in ("width", "height")]
    return max(sides) <= _DEFAULT_SIDE


def read_images(document: Mapping[str, Any], asked: Usage) -> Usage:
    """
    The images of a reply, at the one meter that they were asked for.
    """
    images, meter = document.get("images"), next(iter(asked))
    return {meter: len(images)} if isinstance(images, list) and images else {}


def _read_canvas_images(document: Mapping[str, Any], asked: Usage) -> Usage:
    images, meter = document.get("images"), next(iter(asked))
    if not isinstance(images, list):
        return {}
    sizes = next((sizes for sizes in _CANVAS.values() if meter in sizes), _CANVAS["premium"])
    made: Counter[str] = Counter()
    for image in images:
        side = _longest_side(image)
        made[meter if side is None else sizes[side > _DEFAULT_SIDE]] += 1
    return dict(made)


def _longest_side(image: object) -> int | None:
    """
    Of a PNG in base64, in pixels; None for anything else.
    """
    try:
        head = b64decode(image[:_PNG_HEAD]) if isinstance(image, str) else b""
    except ValueError:
        return None
    if not head.startswith(_PNG) or len(head) < _PNG_HEAD // 4 * 3:
        return None
    return max(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) or None


TITAN_IMAGE: Final = Dialect(
    name="titan",
    beside=_read_titan,
    most_beside=Beside({media.IMAGES.name: _MOST_IMAGES}),
    made=read_images,
    generates=False,
)
NOVA_CANVAS: Final = Dialect(
    name="nova",
    beside=_read_canvas,
    most_beside=Beside({media.IMAGES_PREMIUM_2048.name: _MOST_IMAGES}),
    made=_read_canvas_images,
    generates=False,
)
