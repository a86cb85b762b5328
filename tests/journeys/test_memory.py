"""
A guarded process does not grow.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from bedrock_guard import Guard

from .conftest import HELLO

REPLY = (
    b'{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn",'
    b'"usage":{"inputTokens":3,"outputTokens":1,"totalTokens":4},"metrics":{"latencyMs":1}}'
)


class Raw:
    def stream(self, *_: Any, **__: Any) -> Any:
        yield REPLY


@pytest.mark.slow
def test_a_hundred_thousand_calls_leave_nothing_behind(
    make_client: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The memory ledger keeps the newest entries, by `keep_entries`, and every balance; nothing else stays.
    """
    guard = Guard(budgets=["a: 5000 USD/day", "b: 9M requests"], ledger="memory://?keep_entries=500")
    client = guard.attach(make_client())
    client.meta.events.register(
        "before-send.bedrock-runtime",
        lambda request, **_: AWSResponse(request.url, 200, {"content-type": "application/json"}, Raw()),
    )
    # What the first calls leave is warm-up: pools, caches, the entries that are kept.
    call_many(client, 12_000)
    gc.collect()
    objects_before, peak_before = len(gc.get_objects()), peak_kb()
    call_many(client, 88_000)
    gc.collect()
    objects, peak = len(gc.get_objects()) - objects_before, peak_kb() - peak_before

    with capsys.disabled():
        print(f"\n88,000 calls after 12,000: {objects} objects more, peak memory {peak} KB more")
    assert sum(1 for _ in guard.entries()) == 500
    assert objects < 2_000
    assert peak < 4 * 1024


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def call_many(client: Any, number: int) -> None:
    for _ in range(number):
        client.converse(**HELLO)
