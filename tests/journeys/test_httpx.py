"""
Clients that speak HTTP themselves, through a guard's transport: httpx alone, `AnthropicBedrock`, LiteLLM.
"""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from bedrock_guard import Budget, BudgetExceeded, Guard
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, UnmeteredOperation
from bedrock_guard.hooks.httpx import AsyncGuardTransport, GuardTransport
from bedrock_guard.hooks.httpx_process import guard_transports
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    corrupt_frame,
    cut_stream,
    lost_answer,
    stream_error,
    truncated_body,
)

httpx = pytest.importorskip("httpx")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CONVERSE = {
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
INVOKE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello there"}],
}
ENDS = [("converse", CONVERSE), ("invoke", INVOKE)]
STREAM_ERROR = stream_error("modelStreamErrorException")
STREAMS = [("converse-stream", CONVERSE), ("invoke-with-response-stream", INVOKE)]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(budget="1 USD", ledger="memory://", settings={}) as guard:
        yield guard


@pytest.fixture
def client(guard: Guard, server: BedrockServer) -> Iterator[Any]:
    transport = GuardTransport(guard, region="us-east-1")
    with httpx.Client(transport=transport, base_url=server.url, timeout=5, trust_env=False) as client:
        yield client


def books(guard: Guard, server: BedrockServer) -> tuple[int, int, int]:
    """
    What is spent, pending, and billed by the server, in nano-dollars.
    """
    row = guard.status()[0]
    return int(row.spent * 10**9), int(row.pending * 10**9), int(server.bill.usd * 10**9)


@pytest.mark.parametrize(("end", "body"), [*ENDS, *STREAMS])
def test_a_reply_is_settled_at_what_it_reports_and_comes_as_it_was(
    end: str, body: dict[str, Any], client: Any, guard: Guard, server: BedrockServer
) -> None:
    """
    The books are those of the server, and the program reads what it would have read.
    """
    bare = httpx.post(f"{server.url}/model/{SONNET}/{end}", json=body, trust_env=False)
    server.reset()

    reply = client.post(f"/model/{SONNET}/{end}", json=body)

    entry = next(guard.entries())
    assert (reply.status_code, len(reply.content)) == (200, len(bare.content))
    assert (entry.outcome, entry.basis, entry.region) == ("answered", "reported", "us-east-1")
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


@pytest.mark.parametrize(("end", "body"), [*ENDS, *STREAMS])
def test_async_replies_are_settled_too(
    end: str, body: dict[str, Any], guard: Guard, server: BedrockServer
) -> None:
    """
    By the same functions.
    """

    async def ask() -> int:
        transport = AsyncGuardTransport(guard, region="us-east-1")
        async with httpx.AsyncClient(transport=transport, base_url=server.url, trust_env=False) as client:
            reply = await client.post(f"/model/{SONNET}/{end}", json=body)
            return len(reply.content)

    assert asyncio.run(ask()) > 0
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


def test_those_who_wait_for_room_let_the_others_make_it(server: BedrockServer) -> None:
    """
    On an event loop that they held up, the call that they wait for could never end.
    """
    with Guard(budgets=[], ledger="memory://", settings={}) as unlimited:
        most = unlimited.estimate("Converse", modelId=SONNET, **CONVERSE).cost
    assert most is not None
    budget = Budget("one at a time", f"{2 * most - Decimal('0.000000001')} USD", wait_s=60)

    async def ask(guard: Guard) -> list[int]:
        transport = AsyncGuardTransport(guard, region="us-east-1")
        async with httpx.AsyncClient(transport=transport, base_url=server.url, trust_env=False) as client:
            path = f"/model/{SONNET}/converse"
            replies = await asyncio.gather(*(client.post(path, json=CONVERSE) for _ in range(2)))
            return [reply.status_code for reply in replies]

    with Guard(budgets=[budget], ledger="memory://", settings={}) as guard:
        assert asyncio.run(ask(guard)) == [200, 200]


