"""
A cell of the fault matrix: one guarded client, its own server, ledger and clock; and what is owed to it.

A test scripts a fault, runs one call as a program would, and calls `check_cell`.
The verdicts compare with the server's bill and with how often the ledger was asked
to hold and to end, never with what the guard says of itself, and never with a clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import dynamodb_engine
import pytest
from botocore.config import Config

from bedrock_guard import Guard
from bedrock_guard.domain.ledger import Refusal
from bedrock_guard.errors import GuardError
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, RATES, SONNET

OPERATIONS = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")
STREAMS = ("ConverseStream", "InvokeModelWithResponseStream")
LEDGERS = ("memory", "sqlite")
# Of the matrix, a table of a fleet has each outcome in every run, and the rest behind the marker.
ALL_LEDGERS = (*LEDGERS, pytest.param("dynamodb", marks=pytest.mark.slow))

# An empty ledger of each scheme.
URLS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{(folder / 'ledger.db').as_posix()}",
    "dynamodb": lambda _: dynamodb_engine.table_url(),
}

# Long past before any test is slow enough to notice: what is tested does not depend on it.
SHORT_S = 0.05
# 100 output tokens at 16.50 USD a million, and the input taken as 200 tokens, at 3.30, at the very most.
MOST_NANOUSD = 100 * 16_500 + 200 * 3_300

INVOKE: dict[str, Any] = {
    "modelId": SONNET,
    "body": json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hello there"}],
        }
    ),
}

_ON_LEDGERS = pytest.mark.parametrize("ledger", ALL_LEDGERS)


def everywhere(test: Any) -> Any:
    """
    Mark a test to run for every operation on every ledger.
    """
    return _ON_LEDGERS(pytest.mark.parametrize("operation", OPERATIONS)(test))


def on_streams(test: Any) -> Any:
    """
    Mark a test to run for both kinds of event stream on every ledger.
    """
    return _ON_LEDGERS(pytest.mark.parametrize("operation", STREAMS)(test))


class WatchedLedger:
    """
    A real ledger, and how often calls were held and ended in it.
    """

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.held = 0
        self.ended = 0

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._ledger.reserve(*args, **kwargs)
        self.held += not isinstance(answer, Refusal)
        return answer

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        self.ended += 1
        return self._ledger.settle(*args, **kwargs)

    def release(self, *args: Any, **kwargs: Any) -> Any:
        self.ended += 1
        return self._ledger.release(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@dataclass
class Cell:
    """
    One guarded client and what surrounds it.
    """

    client: Any
    guard: Guard
    ledger: WatchedLedger
    server: BedrockServer
    make_client: Callable[..., Any]
    now: list[float]

    @property
    def spent_nanousd(self) -> int:
        return int(sum(row.spent for row in self.guard.status()) * 10**9)

    @property
    def pending_nanousd(self) -> int:
        return int(sum(row.pending for row in self.guard.status()) * 10**9)

    def on(self, event: str, operation: str, handler: Callable[..., Any]) -> None:
        """
        Register *handler* as another tool does that comes after the guard.
        """
        self.client.meta.events.register(f"{event}.bedrock-runtime.{operation}", handler)


@contextmanager
def open_cell(
    scheme: str,
    folder: Path,
    *,
    budget: str = "search: 5 USD",
    mode: str = "standard",
    read_timeout: float = 5.0,
    event_delay_s: float = 0.0,
    session: Any = boto3,
) -> Iterator[Cell]:
    """
    A fresh cell. Retries wait for nothing, and the guard's clock stands still.
    """
    now = [1_800_000_000.0]
    with (
        dynamodb_engine.quick() if scheme == "dynamodb" else nullcontext(),
        pytest.MonkeyPatch.context() as patch,
        BedrockServer(RATES, event_delay_s=event_delay_s) as server,
    ):
        ledger = WatchedLedger(open_ledger(URLS[scheme](folder), clock=lambda: now[0]))
        guard = Guard(budget=budget, ledger=ledger, clock=lambda: now[0])  # type: ignore[arg-type]
        patch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
        patch.setattr("botocore.retries.bucket.TokenBucket._sleep_amount", lambda *_: 0.0)

        def make_client(mode: str = mode, read_timeout: float = read_timeout) -> Any:
            config = Config(read_timeout=read_timeout, retries={"mode": mode})
            return session.client(
                "bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, config=config
            )

        client = guard.attach(make_client())
        yield Cell(client, guard, ledger, server, make_client, now)
        server.stop()
        guard.close()
        ledger.close()


def send(client: Any, operation: str, **changes: Any) -> Any:
    """
    What a program gets to read: a reply, a stream or a body.
    """
    if operation == "Converse":
        return client.converse(**{**HELLO, **changes})
    if operation == "ConverseStream":
        return client.converse_stream(**{**HELLO, **changes})["stream"]
    if operation == "InvokeModel":
        return client.invoke_model(**{**INVOKE, **changes})["body"]
    return client.invoke_model_with_response_stream(**{**INVOKE, **changes})["body"]


def read_all(part: Any) -> None:
    """
    To the end, as a program does that means well.
    """
    if hasattr(part, "read"):
        part.read()
    elif not isinstance(part, Mapping):
        for _ in part:
            pass


def read_some(part: Any) -> None:
    """
    One event, or a few bytes.
    """
    if hasattr(part, "read"):
        part.read(5)
    elif not isinstance(part, Mapping):
        for _ in part:
            break


def close_unread(part: Any) -> None:
    """
    As a program that has lost interest.
    """
    if hasattr(part, "close"):
        part.close()


def close_after_some(part: Any) -> None:
    """
    As a server does when the browser's tab is closed.
    """
    read_some(part)
    close_unread(part)


def run(cell: Cell, operation: str, consume: Callable[[Any], None] = read_all) -> str:
    """
    Make a call and consume it; the name of what it raised, or nothing.
    """
    try:
        consume(send(cell.client, operation))
    except GuardError:
        raise
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return type(error).__name__
    return ""


def check_cell(cell: Cell, outcomes: list[str], *, bill_nanousd: int | None = None) -> None:
    """
    The contract of every cell: one end, nothing pending, and never below the bill.

    *outcomes* are those of the call's attempts, by hand: they say for which an estimate
    may be charged. *bill_nanousd* is for answers that did not come from the server.
    """
    entries = list(cell.guard.entries())
    bill = cell.server.bill.nanousd if bill_nanousd is None else bill_nanousd
    assert len(entries) == 1
    entry = entries[0]
    assert [attempt.outcome for attempt in entry.attempts] == outcomes
    assert entry.outcome != "pending"
    assert (cell.ledger.held, cell.ledger.ended) == (1, 1)
    assert cell.pending_nanousd == 0
    assert [balance.pending for balance in cell.ledger.balances()] in ([], [0])

    guessed = sum(outcome in ("lost", "abandoned") for outcome in outcomes)
    assert entry.estimated_cost_nanousd <= MOST_NANOUSD
    assert bill <= cell.spent_nanousd <= bill + guessed * entry.estimated_cost_nanousd
    assert entry.basis == ("estimated" if guessed else "reported")
