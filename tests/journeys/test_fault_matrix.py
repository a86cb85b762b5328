"""
Every way a call can end, through every operation, on every ledger: one table a kind of fault.

A cell passes when the reservation ended once, nothing is pending, and what was charged is
the server's bill, or above it by no more than the estimates of attempts that were lost.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore_versions import IS_NEWEST

from bedrock_guard.testing.bedrock_server import (
    Answer,
    broken_json,
    corrupt_frame,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
    missing_usage_headers,
    slow_answer,
    stream_error,
    truncated_body,
)

from .fault_cells import (
    OPERATIONS,
    SHORT_S,
    STREAMS,
    Cell,
    check_cell,
    close_after_some,
    everywhere,
    on_streams,
    open_cell,
    read_all,
    run,
)

INVOKES = ("InvokeModel", "InvokeModelWithResponseStream")
# How many requests botocore makes of a call that may be tried again.
ATTEMPTS = {"standard": 3, "legacy": 5, "adaptive": 3}
LATE = slow_answer(60)  # cut short when the server stops


# The answers in order, and what became of each attempt.
IN_ORDER: dict[str, tuple[list[Any], list[str]]] = {
    "200": ([], ["answered"]),
    "429, then 200": ([429], ["rejected", "answered"]),
    "503, then 200": ([503], ["rejected", "answered"]),
    "500 twice, then 200": ([error(500), error(500)], ["lost", "lost", "answered"]),
    "billed 500 twice, then 200": ([error(500, billed=True)] * 2, ["lost", "lost", "answered"]),
    "lost, then 200": ([lost_answer()], ["lost", "answered"]),
    "lost, then 429, then 200": ([lost_answer(), 429], ["lost", "rejected", "answered"]),
    "500, then 400": ([500, 400], ["lost", "rejected"]),
    "lost, then no usage": ([lost_answer(), missing_usage()], ["lost", "lost"]),
}
# Botocore tries these again, so they are answered so each time.
RETRIED: dict[str, tuple[Any, str]] = {
    "429": (429, "rejected"),
    "429 not ready": (error(429, code="ModelNotReadyException"), "rejected"),
    "500": (error(500), "lost"),
    "billed 500": (error(500, billed=True), "lost"),
    "503": (503, "rejected"),
    "late": (LATE, "lost"),
    "lost": (lost_answer(), "lost"),
    "lost unbilled": (lost_answer(billed=False), "lost"),
}
NOT_RETRIED: dict[str, tuple[Any, str]] = {
    "400": (400, "rejected"),
    "403": (403, "rejected"),
    "404": (404, "rejected"),
    "408": (error(408), "lost"),
    "billed 408": (error(408, billed=True), "lost"),
    "424": (error(424), "lost"),
    "billed 424": (error(424, billed=True), "lost"),
}
# Good by their status, with the operations that say all the same what was used: InvokeModel in
# its headers, Anthropic's own stream in the event before the last.
DAMAGED: dict[str, tuple[Answer, tuple[str, ...]]] = {
    "broken JSON": (broken_json(), INVOKES),
    "truncated": (truncated_body(), INVOKES),
    "no usage": (missing_usage(), ()),
    "no usage headers": (missing_usage_headers(), OPERATIONS),
    "cut at once": (cut_stream(after_events=0), ("InvokeModel",)),
    "cut": (cut_stream(after_events=3), ("InvokeModel",)),
    "cut after the last word": (cut_stream(after_events=1000), ("InvokeModel", *STREAMS)),
    "error event at once": (stream_error(after_events=0), ()),
    "error event": (stream_error(after_events=3), ()),
    "corrupt frame": (corrupt_frame(at_event=3), ("InvokeModel",)),
    "corrupt last frame": (corrupt_frame(at_event=1000), INVOKES),
}


# How a call comes to each outcome.
MADE: dict[str, Callable[[Cell], object]] = {
    "answered": lambda cell: None,
    "rejected": lambda cell: cell.server.always(400),
    "lost": lambda cell: cell.server.always(error(424)),
    "not_sent": lambda cell: cell.server.stop(),
    "abandoned": lambda cell: None,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("outcome", MADE)
def test_each_outcome_is_in_the_books_of_a_fleet(tmp_path: Path, outcome: str, operation: str) -> None:
    """
    One cell of the matrix for each; there is a network between the call and its end.
    """
    if outcome == "abandoned" and operation not in STREAMS:
        pytest.skip("what is not a stream tells its usage beforehand")
    with open_cell("dynamodb", tmp_path) as cell:
        MADE[outcome](cell)

        run(cell, operation, close_after_some if outcome == "abandoned" else read_all)

        check_cell(cell, [outcome] * (ATTEMPTS["standard"] if outcome == "not_sent" else 1))


@everywhere
@pytest.mark.parametrize("mode", ATTEMPTS)
@pytest.mark.parametrize("name", IN_ORDER)
def test_a_call_that_is_tried_again_pays_for_each_attempt_that_may_be_billed(
    tmp_path: Path, name: str, mode: str, operation: str, ledger: str
) -> None:
    """
    One call may be several requests, and a caller sees only the last.
    """
    answers, outcomes = IN_ORDER[name]
    with open_cell(ledger, tmp_path, mode=mode) as cell:
        cell.server.will_answer(*answers)

        run(cell, operation)

        check_cell(cell, outcomes)


@everywhere
@pytest.mark.parametrize("mode", ATTEMPTS)
@pytest.mark.parametrize("name", RETRIED)
def test_a_fault_that_stays_is_charged_as_often_as_it_was_met(
    tmp_path: Path, name: str, mode: str, operation: str, ledger: str
) -> None:
    """
    Peers charged such a call once, or not at all, and billed three times their budget.
    """
    answer, outcome = RETRIED[name]
    read_timeout = SHORT_S if answer is LATE else 5.0
    # Older service models do not say that this one may be tried again.
    is_final = name == "429 not ready" and mode != "legacy" and not IS_NEWEST
    with open_cell(ledger, tmp_path, mode=mode, read_timeout=read_timeout) as cell:
        cell.server.always(answer)

        assert run(cell, operation)

        check_cell(cell, [outcome] * (1 if is_final else ATTEMPTS[mode]))


@everywhere
@pytest.mark.parametrize("name", NOT_RETRIED)
def test_an_error_that_is_final_is_free_unless_a_model_ran(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    What was turned away must not eat the budget; what a model began must not be free.
    """
    answer, outcome = NOT_RETRIED[name]
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(answer)

        assert run(cell, operation)

        check_cell(cell, [outcome])


