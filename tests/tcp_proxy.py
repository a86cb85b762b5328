"""
A way to a server that a test can close, and open again, while connections are under way.

    open        what comes is passed on
    closed      nobody listens, and what was connected is cut
    silent      it is accepted, and never answered
    an answer   these bytes of HTTP to every request, which the server does not see
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

HTTP_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
_SLOW_DOWN = b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException"}'
THROTTLED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN), _SLOW_DOWN)
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Proxy:
    """
    To the server at *url*, on a port of its own.
    """

    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self._there = (there.hostname, there.port)
        self._answer: bytes | None = None
        self._is_silent = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        self._cut()
        self._answer, self._is_silent = None, False
        if self._listener.fileno() < 0:
            self._listener = self._listen(self.port)

    def close(self) -> None:
        # A thread inside `accept` would keep the port open.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def be_silent(self) -> None:
        self._is_silent = True

    def answer(self, raw: bytes) -> None:
        self._answer = raw

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here: socket.socket) -> None:
        try:
            there = socket.create_connection(self._there)
        except OSError:
            here.close()
            return
        with self._lock:
            self._sockets |= {here, there}
        try:
            self._pump(here, there)
        except (OSError, ValueError):
            return
        finally:
            here.close()
            there.close()
            with self._lock:
                self._sockets -= {here, there}

    def _pump(self, here: socket.socket, there: socket.socket) -> None:
        asked = b""
        with selectors.DefaultSelector() as ready:
            ready.register(here, selectors.EVENT_READ, there)
            ready.register(there, selectors.EVENT_READ, here)
            while True:
                for key, _ in ready.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        return
                    if self._answer is not None and source is here:
                        asked += data
                        if _is_whole(asked):
                            here.sendall(self._answer)
                            asked = b""
                    elif not self._is_silent:
                        sink.sendall(data)

    def _cut(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)