def test_a_task_that_is_cancelled_while_it_waits_has_sent_nothing(server: BedrockServer) -> None:
    """
    So it costs nothing, and holds nothing.
    """

    async def ask(guard: Guard) -> None:
        transport = AsyncGuardTransport(guard, region="us-east-1")
        async with httpx.AsyncClient(transport=transport, base_url=server.url, trust_env=False) as client:
            task = asyncio.create_task(client.post(f"/model/{SONNET}/converse", json=CONVERSE))
            for _ in range(2):  # to where it waits for the thread that opens it
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with Guard(budget=Budget("b", "1 USD", wait_s=1), ledger="memory://", settings={}) as guard:
        asyncio.run(ask(guard))
        assert books(guard, server)[:2] == (0, 0)
    assert server.requests == ()


@pytest.mark.parametrize(("end", "body"), [*ENDS, *STREAMS])
def test_what_does_not_fit_is_not_sent(end: str, body: dict[str, Any], server: BedrockServer) -> None:
    """
    Nothing on the wire, nothing billed.
    """
    with Guard(budget="0.0001 USD", ledger="memory://", settings={}) as guard:
        transport = GuardTransport(guard, region="us-east-1")
        with httpx.Client(transport=transport, base_url=server.url) as client, pytest.raises(BudgetExceeded):
            client.post(f"/model/{SONNET}/{end}", json=body)

    assert server.requests == ()


@pytest.mark.parametrize(
    ("answer", "end", "outcome", "basis"),
    [
        (429, "converse", "rejected", "reported"),
        (corrupt_frame(at_event=2), "converse-stream", "lost", "estimated"),
        (500, "converse", "lost", "estimated"),
        (lost_answer(), "converse", "lost", "estimated"),
        (truncated_body(), "converse", "lost", "estimated"),
        (cut_stream(after_events=2), "converse-stream", "lost", "estimated"),
        (cut_stream(after_events=3), "invoke-with-response-stream", "lost", "estimated"),
        (STREAM_ERROR, "converse-stream", "lost", "estimated"),
    ],
)
def test_what_goes_wrong_is_charged_as_it_is_for_boto3(
    answer: Any, end: str, outcome: str, basis: str, client: Any, guard: Guard, server: BedrockServer
) -> None:
    """
    Free where no model ran, the estimate where one may have.
    """
    server.will_answer(answer)
    with suppress(httpx.HTTPError):
        client.post(f"/model/{SONNET}/{end}", json=dict([*ENDS, *STREAMS])[end])

    entry = next(guard.entries())
    assert (entry.outcome, entry.basis) == (outcome, basis)
    spent, pending, billed = books(guard, server)
    assert pending == 0
    assert spent >= billed
    assert (spent == 0) == (outcome == "rejected")
    assert answer != STREAM_ERROR or entry.attempts[0].error_code == "modelStreamErrorException"
    assert answer != 429 or entry.attempts[0].error_code == "ThrottlingException"


def test_a_stream_that_is_left_is_charged_at_its_estimate(
    client: Any, guard: Guard, server: BedrockServer
) -> None:
    """
    AWS may bill all of it.
    """
    with client.stream("POST", f"/model/{SONNET}/converse-stream", json=CONVERSE) as reply:
        next(reply.iter_raw(16))

    entry = next(guard.entries())
    assert (entry.outcome, entry.basis, entry.cost) == ("lost", "estimated", entry.estimated_cost)


def test_nothing_is_charged_for_what_could_not_be_sent(guard: Guard) -> None:
    """
    Nobody listens on port 1.
    """
    transport = GuardTransport(guard, region="us-east-1")
    with httpx.Client(transport=transport, trust_env=False) as client, pytest.raises(httpx.ConnectError):
        client.post(f"http://127.0.0.1:1/model/{SONNET}/converse", json=CONVERSE)

    assert (next(guard.entries()).outcome, guard.status()[0].spent) == ("rejected", 0)


