"""
The Lambda function that writes a month's chargeback to S3, as its schedule runs it.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import dynamodb_engine
import pytest
from journal import made_entry

from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb.template import template

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DOCS = EXAMPLES.parent / "docs"
OCTOBER = datetime(2026, 10, 15, tzinfo=UTC).timestamp()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    A bucket `reports`, over HTTP.
    """
    url = dynamodb_engine.endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket="reports")
    return client


@pytest.fixture
def function(s3: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """
    The function on a table of two teams: what October cost, and a call of November.
    """
    url = dynamodb_engine.table_url()
    ledger = open_ledger(url, clock=time.time)
    for id_, at_s, nanousd, tags in (
        ("a", OCTOBER, 1_500_000_000, {"team": "search", "user": "ann"}),
        ("b", OCTOBER + 60, 250_000_000, {"team": "search", "user": "ann"}),
        ("c", OCTOBER + 90, 40_000_000, {"team": "=ads", "user": "bob"}),
        ("d", OCTOBER + 95, 7_000_000, {}),
        ("e", datetime(2026, 11, 1, tzinfo=UTC).timestamp(), 9_000_000_000, {"team": "search"}),
    ):
        ledger.record(made_entry(id_, at_s=at_s, cost_nanousd=nanousd, tags=tags))
    ledger.close()
    monkeypatch.setenv("BEDROCK_GUARD_LEDGER", url)
    monkeypatch.setenv("CHARGEBACK_BUCKET", "reports")
    return load()


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chargeback_function", EXAMPLES / "chargeback_function.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(s3: Any, key: str) -> list[dict[str, str]]:
    found = s3.get_object(Bucket="reports", Key=key)
    assert found["ContentType"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(found["Body"].read().decode())))


def test_the_month_before_is_in_the_bucket_a_line_for_each_user(function: ModuleType, s3: Any) -> None:
    """
    To the nano-dollar, what has no tags too; and a name is no formula in the spreadsheet that opens it.
    """
    done = function.handler({"time": "2026-11-02T06:00:00Z"}, None)

    assert done == {"month": "2026-10", "key": "chargeback/2026-10.csv", "lines": 3}
    found = {(line["team"], line["user"]): Decimal(line["cost"]) for line in lines(s3, done["key"])}
    assert found == {
        ("search", "ann"): Decimal("1.75"),
        ("'=ads", "bob"): Decimal("0.04"),
        ("", ""): Decimal("0.007"),
    }


def test_a_month_can_be_asked_for_again(function: ModuleType, s3: Any) -> None:
    """
    After a mend of the tags; the file is written over.
    """
    s3.put_object(Bucket="reports", Key="chargeback/2026-11.csv", Body=b"old")

    assert function.handler({"month": "2026-11"}, None)["lines"] == 1

    assert [line["cost"] for line in lines(s3, "chargeback/2026-11.csv")] == ["9.00"]


def test_a_ledger_that_is_gone_is_an_error_and_no_empty_file(
    function: ModuleType, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An empty file would say that a month cost nothing.
    """
    monkeypatch.setenv("BEDROCK_GUARD_LEDGER", "sqlite:////nonexistent/ledger.db")

    with pytest.raises(RuntimeError, match="no program has used it yet"):
        function.handler({"month": "2026-09"}, None)

    listed = s3.list_objects_v2(Bucket="reports", Prefix="chargeback/2026-09")
    assert listed["KeyCount"] == 0


@pytest.mark.parametrize(
    ("moment", "month"),
    [("2026-11-02T06:00:00+00:00", "2026-10"), ("2027-01-02T06:00:00+00:00", "2026-12")],
)
def test_the_month_is_that_before_the_schedule(function: ModuleType, moment: str, month: str) -> None:
    """
    January's is of another year.
    """
    assert function.month_before(datetime.fromisoformat(moment)) == month


def test_the_template_lets_the_function_do_what_readers_may_and_no_more() -> None:
    """
    A report needs no right to write a ledger; the page shows the template that is in examples/.
    """
    text = (EXAMPLES / "chargeback_template.yaml").read_text()
    (allowed,) = re.findall(r"Action: \[(dynamodb.*)\]", text)
    readers = template("x")["Resources"]["ReaderPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]

    assert allowed.split(", ") == readers["Action"]
    assert set(re.findall(r"Action: (\S+)$", text, re.MULTILINE)) == {"s3:PutObject"}
    assert "examples/chargeback_template.yaml" in (DOCS / "how-to" / "charge-back.md").read_text()
    for name in re.findall(r"^ +(CHARGEBACK_\w+|BEDROCK_GUARD_\w+):", text, re.MULTILINE):
        assert name in (EXAMPLES / "chargeback_function.py").read_text()
