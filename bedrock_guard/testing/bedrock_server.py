"""
A loopback Bedrock: real HTTP, real event streams, scripted faults, its own bill.

    with BedrockServer(rates={MODEL: {"input_tokens": "0.000001"}}) as server:
        client = boto3.client("bedrock-runtime", endpoint_url=server.url, ...)
        server.will_answer(429, converse_reply(input_tokens=10, output_tokens=5))

It shares nothing with the guard it judges: only the standard library, rates that are given to it
and a token count of its own. It imitates no model, no quota, no signature check, and stays here.

    python -m bedrock_guard.testing.bedrock_server

prints its URL and serves until it is killed or its standard input closes;
`GET /_server/bill` and `POST /_server/reset` are for such a server.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Final, Self

from bedrock_guard.testing.loopback.answers import (
    USUAL,
    Answer,
    Scripted,
    answer_of,
    broken_json,
    converse_reply,
    corrupt_frame,
    cut_stream,
    delay,
    error,
    error_reply,
    guardrail_block,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    raw,
    slow_answer,
    stream_error,
    tool_call,
    truncated_body,
)
from bedrock_guard.testing.loopback.batches import S3_PATH, Batches
from bedrock_guard.testing.loopback.bill import Bill, Rates, stated
from bedrock_guard.testing.loopback.connections import Connections
from bedrock_guard.testing.loopback.content import JSON_HEADERS, dump
from bedrock_guard.testing.loopback.generation import Generation, Usage, filler
from bedrock_guard.testing.loopback.guardrails import units_of
from bedrock_guard.testing.loopback.http_wire import Head, Reply
from bedrock_guard.testing.loopback.operations import Asked, Operation, parse
from bedrock_guard.testing.loopback.other_operation import OtherOperation
from bedrock_guard.testing.loopback.prompt import Body, Prompt
from bedrock_guard.testing.loopback.prompt_cache import PromptCache
from bedrock_guard.testing.loopback.routing import route

__all__ = [
    "Answer",
    "BedrockServer",
    "Bill",
    "Received",
    "broken_json",
    "converse_reply",
    "corrupt_frame",
    "cut_stream",
    "delay",
    "error",
    "guardrail_block",
    "lost_answer",
    "missing_usage",
    "missing_usage_headers",
    "raw",
    "slow_answer",
    "stream_error",
    "tool_call",
    "truncated_body",
]

_UNKNOWN_OPERATION: Final = Reply(
    404,
    {**JSON_HEADERS, "x-amzn-ErrorType": "UnknownOperationException"},
    dump({"Output": {"__type": "com.amazon.coral.service#UnknownOperationException"}, "Version": "1.0"}),
)


@dataclass(frozen=True, slots=True)
class Received:
    """
    A request as it arrived.

    Attributes:
        operation: Empty for a path that no operation has.
        model_id: As the caller gave it; of ApplyGuardrail, the guardrail's id.
        path: Percent-encoded.
        headers: By lower-case name.
        at: The server's clock, in seconds.
    """

    operation: str
    model_id: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class BedrockServer:
    """
    The server: start it, script it, call it, read its bill.

    Args:
        rates: USD for one unit by model id and meter; only needed for dollars.
        output_tokens: How much each call generates, unless its limit is lower.
        port: Of 127.0.0.1; 0 takes a free one.
        keep_requests: How many of the last requests are remembered.
        stream_chunks: Most pieces a text is streamed in.
        event_delay_s: Wait between two events of a stream.
        cache_minimum_tokens: Shorter prefixes are not cached.
        clock: What the prompt cache ages by.
    """

    def __init__(
        self,
        rates: Rates | None = None,
        output_tokens: int = 200,
        *,
        port: int = 0,
        keep_requests: int = 1000,
        stream_chunks: int = 32,
        event_delay_s: float = 0.0,
        cache_minimum_tokens: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.output_tokens = output_tokens
        self.bill = Bill(rates)
        self.batches = Batches(self.bill)
        self._port = port
        self._stream_chunks = stream_chunks
        self._event_delay_s = event_delay_s
        self._clock = clock
        self._cache = PromptCache(clock, minimum_tokens=cache_minimum_tokens)
        self._requests: deque[Received] = deque(maxlen=keep_requests)
        self._script: deque[Answer] = deque()
        self._standing = USUAL
        self._counting = USUAL
        self._lock = Lock()
        self._ids = count(1)
        self._stopping = Event()
        self._connections: Connections | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """
        Serve, in threads of this process, until `stop`.
        """
        if self._connections is None:
            self._stopping.clear()
            self._connections = Connections(
                self._handle,
                port=self._port,
                stopping=self._stopping,
                frame_delay_s=self._event_delay_s,
            )
        return self

    def stop(self) -> None:
        """
        Cut every connection, slow answers included; the bill stays readable.
        """
        if self._connections is not None:
            self._connections.close()
            self._connections = None

    @property
    def url(self) -> str:
        """
        What a client takes as its `endpoint_url`.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._connections is None:
            message = "BedrockServer is not running; call start(), or use it in a with statement."
            raise RuntimeError(message)
        return f"http://127.0.0.1:{self._connections.port}"

    @property
    def requests(self) -> tuple[Received, ...]:
        """
        The last requests in order of arrival, retries and free operations included.
        """
        with self._lock:
            return tuple(self._requests)

    @property
    def keep_requests(self) -> int:
        """
        How many requests are remembered; 0 for a benchmark.
        """
        return self._requests.maxlen or 0

    @keep_requests.setter
    def keep_requests(self, most: int) -> None:
        with self._lock:
            self._requests = deque(self._requests, maxlen=most)

    def will_answer(self, *answers: Scripted) -> None:
        """
        Answer the next requests that cost money so, one each, before anything else.
        """
        meant = [answer_of(answer) for answer in answers]
        with self._lock:
            self._script.extend(meant)

    def always(self, answer: Scripted | None) -> None:
        """
        Answer every request that costs money so; None for the usual.
        """
        self._standing = USUAL if answer is None else answer_of(answer)

    def always_count(self, answer: Scripted | None) -> None:
        """
        Answer every CountTokens so, which no script touches; None for the usual.
        """
        self._counting = USUAL if answer is None else answer_of(answer)

    def reset(self) -> None:
        """
        Forget bill, jobs, requests, script and prompt cache.
        """
        self.always(None)
        self.always_count(None)
        self.bill.clear()
        self.batches.clear()
        self._cache.clear()
        with self._lock:
            self._script.clear()
            self._requests.clear()

    def _handle(self, head: Head, body: bytes) -> Reply | None:
        if head.path.startswith("/_server/"):
            return self._control(head)
        if head.path.startswith(S3_PATH):
            return self.batches.serve(head)
        model_id, operation = route(head, body, self.batches.operations)
        with self._lock:
            name = operation.name if operation else ""
            self._requests.append(Received(name, model_id, head.path, head.headers, body, self._clock()))
        reply = self._answer(operation, model_id, head, body) if operation else _UNKNOWN_OPERATION
        if reply is None:
            return None
        request_id = f"00000000-0000-4000-8000-{next(self._ids):012x}"
        if any(name.lower() == "x-amzn-requestid" for name in reply.headers):  # a replayed one
            return reply
        return replace(reply, headers={"x-amzn-RequestId": request_id, **reply.headers})

    def _answer(
        self, operation: Operation | OtherOperation, model_id: str, head: Head, body: bytes
    ) -> Reply | None:
        answer = self._next_answer(operation)
        self._pause(answer.before_s)
        if answer.billed is not None:
            self.bill.add(model_id, answer.billed)
        reply = answer.reply
        if answer.bills:
            try:
                if isinstance(operation, OtherOperation):
                    return self._run(operation, model_id, parse(body or b"{}"), answer)
                asked = Asked(model_id, head.headers, parse(body))
                prompt = operation.read(asked)
            except ValueError as malformed:
                return error_reply(400, "ValidationException", str(malformed))
            generation = self._generate(operation, asked, prompt, answer)
            reply = reply or answer.shape(operation.answer(generation))
        self._pause(answer.after_s)
        return None if answer.silent else reply

    def _run(self, operation: OtherOperation, id_: str, body: Body, answer: Answer) -> Reply | None:
        ran = operation.run(id_, body, self.output_tokens)
        for charged, quantities in ran.charges:
            self.bill.add(charged, quantities)
        self._pause(answer.after_s)
        return None if answer.silent else answer.reply or answer.shape(ran.content)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self._stopping.wait(seconds)

    def _next_answer(self, operation: Operation | OtherOperation) -> Answer:
        if not operation.billed:
            return self._counting if isinstance(operation, Operation) else USUAL
        with self._lock:
            return self._script.popleft() if self._script else self._standing

    def _generate(self, operation: Operation, asked: Asked, prompt: Prompt, answer: Answer) -> Generation:
        limit = self.output_tokens if prompt.output_limit is None else prompt.output_limit
        blocked = answer.blocked and prompt.guardrail_text_units > 0
        wanted = min(self.output_tokens, limit) * prompt.copies if prompt.writes and not blocked else 0
        tier, latency = operation.served_as(asked)
        usage = answer.usage
        if usage is None:
            usage = (
                self._use(asked.model_id, prompt, wanted, blocked=blocked)
                if operation.billed
                else Usage(prompt.tokens)
            )
        if operation.billed:
            # Here, before a byte is sent: who hangs up pays.
            self.bill.add(asked.model_id, usage.quantities())
        return Generation(
            model_id=asked.model_id,
            usage=usage,
            text=filler(usage.output_tokens) if answer.text is None else answer.text,
            cut=answer.usage is None and limit < self.output_tokens,
            stream_chunks=self._stream_chunks,
            service_tier=answer.service_tier or tier,
            latency=answer.latency or latency,
            body=asked.body,
            blocked=blocked,
            traces=asked.headers.get("x-amzn-bedrock-trace") in ("ENABLED", "ENABLED_FULL"),
        )

    def _use(self, model_id: str, prompt: Prompt, output_tokens: int, *, blocked: bool) -> Usage:
        if blocked:
            return Usage(guardrail_text_units=prompt.guardrail_text_units)
        cached = self._cache.use(model_id, prompt.parts)
        return Usage(
            input_tokens=cached.uncached,
            output_tokens=output_tokens,
            cache_read_input_tokens=cached.read,
            cache_write_5m_input_tokens=cached.written_5m,
            cache_write_1h_input_tokens=cached.written_1h,
            media=prompt.media,
            has_free_input=prompt.has_free_input,
            guardrail_text_units=units_of(prompt, output_tokens),
        )

    def _control(self, head: Head) -> Reply:
        if (head.method, head.path) == ("GET", "/_server/bill"):
            return Reply(200, JSON_HEADERS, dump(stated(self.bill)))
        if (head.method, head.path) == ("POST", "/_server/reset"):
            self.reset()
            return Reply(200, JSON_HEADERS, b"{}")
        return _UNKNOWN_OPERATION


def main() -> None:
    """
    Serve in a process of its own.
    """
    options = argparse.ArgumentParser(prog="bedrock_server", description="A loopback Bedrock.")
    options.add_argument("--port", type=int, default=0, help="of 127.0.0.1; 0 takes a free one")
    options.add_argument("--output-tokens", type=int, default=200, help="generated by each call")
    options.add_argument("--rates", type=Path, help='a JSON file: {"MODEL": {"input_tokens": "0.000001"}}')
    given = options.parse_args()
    rates = json.loads(given.rates.read_text("utf-8")) if given.rates else None
    with BedrockServer(rates, given.output_tokens, port=given.port, keep_requests=0) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            sys.stdin.buffer.read()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