def test_where_a_request_goes_tells_its_region_and_whether_it_is_ours(guard: Guard) -> None:
    """
    What bills and cannot be counted does not pass; other hosts are none of ours.
    """

    def answer(request: Any) -> Any:
        return httpx.Response(200, json={"usage": {"inputTokens": 3, "outputTokens": 4}})

    with httpx.Client(transport=GuardTransport(guard, httpx.MockTransport(answer))) as client:
        host = "https://bedrock-runtime.eu-west-1.amazonaws.com"
        client.post(f"{host}/model/amazon.nova-lite-v1%3A0/converse", json=CONVERSE)
        client.post("https://example.org/model/x", json={})
        client.post(f"{host}/model/amazon.nova-lite-v1:0/count-tokens", json={})
        with pytest.raises(UnmeteredOperation, match="/openai/v1/responses"):
            client.post(f"{host}/openai/v1/responses", json={})

    (entry,) = guard.entries()
    assert (entry.region, entry.model_id) == ("eu-west-1", "amazon.nova-lite-v1:0")
    assert entry.usage == {"input_tokens": 3, "output_tokens": 4}


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("vpce-0123-abcd.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-runtime.us-east-1.api.aws", "us-east-1"),
    ],
)
def test_hosts_of_every_kind_are_bedrock_s(guard: Guard, host: str, region: str) -> None:
    """
    A VPC's endpoint bills as any other. An ARN's slash is escaped by some clients, and not by others.
    """
    usage = {"usage": {"inputTokens": 3, "outputTokens": 4}}
    sends = httpx.MockTransport(lambda _: httpx.Response(200, json=usage))
    arn = f"arn:aws:bedrock:{region}::foundation-model/amazon.nova-lite-v1:0"
    with httpx.Client(transport=GuardTransport(guard, sends), base_url=f"https://{host}") as client:
        for model in (arn, arn.replace("/", "%2F")):
            client.post(f"/model/{model}/converse", json=CONVERSE)
        with pytest.raises(UnmeteredOperation):
            client.post("/openai/v1/responses", json={})

    assert {(entry.region, entry.model_id) for entry in guard.entries()} == {(region, arn)}


def test_a_url_that_was_signed_beforehand_tells_its_region(
    guard: Guard, server: BedrockServer, client: Any
) -> None:
    """
    It has no header that does.
    """
    signed = {"X-Amz-Credential": "AKID/20261122/eu-west-1/bedrock/aws4_request"}
    client.post("/model/amazon.nova-lite-v1:0/converse", json=CONVERSE, params=signed)

    assert next(guard.entries()).region == "eu-west-1"


@pytest.mark.parametrize(
    ("service", "path", "is_refused"),
    [
        ("bedrock", "/rerank", True),
        ("bedrock-agentcore", "/runtimes/any/invocations", True),
        ("bedrock-mantle", "/openai/v1/chat/completions", True),
        ("bedrock", f"/model/{SONNET}/count-tokens", False),
        ("s3", "/bucket/key", False),
    ],
)
def test_a_signature_tells_what_goes_to_bedrock_through_a_gateway(
    service: str, path: str, is_refused: bool, guard: Guard
) -> None:
    """
    Its name does not, and what bills must not pass uncounted.
    """
    signed = {"authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/{service}/aws4_request"}
    sends = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    expected = pytest.raises(UnmeteredOperation) if is_refused else nullcontext()
    with httpx.Client(transport=GuardTransport(guard, sends)) as client, expected:
        client.post(f"https://gateway.internal{path}", json=CHAT, headers=signed)

    assert list(guard.entries()) == []


@pytest.mark.parametrize(("end", "is_free"), [(b"", True), (b"data: [DONE]\n\n", False)])
def test_a_whole_stream_that_tells_no_usage_is_no_lost_reply(end: bytes, is_free: bool) -> None:
    """
    Else whoever leaves `include_usage` out, as most do, would pay nothing where lost replies are free.
    """
    said = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    sends = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(said + end)))
    with Guard(budget="1 USD", ledger="memory://", settings={}, on_lost_reply="release") as guard:
        transport = GuardTransport(guard, sends)
        with httpx.Client(
            transport=transport, base_url="https://bedrock-runtime.us-east-1.amazonaws.com"
        ) as client:
            client.post("/openai/v1/chat/completions", json={**CHAT, "stream": True})

        (entry,) = guard.entries()
    assert (entry.outcome, entry.basis) == ("lost" if is_free else "answered", "estimated")
    assert (entry.cost, entry.cost == entry.estimated_cost) == (
        0 if is_free else entry.estimated_cost,
        not is_free,
    )


