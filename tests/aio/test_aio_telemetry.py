"""
Calls of aiobotocore clients, told to OpenTelemetry: each to the span of its own task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

pytest.importorskip("aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio")
from .test_aio import HELLO, INVOKE, RATES, Guarded

pytest.importorskip("opentelemetry.sdk", reason="comes with the test group")
from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Backend:
    """
    A tracer, a meter, and what they were told.
    """

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def span(self) -> Any:
        return self.tracers.get_tracer("tests").start_as_current_span("agent")

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.exporter.get_finished_spans()]

    @property
    def calls(self) -> float:
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return sum(
            point.value
            for metric in metrics
            if metric.name == "bedrock_guard.calls"
            for point in metric.data.data_points
        )


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


# One ledger is asked inline, the other in a thread.
@pytest.fixture(params=["memory", "sqlite"])
def told(request: Any, tmp_path: Path, backend: Backend) -> Iterator[Guarded]:
    ledger = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    telemetry = {"use": "otel", "meter_provider": backend.meters}
    with (
        BedrockServer(rates=RATES) as server,
        Guard(budget="search: 5 USD", ledger=ledger, telemetry=telemetry) as guard,
    ):
        yield Guarded(guard, server)


async def read_converse(client: Any) -> None:
    await client.converse(**HELLO)


async def read_stream(client: Any) -> None:
    async for _ in (await client.converse_stream(**HELLO))["stream"]:
        pass


async def read_body(client: Any) -> None:
    await (await client.invoke_model(**INVOKE))["body"].read()


@pytest.mark.parametrize("call", [read_converse, read_stream, read_body])
def test_a_call_is_told_to_the_span_of_its_task(told: Guarded, backend: Backend, call: Any) -> None:
    """
    Wherever the ledger is asked, and the end written.
    """

    async def one(client: Any) -> None:
        with backend.span():
            await call(client)

    async def work(client: Any) -> None:
        await asyncio.gather(*[one(client) for _ in range(5)])

    told.run(work)

    ids = sorted(entry.id for entry in told.guard.entries())
    assert sorted(span["bedrock_guard.entry.id"] for span in backend.spans) == ids
    assert {span["bedrock_guard.outcome"] for span in backend.spans} == {"answered"}
    assert all(span["bedrock_guard.cost_usd"] > 0 for span in backend.spans)
    assert (len(ids), backend.calls) == (5, 5)


def test_a_refused_call_is_told(told: Guarded, backend: Backend) -> None:
    """
    In the task that asked.
    """

    async def work(client: Any) -> None:
        with backend.span(), pytest.raises(BudgetExceeded):
            await client.converse(**{**HELLO, "system": [{"text": "x" * 10**7}]})

    told.run(work)

    (attributes,) = backend.spans
    assert (attributes["error.type"], attributes["bedrock_guard.budget"]) == ("BudgetExceeded", "search")


@pytest.mark.parametrize("call", [read_converse, read_body])
def test_the_instrumentation_s_span_is_the_current_one(told: Guarded, backend: Backend, call: Any) -> None:
    """
    So both write to one.
    """
    instrumentor = AiobotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=backend.tracers)
    try:
        told.run(call)
    finally:
        instrumentor.uninstrument()

    (attributes,) = backend.spans
    assert (attributes["rpc.system"], attributes["bedrock_guard.entry.id"]) == ("aws-api", told.entry.id)
    assert attributes["bedrock_guard.cost_usd"] == float(told.entry.cost)


def test_a_stream_whose_task_is_cancelled_is_told(told: Guarded, backend: Backend) -> None:
    """
    It ends as abandoned, at its estimate.
    """

    async def work(client: Any) -> None:
        is_read = asyncio.Event()

        async def read() -> None:
            async for _ in (await client.converse_stream(**HELLO))["stream"]:
                is_read.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(read())
        await is_read.wait()
        task.cancel()
        await asyncio.wait([task])
        await told.settled()

    told.run(work)

    assert backend.calls == 1
