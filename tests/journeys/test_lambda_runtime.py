"""
A handler in AWS's own runtime client, with a Runtime API that freezes and kills as Lambda does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import bedrock_guard
from bedrock_guard.invocations import LATE_S
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.bedrock_server import BedrockServer

pytest.importorskip("awslambdaric", reason="AWS has its runtime client for Linux only")

FUNCTION = """
import time
from bedrock_guard import Guard

guard = Guard(budget="chat: 5 USD/day")
bedrock = guard.client("bedrock-runtime")
kept = []

@guard.lambda_handler
def handler(event, context):
    stream = bedrock.converse_stream(
        modelId="us.amazon.nova-lite-v1:0",
        messages=[{"role": "user", "content": [{"text": "hi"}]}],
        inferenceConfig={"maxTokens": 100},
    )["stream"]
    kept.append(stream)
    next(iter(stream))
    if event["hangs"]:
        time.sleep(3600)
    return {"kept": len(kept)}
"""


class Runtime(BaseHTTPRequestHandler):
    """
    The API that a runtime asks for its next event, and gives its replies to.
    """

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        event, deadline_s = self.server.events.get()
        self._answer(
            json.dumps(event).encode(),
            {
                "Lambda-Runtime-Aws-Request-Id": "3f4c1e0a-6f5e-4c57-9a53-2d1c0f5e7b11",
                "Lambda-Runtime-Deadline-Ms": str(int(1000 * deadline_s)),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:111122223333:function:chat",
                "Content-Type": "application/json",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.replies.put((self.path, json.loads(body)))
        self.server.may_go_on.acquire()  # who has replied is frozen
        self._answer(b"", {})

    def _answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(202 if self.command == "POST" else 200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Lambda:
    """
    One execution environment.
    """

    def __init__(self, folder: Path, bedrock_url: str) -> None:
        (folder / "function.py").write_text(FUNCTION)
        self.api: Any = ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
        self.api.daemon_threads = True
        self.api.events, self.api.replies, self.api.may_go_on = Queue(), Queue(), threading.Semaphore(0)
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        ledger = f"sqlite:///{(folder / 'ledger.db').as_posix()}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", "function.handler"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(bedrock_guard.__file__).parents[1]), *sys.path[1:]]),
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": "chat",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock_url,
                "BEDROCK_GUARD_LEDGER": ledger,
                "LAMBDA_TASK_ROOT": str(folder),
            },
            stdout=subprocess.DEVNULL,
        )
        self.ledger = open_ledger(ledger, clock=time.time)

    @property
    def pending(self) -> list[int]:
        return [balance.pending for balance in self.ledger.balances()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.api.shutdown()
        self.api.server_close()
        self.ledger.close()


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


@pytest.fixture
def function(tmp_path: Path, server: BedrockServer) -> Iterator[Lambda]:
    environment = Lambda(tmp_path, server.url)
    yield environment
    environment.stop()


def test_with_the_reply_everything_is_settled(function: Lambda) -> None:
    """
    From here on nothing of it runs, until the next event or for ever.
    """
    for number in (1, 2):
        function.api.events.put(({"hangs": False}, time.time() + 60))

        path, reply = function.api.replies.get(timeout=60)
        assert path.endswith("/response"), reply
        assert reply == {"kept": number}
        assert function.pending == [0]
        function.api.may_go_on.release()


def test_what_a_killed_function_held_is_over_soon_after_its_time_out(
    function: Lambda, server: BedrockServer
) -> None:
    """
    Its process gets no signal that it could see, and nobody else knows of its call.
    """
    deadline_s = time.time() + 60
    function.api.events.put(({"hangs": True}, deadline_s))
    patience = time.monotonic() + 60
    while not (server.bill.requests and any(function.pending)) and time.monotonic() < patience:
        time.sleep(0.01)
    function.process.kill()
    function.process.wait(30)

    assert function.ledger.sweep(now=deadline_s + LATE_S - 1).charged == 0
    assert function.ledger.sweep(now=deadline_s + LATE_S + 1).charged == 1
    assert function.pending == [0]