def test_openai_s_route_is_known_by_its_signature_too(guard: Guard, server: BedrockServer) -> None:
    """
    Of a gateway that nobody has named.
    """
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/bedrock/aws4_request"}
    with httpx.Client(transport=GuardTransport(guard), trust_env=False) as client:
        client.post(f"{server.url}/openai/v1/chat/completions", json=CHAT, headers=signed)

    assert [entry.region for entry in guard.entries()] == ["us-east-1"]


def test_uploads_to_elsewhere_are_not_read(guard: Guard) -> None:
    """
    They may be larger than memory.
    """

    def parts() -> Iterator[bytes]:
        yield b"much"

    seen = []

    class Sends(httpx.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            seen.append(type(request.stream).__name__)
            return httpx.Response(200)

    with httpx.Client(transport=GuardTransport(guard, Sends())) as client:
        client.post("https://example.org/upload", content=parts())

    assert seen == ["IteratorByteStream"]


def test_a_stream_that_nobody_closes_is_ended_when_it_is_dropped(
    client: Any, guard: Guard, server: BedrockServer
) -> None:
    """
    Else it would be held for as long as the process lives.
    """
    request = client.build_request("POST", f"/model/{SONNET}/converse-stream", json=CONVERSE)
    reply = client.send(request, stream=True)
    assert guard.status()[0].pending > 0

    del reply, request
    gc.collect()
    guard.flush()

    assert (next(guard.entries()).outcome, guard.status()[0].pending) == ("lost", 0)


def test_an_async_stream_that_nobody_closes_is_ended_when_it_is_dropped(
    guard: Guard, server: BedrockServer
) -> None:
    """
    A framework that breaks out of its loop closes nothing.
    """

    async def leave() -> None:
        transport = AsyncGuardTransport(guard, region="us-east-1")
        async with httpx.AsyncClient(transport=transport, base_url=server.url, trust_env=False) as client:
            request = client.build_request("POST", f"/model/{SONNET}/converse-stream", json=CONVERSE)
            async for _ in (await client.send(request, stream=True)).aiter_raw(16):
                break

    asyncio.run(leave())
    gc.collect()
    guard.flush()

    assert (next(guard.entries()).outcome, guard.status()[0].pending) == ("lost", 0)


def test_a_streamed_reply_that_is_whole_already_is_settled(guard: Guard, server: BedrockServer) -> None:
    """
    A cache, or a mock, has read it: nobody will iterate over its stream.
    """
    url = f"{server.url}/model/{SONNET}/converse-stream"
    content = httpx.post(url, json=CONVERSE, trust_env=False).content
    whole = httpx.MockTransport(lambda _: httpx.Response(200, content=content))

    with httpx.Client(transport=GuardTransport(guard, whole, region="us-east-1")) as client:
        assert client.post(url, json=CONVERSE).content == content

    async def ask() -> None:
        transport = AsyncGuardTransport(guard, whole, region="us-east-1")
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.post(url, json=CONVERSE)).content == content

    asyncio.run(ask())
    spent, pending, billed = books(guard, server)
    assert spent == 2 * billed > 0
    assert pending == 0


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        (b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x08metadata", b"[" * 100_000),
        (b"\x01a\x63", b""),  # of a type that there is not
    ],
    ids=["deep", "unknown header"],
)
def test_frames_that_cannot_be_read_reach_the_client(headers: bytes, payload: bytes, guard: Guard) -> None:
    """
    What to make of them is the client's to say; that they are charged, ours.
    """
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    frame = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    frame += struct.pack(">I", crc32(frame))
    sends = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(frame)))

    with httpx.Client(transport=GuardTransport(guard, sends, region="us-east-1")) as client:
        reply = client.post(f"https://example.org/model/{SONNET}/converse-stream", json=CONVERSE)

    assert reply.content == frame
    assert (next(guard.entries()).outcome, guard.status()[0].pending) == ("lost", 0)


