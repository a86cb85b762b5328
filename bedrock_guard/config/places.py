"""
Where in a TOML text a key is, for the messages of mistakes: what `tomllib` read does not say.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

_HEADER = re.compile(r"\s*\[(?P<listed>\[)?(?P<key>[^\]]+)\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"\s*(?P<key>(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'|\s*\.\s*)+?)\s*=")
_OURS = ("tool", "bedrock_guard")


def find_line(path: Sequence[str], text: str) -> int | None:
    """
    The line of the key *path*, or of the nearest one above it that has a line of its own; 1 is the first.

    The tables of a list have their number as a key: `("sinks", "0", "use")`.
    """
    best, line = 0, None
    for number, key in _keys(text):
        if len(key) > best and tuple(path[: len(key)]) == key:
            best, line = len(key), number
    return line


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    listed: Counter[tuple[str, ...]] = Counter()
    for number, content in enumerate(text.splitlines(), 1):
        if (header := _HEADER.fullmatch(content)) and (key := _parse(header["key"])) is not None:
            table = key[2:] if key[:2] == _OURS else key
            if header["listed"]:
                listed[table] += 1
                table = (*table, str(listed[table] - 1))
            yield number, table
        elif (named := _KEY.match(content)) and (key := _parse(named["key"])) is not None:
            yield number, (*table, *key)


def _parse(key: str) -> tuple[str, ...] | None:
    """
    A dotted key taken apart, as TOML itself does it; None where it is none.
    """
    try:
        inner: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(inner, dict):
        name, inner = next(iter(inner.items()))
        path.append(name)
    return tuple(path)
