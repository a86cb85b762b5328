"""
What calls tell OpenTelemetry and CloudWatch, by the real SDKs, beside OpenTelemetry's own instrumentation.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from bedrock_guard import Budget, BudgetExceeded, Guard, bind, scope
from bedrock_guard.errors import LedgerUnavailable, Stopped
from bedrock_guard.hooks.httpx import GuardTransport
from bedrock_guard.telemetry.collecting import watch_collector
from bedrock_guard.telemetry.otel import OpenTelemetry
from bedrock_guard.telemetry.wanted import Wanted
from bedrock_guard.testing.bedrock_server import converse_reply, cut_stream, lost_answer, stream_error

from .conftest import HELLO, NOVA, SONNET, Guarded, eventually

pytest.importorskip("opentelemetry.sdk", reason="comes with the test group")
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps({"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}),
}
CACHED = converse_reply(
    input_tokens=10,
    output_tokens=20,
    cache_read_input_tokens=1_000,
    cache_write_5m_input_tokens=200,
    cache_write_1h_input_tokens=300,
)
BEHIND = SONNET.removeprefix("us.")
COMMON = {
    "gen_ai.provider.name": "aws.bedrock",
    "gen_ai.system": "aws.bedrock",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": SONNET,
    "gen_ai.response.model": BEHIND,
}


@dataclass
class Backend:
    """
    A tracer, a meter, and what they were told.
    """

    tracers: TracerProvider
    meters: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def span(self, name: str = "agent") -> Any:
        return self.tracers.get_tracer("tests").start_as_current_span(name)

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.exporter.get_finished_spans()]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics
        return [
            point
            for resource in found
            for of_scope in resource.scope_metrics
            if of_scope.scope.name == "bedrock_guard"
            for metric in of_scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def sums(self, name: str, *by: str) -> dict[Any, float]:
        """
        What was told of *name*, by the values of these attributes.
        """
        found: dict[Any, float] = {}
        for point in self.points(name):
            key = tuple([point.attributes.get(each) for each in by])
            value = point.sum if hasattr(point, "sum") else point.value
            found[key[0] if len(key) == 1 else key] = found.get(key, 0) + value
        return found


@pytest.fixture
def backend() -> Iterator[Backend]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    yield Backend(tracers, meters, exporter, reader)
    tracers.shutdown()
    meters.shutdown()


@pytest.fixture
def instrumented(backend: Backend) -> Iterator[Backend]:
    instrumentor = BotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=backend.tracers, meter_provider=backend.meters)
    yield backend
    instrumentor.uninstrument()


@pytest.fixture
def told(make_guarded: Callable[..., Guarded], backend: Backend) -> Guarded:
    return make_guarded("search: 5 USD/day", telemetry=otel(backend))


def otel(backend: Backend, **options: Any) -> dict[str, Any]:
    return {"use": "otel", "meter_provider": backend.meters, **options}


def ours(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name.startswith("bedrock_guard.")}


def read_converse(client: Any) -> None:
    client.converse(**HELLO)


def read_converse_stream(client: Any) -> None:
    list(client.converse_stream(**HELLO)["stream"])


def read_body(client: Any) -> None:
    client.invoke_model(**INVOKE)["body"].read()


def read_body_stream(client: Any) -> None:
    list(client.invoke_model_with_response_stream(**INVOKE)["body"])


CALLS = [read_converse, read_converse_stream, read_body, read_body_stream]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_instrumented", [False, True])
def test_a_call_is_told_to_the_span_that_is_current(
    told: Guarded, backend: Backend, request: Any, call: Callable[[Any], None], is_instrumented: bool
) -> None:
    """
    To a program's own, or to that of OpenTelemetry's instrumentation, which stays open while a stream is read.
    """
    if is_instrumented:
        request.getfixturevalue("instrumented")
        call(told.client)
    else:
        with backend.span():
            call(told.client)

    entry = told.entry
    (attributes,) = backend.spans
    assert {name: attributes[name] for name in COMMON} == COMMON
    assert attributes["gen_ai.usage.input_tokens"] == entry.usage["input_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == entry.usage["output_tokens"] == 100
    assert ours(attributes) == {
        "bedrock_guard.entry.id": entry.id,
        "bedrock_guard.outcome": "answered",
        "bedrock_guard.basis": "reported",
        "bedrock_guard.service_tier": "default",
        "bedrock_guard.cost_usd": float(entry.cost or 0),
        "bedrock_guard.reserved_usd": float(entry.estimated_cost or 0),
        "bedrock_guard.attempts": 1,
    }
    assert "error.type" not in attributes


def test_metrics_are_sums_and_distributions_by_names_of_few_values(told: Guarded, backend: Backend) -> None:
    """
    Cached tokens are input by the conventions; what was charged of each meter is a metric of ours.
    """
    told.server.will_answer(CACHED)
    told.client.converse(**HELLO)
    told.client.converse(**HELLO)

    entries = list(told.guard.entries())
    (calls,) = backend.points("bedrock_guard.calls")
    assert (calls.value, dict(calls.attributes)) == (
        2,
        {
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": SONNET,
            "gen_ai.response.model": BEHIND,
            "bedrock_guard.outcome": "answered",
            "bedrock_guard.basis": "reported",
            "bedrock_guard.service_tier": "default",
        },
    )
    # 10 + 1,000 + 200 + 300 of the first; the loopback server counts 3 of the second.
    by_type = "gen_ai.token.type"
    assert backend.sums("gen_ai.client.token.usage", by_type) == {"input": 1_513, "output": 120}
    (point, _) = backend.points("gen_ai.client.token.usage")
    assert tuple(point.explicit_bounds[:4]) == (1, 4, 16, 64)
    assert backend.sums("bedrock_guard.usage", "bedrock_guard.meter") == {
        "input_tokens": 13,
        "output_tokens": 120,
        "cache_read_input_tokens": 1_000,
        "cache_write_5m_input_tokens": 200,
        "cache_write_1h_input_tokens": 300,
    }
    (cost,) = backend.points("bedrock_guard.cost")
    assert cost.value == pytest.approx(float(sum(entry.cost or 0 for entry in entries)))
    (reserved,) = backend.points("bedrock_guard.reserved")
    assert reserved.value == pytest.approx(float(sum(entry.estimated_cost or 0 for entry in entries)))
    (duration,) = backend.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.explicit_bounds[0]) == (2, 0.01)


def test_cached_tokens_are_told_apart(told: Guarded, backend: Backend) -> None:
    """
    A cache that stopped working is what costs most.
    """
    told.server.will_answer(CACHED)
    with backend.span():
        told.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert attributes["gen_ai.usage.input_tokens"] == 1_510
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 1_000
    assert attributes["gen_ai.usage.cache_creation.input_tokens"] == 500


def test_of_names_that_both_write_the_instrumentation_has_the_last_word(
    told: Guarded, instrumented: Backend
) -> None:
    """
    It leaves cached tokens out of the input, and comes later; what is ours alone stays.
    """
    told.server.will_answer(CACHED)
    told.client.converse(**HELLO)

    (attributes,) = instrumented.spans
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 1_000
    assert attributes["bedrock_guard.cost_usd"] == float(told.entry.cost or 0)


def test_names_of_the_conventions_can_be_left_to_another_tool(
    make_guarded: Callable[..., Guarded], backend: Backend
) -> None:
    """
    Two tools that write one metric would count its calls twice.
    """
    guarded = make_guarded(telemetry=otel(backend, gen_ai=False))
    with backend.span():
        guarded.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert [name for name in attributes if not name.startswith("bedrock_guard.")] == []
    assert backend.points("gen_ai.client.token.usage") == []
    assert backend.points("gen_ai.client.operation.duration") == []
    assert backend.sums("bedrock_guard.calls", "gen_ai.response.model") == {BEHIND: 1}


def test_a_refused_call_is_told_with_its_budget(told: Guarded, backend: Backend) -> None:
    """
    Nothing was sent, so there is neither a cost nor a duration.
    """
    with backend.span(), pytest.raises(BudgetExceeded):
        told.client.converse(
            **{**HELLO, "inferenceConfig": {"maxTokens": 64_000}, "system": [{"text": "x" * 10**7}]}
        )

    (attributes,) = backend.spans
    assert (attributes["error.type"], attributes["bedrock_guard.outcome"]) == ("BudgetExceeded", "refused")
    assert attributes["bedrock_guard.budget"] == "search"
    assert attributes["bedrock_guard.reserved_usd"] > 5
    assert {"bedrock_guard.cost_usd", "bedrock_guard.basis", "bedrock_guard.attempts"} & set(
        attributes
    ) == set()
    assert backend.sums("bedrock_guard.refused_calls", "bedrock_guard.budget") == {"search": 1}
    assert backend.points("bedrock_guard.calls") == backend.points("gen_ai.client.operation.duration") == []


def test_a_stopped_call_is_told(told: Guarded, backend: Backend) -> None:
    """
    No budget refused it.
    """
    told.guard.stop(reason="maintenance")
    with backend.span(), pytest.raises(Stopped):
        told.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert (attributes["error.type"], "bedrock_guard.budget" in attributes) == ("Stopped", False)
    assert backend.sums("bedrock_guard.refused_calls", "error.type") == {"Stopped": 1}


def test_a_call_that_is_retried_is_told_once(told: Guarded, backend: Backend) -> None:
    """
    A lost reply is charged at its estimate, so the whole is no more than estimated.
    """
    told.server.will_answer(lost_answer(), converse_reply(input_tokens=10, output_tokens=5))
    with backend.span():
        told.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert (attributes["bedrock_guard.attempts"], attributes["bedrock_guard.basis"]) == (2, "estimated")
    assert attributes["gen_ai.usage.output_tokens"] == 5  # what AWS said, alone
    assert backend.sums("bedrock_guard.calls", "bedrock_guard.basis") == {"estimated": 1}
    assert backend.sums("bedrock_guard.usage", "bedrock_guard.meter")["output_tokens"] == 105


def test_a_call_that_fails_is_told_by_aws_s_own_code(told: Guarded, backend: Backend) -> None:
    """
    It is free, and tells of no tokens.
    """
    told.server.will_answer(400)
    with backend.span(), pytest.raises(told.client.exceptions.ValidationException):
        told.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert attributes["error.type"] == "ValidationException"
    assert (attributes["bedrock_guard.outcome"], attributes["bedrock_guard.cost_usd"]) == ("rejected", 0)
    assert "gen_ai.usage.input_tokens" not in attributes
    assert backend.sums("gen_ai.client.operation.duration", "error.type").keys() == {"ValidationException"}
    assert backend.points("gen_ai.client.token.usage") == backend.points("bedrock_guard.usage") == []


@pytest.mark.parametrize("broken", [stream_error(), cut_stream(after_events=1)])
def test_a_stream_that_breaks_off_has_no_status_as_its_error(
    told: Guarded, backend: Backend, broken: Any
) -> None:
    """
    It began with 200.
    """
    told.server.will_answer(broken)
    with backend.span(), pytest.raises(Exception, match=r"modelStreamErrorException|ended prematurely"):
        list(told.client.converse_stream(**HELLO)["stream"])

    (attributes,) = backend.spans
    assert (attributes["error.type"], attributes["bedrock_guard.outcome"]) == ("_OTHER", "lost")


def test_a_stream_that_outlives_its_span_has_left_its_entry_there(told: Guarded, backend: Backend) -> None:
    """
    What it came to is in the metrics, under the context of the call, and in the ledger.
    """
    with backend.span() as span:
        stream = told.client.converse_stream(**HELLO)["stream"]
    list(stream)

    (attributes,) = backend.spans
    assert attributes == {
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.system": "aws.bedrock",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": SONNET,
        "bedrock_guard.entry.id": told.entry.id,
        "bedrock_guard.reserved_usd": float(told.entry.estimated_cost or 0),
    }
    (cost,) = backend.points("bedrock_guard.cost")
    assert [exemplar.span_id for exemplar in cost.exemplars] == [span.get_span_context().span_id]


@pytest.mark.parametrize("leave", [lambda stream: stream.close(), lambda stream: None])
def test_a_stream_that_is_left_is_told_at_its_estimate(
    told: Guarded, backend: Backend, leave: Callable[[Any], None]
) -> None:
    """
    Tokens that nobody reported are not told as used.
    """
    with backend.span():
        stream = told.client.converse_stream(**HELLO)["stream"]
        next(iter(stream))
        leave(stream)
        del stream

    (attributes,) = backend.spans
    assert (attributes["bedrock_guard.outcome"], attributes["bedrock_guard.basis"]) == (
        "abandoned",
        "estimated",
    )
    assert "gen_ai.usage.output_tokens" not in attributes
    assert backend.points("gen_ai.client.token.usage") == []


def test_a_stream_that_the_collector_ends_inside_of_the_sdk_locks_nobody_up(
    told: Guarded, backend: Backend
) -> None:
    """
    A span's lock cannot be taken twice by one thread; what is told then is told beside the calls.
    """
    span: Any = backend.tracers.get_tracer("tests").start_span("agent")
    with use_span(span):
        cycle: list[Any] = [told.client.converse_stream(**HELLO)["stream"]]
    cycle.append(cycle)
    del cycle

    def collect() -> None:
        with span._lock:
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert eventually(lambda: "bedrock_guard.cost_usd" in span.attributes)
    assert eventually(lambda: bool(backend.points("bedrock_guard.calls")))
    assert backend.sums("bedrock_guard.calls", "bedrock_guard.outcome") == {"abandoned": 1}
    assert not watch_collector().is_here


def test_threads_tell_the_spans_that_they_are_in(told: Guarded, backend: Backend) -> None:
    """
    Each its own, and nobody's figures are lost.
    """

    def work(number: int) -> str:
        with backend.span(f"{number}") as span:
            told.client.converse(**HELLO)
            return str(span.attributes["bedrock_guard.entry.id"])

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(bind(work), range(20)))

    assert len(set(ids)) == 20
    assert sorted(span["bedrock_guard.entry.id"] for span in backend.spans) == sorted(ids)
    assert backend.sums("bedrock_guard.calls") == {(): 20}


def test_a_hold_is_told_too(told: Guarded, backend: Backend) -> None:
    """
    Of whoever sends the request.
    """
    with backend.span(), told.guard.hold("Converse", HELLO, region="us-east-1") as hold:
        entry = hold.settle(b'{"usage": {"inputTokens": 7, "outputTokens": 9}}')

    (attributes,) = backend.spans
    assert attributes["bedrock_guard.entry.id"] == entry.id
    assert attributes["gen_ai.usage.output_tokens"] == 9


@pytest.mark.parametrize("end", ["converse", "converse-stream"])
def test_calls_through_httpx_are_told(told: Guarded, backend: Backend, end: str) -> None:
    """
    A transport holds where the request is sent: in the context of who asks.
    """
    httpx = pytest.importorskip("httpx")
    transport = GuardTransport(told.guard, region="us-east-1")
    body = {name: value for name, value in HELLO.items() if name != "modelId"}
    with (
        httpx.Client(transport=transport, base_url=told.server.url, trust_env=False) as client,
        backend.span(),
    ):
        client.post(f"/model/{SONNET}/{end}", json=body)

    (attributes,) = backend.spans
    assert attributes["bedrock_guard.cost_usd"] == float(told.entry.cost or 0) > 0


def test_tags_are_told_only_where_they_are_named(
    make_guarded: Callable[..., Guarded], backend: Backend
) -> None:
    """
    Each value of a tag makes metrics of its own: users are many.
    """
    guarded = make_guarded(telemetry=otel(backend, tags=["team"]))
    with backend.span(), scope(team="search", user="alice"):
        guarded.client.converse(**HELLO)

    (attributes,) = backend.spans
    assert attributes["bedrock_guard.tag.team"] == "search"
    assert "alice" not in str(attributes)
    assert backend.sums("bedrock_guard.cost", "bedrock_guard.tag.team").keys() == {"search"}
    assert all("alice" not in str(point.attributes) for point in backend.points("bedrock_guard.cost"))


def test_no_word_of_a_prompt_or_a_reply_is_told(told: Guarded, backend: Backend) -> None:
    """
    Figures and names, as in the ledger.
    """
    told.server.will_answer(converse_reply(input_tokens=1, output_tokens=1, text="SECRETREPLY"))
    with backend.span():
        told.client.converse(
            **{**HELLO, "messages": [{"role": "user", "content": [{"text": "SECRETPROMPT"}]}]}
        )

    data = backend.reader.get_metrics_data()
    assert data is not None
    assert "SECRET" not in data.to_json() + str(backend.spans)


def test_how_much_of_a_budget_is_used_is_a_gauge(
    make_guarded: Callable[..., Guarded], backend: Backend
) -> None:
    """
    Read when metrics are collected; of budgets that keep one balance, not of one for each user.
    """
    budgets = ["day: 5 USD/day", "calls: 10 requests/rolling 24 hours", "pace: 4 requests/hour"]
    guarded = make_guarded(budgets=budgets, telemetry=otel(backend), sinks=[])
    per_user = make_guarded(
        settings={"budgets": {"users": {"limit": "1 USD/day", "per": "user"}}},
        budgets=None,
        telemetry=otel(backend),
    )
    guarded.client.converse(**HELLO)
    guarded.guard.top_up("calls", "10 requests")
    guarded.client.converse(**HELLO)

    shares = backend.sums("bedrock_guard.budget.used_share", "bedrock_guard.budget")
    assert shares == {
        "day": pytest.approx(guarded.server.bill.nanousd / 5e9),
        "calls": 0.1,
        "pace": pytest.approx(0.5, abs=0.01),  # it is refilled all the time
    }
    assert per_user.guard.budgets[0].name == "users"


def test_a_budget_of_nothing_has_no_gauge_and_leaves_others_theirs(
    make_guarded: Callable[..., Guarded], backend: Backend
) -> None:
    """
    Such a budget turns a model off; there is no share of nothing.
    """
    budgets = [Budget("off", "0 USD/day", match={"model": "*opus*"}), "day: 5 USD/day"]
    guarded = make_guarded(budgets=budgets, telemetry=otel(backend))
    guarded.client.converse(**HELLO)

    shares = backend.sums("bedrock_guard.budget.used_share", "bedrock_guard.budget")
    assert shares == {"day": pytest.approx(guarded.server.bill.nanousd / 5e9)}


def test_a_ledger_that_is_gone_leaves_the_gauge_out(
    told: Guarded, backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The exporter's thread asks, and other metrics are collected all the same.
    """

    def fail(keys: object) -> Any:
        raise LedgerUnavailable("gone", outcome="unknown")

    told.client.converse(**HELLO)
    monkeypatch.setattr(told.guard.ledger, "balances", fail)

    assert backend.points("bedrock_guard.budget.used_share") == []
    assert backend.sums("bedrock_guard.calls") == {(): 1}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