def test_anthropic_s_own_client(guard: Guard, server: BedrockServer) -> None:
    """
    `AnthropicBedrock` retries by itself: each attempt is a request, and a throttled one is free.
    """
    anthropic = pytest.importorskip("anthropic")
    kind = pytest.importorskip(anthropic.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    client = anthropic.AnthropicBedrock(
        aws_region="us-east-1",
        aws_access_key="any",
        aws_secret_key="any",
        base_url=server.url,
        http_client=kind.Client(transport=GuardTransport(guard, kind.HTTPTransport())),
    )
    ask = {"model": SONNET, "max_tokens": 100, "messages": INVOKE["messages"]}
    server.will_answer(429)

    client.messages.create(**ask)
    for _ in client.messages.create(stream=True, **ask):
        pass

    assert [entry.outcome for entry in guard.entries()] == ["answered", "answered", "rejected"]
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


def test_anthropic_s_own_client_wraps_a_refusal(server: BedrockServer) -> None:
    """
    It takes whatever a transport raises for a lost connection; the refusal is found in its causes.
    """
    anthropic = pytest.importorskip("anthropic")
    kind = pytest.importorskip(anthropic.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    with Guard(budget="0.0001 USD", ledger="memory://", settings={}) as guard:
        client = anthropic.AnthropicBedrock(
            aws_region="us-east-1",
            aws_access_key="any",
            aws_secret_key="any",
            base_url=server.url,
            max_retries=0,
            http_client=kind.Client(transport=GuardTransport(guard, kind.HTTPTransport())),
        )
        with pytest.raises(anthropic.APIConnectionError) as raised:
            client.messages.create(model=SONNET, max_tokens=100, messages=INVOKE["messages"])

    assert BudgetExceeded.find(raised.value) is not None
    assert server.requests == ()


@pytest.mark.filterwarnings("ignore")  # its own
def test_litellm(guard: Guard, server: BedrockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The incident's own stack: its calls went through here.
    """
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    handler = HTTPHandler(client=httpx.Client(transport=GuardTransport(guard)))
    for is_stream in (False, True):
        reply = litellm.completion(
            model=f"bedrock/converse/{SONNET}",
            messages=[{"role": "user", "content": "hello there"}],
            max_tokens=100,
            aws_region_name="us-east-1",
            aws_bedrock_runtime_endpoint=server.url,
            client=handler,
            stream=is_stream,
        )
        if is_stream:
            assert len(list(reply)) > 1

    assert [entry.outcome for entry in guard.entries()] == ["answered", "answered"]
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


@pytest.mark.filterwarnings("ignore")
def test_async_litellm_and_its_refusal(server: BedrockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Its handler makes its own client, which is exchanged; the refusal is the context of its error.
    """
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    async def ask(guard: Guard) -> None:
        handler = AsyncHTTPHandler()
        await handler.client.aclose()
        handler.client = httpx.AsyncClient(transport=AsyncGuardTransport(guard))
        await litellm.acompletion(
            model=f"bedrock/converse/{SONNET}",
            messages=[{"role": "user", "content": "hello there"}],
            max_tokens=100,
            aws_region_name="us-east-1",
            aws_bedrock_runtime_endpoint=server.url,
            client=handler,
            num_retries=0,
        )
        await handler.client.aclose()

    with Guard(budget="1 USD", ledger="memory://", settings={}) as guard:
        asyncio.run(ask(guard))
        spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0
    with Guard(budget="0.0001 USD", ledger="memory://", settings={}) as guard:
        with pytest.raises(Exception, match="may cost up to") as raised:
            asyncio.run(ask(guard))
        assert BudgetExceeded.find(raised.value) is not None
    assert len(server.requests) == 1


CHAT = {"model": "openai.gpt-oss-120b-1:0", "max_tokens": 100, "messages": INVOKE["messages"]}
TOLD = {"model": CHAT["model"], "stream": True, "stream_options": {"include_usage": True}}


def chat_client(guard: Guard, server: BedrockServer, **options: Any) -> Any:
    transport = GuardTransport(guard, region="us-east-1", hosts=["127.0.0.1"], **options)
    return httpx.Client(transport=transport, base_url=server.url, trust_env=False)


@pytest.mark.parametrize(
    ("said", "outcome", "usage"),
    [
        ({}, "answered", {"input_tokens": 3, "output_tokens": 100}),
        (TOLD, "answered", {"input_tokens": 3, "output_tokens": 100}),
        ({"stream": True}, "answered", None),
    ],
    ids=["whole", "streamed", "streamed without usage"],
)
def test_chat_completions_are_settled_where_they_state_their_usage(
    said: dict[str, Any], outcome: str, usage: Any, guard: Guard, server: BedrockServer
) -> None:
    """
    OpenAI's API streams none unless it is asked to; such a stream is charged at its estimate.
    """
    with chat_client(guard, server) as client:
        reply = client.post("/openai/v1/chat/completions", json={**CHAT, **said})

    assert reply.status_code == 200
    entry = next(guard.entries())
    assert (entry.outcome, entry.model_id, entry.family) == (outcome, CHAT["model"], "openai_chat")
    if usage is None:
        assert (entry.basis, entry.cost) == ("estimated", entry.estimated_cost)
    else:
        # 0.15 and 0.60 USD a million, from AWS's price page.
        assert (entry.usage, entry.cost) == (usage, Decimal("0.00006045"))


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (b'data: {"error": {"code": "throttled"}}\n\n', "throttled"),
        (b'data: {"error": "no"}\n\n', "error"),
        (b"data: {\n\n", "JSONDecodeError"),
    ],
)
def test_chat_completions_that_break_are_charged_at_their_estimate(
    part: bytes, code: str, guard: Guard
) -> None:
    """
    Lines come in any pieces, and errors among them.
    """
    parts = [b'data: {"choices": [{"del', b'ta": {}}]}\r\n\r\n: a comment\n', part, b"data: [DONE]\n\n"]
    sends = httpx.MockTransport(lambda _: httpx.Response(200, content=iter(parts)))
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions"

    with httpx.Client(transport=GuardTransport(guard, sends)) as client:
        client.post(url, json={**CHAT, "stream": True})

    entry = next(guard.entries())
    assert (entry.outcome, entry.basis, entry.attempts[0].error_code) == ("lost", "estimated", code)


@pytest.mark.parametrize("body", [b"{}", b"[", b"[]"])
def test_a_chat_completion_that_names_no_model_is_not_sent(
    body: bytes, guard: Guard, server: BedrockServer
) -> None:
    """
    Nothing tells what it could cost.
    """
    with chat_client(guard, server) as client, pytest.raises(ConfigurationError, match="names no model"):
        client.post("/openai/v1/chat/completions", content=body)

    assert server.requests == ()


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [("api.groq.com", False), ("bedrock-mantle.us-east-1.api.aws", True)],
)
def test_chat_completions_elsewhere_are_not_taken_for_bedrock_s(
    host: str, is_refused: bool, guard: Guard
) -> None:
    """
    Other makers have the same path; bedrock-mantle has prices of its own.
    """
    sends = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    expected = pytest.raises(UnmeteredOperation) if is_refused else nullcontext()
    with httpx.Client(transport=GuardTransport(guard, sends)) as client, expected:
        client.post(f"https://{host}/openai/v1/chat/completions", json=CHAT)

    assert list(guard.entries()) == []


