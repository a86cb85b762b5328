"""
Sinks, each against what it really talks to, over real sockets.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs

import pytest

from bedrock_guard import Guard
from bedrock_guard.alerts import SINKS, open_sinks
from bedrock_guard.alerts.clients import make_client
from bedrock_guard.alerts.eventbridge import EventBridgeSink
from bedrock_guard.alerts.log import LogSink
from bedrock_guard.alerts.powertools import LoggerSink, MetricsSink
from bedrock_guard.alerts.sns import SNSSink
from bedrock_guard.alerts.webhook import WebhookSink
from bedrock_guard.domain.alert import KINDS, Alert
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.testing.ledger_calls import answered, open_entry

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alerts"
ALERT = Alert(
    id="0123456789abcdef0123456789abcdef",
    kind="threshold",
    threshold=0.8,
    budget="search",
    per=(("team", "café"),),
    window_start=datetime(2026, 11, 22, tzinfo=UTC),
    window_end=datetime(2026, 11, 23, tzinfo=UTC),
    unit="USD",
    spent=Decimal("4.000000001"),
    limit=Decimal(5),
    text="search (5 USD/day) [team=café]: 80 % is reached",
    at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
)


class Receiver:
    """
    A real HTTP server that answers as it is told, and keeps what it was sent.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, str, bytes]] = []
        self.hangs: threading.Event | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                if receiver.hangs is not None:
                    receiver.hangs.wait(60)
                    return
                status, kind, answer = (
                    receiver.answers.pop(0) if receiver.answers else (200, "text/plain", b"")
                )
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                if status == 302:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_an_alert_is_the_same_after_its_json() -> None:
    """
    Another process tells it from what the ledger has of it.
    """
    assert Alert.from_json(ALERT.to_json()) == ALERT
    assert ALERT.to_json().isascii()
    assert json.loads(ALERT.to_json()) == {
        "version": 1,
        "id": "0123456789abcdef0123456789abcdef",
        "kind": "threshold",
        "threshold": 0.8,
        "budget": "search",
        "per": {"team": "café"},
        "window": {"start": "2026-11-22T00:00:00+00:00", "end": "2026-11-23T00:00:00+00:00"},
        "unit": "USD",
        "currency": "USD",
        "spent": "4.000000001",
        "limit": "5",
        "text": "search (5 USD/day) [team=café]: 80 % is reached",
        "at": "2026-11-22T09:30:00+00:00",
    }


# Webhooks


def test_a_webhook_is_signed_so_that_the_documented_snippet_knows_it(receiver: Receiver) -> None:
    """
    Who can post to the receiver could otherwise raise an alarm, or hide one among many.
    """
    page = (ROOT / "docs/reference/alerts.md").read_text()
    (snippet,) = re.findall(
        r"^```python\n(def is_ours.*?|import.*?def is_ours.*?)^```", page, re.MULTILINE | re.DOTALL
    )
    named: dict[str, Any] = {}
    exec(compile(snippet, "docs", "exec"), named)

    WebhookSink(url=f"{receiver.url}/hook", secret="s3cret").send(ALERT)

    ((headers, body),) = receiver.requests
    assert json.loads(body) == ALERT.to_dict()
    assert headers["content-type"] == "application/json"
    signature = headers["x-bedrock-guard-signature"]
    at_s, digest = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", signature).groups()  # type: ignore[union-attr]
    assert digest == hmac.new(b"s3cret", at_s.encode() + b"." + body, hashlib.sha256).hexdigest()
    verify = named["is_ours"]
    assert verify(signature, body, "s3cret", now=int(at_s) + 299)
    assert not verify(signature, body, "s3cret", now=int(at_s) + 301), "sent again later"
    assert not verify(signature, body + b" ", "s3cret", now=int(at_s))
    assert not verify(signature, body, "other", now=int(at_s))
    assert not verify("", body, "s3cret", now=int(at_s))


