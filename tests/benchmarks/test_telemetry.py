"""
What telemetry adds to a call, in process, on a ledger in memory: off, told to OpenTelemetry's SDK, and as EMF.

    pytest -m benchmark -s tests/benchmarks/test_telemetry.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from typing import Any

import pytest

from bedrock_guard import Guard

from .test_overhead import BUDGETS, REQUEST, ROUNDS, answer_in_process, make_client, measure, url

pytest.importorskip("opentelemetry.sdk", reason="comes with the test group")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

pytestmark = pytest.mark.benchmark

__all__ = ["url"]


@pytest.fixture
def clients(url: str) -> Iterator[dict[str, Any]]:
    meters = MeterProvider([InMemoryMetricReader()])
    wanted: dict[str, Any] = {
        "off": None,
        "otel": {"use": "otel", "meter_provider": meters},
        "powertools": "powertools",
    }
    made = {"bare": make_client(url)}
    with ExitStack() as stack:
        for name, telemetry in wanted.items():
            guard = stack.enter_context(Guard(budgets=BUDGETS, ledger="memory://", telemetry=telemetry))
            made[name] = guard.attach(make_client(url))
        for client in made.values():
            answer_in_process(client)
        yield made
    meters.shutdown()


@pytest.mark.parametrize("is_traced", [False, True])
def test_what_telemetry_adds(clients: dict[str, Any], is_traced: bool) -> None:
    """
    With a span that records, and without.
    """
    print(f"\n  {'a span records' if is_traced else 'no span'}")
    lines = StringIO()
    with ExitStack() as stack:
        if is_traced:
            stack.enter_context(TracerProvider().get_tracer("benchmark").start_as_current_span("calls"))
        measure(clients, lambda client: _call(client, lines), ROUNDS)


def _call(client: Any, lines: StringIO) -> None:
    with redirect_stdout(lines):  # the thread beside the calls prints there
        client.converse(**REQUEST)