@pytest.mark.parametrize("path", [f"/model/{SONNET}/converse", "/openai/v1/chat/completions"])
def test_a_refusal_may_be_a_reply(path: str, server: BedrockServer) -> None:
    """
    SDKs and routers try a lost connection again; HTTP 400 they take for an answer.
    """
    with Guard(budget="0.0000001 USD", ledger="memory://", settings={}) as guard:
        with chat_client(guard, server, refusals="reply") as client:
            reply = client.post(path, json={**CHAT, **CONVERSE})

        async def ask() -> Any:
            transport = AsyncGuardTransport(guard, region="us-east-1", hosts=["127.0.0.1"], refusals="reply")
            async with httpx.AsyncClient(transport=transport, base_url=server.url) as client:
                return await client.post(path, json={**CHAT, **CONVERSE})

        replies = [reply, asyncio.run(ask())]
        assert {entry.outcome for entry in guard.entries()} == {"refused"}
    for each in replies:
        told = each.json()
        assert "may cost up to" in told.get("error", told)["message"]
        assert (each.status_code, each.headers["x-should-retry"]) == (400, "false")
        assert each.headers["x-amzn-errortype"] == "BudgetExceeded"
    assert server.requests == ()


def test_a_ledger_that_is_gone_may_be_there_again(guard: Guard, server: BedrockServer) -> None:
    """
    That is HTTP 503, which clients try again.
    """

    class Gone:
        def __getattr__(self, name: str) -> Any:
            return getattr(guard, name)

        def hold(self, *args: Any, **kwargs: Any) -> Any:
            raise LedgerUnavailable("The table is gone.")

    with chat_client(Gone(), server, refusals="reply") as client:
        reply = client.post(f"/model/{SONNET}/converse", json=CONVERSE)

    assert (reply.status_code, reply.json()) == (503, {"message": "The table is gone."})
    assert "x-should-retry" not in reply.headers


