"""
A loopback socket server: a thread a connection, any number of requests on each.

It knows HTTP, not Bedrock, and only as much of HTTP as botocore speaks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Final

from bedrock_guard.testing.loopback.http_wire import CONTINUE, Head, Reply, encode_reply, read_head

_BACKLOG: Final = 512
_JOIN_S: Final = 5.0


class Connections:
    """
    Accepts on a free port of this machine until closed.

    Args:
        handle: From a request to its reply; None closes the connection unanswered.
        stopping: Set on closing, for handlers that wait.
        frame_delay_s: Wait before each frame of a stream but the first.
    """

    def __init__(
        self,
        handle: Callable[[Head, bytes], Reply | None],
        *,
        port: int = 0,
        stopping: Event,
        frame_delay_s: float = 0.0,
    ) -> None:
        self._handle = handle
        self._stopping = stopping
        self._frame_delay_s = frame_delay_s
        self._lock = Lock()
        self._open: dict[socket.socket, Thread] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Thread(target=self._accept, name="loopback-bedrock", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """
        Stop accepting, cut every connection, and wait for their threads.
        """
        self._stopping.set()
        # A blocked accept wakes up for a connection on every system, not for a close.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=_JOIN_S):
            self._acceptor.join(_JOIN_S)
        self._listener.close()
        with self._lock:
            connections = dict(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_JOIN_S)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            connection, _ = self._listener.accept()
            if self._stopping.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = Thread(target=self._serve, args=(connection,), name="loopback-bedrock", daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            # A client that hangs up is a way for a call to end, not an error here.
            with suppress(OSError), connection, connection.makefile("rb") as stream:
                while not self._stopping.is_set() and (head := read_head(stream)):
                    if head.expects_continue:
                        connection.sendall(CONTINUE)
                    body = stream.read(head.length)
                    if len(body) < head.length:
                        return
                    reply = self._handle(head, body)
                    if reply is None:
                        return
                    self._send(connection, reply)
                    if reply.hangs_up or not head.keeps_alive:
                        return
        finally:
            with self._lock:
                self._open.pop(connection, None)

    def _send(self, connection: socket.socket, reply: Reply) -> None:
        pieces = encode_reply(reply)
        if not self._frame_delay_s:
            connection.sendall(b"".join(pieces))
            return
        connection.sendall(next(pieces) + next(pieces, b""))
        for piece in pieces:
            self._stopping.wait(self._frame_delay_s)
            connection.sendall(piece)
