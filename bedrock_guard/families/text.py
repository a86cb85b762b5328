"""
How long text can be to a tokenizer, in bytes: never fewer than its tokens.

Byte-level tokenizers make at most a token of a byte. Some normalise first, and
NFKC can make text longer: U+FDFA is 3 bytes before and 33 after.
"""

from __future__ import annotations

import json
from unicodedata import is_normalized, normalize


def text_bytes(text: str) -> int:
    """
    The larger of the text's UTF-8 length, as it is and after NFKC.
    """
    if text.isascii():
        return len(text)
    plain = len(text.encode("utf-8", "surrogatepass"))
    if is_normalized("NFKC", text):
        return plain
    return max(plain, len(normalize("NFKC", text).encode("utf-8", "surrogatepass")))


def json_text(value: object) -> str:
    """
    A value as prompt templates write it: JSON, as long as it gets.

    Numbers and keys are text to a model too, and some templates escape what is
    not ASCII.

    Raises:
        TypeError, ValueError, RecursionError: It is not JSON (bytes in it, a circle).
    """
    return json.dumps(value)


def json_bytes(value: object, escaped: str) -> int:
    """
    The most bytes that *value* can be in a prompt, given its `json_text`.
    """
    if "\\u" not in escaped:
        return len(escaped)
    return max(len(escaped), text_bytes(json.dumps(value, ensure_ascii=False)))
