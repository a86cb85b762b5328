"""
Images that say their size: what they come to, and that nothing less is held for those that do not.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from bounds import most_of
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.domain.call import ModelLimits
from bedrock_guard.domain.usage import total_input
from bedrock_guard.families.image_sizes import claude_tokens, nova_tokens, read_pixels
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.operations.invoke_model import INVOKE_MODEL

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NEW_CLAUDE = "us.anthropic.claude-opus-4-8"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
SIDES = st.integers(1, 9_000)


def png(width: int, height: int) -> bytes:
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    return head + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x06\x00\x00\x00rest"


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def jpeg(width: int, height: int, *before: bytes, frame: int = 0xC0) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8" + b"".join(before) + segment(frame, b"\x08" + size + b"\x03\x01\x11\x00") + b"rest"


def least(model_id: str, *images: bytes) -> int:
    """
    The bound of a request of nothing but images, the text's part included.
    """
    content = [{"image": {"format": "png", "source": {"bytes": image}}} for image in images]
    params = {"modelId": model_id, "messages": [{"role": "user", "content": content}]}
    call = CONVERSE.read_call(params, region="us-east-1")
    return min(total_input(usage) for usage in most_of(call, ModelLimits()))


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (png(640, 480), (640, 480)),
        (jpeg(640, 480), (640, 480)),
        (jpeg(640, 480, segment(0xE0, b"JFIF"), segment(0xE1, b"\xff\xc0" * 9_000)), (640, 480)),
        (jpeg(640, 480, b"\xff\xff\xff", frame=0xC2), (640, 480)),
        (jpeg(640, 480, b"\xff\xd0"), (640, 480)),
        (jpeg(640, 480, segment(0xC4, b"a table that is no frame")), (640, 480)),
        (jpeg(640, 480, segment(0xE1, b"x" * 65_000), segment(0xE2, b"x" * 65_000)), None),
        (png(0, 480), None),
        (jpeg(0, 0), None),
        (b"GIF89a" + bytes(20), None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\xff\xd8", None),
        (b"\xff\xd8\xff", None),
        (b"\xff\xd8\xff\xc0\x00", None),
        (b"", None),
    ],
)
def test_an_image_says_its_size_or_does_not(image: bytes, pixels: tuple[int, int] | None) -> None:
    """
    A size that is read wrongly is a bound that is too low; one that is not read is only a larger one.
    """
    url = "data:image/png;base64," + b64encode(image).decode()

    assert read_pixels({"source": {"bytes": image}}) == pixels
    assert read_pixels({"source": {"bytes": b64encode(image).decode()}}) == pixels
    assert read_pixels({"source": {"type": "base64", "data": b64encode(image).decode()}}) == pixels
    assert read_pixels({"image_url": {"url": url}}) == pixels


@given(
    st.binary(max_size=80)
    | st.binary(max_size=80).map(lambda tail: b"\xff\xd8" + tail)
    | st.text(max_size=20)
)
def test_no_bytes_raise(data: bytes | str) -> None:
    """
    What is no image is for AWS to refuse.
    """
    for block in ({"source": {"bytes": data}}, {"source": data}, {"image_url": {"url": data}}, data):
        read_pixels(block)


# Reported for the image alone, about: the recordings' prompt is taken off.
@pytest.mark.parametrize(
    ("rule", "width", "height", "reported"),
    [
        (claude_tokens, 640, 480, 414),
        (claude_tokens, 239, 178, 63),
        (claude_tokens, 1092, 1092, 1_590),  # Anthropic's table for a square of the largest size
        (claude_tokens, 560, 560, 418),  # by the older rule
        (nova_tokens, 540, 360, 1_830),
        (nova_tokens, 597, 566, 920),
        (nova_tokens, 1300, 1300, 2_600),
        (nova_tokens, 900, 450, 800),
    ],
)
def test_the_rule_is_not_below_what_was_reported(rule: Any, width: int, height: int, reported: int) -> None:
    """
    It is measured by what is known of real images.
    """
    assert reported <= rule(width, height) < 6 * reported


@given(SIDES, SIDES)
def test_a_larger_image_is_no_less(width: int, height: int) -> None:
    """
    A rule with a dip would be low beside it; one that minds how an image lies would too.
    """
    for rule in (claude_tokens, nova_tokens):
        assert rule(width, height) == rule(height, width)
        assert rule(width * 2, height * 2) >= rule(width, height)


def test_an_image_that_says_its_size_is_held_for_that() -> None:
    """
    A hundred thousand tokens held for a small picture are money that no other call has.
    """
    assert least(CLAUDE, png(280, 280)) < 300
    assert least(NOVA, png(540, 360)) < 4_000
    assert least(NEW_CLAUDE, png(8_000, 8_000)) >= 4_800
    assert least(CLAUDE, png(8_000, 8_000)) < 1_800


def test_an_image_that_does_not_is_held_for_the_most() -> None:
    """
    One small picture beside it changes nothing.
    """
    assert least(CLAUDE, b"GIF89a") >= 1_600
    assert least(NOVA, b"no image") >= 100_000
    assert least(NOVA, png(540, 360), b"GIF89a") >= 100_000 + nova_tokens(540, 360)
    assert least(LLAMA, png(10, 10)) >= 5_000


def test_images_in_bodies_say_their_size_too() -> None:
    """
    The same in InvokeModel's dialects, in tool results as well.
    """
    data = b64encode(png(280, 280)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image]}
    body = json.dumps({"messages": [{"role": "user", "content": [image, result]}]})
    size = INVOKE_MODEL.read_call({"modelId": CLAUDE, "body": body}, region="us-east-1").size

    assert (size.images, size.sized_images, size.sized_image_tokens) == (2, 2, 2 * 105)