class Broken(NonRecordingSpan):
    """
    A span of a backend that fails.
    """

    def __init__(self) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))

    def is_recording(self) -> bool:
        raise RuntimeError("backend")


@pytest.mark.parametrize("call", CALLS)
def test_what_a_backend_raises_reaches_no_call(
    told: Guarded, backend: Backend, call: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """
    The reply has been paid for, and the books are kept; the log says it once. Who fails as a span may do well
    as a meter.
    """
    with use_span(Broken()):
        call(told.client)
        call(told.client)
        with pytest.raises(BudgetExceeded):
            told.client.converse(**{**HELLO, "system": [{"text": "x" * 10**7}]})

    assert (told.entry.outcome, told.pending) == ("refused", [0])
    assert told.spent_nanousd == told.server.bill.nanousd > 0
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [each.getMessage() for each in warned if each.name == "bedrock_guard"] == [
        "A call could not be told to OpenTelemetry: RuntimeError('backend')"
    ]
    assert backend.sums("bedrock_guard.calls", "bedrock_guard.outcome") == {"answered": 2}
    assert backend.sums("bedrock_guard.refused_calls") == {(): 1}


@pytest.mark.parametrize(
    "name", ["opentelemetry.trace.get_current_span", "opentelemetry.context.get_current"]
)
def test_a_context_that_fails_reaches_no_call(
    make_guarded: Callable[..., Guarded], backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """
    How contexts are kept is a plug-in's, too.
    """

    def fail(*_: Any) -> Any:
        raise RuntimeError("backend")

    with monkeypatch.context() as patched:
        patched.setattr(name, fail)
        guarded = make_guarded("search: 5 USD/day", telemetry=otel(backend))
    guarded.client.converse(**HELLO)
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**HELLO, "system": [{"text": "x" * 10**7}]})

    assert guarded.pending == [0]
    assert backend.sums("bedrock_guard.calls") == backend.sums("bedrock_guard.refused_calls") == {(): 1}


