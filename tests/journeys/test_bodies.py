"""
Bodies of InvokeModel that alone know their usage: every way to read one, or not to, on every ledger.

Headers that say what was used settle a call before its body is touched; here they say nothing, or
cannot say how long a cache write lives.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import (
    Answer,
    BedrockServer,
    missing_usage_headers,
    raw,
    truncated_body,
)

from .conftest import RATES, SONNET
from .fault_cells import INVOKE, LEDGERS, Cell, check_cell, open_cell

on_ledgers = pytest.mark.parametrize("ledger", LEDGERS)


def by_pieces(body: Any) -> bytes:
    return b"".join(iter(lambda: body.read(11), b""))


def by_lines(body: Any) -> bytes:
    return b"".join(body.iter_lines(chunk_size=7))


def by_chunks(body: Any) -> bytes:
    return b"".join(body.iter_chunks(7))


def by_itself(body: Any) -> bytes:
    return b"".join(body)


def by_next(body: Any) -> bytes:
    pieces = []
    while piece := next(body, b""):
        pieces.append(piece)
    return b"".join(pieces)


def piece_then_rest(body: Any) -> bytes:
    return bytes(body.read(5) + body.read())


def whole_by_size(body: Any) -> bytes:
    return bytes(body.read(10**6))


TO_THE_END: dict[str, Callable[[Any], bytes]] = {
    "whole": lambda body: body.read(),
    "whole, by its size": whole_by_size,
    "in pieces": by_pieces,
    "a piece, then the rest": piece_then_rest,
    "by lines": by_lines,
    "by readlines": lambda body: b"".join(body.readlines()),
    "by chunks": by_chunks,
    "iterated": by_itself,
    "by next": by_next,
}


# As pandas and the like do, which want a file.
BY_THE_RAW: dict[str, Callable[[Any], bytes]] = {
    "stream": lambda body: b"".join(body._raw_stream.stream(7)),
    "readline": lambda body: b"".join(iter(body._raw_stream.readline, b"")),
    "readlines": lambda body: b"".join(body._raw_stream.readlines()),
}

# botocore does not count the bytes of these, so that a cut is not noticed.
UNCHECKED = ("whole, by its size",)


def first_line(body: Any) -> None:
    next(body.iter_lines(chunk_size=7))


def first_chunk(body: Any) -> None:
    next(iter(body.iter_chunks(7)))


def close_twice(body: Any) -> None:
    body.close()
    body.close()


def close_half_read(body: Any) -> None:
    body.read(5)
    body.close()


def raise_inside(body: Any) -> None:
    with pytest.raises(RuntimeError), body:
        raise RuntimeError


LEFT: dict[str, Callable[[Any], object]] = {
    "never read": lambda body: None,
    "read of nothing": lambda body: body.read(0),
    "half read": lambda body: body.read(5),
    "first chunk": first_chunk,
    "closed early": lambda body: body.close(),
    "closed twice": close_twice,
    "half read, then closed": close_half_read,
    "raised inside": raise_inside,
}


def marks_an_hour() -> dict[str, Any]:
    """
    A request whose cache write costs more by its time to live, which no header tells.
    """
    block = {"type": "text", "text": "word " * 5000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": [block]}],
    }
    return {"modelId": SONNET, "body": json.dumps(body)}


def stalled(answer: Answer) -> Answer:
    """
    *answer* without its last bytes, on a connection that stays open.
    """
    return Answer(shape=lambda content: replace(answer.shape(content), withheld=20))


def invoke(cell: Cell, request: dict[str, Any] = INVOKE) -> Any:
    return cell.client.invoke_model(**request)["body"]


@on_ledgers
@pytest.mark.parametrize("name", TO_THE_END)
def test_a_body_read_to_its_end_costs_the_bill(tmp_path: Path, name: str, ledger: str) -> None:
    """
    The caller's own reading must be enough to learn the usage, and must get every byte.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        said = TO_THE_END[name](invoke(cell))

        check_cell(cell, ["answered"])
        assert json.loads(said)["usage"]["output_tokens"] == 100


@pytest.mark.parametrize("counts", [{"output": "0"}, {"output": "-5"}, {"input": "0"}])
def test_headers_that_cannot_be_right_do_not_settle(tmp_path: Path, counts: dict[str, str]) -> None:
    """
    A reply full of text for which they say nothing was used would be free.
    """
    told = {"input": "10", "output": "50", "cache-read-input": "0", "cache-write-input": "0", **counts}
    headers = {f"x-amzn-bedrock-{name}-token-count": value for name, value in told.items()}
    document = {
        "content": [{"type": "text", "text": "Good day."}],
        "usage": {"input_tokens": 10, "output_tokens": 50},
    }
    with open_cell("memory", tmp_path) as cell:
        answer = raw(200, {"content-type": "application/json", **headers}, json.dumps(document).encode())
        cell.server.always(answer)

        body = invoke(cell)
        assert cell.pending_nanousd > 0
        body.read()

        entry = next(cell.guard.entries())
        assert cell.spent_nanousd == entry.cost_nanousd >= 10 * 3_300 + 50 * 16_500
        assert entry.anomalies == (("negative",) if "-5" in counts.values() else ())


PROGRAM = """
import sys
import boto3
from bedrock_guard import Guard

way, url, ledger, request = sys.argv[1:]
guard = Guard(budget="5 USD", ledger=ledger)
client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url))
body = client.invoke_model(**eval(request))["body"]
if way == "half read":
    body.read(5)
if way == "in a cycle":
    kept = [body]
    kept.append(kept)
if way == "held by a module":
    sys.held = body
"""


