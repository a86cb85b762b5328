"""
What a request is seen to hold, added up while it is read.

It only ever grows, and whatever it cannot make sense of makes the request
larger: as text where it can be written as JSON, as unseen where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from bedrock_guard.families.image_sizes import PixelSize, read_pixels
from bedrock_guard.families.text import json_bytes, json_text, text_bytes

Reader: TypeAlias = Callable[["Measure", Any], None]
"""Adds one value of a request, of whatever shape, to a `Measure`; never raises."""

# A tool that the maker defines brings a schema that is not in the request:
# computer use, the largest, about 1,250 tokens.
_BUILT_IN_TOOL_BYTES: Final = 1_500

# A schema that answers must keep to comes with instructions (a recording: about 130 tokens).
_SCHEMA_BYTES: Final = 1_000

_CACHE_MARKS: Final = ('"cache_control"', '"cachePoint"')


class Measure:
    """
    A running sum; the attributes are those of `RequestSize`, and `pixels` of images that say their size.

    What a sum begins with is on the class, so that to make one runs no code.
    """

    text_bytes = 0
    messages = 0
    images = 0
    pixels: tuple[PixelSize, ...] = ()
    has_tools = False
    has_unseen = False
    may_search = False
    writes_cache: Literal["5m", "1h"] | None = None

    def text(self, value: object) -> None:
        """
        Add text that the model reads as it stands.
        """
        if isinstance(value, str):
            self.text_bytes += len(value) if value.isascii() else text_bytes(value)
        else:
            self.json(value)

    def json(self, value: object) -> None:
        """
        Add everything in *value*, keys and numbers included; a cache mark in it counts.
        """
        try:
            escaped = json_text(value)
        except (TypeError, ValueError, RecursionError):
            self.has_unseen = True
            return
        self.text_bytes += json_bytes(value, escaped)
        if any(mark in escaped for mark in _CACHE_MARKS):
            self.mark_cache("1h" if '"1h"' in escaped else "5m")

    def odd(self, value: object) -> None:
        """
        Add something in the place of something else: AWS refuses it, or reads more into it.
        """
        self.json(value)
        self.has_unseen = True

    def unseen(self, _value: object) -> None:
        """
        Note something whose size cannot be told from here.
        """
        self.has_unseen = True

    def image(self, value: object) -> None:
        """
        Add an image; families know the most tokens of one, and of one that says its size.
        """
        self.images += 1
        pixels = read_pixels(value)
        if pixels is not None:
            self.pixels = (*self.pixels, pixels)

    def mark_cache(self, ttl: object) -> None:
        """
        Note that a cache entry is to be written; an unknown life counts as the longest.
        """
        if ttl not in (None, "5m"):
            self.writes_cache = "1h"
        elif self.writes_cache is None:
            self.writes_cache = "5m"

    def built_in_tool(self, value: object) -> None:
        """
        Add a tool of which the request holds only the name.
        """
        self.text_bytes += _BUILT_IN_TOOL_BYTES
        self.json(value)

    def answer_format(self, value: object) -> None:
        """
        Add the form that answers must keep to: a schema, and what the maker says about it.
        """
        self.text_bytes += _SCHEMA_BYTES
        self.json(value)
