"""
JSON documents out of lines: one on each line, or spread over many, alone, in an array, or in `"events"`; or
one after the other with nothing between them, as Firehose writes.

Lines are what is sure, as no JSON string goes over the end of one. A document that is damaged costs itself;
on a line of its own, no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

# What opens or closes something, with strings taken whole.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]')
_OPEN: Final = frozenset([b"{", b"["])
_CLOSE: Final = frozenset([b"}", b"]"])
# A line that may be a whole record by itself.
_BEGINS: Final = b'{"'
# The arrays that records lie in, as CloudWatch Logs writes them.
_CONTAINERS: Final = frozenset([b'"events"', b'"logEvents"', b'"Records"'])
# A document that goes on ends its first line so.
_GOES_ON: Final = (b"{", b"[", b",")
_MOST_BYTES: Final = 1 << 28
_BOM: Final = b"\xef\xbb\xbf"
# Never told: what follows is read.
_ANOTHER: Final = "another follows it"


class Document(NamedTuple):
    """
    One JSON document, or why there is none.

    Attributes:
        line: The number of the line that it begins on, from 1.
        value: What it says; None where it cannot be read.
        problem: Why not.
    """

    line: int
    value: Any
    problem: str = ""


def read_documents(lines: Iterable[bytes]) -> Iterator[Document]:
    """
    The documents in *lines*, in their order.
    """
    numbered = enumerate(lines, 1)
    for number, given in numbered:
        line = given.removeprefix(_BOM).strip()
        if not line:
            continue
        found = _read_line(number, line)
        if found.problem and line.endswith(_GOES_ON):
            yield from _Spread().read(number, line, numbered)
            return
        yield from _read_row(found, line)
        break
    for number, given in numbered:
        line = given.strip()
        if line:
            yield from _read_row(_read_line(number, line), line)


def parse(text: bytes | str) -> Any:
    """
    What JSON says, with no more than numbers, words and structures in it.

    Raises:
        ValueError: It is none, or too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _read_row(found: Document, line: bytes) -> Iterator[Document]:
    """
    All that is on *line*, of which *found* is what one document would be.
    """
    if found.problem == _ANOTHER:
        yield from _Spread().read(found.line, line, ())
    else:
        yield found


def _read_line(number: int, line: bytes) -> Document:
    # Exports and `aws logs tail` write the moment before each record.
    start = line.find(b"{") if line[:1] not in _OPEN else 0
    try:
        return Document(number, parse(line[max(0, start) :]))
    except ValueError as error:
        return Document(number, None, _ANOTHER if _is_followed(error) else f"no JSON: {_told(error)}")


class _Spread:
    """
    Documents over many lines: each object that is not in another, but for one that holds records in an array.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        # Where the record that is being read begins; 0 where none is.
        self._line = 0
        self._depth = 0
        # How much is open around a record; the last array of records that was opened counts.
        self._outer = [0]
        self._last = b""

    def read(self, number: int, line: bytes, rest: Iterable[tuple[int, bytes]]) -> Iterator[Document]:
        """
        The documents of *line* and all that follow.
        """
        yield from self._feed(number, line)
        last = number
        for last, given in rest:
            if given.startswith(_BEGINS) and not (alone := _read_line(last, given.strip())).problem:
                # What came before it has lost its end.
                yield from self._give_up("it ends too early")
                yield alone
                continue
            yield from self._feed(last, given)
            if self._size > _MOST_BYTES:
                yield from self._give_up("longer than 256 MB; write one record a line: jq -c '.events[]'")
        if self._depth:
            self._line = self._line or last
            yield from self._give_up("it ends too early")

    def _feed(self, number: int, line: bytes) -> Iterator[Document]:
        begun = 0
        for token in _TOKENS.finditer(line):
            word = token[0]
            if word in _OPEN:
                if self._is_around(word):
                    self._outer.append(self._depth + 1)
                    self._drop()
                elif self._depth == self._outer[-1]:
                    self._drop()
                    self._line, begun = number, token.start()
                self._depth += 1
            elif word in _CLOSE:
                self._depth = max(0, self._depth - 1)
                if self._line and self._depth == self._outer[-1]:
                    yield self._end(line[begun : token.end()])
                elif self._depth < self._outer[-1]:
                    self._outer.pop()
            self._last = word
        if self._line:
            self._parts.append(line[begun:])
            self._size += len(line) - begun

    def _is_around(self, word: bytes) -> bool:
        outer = self._outer[-1]
        is_named = self._last in _CONTAINERS and self._depth == outer + 1
        return word == b"[" and (self._depth == outer or is_named)

    def _end(self, last: bytes) -> Document:
        number, text = self._line, b"\n".join([*self._parts, last])
        self._drop()
        return _read_line(number, text)

    def _give_up(self, why: str) -> Iterator[Document]:
        if self._line:
            yield Document(self._line, None, f"no JSON: {why}")
            self._depth, self._outer = 0, [0]
        self._drop()

    def _drop(self) -> None:
        self._parts.clear()
        self._size = self._line = 0


def _is_followed(error: ValueError) -> bool:
    return (
        isinstance(error, json.JSONDecodeError)
        and error.msg == "Extra data"
        and error.doc[error.pos : error.pos + 1] == "{"
    )


def _told(error: ValueError) -> str:
    # Never the text itself: it may be a prompt.
    return error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
