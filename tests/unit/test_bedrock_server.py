"""
The loopback Bedrock over plain HTTP: how it serves, and in what order.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedrock_guard.testing.bedrock_server import BedrockServer, error, main, slow_answer

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = {"messages": [{"role": "user", "content": [{"text": "12345678"}]}]}


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


def send(url: str, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def post(server: BedrockServer, path: str, body: object) -> tuple[int, dict[str, str], dict]:
    status, headers, raw_body = send(server.url, "POST", path, json.dumps(body).encode())
    return status, headers, json.loads(raw_body)


def converse(server: BedrockServer, **body: object) -> dict:
    return post(server, f"/model/{MODEL}/converse", body)[2]


@pytest.mark.parametrize(
    "asked",
    [
        {"converse": HELLO},
        {"invokeModel": {"body": base64.b64encode(json.dumps({"prompt": "12345678"}).encode()).decode()}},
    ],
)
def test_counting_tokens_costs_nothing_and_leaves_the_script_alone(
    server: BedrockServer, asked: dict
) -> None:
    """
    A guard may ask for a count at the edge of a budget, between two scripted answers.
    """
    server.will_answer(500)

    status, _, reply = post(server, f"/model/{MODEL}/count-tokens", {"input": asked})

    assert (status, reply) == (200, {"inputTokens": 2})
    assert (server.bill.requests, server.requests[0].operation) == (0, "CountTokens")
    assert post(server, f"/model/{MODEL}/converse", HELLO)[0] == 500


def test_counting_tokens_can_be_denied(server: BedrockServer) -> None:
    """
    Many roles may not count tokens, and a guard must live with that.
    """
    server.always_count(error(403))
    assert post(server, f"/model/{MODEL}/count-tokens", {"input": {"converse": HELLO}})[0] == 403

    server.always_count(None)
    assert post(server, f"/model/{MODEL}/count-tokens", {"input": {"converse": HELLO}})[0] == 200


def test_a_guardrail_is_billed_by_policy_and_thousand_characters(server: BedrockServer) -> None:
    """
    Guardrails cost money of their own, in units that are not tokens.
    """
    content = [{"text": {"text": "x" * 1001}}]
    _, _, reply = post(
        server, "/guardrail/gr123/version/DRAFT/apply", {"source": "INPUT", "content": content}
    )

    assert reply["usage"]["contentPolicyUnits"] == 2
    assert server.bill.lines == {
        ("gr123", "guardrail_content_policy_units"): 2,
        ("gr123", "guardrail_topic_policy_units"): 2,
        ("gr123", "guardrail_sensitive_information_policy_units"): 2,
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/model/x/dream"),
        ("POST", "/converse"),
        ("POST", "/guardrail/x/converse"),
        ("GET", "/model/x/converse"),
        ("GET", "/_server/secrets"),
    ],
)
def test_an_unknown_path_is_refused_as_aws_refuses_it(server: BedrockServer, method: str, path: str) -> None:
    """
    A client sent to the wrong place must hear so, and pay nothing.
    """
    status, headers, _ = send(server.url, method, path, b"{}")

    assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert server.bill.requests == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"inferenceConfig": {"maxTokens": -1}}'],
)
def test_a_malformed_body_is_refused_unbilled(server: BedrockServer, body: bytes) -> None:
    """
    Bedrock validates before it generates, so a bad request is free.
    """
    status, headers, _ = send(server.url, "POST", f"/model/{MODEL}/converse", body)

    assert status == 400
    assert headers["x-amzn-errortype"].startswith("ValidationException:")
    assert server.bill.requests == 0


def test_the_script_comes_first_then_the_standing_answer_then_the_usual(server: BedrockServer) -> None:
    """
    Tests read their story off the order in which they scripted it.
    """
    path = f"/model/{MODEL}/converse"
    server.always(503)
    server.will_answer(429, 500)

    seen = [post(server, path, HELLO)[0] for _ in range(3)]
    server.always(None)

    assert [*seen, post(server, path, HELLO)[0]] == [429, 500, 503, 200]


def test_a_status_that_is_no_error_cannot_be_scripted(server: BedrockServer) -> None:
    """
    A typing error in a test must fail in that test, not as a puzzling reply.
    """
    with pytest.raises(ValueError, match=r"No Bedrock error has status 418\. Known: 400, 403"):
        server.will_answer(418)


def test_a_request_is_remembered_as_it_arrived(server: BedrockServer) -> None:
    """
    What left the process is what a test of "nothing was sent" looks at.
    """
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"
    path = "/model/" + arn.replace(":", "%3A").replace("/", "%2F") + "/converse"
    post(server, path, HELLO)

    (received,) = server.requests
    assert (received.operation, received.model_id, received.path) == ("Converse", arn, path)
    assert json.loads(received.body) == HELLO
    assert received.headers["content-length"] == str(len(received.body))


def test_only_the_last_requests_are_remembered(server: BedrockServer) -> None:
    """
    A long benchmark must not fill the memory with its own traffic.
    """
    server.keep_requests = 2
    for text in ("a", "b", "c"):
        converse(server, system=[{"text": text}])

    assert [json.loads(it.body)["system"][0]["text"] for it in server.requests] == ["b", "c"]
    assert (server.keep_requests, server.bill.requests) == (2, 3)


def test_reset_forgets_everything(server: BedrockServer) -> None:
    """
    One server may serve many tests, and none may see another's money.
    """
    server.always(503)
    server.will_answer(429)
    converse(server, **HELLO)

    server.reset()

    assert (server.requests, server.bill.lines) == ((), {})
    assert post(server, f"/model/{MODEL}/converse", HELLO)[0] == 200


def test_a_connection_serves_many_requests(server: BedrockServer) -> None:
    """
    Clients pool connections; a server that closed them would slow every benchmark.
    """
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    for _ in range(3):
        connection.request("POST", f"/model/{MODEL}/converse", json.dumps(HELLO))
        reply = connection.getresponse()
        reply.read()
        opened = connection.sock
        assert opened is not None
    assert connection.sock is opened
    connection.close()

    assert server.bill.requests == 3


def test_a_client_that_waits_for_leave_gets_it(server: BedrockServer) -> None:
    """
    A client may send its headers with `Expect` and hold its body back.
    """
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = "POST /model/m/converse HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_a_request_cut_short_is_not_generated() -> None:
    """
    What never arrived whole cannot have been billed.
    """
    with BedrockServer() as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"POST /model/m/converse HTTP/1.1\r\nContent-Length: 99\r\n\r\n{}")

    assert (server.bill.requests, server.requests) == (0, ())


def test_stopping_does_not_wait_for_slow_answers() -> None:
    """
    An answer of an hour is for the client's read timeout, not for the test run.
    """
    with BedrockServer() as server:
        server.will_answer(slow_answer(3600))
        port = int(server.url.rpartition(":")[2])
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(b"POST /model/m/converse HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        while not server.bill.requests:
            threading.Event().wait(0.001)
    connection.close()

    with pytest.raises(RuntimeError, match="BedrockServer is not running"):
        _ = server.url


def test_a_stopped_server_starts_again_with_its_bill() -> None:
    """
    An outage is a stop and a start; what was billed before it stays billed.
    """
    server = BedrockServer().start()
    converse(server, **HELLO)
    server.stop()
    server.stop()

    with server:
        assert server.start() is server
        converse(server, **HELLO)

    assert server.bill.requests == 2


def test_a_hundred_clients_are_billed_each_time(server: BedrockServer) -> None:
    """
    The bill is the truth of the concurrency tests, so it may not lose an update.
    """

    def call() -> None:
        for _ in range(5):
            converse(server, **HELLO)

    threads = [threading.Thread(target=call) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert server.bill.requests == 500
    assert server.bill.lines == {(MODEL, "input_tokens"): 1000, (MODEL, "output_tokens"): 100_000}


def test_the_bill_can_be_read_and_reset_over_http() -> None:
    """
    A benchmark in another process has no other way to learn what it spent.
    """
    rates = {MODEL: {"input_tokens": "0.5", "output_tokens": "2"}}
    with BedrockServer(rates, output_tokens=3) as server:
        converse(server, **HELLO)
        bill = json.loads(send(server.url, "GET", "/_server/bill", b"")[2])
        send(server.url, "POST", "/_server/reset", b"")
        empty = json.loads(send(server.url, "GET", "/_server/bill", b"")[2])

    assert bill == {
        "requests": 1,
        "lines": [
            {"model_id": MODEL, "meter": "input_tokens", "quantity": 2},
            {"model_id": MODEL, "meter": "output_tokens", "quantity": 3},
        ],
        "usd": "7.0",
        "nanousd": 7_000_000_000,
    }
    assert (empty["requests"], empty["lines"]) == (0, [])


def test_a_bill_without_rates_states_no_dollars(server: BedrockServer) -> None:
    """
    No dollars is not 0 dollars.
    """
    bill = json.loads(send(server.url, "GET", "/_server/bill", b"")[2])

    assert bill == {"requests": 0, "lines": []}


def test_it_serves_from_a_process_of_its_own() -> None:
    """
    In the same process, a benchmark would measure the server with the guard.
    """
    command = [sys.executable, "-m", "bedrock_guard.testing.bedrock_server", "--output-tokens", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        reply = json.loads(send(url, "POST", f"/model/{MODEL}/converse", json.dumps(HELLO).encode())[2])
        bill = json.loads(send(url, "GET", "/_server/bill", b"")[2])
        process.stdin.close()

        assert process.wait(60) == 0
    assert sorted(bill) == ["lines", "requests"]  # no dollars without rates
    assert reply["usage"]["outputTokens"] == 3


class Interrupted(io.BytesIO):
    """
    A standard input at which someone presses Ctrl-C.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        raise KeyboardInterrupt


@pytest.mark.parametrize("stdin", [io.BytesIO(), Interrupted()])
def test_the_command_prints_its_url_and_ends_with_its_input(
    stdin: io.BytesIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A server whose starter died must not live on.
    """
    rates = tmp_path / "rates.json"
    rates.write_text('{"m": {"input_tokens": "1"}}')
    monkeypatch.setattr(sys, "argv", ["bedrock_server", "--rates", str(rates)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))

    main()

    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
