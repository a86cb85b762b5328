"""
A prompt as the loopback Bedrock sees it: parts in order, and a limit.

It counts tokens by a rule anyone can do in the head: a quarter of the UTF-8
bytes of all text, rounded up once over the whole prompt, and 1,500 for an
image. No tokenizer is imitated; that count is below the number of bytes, as
every real one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

Body: TypeAlias = Mapping[str, object]

IMAGE_TOKENS: Final = 1500
BYTES_PER_TOKEN: Final = 4

# Structure, not text: what a model is not shown, or shows as a token of its own.
_NOT_TEXT: Final = frozenset(
    ["role", "type", "format", "media_type", "status", "id", "toolUseId", "tool_use_id", "cache_control"]
)
_MEDIA_KEYS: Final = frozenset(["image", "video"])
_MEDIA_TYPES: Final = frozenset(["image", "image_url"])


@dataclass(frozen=True, slots=True)
class Part:
    """
    A block of the prompt, the unit in which prompts are cached.

    Attributes:
        identity: What makes two parts the same to the prompt cache.
        cache_ttl: Lifetime of the cache point right after this part, if any.
    """

    identity: object
    text_bytes: int
    images: int = 0
    cache_ttl: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    What a request asks for.

    Attributes:
        output_limit: Most tokens of one answer, if the request or model says.
        copies: Answers asked for, each as long as the limit.
        writes: Whether the model writes text; embeddings and images do not.
        media: What is billed beside tokens, by meter.
        has_free_input: Whether the input is counted, and not billed.
        guardrail_text_units: Thousands of characters to be assessed.
    """

    parts: tuple[Part, ...] = ()
    output_limit: int | None = None
    copies: int = 1
    writes: bool = True
    media: Mapping[str, int] = field(default_factory=dict)
    has_free_input: bool = False
    guardrail_text_units: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or (self.output_limit is not None and self.output_limit < 0):
            message = "Malformed input request: a number is below its minimum."
            raise ValueError(message)

    @property
    def tokens(self) -> int:
        """
        All input tokens, cached or not.
        """
        return tokens(sum(part.text_bytes for part in self.parts), sum(part.images for part in self.parts))


def tokens(text_bytes: int, images: int) -> int:
    """
    The one counting rule.
    """
    return -(-text_bytes // BYTES_PER_TOKEN) + images * IMAGE_TOKENS


def read_parts(body: Body, paths: Sequence[tuple[str, ...]]) -> tuple[Part, ...]:
    """
    The parts found under *paths*, in that order, which is the order of caching.
    """
    parts: list[Part] = []
    for path in paths:
        _append(parts, at(body, path), "")
    return tuple(parts)


def at(body: object, path: Sequence[str]) -> object:
    """
    The value at a path of keys, or None.
    """
    for key in path:
        if not isinstance(body, dict):
            return None
        body = body.get(key)
    return body


def first_integer(body: Body, paths: Sequence[tuple[str, ...]]) -> int | None:
    """
    The first of *paths* that states a number.
    """
    for path in paths:
        value = at(body, path)
        if isinstance(value, int):
            return value
    return None


def _append(parts: list[Part], value: object, role: str) -> None:
    if isinstance(value, str):
        parts.append(_part(value, role))
    elif isinstance(value, list):
        for item in value:
            _append(parts, item, role)
    elif isinstance(value, dict):
        _append_mapping(parts, value, role)


def _append_mapping(parts: list[Part], value: Body, role: str) -> None:
    if "cachePoint" in value:
        # Converse marks a cache point by a block of its own, after what it caches.
        if parts:
            parts[-1] = replace(parts[-1], cache_ttl=_ttl(value["cachePoint"]))
    elif "role" in value:
        _append(parts, value.get("content"), str(value["role"]))
        beside = {key: item for key, item in value.items() if key not in ("role", "content")}
        if beside:
            parts.append(_part(beside, str(value["role"])))
    elif "cache_control" in value:
        # Anthropic's own bodies mark it inside the block.
        bare = {key: item for key, item in value.items() if key != "cache_control"}
        parts.append(replace(_part(bare, role), cache_ttl=_ttl(value["cache_control"])))
    else:
        parts.append(_part(value, role))


def _ttl(marker: object) -> str:
    return "1h" if at(marker, ("ttl",)) == "1h" else "5m"


def _part(value: object, role: str) -> Part:
    text_bytes, images = _measure(value)
    return Part((role, value), text_bytes, images)


def _measure(value: object) -> tuple[int, int]:
    """
    Bytes of text, and images, anywhere in a block.
    """
    if isinstance(value, str):
        return (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))), 0
    if isinstance(value, list):
        items = value
    elif isinstance(value, dict):
        if _is_media(value):
            return 0, 1
        items = [item for key, item in value.items() if key not in _NOT_TEXT]
    else:
        return 0, 0
    measures = [_measure(item) for item in items]
    return sum(measure[0] for measure in measures), sum(measure[1] for measure in measures)


def _is_media(block: Body) -> bool:
    if block.get("type") in _MEDIA_TYPES:
        return True
    return len(block) == 1 and any(isinstance(block.get(key), dict) for key in _MEDIA_KEYS)