def test_refusals_are_raised_or_replied(guard: Guard) -> None:
    """
    A word that is neither is told at once.
    """
    with pytest.raises(ConfigurationError, match="refusals is 'return'; it is one of 'raise', 'reply'"):
        GuardTransport(guard, refusals="return")  # type: ignore[arg-type]


@pytest.mark.parametrize(("end", "body"), [*ENDS, *STREAMS])
def test_a_guard_that_is_there_twice_holds_once(
    end: str, body: dict[str, Any], guard: Guard, server: BedrockServer
) -> None:
    """
    A framework puts a transport round the one that it is given; the second charged each request again.
    """
    twice = GuardTransport(guard, GuardTransport(guard), region="us-east-1")
    with httpx.Client(transport=twice, base_url=server.url, trust_env=False) as client:
        client.post(f"/model/{SONNET}/{end}", json=body)
        client.post(f"/model/{SONNET}/{end}", json=body)

    assert len(list(guard.entries())) == 2
    spent, pending, billed = books(guard, server)
    assert spent == billed > 0
    assert pending == 0


def test_of_several_guards_all_must_admit(guard: Guard, server: BedrockServer) -> None:
    """
    And what the first has held is given back where the second refuses.
    """
    with Guard(budget="0.0001 USD", ledger="memory://", settings={}) as inner:
        transports = GuardTransport(guard, GuardTransport(inner, region="us-east-1"), region="us-east-1")
        with (
            httpx.Client(transport=transports, base_url=server.url) as client,
            pytest.raises(BudgetExceeded, match=r"0\.0001 USD"),
        ):
            client.post(f"/model/{SONNET}/converse", json=CONVERSE)

    assert (next(guard.entries()).outcome, guard.status()[0].spent) == ("rejected", 0)
    assert server.requests == ()


class ClientConnectorError(OSError):
    """
    As aiohttp names it: nobody listens.
    """


class ClientOSError(OSError):
    """
    As aiohttp names it: a connection was reset, perhaps after the request had gone out.
    """


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [(None, "rejected"), (ClientConnectorError(), "rejected"), (ClientOSError(), "lost")],
)
def test_a_connection_that_was_reset_may_have_been_billed(
    cause: Exception | None, outcome: str, guard: Guard
) -> None:
    """
    LiteLLM's transport says ConnectError of both; released, such a request would have been free.
    """

    def send(_: Any) -> Any:
        raise httpx.ConnectError("reset") from cause

    transport = GuardTransport(guard, httpx.MockTransport(send), region="us-east-1")
    with httpx.Client(transport=transport) as client, pytest.raises(httpx.ConnectError):
        client.post(f"https://example.org/model/{SONNET}/converse", json=CONVERSE)

    assert next(guard.entries()).outcome == outcome


