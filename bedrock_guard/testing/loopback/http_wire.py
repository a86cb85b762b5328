"""
HTTP/1.1 as far as the loopback Bedrock needs it, kept lean for benchmarks.

Keep-alive, content-length and chunked replies. No TLS, no proxying, no chunked
requests: botocore sends none to Bedrock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from io import BufferedReader
from typing import Final
from urllib.parse import urlsplit

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINE_LIMIT: Final = 65_536
_LAST_CHUNK: Final = b"0\r\n\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Head:
    """
    A request before its body.

    Attributes:
        path: As sent, percent-encoding and all, without the query.
        headers: By lower-case name.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""

    @property
    def length(self) -> int:
        """
        How long the body is said to be.
        """
        return int(self.headers.get("content-length", "0"))

    @property
    def expects_continue(self) -> bool:
        """
        Whether the client waits for leave to send its body.
        """
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def keeps_alive(self) -> bool:
        """
        Whether another request may follow on the connection.
        """
        return self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer in bytes, with what may be wrong with it.

    Attributes:
        frames: Chunks of a stream; None for a plain body.
        withheld: Bytes at the end of the body, promised but not sent.
        hangs_up: The connection ends with it; a stream then lacks its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    frames: tuple[bytes, ...] | None = None
    withheld: int = 0
    hangs_up: bool = False


def read_head(stream: BufferedReader) -> Head | None:
    """
    The next request's head, or None where the client closed or made no sense.
    """
    line = stream.readline(_LINE_LIMIT).decode("latin-1")
    parts = line.split()
    if len(parts) != 3:
        return None
    headers: dict[str, str] = {}
    while (raw := stream.readline(_LINE_LIMIT)) not in (b"\r\n", b"\n", b""):
        name, _, value = raw.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    target = parts[1]
    if target.startswith("/") and "?" not in target:
        return Head(parts[0], target, headers)
    url = urlsplit(target)
    return Head(parts[0], url.path, headers, url.query)


def encode_reply(reply: Reply) -> Iterator[bytes]:
    """
    The bytes to send: a plain reply in one piece, a stream in one piece a frame.
    """
    head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    phrase = _PHRASES.get(reply.status, "Unknown")
    first = f"HTTP/1.1 {reply.status} {phrase}\r\nDate: {formatdate(usegmt=True)}\r\n{head}"
    if reply.frames is None:
        sent = reply.body[: len(reply.body) - reply.withheld]
        yield f"{first}Content-Length: {len(reply.body)}\r\n\r\n".encode("latin-1") + sent
        return
    yield f"{first}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1")
    for frame in reply.frames:
        yield b"%x\r\n%b\r\n" % (len(frame), frame)
    if not reply.hangs_up:
        yield _LAST_CHUNK
