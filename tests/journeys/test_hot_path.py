"""
How much of our code a usual call runs: what it costs goes by that, as botocore drives it out of the caches
between two calls (decision 27).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore_versions import needs_newer_model

from bedrock_guard import Budget, scope

from .conftest import HELLO, Guarded
from .frames import run_by

BUDGETS = ["a: 1000 USD/day", "b: 9000 USD/month", "c: 100M requests/day"]
CACHING = {**HELLO, "system": [{"text": "You are kind."}, {"cachePoint": {"type": "default"}}]}
TOOLS = {"tools": [{"toolSpec": {"name": "find", "inputSchema": {"json": {"type": "object"}}}}]}


# An older botocore leaves out of replies what has to be read from their bodies then.
@needs_newer_model
@pytest.mark.parametrize(
    ("request_", "most"),
    [(HELLO, 50), (CACHING, 58), ({**HELLO, "toolConfig": TOOLS}, 63)],
    ids=["usual", "with a cache point", "with a tool"],
)
def test_a_usual_call_is_few_steps(
    make_guarded: Callable[..., Guarded], request_: dict[str, Any], most: int
) -> None:
    guarded = make_guarded(budgets=BUDGETS)
    client = guarded.client
    for _ in range(3):
        client.converse(**request_)

    frames = run_by(lambda: client.converse(**request_))

    assert sum(frames.values()) <= most, frames.most_common()


@needs_newer_model
def test_a_tagged_call_is_few_steps_more(make_guarded: Callable[..., Guarded]) -> None:
    guarded = make_guarded(budgets=[*BUDGETS, Budget("d", "50 USD/day", per="user")])
    client = guarded.client
    with scope(user="ann"):
        for _ in range(3):
            client.converse(**HELLO)

        frames = run_by(lambda: client.converse(**HELLO))

    assert sum(frames.values()) <= 53, frames.most_common()