def test_a_webhook_for_slack_says_the_text(receiver: Receiver) -> None:
    """
    https://api.slack.com/messaging/webhooks: a JSON object with "text".
    """
    WebhookSink(url=receiver.url, shape="slack").send(ALERT)

    ((headers, body),) = receiver.requests
    assert json.loads(body) == {"text": ALERT.text}
    assert "x-bedrock-guard-signature" not in headers


def test_a_tag_calls_nobody_in_slack(receiver: Receiver) -> None:
    """
    Users name themselves, and `<!channel>` rings at everybody's.
    """
    WebhookSink(url=receiver.url, shape="slack").send(replace(ALERT, text="[user=<!channel> & <http://x|y>]"))

    assert json.loads(receiver.requests[0][1]) == {"text": "[user=&lt;!channel&gt; &amp; &lt;http://x|y&gt;]"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://[::1/SECRET", "url is no http or https URL"),
        ("http://x:abc/SECRET", "url is no http or https URL"),
        ("https://x/SECRET\n", "line ends"),
        ("https://x/SECRET there", "spaces"),
        ("https://x/SECRET/ü", "beyond ASCII"),
        ("https://user:SECRET@x/", "url has a user name"),
    ],
)
def test_a_url_that_cannot_be_asked_is_refused_at_once(url: str, says: str) -> None:
    """
    As it is read from the environment with its line end; and no error says what is secret in it.
    """
    with pytest.raises(ConfigurationError, match=says) as raised:
        WebhookSink(url=url)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("status", [302, 400, 429, 500, 503])
def test_an_answer_that_is_no_success_is_a_failure(receiver: Receiver, status: int) -> None:
    """
    A redirect, too: what is signed goes nowhere else.
    """
    receiver.answers = [(status, "text/plain", b"no")]

    with pytest.raises(HTTPError):
        WebhookSink(url=receiver.url, secret="s3cret").send(ALERT)
    assert len(receiver.requests) == 1


def test_a_receiver_that_hangs_is_left(receiver: Receiver) -> None:
    """
    Its time-out is its own, and short.
    """
    receiver.hangs = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            WebhookSink(url=receiver.url, timeout_s=0.1).send(ALERT)
    finally:
        receiver.hangs.set()


# AWS


SNS_OK = (
    b'<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId>'
    b"</PublishResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PublishResponse>"
)


def test_sns_is_told_in_words_and_in_json(receiver: Receiver) -> None:
    """
    Of one topic, a person's mail and a function are both subscribers.
    """
    receiver.answers = [(200, "text/xml", SNS_OK)]
    SNSSink(topic_arn=TOPIC, endpoint_url=receiver.url).send(ALERT)

    ((headers, body),) = receiver.requests
    sent = {name: value[0] for name, value in parse_qs(body.decode()).items()}
    assert (sent["Action"], sent["TopicArn"], sent["MessageStructure"]) == ("Publish", TOPIC, "json")
    assert sent["Subject"] == "Bedrock budget search: threshold 80%"
    message = json.loads(sent["Message"])
    assert json.loads(message["default"]) == ALERT.to_dict()
    assert message["email"] == message["sms"] == ALERT.text
    names = {
        sent[f"MessageAttributes.entry.{n}.Name"]: sent[f"MessageAttributes.entry.{n}.Value.StringValue"]
        for n in (1, 2)
    }
    assert names == {"kind": "threshold", "budget": "search"}
    assert "/eu-central-1/sns/" in headers["authorization"], "the topic's region"


def test_what_sns_is_told_fits(receiver: Receiver) -> None:
    """
    A subject has less than 100 characters, and a FIFO topic's group no spaces.
    """
    receiver.answers = [(200, "text/xml", SNS_OK)]
    name = "a b" + 125 * "c"
    SNSSink(topic_arn=f"{TOPIC}.fifo", endpoint_url=receiver.url).send(replace(ALERT, budget=name))

    sent = parse_qs(receiver.requests[0][1].decode())
    assert len(sent["Subject"][0]) == 99
    assert sent["MessageGroupId"] == [f"a_b{125 * 'c'}"]