def test_guards_share_the_metrics_of_a_provider(
    make_guarded: Callable[..., Guarded], backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The SDK warns of each that is made twice.
    """
    for name in ("one", "two"):
        make_guarded(f"{name}: 5 USD/day", telemetry=otel(backend)).client.converse(**HELLO)

    shares = backend.sums("bedrock_guard.budget.used_share", "bedrock_guard.budget")
    assert sorted(shares) == ["one", "two"]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_guards_may_be_made_while_the_gauge_is_read(told: Guarded, backend: Backend) -> None:
    """
    The exporter has a thread of its own.
    """

    class Nothing:
        def shares(self) -> list[tuple[str, float]]:
            return []

    telemetry = OpenTelemetry(Wanted(meter_provider=backend.meters))
    is_over = threading.Event()

    def follow() -> None:
        kept = deque[Nothing](maxlen=100)
        while not is_over.is_set():
            kept.append(Nothing())
            telemetry.follow(kept[-1])

    thread, interval = threading.Thread(target=follow), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        read = [backend.sums("bedrock_guard.budget.used_share") for _ in range(200)]
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)

    assert read == [{(): 0}] * 200


def test_without_being_asked_nothing_is_told(
    make_guarded: Callable[..., Guarded], instrumented: Backend
) -> None:
    """
    A program that traces for other reasons sends no more than it did.
    """
    guarded = make_guarded()
    guarded.client.converse(**HELLO)

    (attributes,) = instrumented.spans
    assert ours(attributes) == {}
    assert instrumented.points("bedrock_guard.calls") == []


# CloudWatch


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_calls_are_lines_that_cloudwatch_reads(
    make_guarded: Callable[..., Guarded], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Beside the calls, as sinks; each line is whole, in dimensions of few values.
    """
    guarded = make_guarded(
        "search: 5 USD/day", telemetry={"use": "powertools", "service": "chat", "tags": ["team"]}, sinks=[]
    )
    guarded.server.will_answer(CACHED)
    with scope(team="search", user="alice"):
        guarded.client.converse(**HELLO)
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**{**HELLO, "system": [{"text": "x" * 10**7}]})
    assert guarded.guard.flush(10)

    entry = next(guarded.guard.entries(outcome="answered"))
    call, refused = lines(capsys.readouterr().out)
    (told,) = call.pop("_aws")["CloudWatchMetrics"]
    assert (told["Namespace"], sorted(told["Dimensions"][0])) == (
        "BedrockGuard",
        ["basis", "model", "service", "tag_team"],
    )
    assert call == {
        "service": "chat",
        "model": BEHIND,
        "basis": "reported",
        "tag_team": "search",
        "calls": [1.0],
        "cost_usd": [float(entry.cost or 0)],
        "reserved_usd": [float(entry.estimated_cost or 0)],
        "duration_ms": [float(entry.duration_ms or 0)],
        "input_tokens": [10.0],
        "output_tokens": [20.0],
        "cache_read_input_tokens": [1_000.0],
        "cache_write_5m_input_tokens": [200.0],
        "cache_write_1h_input_tokens": [300.0],
    }
    (told,) = refused.pop("_aws")["CloudWatchMetrics"]
    assert sorted(told["Dimensions"][0]) == ["budget", "model", "service"]
    assert refused == {"service": "chat", "model": BEHIND, "budget": "search", "refused_calls": [1.0]}


