"""
Small parameters that several operations share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

_TIERS: Final = ("priority", "default", "flex", "reserved")

Default = TypeVar("Default", bound=str | None)


def choice(structure: object, key: str, default: Default) -> str | Default:
    """
    The word under *key* of a structure that may be missing, or malformed.
    """
    word = structure.get(key) if isinstance(structure, Mapping) else None
    return word if isinstance(word, str) and word else default


def dearer_tier(parameter: object, in_body: object) -> str:
    """
    The tier asked for; of a parameter and a maker's own field the dearer, for it is not told which one wins.
    """
    asked = [parameter] if isinstance(parameter, str) and parameter else []
    if isinstance(in_body, str) and in_body.lower() in _TIERS:
        asked.append(in_body.lower())
    if "priority" in asked:
        return "priority"
    return asked[0] if asked else "default"


def string_pairs(metadata: Any) -> Mapping[str, str]:
    """
    `requestMetadata` as tags: a mapping, or JSON as InvokeModel takes it.
    """
    if not metadata:
        return {}
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(metadata, Mapping):
        return {}
    return {key: value for key, value in metadata.items() if isinstance(key, str) and isinstance(value, str)}
