"""
Documents and search results in a prompt: plain ones are text, the others cannot be measured here.

A PDF or a spreadsheet is compressed, and its pages may be shown as images too.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any, Final

from bedrock_guard.families.measure import Measure

PLAIN_FORMATS: Final = frozenset(["csv", "html", "md", "txt"])

# With citations on, a document comes in numbered chunks, one a sentence, and with
# instructions (a recording: 193 bytes of text, and 672 tokens).
_CITED_BYTES: Final = 1_000
_CITED_TIMES: Final = 4


def read_plain_bytes(seen: Measure, value: object) -> None:
    """
    Add a plain document given as bytes, or as base64 as on the wire.
    """
    try:
        raw = b64decode(value, validate=True) if isinstance(value, str) else value
        text = raw.decode("utf-8") if isinstance(raw, bytes | bytearray) else None
    except (Base64Error, ValueError):
        text = None
    if text is None:
        seen.unseen(value)
    else:
        seen.text(text)


def add_citations(seen: Measure, document: dict[str, Any], text_bytes: int) -> None:
    """
    Add what citations put around a document of so many *text_bytes*, if it has them on.
    """
    citations = document.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        seen.text_bytes += text_bytes * (_CITED_TIMES - 1) + _CITED_BYTES


def read_search_result(seen: Measure, result: Any) -> None:
    """
    Add a search result; what it says can be cited as a document can.
    """
    before = seen.text_bytes
    seen.json(result)
    if isinstance(result, dict):
        add_citations(seen, result, seen.text_bytes - before)
