"""
How many tokens an image is that says its size: PNG and JPEG do, in their first bytes.

Nothing is decoded. An image of another format, or one that cannot be read, is the most
that its family makes of any.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from bedrock_guard.families.limits import at

PixelSize: TypeAlias = tuple[int, int]
ImageRule: TypeAlias = Callable[[int, int], int]
"""The most tokens that an image of so many pixels can be, from its width and height."""

# Where blocks of Converse and of the makers hold an image's bytes; of the last, a data URL.
_PLACES: Final = (("source", "bytes"), ("source", "data"), ("image_url", "url"))
# A PNG has its size at once; a JPEG soon, or after profiles.
_FIRST_BYTES: Final = 768
_HEAD_BYTES: Final = 3 * 2**15
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
# Markers that begin a frame, and those without a length.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset([0x01, *range(0xD0, 0xD9)])
_FILL: Final = 0xFF

_CLAUDE_TILE: Final = 28
_CLAUDE_PIXELS: Final = 750
_NOVA_SIDE: Final = 900
_NOVA_PIXELS: Final = 400
_NOVA_MARKS: Final = 256


def claude_tokens(width: int, height: int) -> int:
    """
    The more by both rules of Anthropic's guide: a token for each 28 x 28 pixels begun, and, before the 4.6
    generation, for each 750 pixels. Larger images are made smaller, to the cap.
    """
    tiles = -(-width // _CLAUDE_TILE) * -(-height // _CLAUDE_TILE)
    return max(tiles, -(-width * height // _CLAUDE_PIXELS))


def nova_tokens(width: int, height: int) -> int:
    """
    A token for 400 pixels, of an image made as large as 900 pixels on its shorter side.

    Recordings: 1,820 tokens for 540 x 360; AWS's guide: about 2,600 for 1,300 x 1,300, a token for 650.
    """
    short, long = sorted((width, height))
    if short < _NOVA_SIDE:
        short, long = _NOVA_SIDE, -(-long * _NOVA_SIDE // short)
    return -(-short * long // _NOVA_PIXELS) + _NOVA_MARKS


def read_pixels(block: Any) -> PixelSize | None:
    """
    Width and height of the image in a block of any dialect; None where it does not say.
    """
    for place in _PLACES:
        value = at(block, place)
        if value:
            return _of_png(_head(value, _FIRST_BYTES)) or _of_jpeg(value)
    return None


def _head(value: object, most: int) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value[:most])
    if not isinstance(value, str):
        return b""
    start = value.find(",", 0, 100) + 1 if value.startswith("data:") else 0
    try:
        return b64decode(value[start : start + most // 3 * 4])
    except (Base64Error, ValueError):
        return b""


def _of_png(head: bytes) -> PixelSize | None:
    if not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    return _positive(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def _of_jpeg(value: object) -> PixelSize | None:
    for most in (_FIRST_BYTES, _HEAD_BYTES):
        head = _head(value, most)
        found = _frame_in(head) if head.startswith(_JPEG) else None
        if found is not None:
            return found
    return None


def _frame_in(head: bytes) -> PixelSize | None:
    place = len(_JPEG)
    while place + 9 <= len(head) and head[place] == _FILL:
        marker = head[place + 1]
        if marker in _FRAMES:
            height, width = head[place + 5 : place + 7], head[place + 7 : place + 9]
            return _positive(int.from_bytes(width, "big"), int.from_bytes(height, "big"))
        if marker == _FILL:
            place += 1
        elif marker in _BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None


def _positive(width: int, height: int) -> PixelSize | None:
    return (width, height) if width > 0 and height > 0 else None