def test_a_reader_that_is_cancelled_ends_its_stream(guard: Guard) -> None:
    """
    Whoever keeps the reply closes nothing: a proxy whose client has left.
    """

    class Waits(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""
            is_read.set()
            await asyncio.Event().wait()

    async def read(reply: Any) -> None:
        async for _ in reply.aiter_raw():
            pass

    async def leave() -> None:
        sends = httpx.MockTransport(lambda _: httpx.Response(200, stream=Waits()))
        transport = AsyncGuardTransport(guard, sends, region="us-east-1")
        async with httpx.AsyncClient(transport=transport) as client:
            url = f"https://example.org/model/{SONNET}/converse-stream"
            reply = await client.send(client.build_request("POST", url, json=CONVERSE), stream=True)
            reader = asyncio.create_task(read(reply))
            await is_read.wait()
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

            assert (next(guard.entries()).outcome, guard.status()[0].pending) == ("lost", 0)
            await reply.aclose()

    is_read = asyncio.Event()
    asyncio.run(leave())


def test_a_guard_round_the_process_sees_clients_that_are_there_already(
    guard: Guard, server: BedrockServer
) -> None:
    """
    And one that has a transport of ours is held for once, async clients too.
    """
    headers = {"authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/bedrock/aws4_request"}
    url = f"{server.url}/model/{SONNET}/converse"

    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(url, json=CONVERSE, headers=headers)

    with httpx.Client(trust_env=False) as before:
        take_off = guard_transports(guard)
        try:
            before.post(url, json=CONVERSE, headers=headers)
            with httpx.Client(transport=GuardTransport(guard), trust_env=False) as own:
                own.post(url, json=CONVERSE, headers=headers)
            asyncio.run(ask())
        finally:
            take_off()
        before.post(url, json=CONVERSE, headers=headers)

    assert [entry.outcome for entry in guard.entries()] == ["answered"] * 3
    assert len(server.requests) == 4


def test_a_guard_round_the_process_is_told_of_gateways(guard: Guard, server: BedrockServer) -> None:
    """
    What is asked of them with a key tells neither service nor region.
    """
    keyed = {"authorization": "Bearer any"}
    take_off = guard_transports(guard, region="eu-west-1", hosts=["127.0.0.1"])
    try:
        httpx.post(f"{server.url}/openai/v1/chat/completions", json=CHAT, headers=keyed, trust_env=False)
    finally:
        take_off()

    assert [(entry.outcome, entry.region) for entry in guard.entries()] == [("answered", "eu-west-1")]


@pytest.mark.parametrize(
    ("answer", "end", "outcome"),
    [
        (429, "converse", "rejected"),
        (lost_answer(), "converse", "lost"),
        (truncated_body(), "converse", "lost"),
        (cut_stream(after_events=2), "converse-stream", "lost"),
    ],
)
@pytest.mark.parametrize("ledger", ["memory://", "sqlite:///ledger.db"])
def test_what_goes_wrong_with_async_clients_is_charged_as_ever(
    answer: Any,
    end: str,
    outcome: str,
    ledger: str,
    server: BedrockServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Whether or not the ledger has the event loop wait for a disk.
    """
    monkeypatch.chdir(tmp_path)

    async def ask(guard: Guard) -> None:
        transport = AsyncGuardTransport(guard, region="us-east-1")
        async with httpx.AsyncClient(transport=transport, base_url=server.url, trust_env=False) as client:
            with suppress(httpx.TransportError):
                await client.post(f"/model/{SONNET}/{end}", json=CONVERSE)

    server.will_answer(answer)
    with Guard(budget="b: 1 USD", ledger=ledger, settings={}) as guard:
        asyncio.run(ask(guard))
        guard.flush()

        assert [entry.outcome for entry in guard.entries()] == [outcome]
        spent, pending, billed = books(guard, server)
    assert spent >= billed
    assert pending == 0


def test_async_clients_pass_and_refuse_the_same(guard: Guard) -> None:
    """
    By the same functions.
    """

    async def ask() -> None:
        sends = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
        async with httpx.AsyncClient(transport=AsyncGuardTransport(guard, sends)) as client:
            await client.post("https://example.org/upload", content=b"much")
            with pytest.raises(UnmeteredOperation, match="/openai/v1/responses"):
                await client.post("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1/responses")

    asyncio.run(ask())
    assert list(guard.entries()) == []