def test_a_fifo_topic_drops_what_is_told_twice(receiver: Receiver) -> None:
    """
    At least once becomes once, where the topic can.
    """
    receiver.answers = [(200, "text/xml", SNS_OK)]
    SNSSink(topic_arn=f"{TOPIC}.fifo", endpoint_url=receiver.url).send(ALERT)

    sent = parse_qs(receiver.requests[0][1].decode())
    assert sent["MessageDeduplicationId"] == [ALERT.id]
    assert sent["MessageGroupId"] == ["search"]


def test_a_bus_without_a_region_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A program may name the region of Bedrock in its code, and none in its environment.
    """
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="Sink 'eventbridge': no region is set"):
        open_sinks([{"use": "eventbridge"}])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    open_sinks([{"use": "eventbridge"}])


@pytest.mark.parametrize("failed", [0, 1])
def test_eventbridge_is_put_an_event(receiver: Receiver, failed: int) -> None:
    """
    An event that the bus did not take is told by a number in an answer that says 200.
    """
    entry = {"ErrorCode": "InternalFailure", "ErrorMessage": "later"} if failed else {"EventId": "1"}
    answer = json.dumps({"FailedEntryCount": failed, "Entries": [entry]}).encode()
    receiver.answers = [(200, "application/x-amz-json-1.1", answer)]
    sink = EventBridgeSink(bus="ops", region="eu-central-1", endpoint_url=receiver.url)

    if failed:
        with pytest.raises(OSError, match="InternalFailure: later"):
            sink.send(ALERT)
    else:
        sink.send(ALERT)

    ((headers, body),) = receiver.requests
    assert headers["x-amz-target"] == "AWSEvents.PutEvents"
    (event,) = json.loads(body)["Entries"]
    assert (event["EventBusName"], event["Source"], event["DetailType"]) == (
        "ops", "bedrock_guard", "Bedrock Budget Alert",
    )  # fmt: skip
    assert json.loads(event["Detail"]) == ALERT.to_dict()


def test_a_sink_s_client_is_given_up_after_two_tries(receiver: Receiver) -> None:
    """
    Deliveries are tried again by us, with pauses in which the rest goes on.
    """
    from botocore.exceptions import ClientError

    receiver.answers = [(500, "text/xml", b"<ErrorResponse/>")] * 5
    with pytest.raises(ClientError):
        SNSSink(topic_arn=TOPIC, endpoint_url=receiver.url).send(ALERT)

    assert len(receiver.requests) == 2
    with pytest.raises(ConfigurationError, match="Give the sink its region"):
        make_client("events", region=None, endpoint_url=None)


# Powertools


def emf(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_metrics_are_lines_that_cloudwatch_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Names are shared with the dashboard, which would otherwise stay empty.
    """
    sink = MetricsSink(service="chat")
    sink.send(ALERT)
    usage = {"input_tokens": 25, "cache_read_input_tokens": 75, "output_tokens": 5}
    sink.observe(answered("one", usage=usage, cost_nanousd=1_500_000))
    sink.observe(open_entry("two", outcome="refused", budget="search"))

    share, call, *refused = emf(capsys.readouterr().out)
    assert (share["budget_used_share"], share["service"], share["budget"]) == (
        [0.8000000002],
        "chat",
        "search",
    )
    assert (call["cost_usd"], call["cache_hit_share"], call["service"]) == ([0.0015], [0.75], "chat")
    assert "budget" not in call
    assert [each["refused_calls"] for each in refused] == [[1.0], [1.0]]
    assert [each.get("budget") for each in refused] == [None, "search"]
    (told,) = share["_aws"]["CloudWatchMetrics"]
    assert told["Namespace"] == "BedrockGuard"
    assert [sorted(names) for names in told["Dimensions"]] == [["budget", "service"]]