def test_a_call_that_could_not_be_sent_is_told_to_both(
    make_guarded: Callable[..., Guarded], backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    It is free, and a sign of trouble.
    """
    guarded = make_guarded(telemetry=otel(backend, use=["otel", "powertools"]), sinks=[])
    guarded.server.stop()
    with pytest.raises(EndpointConnectionError):
        guarded.client.converse(**HELLO)
    assert guarded.guard.flush(10)

    by = ("bedrock_guard.outcome", "error.type")
    assert backend.sums("bedrock_guard.calls", *by) == {("not_sent", "EndpointConnectionError"): 1}
    (line,) = lines(capsys.readouterr().out)
    assert (line["calls"], line["cost_usd"]) == ([1.0], [0.0])


def test_a_lambda_handler_returns_with_its_calls_told(
    make_guarded: Callable[..., Guarded], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The environment freezes with the reply: what is told later may never be.
    """
    guarded = make_guarded(telemetry="powertools", sinks=[])

    @guarded.guard.lambda_handler
    def handler(event: Any, context: Any) -> None:
        guarded.client.converse(**HELLO)

    handler({}, object())

    (line,) = lines(capsys.readouterr().out)
    assert line["calls"] == [1.0]


def test_the_sink_s_metrics_are_others(
    make_guarded: Callable[..., Guarded], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    CloudWatch adds no dimensions up, so nothing is counted twice where both are on.
    """
    guarded = make_guarded(telemetry="powertools", sinks=["powertools-metrics"])
    guarded.client.converse(**HELLO)
    assert guarded.guard.flush(10)

    found = [
        sorted(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0])
        for line in lines(capsys.readouterr().out)
    ]
    assert sorted(found) == [["basis", "model", "service"], ["service"]]


def test_telemetry_claims_no_alert(make_guarded: Callable[..., Guarded]) -> None:
    """
    A process that tells nobody leaves what it notices to those that do.
    """
    told: list[Any] = []
    alone = make_guarded("x: 1 requests/day", telemetry="powertools", sinks=[])
    alone.client.converse(**HELLO)
    assert alone.guard.flush(10)
    other = make_guarded("x: 1 requests/day", ledger=alone.guard.ledger, sinks=[told.append])
    with pytest.raises(BudgetExceeded):
        other.client.converse(**HELLO)
    assert other.guard.flush(10)

    assert {alert.kind for alert in told} == {"threshold", "refused"}


def test_guards_that_only_tell_differently_enforce_the_same(
    make_guarded: Callable[..., Guarded], backend: Backend
) -> None:
    """
    Put on one client, both would charge a call twice.
    """
    one = make_guarded(telemetry=otel(backend))
    other = make_guarded("5 USD/day", ledger=one.guard.ledger)
    other.guard.attach(one.client)
    one.client.converse(**{**HELLO, "modelId": NOVA})

    assert Guard.of(one.client) is one.guard
    assert backend.sums("bedrock_guard.calls") == {(): 1}
