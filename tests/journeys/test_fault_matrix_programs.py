"""
Every way a program, or another tool in it, can end a call: the second half of the fault matrix.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.response import StreamingBody
from botocore_versions import IS_NEWEST

from bedrock_guard.testing.bedrock_server import lost_answer, missing_usage_headers

from .fault_cells import (
    ALL_LEDGERS,
    OPERATIONS,
    STREAMS,
    check_cell,
    close_after_some,
    close_unread,
    everywhere,
    open_cell,
    read_all,
    read_some,
    run,
)

# Where it comes, and what became of the attempt; a stream's usage comes after all of these.
RAISED_IN: dict[str, list[str]] = {
    "before-call": [],
    "before-sign": ["not_sent"],
    "before-send": ["not_sent"],
    "before-send, after the guard": ["lost"],
    "before-parse": ["lost"],
    "response-received": ["lost"],
    "needs-retry": ["lost"],
    "after-call": ["answered"],
}


@everywhere
@pytest.mark.parametrize("event", RAISED_IN)
@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whatever_is_raised_under_way_ends_the_call(
    tmp_path: Path, raised: type[BaseException], event: str, operation: str, ledger: str
) -> None:
    """
    Ctrl-C, a worker's time limit, another tool's bug: botocore tells nobody, and the model goes on.
    """
    if event == "before-parse" and not IS_NEWEST:
        pytest.skip("this botocore has no such event")
    outcomes = RAISED_IN[event]
    if event == "after-call" and operation in STREAMS:
        outcomes = ["abandoned"]

    def stop(**_: Any) -> None:
        raise raised

    with open_cell(ledger, tmp_path) as cell:
        if event == "before-send, after the guard":
            cell.client.meta.events.register_last("before-send", stop)
        else:
            cell.on(event, operation, stop)

        assert run(cell, operation) == raised.__name__

        check_cell(cell, outcomes)


def answer_instead(operation: str, status: int) -> Callable[..., Any]:
    """
    A cache or test tool that answers in AWS's place: 10 tokens read, 20 written.
    """
    usage = {"input_tokens": 10, "output_tokens": 20}
    content = json.dumps({"type": "message", "usage": usage}).encode()
    bodies: dict[str, dict[str, Any]] = {
        "Converse": {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}},
        "ConverseStream": {"stream": iter([{"messageStart": {"role": "assistant"}}])},
        "InvokeModel": {"body": StreamingBody(io.BytesIO(content), len(content))},
        "InvokeModelWithResponseStream": {"body": iter([])},
    }
    parsed = bodies[operation] if status == 200 else {"Error": {"Code": "ThrottlingException", "Message": ""}}
    parsed["ResponseMetadata"] = {"HTTPStatusCode": status, "HTTPHeaders": {}}
    return lambda **_: (AWSResponse("", status, {}, None), parsed)


@everywhere
def test_an_answer_of_another_tool_is_charged_at_what_it_says(
    tmp_path: Path, operation: str, ledger: str
) -> None:
    """
    The guard cannot tell a cache from AWS; what says nothing is charged at its estimate.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.on("before-call", operation, answer_instead(operation, 200))

        assert run(cell, operation) == ""

        # 10 x 3.30 and 20 x 16.50 USD a million
        said = operation not in STREAMS
        check_cell(cell, ["answered" if said else "lost"], bill_nanousd=363_000 if said else 0)
        assert cell.server.requests == ()


@everywhere
def test_an_error_of_another_tool_is_free(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    Chaos tools throttle from inside; nothing left, so nothing is owed.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.on("before-call", operation, answer_instead(operation, 429))

        assert run(cell, operation) == "ThrottlingException"

        check_cell(cell, ["rejected"])


def raise_while_reading(part: Any, raised: type[BaseException] = RuntimeError) -> None:
    if hasattr(part, "read"):
        part.read(5)
        raise raised
    for _ in part:
        raise raised


LEAVING: dict[str, Callable[[Any], None]] = {
    "drop": lambda _: None,
    "break": read_some,
    "close": close_unread,
    "close after some": close_after_some,
    "raise": raise_while_reading,
    "interrupt": lambda part: raise_while_reading(part, KeyboardInterrupt),
}


@everywhere
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_early_pays(tmp_path: Path, name: str, operation: str, ledger: str) -> None:
    """
    AWS bills the whole generation to a client that hung up; closing the tab must not be free use.
    """
    with open_cell(ledger, tmp_path) as cell:
        run(cell, operation, LEAVING[name])

        check_cell(cell, ["abandoned" if operation in STREAMS else "answered"])


@pytest.mark.parametrize("ledger", ALL_LEDGERS)
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_a_body_that_alone_knows_its_usage_pays(
    tmp_path: Path, name: str, ledger: str
) -> None:
    """
    Some families say nothing in their headers.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        run(cell, "InvokeModel", LEAVING[name])

        check_cell(cell, ["abandoned"])


@pytest.mark.parametrize("ledger", ALL_LEDGERS)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", LEAVING)
def test_whoever_leaves_an_answer_that_came_on_the_second_try_pays(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    The error of the first try holds the frames that hold the stream: kept, it keeps the money held.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.will_answer(lost_answer(), missing_usage_headers())

        run(cell, operation, LEAVING[name])

        check_cell(cell, ["lost", "answered" if operation == "Converse" else "abandoned"])


def read_twice(part: Any) -> None:
    read_all(part)
    read_all(part)


def read_in_two_goes(part: Any) -> None:
    read_some(part)
    read_all(part)


def read_and_close(part: Any) -> None:
    read_all(part)
    close_unread(part)
    close_unread(part)


def read_in_a_thread(part: Any) -> None:
    thread = threading.Thread(target=read_all, args=(part,))
    thread.start()
    thread.join()


@everywhere
@pytest.mark.parametrize("consume", [read_twice, read_in_two_goes, read_and_close, read_in_a_thread])
def test_whoever_reads_to_the_end_pays_the_bill_however_he_reads(
    tmp_path: Path, consume: Callable[[Any], None], operation: str, ledger: str
) -> None:
    """
    Frameworks peek, read on in threads, and close what is already over.
    """
    with open_cell(ledger, tmp_path) as cell:
        assert run(cell, operation, consume) == ""

        check_cell(cell, ["answered"])