@everywhere
@pytest.mark.parametrize("name", DAMAGED)
def test_an_answer_that_arrives_damaged_is_charged(
    tmp_path: Path, name: str, operation: str, ledger: str
) -> None:
    """
    The status says 200 and the model ran; only the figures never arrived whole.
    """
    answer, telling = DAMAGED[name]
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(answer)

        run(cell, operation)

        # Older versions of botocore try half a body again.
        check_cell(cell, ["answered" if operation in telling else "lost"] * len(cell.server.requests))


@on_streams
def test_a_stream_is_never_charged_below_the_bill_wherever_it_is_cut(
    tmp_path: Path, operation: str, ledger: str
) -> None:
    """
    Anthropic's first event reports one output token; taken for the last word, it would be free use.
    """
    with open_cell(ledger, tmp_path) as cell:
        for after_events in range(40):
            cell.server.will_answer(cut_stream(after_events=after_events))

            run(cell, operation)

            assert cell.spent_nanousd >= cell.server.bill.nanousd
            assert cell.pending_nanousd == 0
        assert cell.ledger.held == cell.ledger.ended == 40


@everywhere
@pytest.mark.parametrize("mode", ATTEMPTS)
def test_a_refused_connection_costs_nothing(tmp_path: Path, mode: str, operation: str, ledger: str) -> None:
    """
    A gateway that is down must not eat the budget of those who wait for it.
    """
    with open_cell(ledger, tmp_path, mode=mode) as cell:
        cell.server.stop()

        assert run(cell, operation) == "EndpointConnectionError"

        check_cell(cell, ["not_sent"] * ATTEMPTS[mode])
        assert cell.spent_nanousd == 0


@everywhere
def test_a_call_without_credentials_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, ledger: str
) -> None:
    """
    Botocore finds out after the guard has held the money.
    """
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with open_cell(ledger, tmp_path, session=boto3.Session()) as cell:
        assert run(cell, operation) == "NoCredentialsError"

        check_cell(cell, ["not_sent"])
        assert cell.spent_nanousd == 0


@on_streams
def test_a_stream_that_stalls_is_charged(tmp_path: Path, operation: str, ledger: str) -> None:
    """
    Its time-out is raised by urllib3, past botocore and every event.
    """
    with open_cell(ledger, tmp_path, read_timeout=0.3, event_delay_s=60) as cell:
        assert "ReadTimeoutError" in run(cell, operation)

        # One, unless this machine is so slow that the headers were late as well.
        check_cell(cell, ["lost"] * len(cell.server.requests))
