"""
Ends that come from finalizers, forks and exits, where nothing can be awaited and no lock may be waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.background import BACKGROUND
from bedrock_guard.hooks import threads
from bedrock_guard.hooks.aio_ends import Ends
from bedrock_guard.testing.bedrock_server import BedrockServer, missing_usage_headers, raw

aiobotocore = pytest.importorskip(
    "aiobotocore", reason="aiobotocore has an environment of its own: .ci/run test-aio"
)
from aiobotocore.session import get_session  # noqa: E402

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {
    SONNET: {
        "input_tokens": "0.0000033",
        "output_tokens": "0.0000165",
        "cache_read_input_tokens": "0.00000033",
    }
}
HELLO: dict[str, Any] = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps({"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}),
}
A_WHILE_S = 60

HEAD = """
import asyncio, os, sys, time
from aiobotocore.session import get_session
from bedrock_guard import Guard
from bedrock_guard.hooks import threads

way, url, ledger, request = sys.argv[1:]
request = eval(request)
guard = Guard(budget="5 USD", ledger=ledger)
kept = []

def open_client():
    return get_session().create_client("bedrock-runtime", region_name="us-east-1", endpoint_url=url)
"""

# A finalizer runs wherever the collector comes: here, while this very thread puts work into the pool.
DROP = """
async def main():
    async with open_client() as client:
        guard.attach(client)
        await client.converse(**request)
        if way == "stream":
            part = (await client.converse_stream(**request))["stream"]
        else:
            part = client.converse(**request)
            part.send(None)
        with threads._threads()._shutdown_lock:
            if way == "coroutine":
                part.close()
            del part
        while guard.status()[0].pending:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""

FORK = """
async def main():
    async with open_client() as client:
        await asyncio.wait_for(guard.attach(client).converse(**request), 20)

asyncio.run(main())
child = os.fork()
if not child:
    asyncio.run(main())
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

FORK_INSIDE = """
def fork(**_):
    child = os.fork()
    if not child:
        raise SystemExit(7)
    kept.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

async def main():
    async with open_client() as client:
        guard.attach(client)
        client.meta.events.register(f"{way}.bedrock-runtime.Converse", fork)
        try:
            await client.converse(**request)
        except SystemExit as error:
            os._exit(error.code)

asyncio.run(main())
assert kept == [7], kept
"""

LEAVE = """
async def main():
    async with open_client() as client:
        body = (await guard.attach(client).invoke_model(**request))["body"]
        if way == "half read":
            await body.read(5)
        if way != "dropped":
            kept.append(body)

asyncio.run(main())
"""


def run(code: str, folder: Path, request: dict[str, Any], way: str = "") -> list[Any]:
    """
    The entries that a program has left when it has ended, newest first; nothing is held any more.
    """
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    with BedrockServer(rates=RATES) as server:
        if request is INVOKE:
            server.always(missing_usage_headers())
        done = subprocess.run(
            [sys.executable, "-c", HEAD + code, way, server.url, ledger, repr(request)],
            capture_output=True,
            text=True,
            check=False,
            timeout=A_WHILE_S,
        )
    assert (done.returncode, done.stderr) == (0, "")
    with Guard(budget="5 USD", ledger=ledger) as guard:
        assert [row.pending for row in guard.status()] == [0]
        return list(guard.entries())


@pytest.mark.parametrize("way", ["stream", "coroutine"])
def test_what_is_dropped_inside_of_the_pool_ends(tmp_path: Path, way: str) -> None:
    """
    The pool's lock is no lock to ask for twice: the loop, and all that it serves, would stand still.
    """
    entries = run(DROP, tmp_path, HELLO, way)

    assert len(entries) == 2
    assert entries[0].outcome == ("abandoned" if way == "stream" else "not_sent")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_has_threads_of_its_own(tmp_path: Path) -> None:
    """
    Those of its parent are not there any more; what is given to them is never done.
    """
    entries = run("import warnings\nwarnings.simplefilter('ignore')\n" + FORK, tmp_path, HELLO)

    assert [entry.outcome for entry in entries] == ["answered", "answered"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("event", ["before-sign", "response-received"])
def test_a_child_that_leaves_from_inside_a_call_does_not_end_it(tmp_path: Path, event: str) -> None:
    """
    It has no loop any more to wait in; it gets its own error, and the call is its parent's.
    """
    (entry,) = run("import warnings\nwarnings.simplefilter('ignore')\n" + FORK_INSIDE, tmp_path, HELLO, event)

    assert (entry.outcome, entry.basis) == ("answered", "reported")


@pytest.mark.parametrize("way", ["never read", "half read", "dropped"])
def test_a_body_that_is_open_at_exit_costs_the_estimate(tmp_path: Path, way: str) -> None:
    """
    As a sync one.
    """
    (entry,) = run(LEAVE, tmp_path, INVOKE, way)

    assert (entry.outcome, entry.basis) == ("abandoned", "estimated")
    assert entry.cost == entry.estimated_cost


def test_an_end_that_waits_keeps_no_other_waiting() -> None:
    """
    One thread looks after all guards: a ledger that is locked must not keep it.
    """
    may_end, has_ended = threading.Event(), threading.Event()
    told: list[str] = []
    with Guard(budget="5 USD", ledger="memory://") as guard:
        BACKGROUND.keep(guard._pipeline.upkeep)
        Ends(lambda how: may_end.wait(A_WHILE_S), blocks=True).soon("dropped")
        Ends(lambda how: (told.append(how), has_ended.set()), blocks=True).soon("closed")

        assert has_ended.wait(A_WHILE_S)
        may_end.set()
    assert told == ["closed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_an_interrupt_is_the_consumers_doing(error: BaseException) -> None:
    """
    A reply that is left is paid for also where lost ones are free.
    """
    told: list[str] = []
    ends = Ends(told.append, blocks=False)

    asyncio.run(ends.failed(error))
    asyncio.run(ends.failed(ValueError()))

    assert told == ["dropped", "error"]


def test_work_is_done_at_once_where_the_pool_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The interpreter is on its way out; nobody comes later.
    """
    done: list[int] = []
    pool = threads.ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr(threads, "_threads", lambda: pool)
    threads._hand_on(lambda: done.append(1))
    monkeypatch.setattr(BACKGROUND, "is_leaving", True)
    threads.run_soon(lambda: done.append(2))

    assert done == [1, 2]


@pytest.mark.parametrize("ledger", ["memory", "sqlite"])
def test_a_cache_told_twice_is_seen(tmp_path: Path, ledger: str) -> None:
    """
    Botocore drops the second spelling, so that only the raw reply tells.
    """
    document = {
        "metrics": {"latencyMs": 1},
        "output": {"message": {"role": "assistant", "content": [{"text": "Good day."}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 5,
            "outputTokens": 7,
            "totalTokens": 12,
            "cacheReadInputTokens": 3,
            "cacheReadInputTokenCount": 40,
            "cacheWriteInputTokens": 0,
        },
    }
    url = "memory://" if ledger == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"

    async def main() -> None:
        async with get_session().create_client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        ) as client:
            await guard.attach(client).converse(**HELLO)

    with BedrockServer(rates=RATES) as server, Guard(budget="5 USD", ledger=url) as guard:
        server.always(raw(200, {"content-type": "application/json"}, json.dumps(document).encode()))
        asyncio.run(main())
        entry = next(guard.entries())

    assert entry.anomalies == ("contradictory",)
    assert entry.usage["cache_read_input_tokens"] == 40