@pytest.mark.parametrize("way", ["never read", "half read", "in a cycle", "held by a module"])
def test_a_body_that_is_open_at_exit_costs_the_estimate(tmp_path: Path, way: str) -> None:
    """
    It ends before the ledger is closed, and leaves nothing that only an expiry would end.
    """
    ledger = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    with BedrockServer(rates=RATES) as server:
        server.always(missing_usage_headers())
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, way, server.url, ledger, repr(INVOKE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert (done.returncode, done.stderr) == (0, "")
    with Guard(budget="5 USD", ledger=ledger) as guard:
        (entry,) = guard.entries()
        (row,) = guard.status()
    assert (entry.outcome, entry.basis) == ("abandoned", "estimated")
    assert (row.pending, row.spent) == (0, entry.estimated_cost)


@on_ledgers
@pytest.mark.parametrize("name", LEFT)
def test_a_body_that_is_left_costs_the_estimate(tmp_path: Path, name: str, ledger: str) -> None:
    """
    Not reading is no way to pay less.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(missing_usage_headers())

        LEFT[name](invoke(cell))

        check_cell(cell, ["abandoned"])


def costs_of_an_hour(cell: Cell) -> tuple[int, int, str]:
    entry = next(cell.guard.entries())
    return cell.spent_nanousd, cell.pending_nanousd, entry.outcome


@on_ledgers
@pytest.mark.parametrize("name", TO_THE_END)
def test_a_cache_write_for_an_hour_costs_the_bill_once_it_was_read(
    tmp_path: Path, name: str, ledger: str
) -> None:
    """
    Its headers are there, and still only the body says that the write was for an hour.
    """
    with open_cell(ledger, tmp_path) as cell:
        body = invoke(cell, marks_an_hour())
        assert cell.pending_nanousd > 0

        TO_THE_END[name](body)

        assert costs_of_an_hour(cell) == (cell.server.bill.nanousd, 0, "answered")
        # 5,000 tokens at the least, at 6.60 USD a million
        assert cell.spent_nanousd > 5_000 * 6_600
        assert (cell.ledger.held, cell.ledger.ended) == (1, 1)


@on_ledgers
@pytest.mark.parametrize("name", LEFT)
def test_a_cache_write_for_an_hour_that_is_left_costs_the_estimate(
    tmp_path: Path, name: str, ledger: str
) -> None:
    """
    Taken for one of five minutes, it would be charged below the bill.
    """
    with open_cell(ledger, tmp_path) as cell:
        LEFT[name](invoke(cell, marks_an_hour()))

        spent, pending, outcome = costs_of_an_hour(cell)
        entry = next(cell.guard.entries())
        assert (pending, outcome, entry.cost) == (0, "abandoned", entry.estimated_cost)
        assert spent >= cell.server.bill.nanousd
        assert (cell.ledger.held, cell.ledger.ended) == (1, 1)


@on_ledgers
@pytest.mark.parametrize("name", [name for name in TO_THE_END if name not in UNCHECKED])
@pytest.mark.parametrize("fault", ["stalls", "is cut"])
def test_a_body_that_breaks_while_it_is_read_is_lost(
    tmp_path: Path, fault: str, name: str, ledger: str
) -> None:
    """
    The model ran; its headers came in time, and then no word, or no more.
    """
    stalls = fault == "stalls"
    with open_cell(ledger, tmp_path, read_timeout=0.3 if stalls else 5.0) as cell:
        without_headers = missing_usage_headers()
        cut = Answer(
            shape=lambda content: replace(without_headers.shape(content), withheld=20, hangs_up=True)
        )
        cell.server.always(stalled(without_headers) if stalls else cut)
        raised = ""
        try:
            TO_THE_END[name](invoke(cell))
        except Exception as error:
            raised = type(error).__name__

        assert "Timeout" in raised if stalls else raised
        # One, unless this machine is so slow that the headers were late as well.
        check_cell(cell, ["lost"] * len(cell.server.requests))


@pytest.mark.parametrize("name", BY_THE_RAW)
def test_a_body_that_breaks_below_is_lost_at_once(tmp_path: Path, name: str) -> None:
    """
    Not left by its reader: what is charged for the one may be free for the other.
    """
    with open_cell("memory", tmp_path, read_timeout=0.3) as cell:
        cell.server.always(stalled(missing_usage_headers()))
        body = invoke(cell)

        with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
            BY_THE_RAW[name](body)

        check_cell(cell, ["lost"] * len(cell.server.requests))


@on_ledgers
def test_a_body_that_stalls_after_headers_that_told_costs_the_bill(tmp_path: Path, ledger: str) -> None:
    """
    What is known is not unlearned by a time-out.
    """
    with open_cell(ledger, tmp_path, read_timeout=1.0) as cell:
        cell.server.always(stalled(Answer()))

        with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
            invoke(cell).read()

        check_cell(cell, [*["lost"] * (len(cell.server.requests) - 1), "answered"])


@on_ledgers
def test_a_body_that_is_cut_after_headers_that_told_costs_the_bill(tmp_path: Path, ledger: str) -> None:
    """
    Nor by a connection that broke.
    """
    with open_cell(ledger, tmp_path) as cell:
        cell.server.always(truncated_body())

        with pytest.raises(Exception):  # noqa: B017  (of botocore or urllib3, by version)
            invoke(cell).read()

        check_cell(cell, [*["lost"] * (len(cell.server.requests) - 1), "answered"])
