"""
A loopback STS: one XML answer, for whoever asks by GetCallerIdentity, and a note of who did.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROLE = "arn:aws:sts::123456789012:assumed-role/Answering/task-1"
_ANSWER = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>{}</Arn><UserId>AROA:x</UserId><Account>123456789012</Account></GetCallerIdentityResult>"
    "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
)


class StsServer:
    """
    Attributes:
        arn: What it answers.
        status: Its HTTP status.
        delay_s: How long it takes.
        asked_by: The access keys that requests were signed with, in order.
    """

    def __init__(self) -> None:
        self.arn, self.status, self.delay_s = ROLE, 200, 0.0
        self.asked_by: list[str] = []
        self.url = ""

    def answer(self, request: Any) -> None:
        signed = re.search(r"Credential=([^/]+)/", request.headers.get("authorization", ""))
        self.asked_by.append(signed[1] if signed else "")
        time.sleep(self.delay_s)
        request.rfile.read(int(request.headers["content-length"]))
        body = _ANSWER.format(self.arn).encode()
        request.send_response(self.status)
        request.send_header("content-type", "text/xml")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@contextmanager
def running() -> Iterator[StsServer]:
    sts = StsServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sts.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    sts.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield sts
    finally:
        server.shutdown()
        server.server_close()
