"""
What is read of a batch: its request, its files, and what is kept of what is held for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard.batches.files import open_files, read_whole
from bedrock_guard.domain.held_job import HeldJob
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations.batch import CREATE_MODEL_INVOCATION_JOB, read_record
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

HAIKU = parse_model_id("anthropic.claude-3-5-haiku-20241022-v1:0")


@pytest.mark.parametrize(
    ("given", "hours"),
    [
        ({}, 24),
        ({"timeoutDurationInHours": 72}, 72),
        ({"timeoutDurationInHours": "x"}, 168),
        ({"timeoutDurationInHours": -1}, 168),
        ({"timeoutDurationInHours": True}, 168),
    ],
)
def test_a_job_is_held_for_as_long_as_aws_lets_it_run(given: dict[str, Any], hours: int) -> None:
    """
    What cannot be understood is as long as any may be.
    """
    call = CREATE_MODEL_INVOCATION_JOB.read_call({"modelId": HAIKU.model_id, **given}, region="us-east-1")

    assert call.batch is not None
    assert call.batch.hours == hours
    assert (call.service_tier, call.has_bound, call.region) == ("batch", False, "us-east-1")


def test_a_record_is_bounded_as_the_request_that_it_is() -> None:
    """
    InvokeModel's body, or Converse's; the same text is as large in both.
    """
    invoke = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    converse = {
        "inferenceConfig": {"maxTokens": 50},
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    }

    sizes = [
        read_record(json.dumps({"modelInput": body}).encode(), HAIKU, invocation=kind)
        for kind, body in (("InvokeModel", invoke), ("Converse", converse))
    ]

    assert [(size.output_limit, size.has_unseen) for size in sizes] == [(50, False)] * 2
    assert all(size.text_bytes >= 5 for size in sizes)


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"modelInput": 5}', b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_read_is_all_that_its_model_takes(line: bytes) -> None:
    """
    Never an exception: AWS says what it thinks of it.
    """
    assert read_record(line, HAIKU, invocation="Converse").has_unseen


def test_files_of_a_folder_are_read_one_after_the_other(tmp_path: Path) -> None:
    """
    Those in folders of it, too.
    """
    (tmp_path / "b").mkdir()
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    (tmp_path / "b" / "c.jsonl").write_text("3")

    read = [[line.strip() for line in file.lines] for file in open_files(str(tmp_path), lambda: None)]

    assert read == [[b"1", b"2"], [b"3"]]


class Broken:
    """
    A store whose answers break off.
    """

    def head_object(self, **_: Any) -> dict[str, Any]:
        return {"ContentLength": 5}

    def get_object(self, **_: Any) -> dict[str, Any]:
        raise ConnectionError("reset")


def test_a_store_that_fails_is_named(tmp_path: Path) -> None:
    """
    Whatever its client raises.
    """
    with pytest.raises(ConfigurationError, match="'s3://files/in' cannot be read: reset"):
        list(open_files("s3://files/in", Broken))
    with pytest.raises(ConfigurationError, match="There is no file"):
        read_whole(str(tmp_path / "none"), Broken)


def test_what_is_held_comes_back_from_json() -> None:
    """
    Another process settles by it: a line that lost its kind would give a rate back twice.
    """
    key = LedgerKey("search", "USD/rolling 24 hours@UTC", (("team", "a"), ("user", "b")), 1_800_000_000)
    line = Line(key, 5, 3, "rolling", enforce=False, span_s=86_400)
    held = HeldJob("id", 1.5, 2.5, (line,), {"input_tokens": 5}, "us", 2, 30, ("s3://b/k",))

    assert HeldJob.from_json(json.loads(json.dumps(held.as_json()))) == held
    assert HeldJob.from_json(held.as_json()) == held


@pytest.mark.parametrize(("tokens", "price"), [(0, 1), (200, 1), (201, 7)])
def test_prices_in_a_band_are_those_of_a_request_of_its_size(tokens: int, price: int) -> None:
    """
    A threshold itself is below.
    """
    bands = (PriceBand(0, {"input_tokens": 1}), PriceBand(200, {"input_tokens": 7}))
    prices = UnitPrices("m", "any", None, "batch", "standard", bands)

    (only,) = prices.in_band_of(tokens).bands

    assert (only.above_input_tokens, only.prices["input_tokens"]) == (0, price)