def test_the_first_call_of_a_balance_that_is_cut_short_is_a_metric(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Answers that end early look like a model's fault until somebody sees whose they are.
    """
    MetricsSink(service="chat").send(replace(ALERT, kind="clamped", threshold=None))

    lines = emf(capsys.readouterr().out)
    assert [(each["clamped_balances"], each.get("budget")) for each in lines] == [
        ([1.0], None),
        ([1.0], "search"),
    ]
    assert {each["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"] for each in lines} == {"Count"}


def test_metrics_leave_the_program_s_own_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Powertools' `Metrics` is one for the process: what it collects is the handler's, in the handler's time.
    """
    from aws_lambda_powertools import Metrics
    from aws_lambda_powertools.metrics import MetricUnit

    own = Metrics(namespace="Own", service="own")
    own.add_metric("orders", MetricUnit.Count, 1)
    MetricsSink().send(ALERT)
    own.flush_metrics()

    ours, theirs = emf(capsys.readouterr().out)
    assert ("orders" in ours, "budget_used_share" in theirs) == (False, False)
    assert theirs["orders"] == [1.0]


def test_a_powertools_logger_writes_the_alert_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """
    CloudWatch Logs Insights finds it by its fields; the program's own Logger stays as it was.
    """
    from aws_lambda_powertools import Logger

    service = "of this test, for a logger keeps the standard output that it has found"
    own = Logger(service=service)
    own.append_keys(order=7)
    LoggerSink(service=service).send(ALERT)
    own.info("paid")

    line, owned = emf(capsys.readouterr().out)
    assert (line["level"], line["message"], line["service"]) == ("WARNING", ALERT.text, service)
    assert line["alert"] == ALERT.to_dict()
    assert (owned["service"], owned["order"], "name" in owned, "order" in line) == (service, 7, False, False)


# The log, functions, and what was meant


def test_the_log_has_the_text_and_the_figures(caplog: pytest.LogCaptureFixture) -> None:
    """
    What is told where nobody chose a sink.
    """
    LogSink().send(ALERT)

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("bedrock_guard.alerts", logging.WARNING)
    assert record.getMessage() == ALERT.text
    assert record.alert == ALERT.to_dict()  # type: ignore[attr-defined]


def test_a_sink_is_a_name_a_table_a_function_or_an_object() -> None:
    """
    The same list in a program and in a file.
    """
    told: list[Alert] = []
    own = LogSink()
    named, table, function, given = open_sinks(["log", {"use": "sns", "topic_arn": TOPIC}, told.append, own])
    function.send(ALERT)

    assert (type(named), type(table), given, told) == (LogSink, SNSSink, own, [ALERT])


def test_who_is_named_twice_is_told_once() -> None:
    """
    One list may be put together of two.
    """
    told: list[Alert] = []
    own, other = LogSink(), LogSink()
    table = {"use": "sns", "topic_arn": TOPIC}
    given = ["log", table, told.append, own, "log", dict(table), told.append, own, other]

    assert len(open_sinks(given)) == 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["slog"], "'slog' is no sink; did you mean 'log'?"),
        (["pager"], f"'pager' is no sink; known are {', '.join(SINKS)}."),
        ([{"topic_arn": TOPIC}], 'does not say which it is: use = "sns"'),
        ([{"use": "sns"}], "Sink 'sns' needs topic_arn."),
        ([{"use": "sns", "topic": TOPIC}], "Sink 'sns' has no option 'topic'; did you mean 'topic_arn'?"),
        ([{"use": "log", "x": 1}], "Sink 'log' has no option 'x'; known are none."),
        ([{"use": "sns", "topic_arn": "alerts"}], "topic_arn is 'alerts'; it reads arn:aws:sns:"),
        ([{"use": "sns", "topic_arn": "arn:aws:sns::123456789012:x"}], "it reads arn:aws:sns:REGION"),
        ([{"use": "sns", "topic_arn": 5}], "topic_arn is 5; it is a string."),
        ([{"use": "webhook", "url": "ftp://x/secret"}], "url is no http or https URL"),
        ([{"use": "webhook", "url": "http://x", "shape": "xml"}], "shape is 'xml'; it is one of json, slack."),
        ([{"use": "webhook", "url": "http://x", "timeout_s": 60}], "timeout_s is 60; it is seconds, 10 at most."),
        ([{"use": "webhook", "url": "http://x", "secret_env": "NOWHERE"}], "'NOWHERE', which is not set."),
        (
            [{"use": "webhook", "url": "http://x", "secret": "a", "secret_env": "B"}],
            "secret and secret_env were both given",
        ),
        ([5], "5 is no sink; it is a name (log, sns,"),
        ("log", "sinks is 'log'; it is a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_the_first_call(given: Any, says: str) -> None:
    """
    An alert that nobody gets is found out when it was needed.
    """
    with pytest.raises(ConfigurationError) as raised:
        Guard(budget="5 USD/day", ledger="memory://", sinks=given)
    assert says in str(raised.value)


def test_a_secret_comes_from_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A settings file is committed.
    """
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    (sink,) = open_sinks([{"use": "webhook", "url": receiver.url, "secret_env": "HOOK_SECRET"}])
    sink.send(ALERT)

    assert "x-bedrock-guard-signature" in receiver.requests[0][0]


def test_sinks_of_other_packages_are_found_by_their_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A pager is a package away.
    """
    (tmp_path / "pager_sink.py").write_text(
        "class Pager:\n    def __init__(self, *, team): self.team = team\n    def send(self, alert): pass\n"
    )
    info = tmp_path / "pager_sink-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pager-sink\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bedrock_guard.sinks]\npager = pager_sink:Pager\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    (sink,) = open_sinks([{"use": "pager", "team": "ops"}])
    assert sink.team == "ops"  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="has no option 'tema'; did you mean 'team'"):
        open_sinks([{"use": "pager", "tema": "ops"}])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "bedrock-guard.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_names_sinks_and_thresholds(write: Callable[[str], Path], receiver: Receiver) -> None:
    """
    Whoever runs a program chooses who is told, without changing it.
    """
    path = write(
        'ledger = "memory://"\n[budgets.all]\nlimit = "5 USD/day"\nalerts = [0.9, 0.5]\n'
        f'[[sinks]]\nuse = "log"\n[[sinks]]\nuse = "webhook"\nurl = "{receiver.url}"\n'
    )
    with Guard(settings=path) as guard:
        assert guard.budgets[0].alerts == (0.5, 0.9)
        assert [dict(table) for table in guard.resolved.sinks] == [
            {"use": "log"},
            {"use": "webhook", "url": receiver.url},
        ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[sinks]]\ntopic_arn = 'x'\n", "line 1: sinks.0.use: Field required"),
        ("[[sinks]]\nuse = 'log'\n[[sinks]]\nuse = 5\n", "line 4: sinks.1.use"),
        ("sinks = ['log']\n", "line 1: sinks.0"),
        ("[[sinks]]\nuse = 'snss'\n", "line 1: sinks.0: 'snss' is no sink; did you mean 'sns'?"),
        (
            "[[sinks]]\nuse = 'log'\n\n[[sinks]]\nuse = 'sns'\n",
            "line 4: sinks.1: Sink 'sns' needs topic_arn.",
        ),
        ("[budgets.all]\nlimit = '5 USD/day'\nalerts = [80]\n", "budgets.all: Budget 'all': alerts is [80]"),
        ("[budgets.all]\nlimit = '5 USD/day'\nalerts = 0.8\n", "budgets.all.alerts"),
    ],
)
def test_a_mistake_in_a_file_is_told(write: Callable[[str], Path], text: str, says: str) -> None:
    """
    80 is 80 times the limit, and was meant as per cent.
    """
    budget = {} if "budgets" in text else {"budget": "5 USD/day"}
    with pytest.raises(ConfigurationError) as raised:
        Guard(settings=write(text), ledger="memory://", **budget)
    assert says in str(raised.value)


def test_every_kind_and_every_sink_is_documented() -> None:
    """
    A receiver is written by what is written.
    """
    reference = (ROOT / "docs/reference/alerts.md").read_text()
    how_to = (ROOT / "docs/how-to/alerts.md").read_text()

    assert [kind for kind in KINDS if f"`{kind}`" not in reference] == []
    assert [name for name in json.loads(ALERT.to_json()) if f"`{name}`" not in reference] == []
    assert [sink for sink in SINKS if f'"{sink}"' not in how_to] == []
