"""
`requestMetadata` with a program's tags added, so that Bedrock's invocation logs carry them.

Bedrock takes 16 pairs of up to 256 characters out of a short list, and as a header of
InvokeModel 8,500 bytes. What the caller wrote comes first and is left as it is; a tag that does
not fit beside it is left out whole, for a value that was cut would be another user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_MOST_PAIRS: Final = 16
_MOST_BYTES: Final = 8_500
# As the API's model has it, where `\s` is the six of ASCII.
_FITS: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}", re.ASCII)


class Merged(NamedTuple):
    """
    What to send, and which tags that leaves out.

    Attributes:
        metadata: For the parameter `requestMetadata`; None leaves it as it is.
        left_out: Tag -> why.
    """

    metadata: Any
    left_out: Mapping[str, str]


def merge_map(own: object, tags: Mapping[str, str]) -> Merged:
    """
    For Converse, whose parameter is a mapping; *own* is the caller's, or None.
    """
    if own is not None and not isinstance(own, Mapping):
        return Merged(None, {})  # a mistake of the caller's, which botocore tells
    merged: dict[Any, Any] = {} if own is None else dict(own)
    added, left_out = 0, {}
    for tag, value in tags.items():
        if tag in merged:
            continue
        if not _FITS.fullmatch(tag) or not _FITS.fullmatch(value):
            left_out[tag] = "only 256 letters, digits, spaces and : _ @ $ # = / + , - . are taken"
        elif len(merged) >= _MOST_PAIRS:
            left_out[tag] = f"there is room for {_MOST_PAIRS}"
        else:
            merged[tag] = value
            added += 1
    return Merged(merged if added else None, left_out)


def merge_text(own: object, tags: Mapping[str, str]) -> Merged:
    """
    For InvokeModel, whose parameter is a JSON object as text; *own* is the caller's, or None.
    """
    try:
        pairs = {} if own is None else json.loads(own) if isinstance(own, str) else own
    except (ValueError, RecursionError):
        pairs = own
    if not isinstance(pairs, dict):
        return Merged(None, {})
    left_out: dict[str, str] = {}
    rest = dict(tags)
    while True:
        merged = merge_map(pairs, rest)
        left_out = {**merged.left_out, **left_out}
        if merged.metadata is None:
            return Merged(None, left_out)
        text = json.dumps(merged.metadata)
        if len(text) <= _MOST_BYTES:
            return Merged(text, left_out)
        last = next(tag for tag in reversed(rest) if tag in merged.metadata and tag not in pairs)
        left_out[last] = f"there is room for {_MOST_BYTES} bytes"
        del rest[last]
