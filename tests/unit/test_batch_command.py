"""
`bedrock-guard batch estimate | settle`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from botocore_versions import needs_newer_model
from typer.testing import CliRunner, Result

from bedrock_guard import Guard
from bedrock_guard.cli import app
from bedrock_guard.testing.bedrock_server import BedrockServer

NOVA = "amazon.nova-lite-v1:0"
BODY = {"messages": [{"role": "user", "content": [{"text": "hello"}]}], "inferenceConfig": {"maxTokens": 100}}
RECORD = json.dumps({"recordId": "r0000000001", "modelInput": BODY})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{running.url}/_s3")
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", running.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running.batches.put("s3://files/in.jsonl", f"{RECORD}\n{RECORD}\n".encode())
        yield running


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"


@pytest.fixture
def job(server: BedrockServer, url: str) -> str:
    with Guard(budget="5 USD/day", ledger=url, batch_input="read") as program:
        reply = program.client("bedrock", region_name="us-east-1").create_model_invocation_job(
            jobName="mine",
            roleArn="arn:aws:iam::123456789012:role/batch",
            modelId=NOVA,
            inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://files/in.jsonl"}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        )
    return str(reply["jobArn"])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["batch", *arguments])


@pytest.mark.parametrize("kind", ["InvokeModel", "Converse"])
def test_an_estimate_of_a_file_on_disk(kind: str, tmp_path: Path) -> None:
    """
    Before anything is uploaded; and quiet where no person looks on.
    """
    path = tmp_path / "in.jsonl"
    path.write_text(f"{RECORD}\n\n{RECORD}\n")

    told = run("estimate", str(path), "--model", NOVA, "--invocation-type", kind, "--json")
    shown = run("estimate", str(path), "--model", NOVA, "--invocation-type", kind)

    found = json.loads(told.stdout)
    assert (told.exit_code, found["records"], found["files"]) == (0, 2, [str(path)])
    assert found["usage"]["output_tokens"] == 200
    tokens = found["usage"]["input_tokens"]
    # Half of 0.06 and 0.24 USD a million.
    assert Decimal(found["cost_usd"]) == Decimal("0.00000003") * tokens + Decimal("0.00000012") * 200
    assert shown.stdout.startswith("2 records in 1 file\n")
    assert shown.stderr == ""


def test_a_record_that_is_no_request_is_as_large_as_its_model_takes(tmp_path: Path) -> None:
    """
    AWS may make sense of what nobody here can read.
    """
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xff not JSON\n")

    found = json.loads(run("estimate", str(path), "--model", NOVA, "--json").stdout)

    assert found["usage"]["input_tokens"] >= 300_000


def test_an_estimate_of_what_is_in_s3(server: BedrockServer) -> None:
    """
    As the job will read it.
    """
    found = json.loads(run("estimate", "s3://files/in.jsonl", "--model", NOVA, "--json").stdout)

    assert found["records"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("none.jsonl", "--model", NOVA), 2, "There is no file 'none.jsonl'."),
        (("s3:///key", "--model", NOVA), 2, "'s3:///key' is no place in S3"),
        (("s3://files/none", "--model", NOVA), 2, "There is no file at s3://files/none."),
        (("s3://files/in.jsonl", "--model", "amazon.unheard-of-v1:0"), 1, "No price for"),
        (("s3://files/in.jsonl", "--model", NOVA, "--invocation-type", "x"), 2, "invocation type is 'x'"),
    ],
)
def test_what_cannot_be_estimated_is_told(
    arguments: tuple[str, ...], code: int, told: str, server: BedrockServer
) -> None:
    """
    A price that is missing is no, anything else a mistake.
    """
    done = run("estimate", *arguments)

    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr


@needs_newer_model
def test_a_job_is_settled_once_and_said_so(server: BedrockServer, url: str, job: str) -> None:
    """
    The whole of a night's batch, from a shell.
    """
    early = run("settle", job, "--ledger", url)
    server.batches.run(job)
    told = run("settle", job, "--ledger", url, "--json")
    again = run("settle", job, "--ledger", url)

    assert (early.exit_code, "it goes on, and nothing is settled yet" in early.stdout) == (1, True)
    settled = json.loads(told.stdout)
    assert (told.exit_code, settled["how"], settled["basis"]) == (0, "settled", "reported")
    assert again.exit_code == 0
    assert f"Completed; settled before, at ${settled['cost_usd']}" in again.stdout


@needs_newer_model
def test_a_ledger_that_is_not_there_or_knows_nothing_of_a_job(
    server: BedrockServer, url: str, job: str, tmp_path: Path
) -> None:
    """
    A mistyped name must not look like money that was given back.
    """
    other = f"sqlite:///{(tmp_path / 'other.db').as_posix()}"
    missing = run("settle", job, "--ledger", other)
    Guard(budget="1 USD", ledger=other).close()
    unknown = run("settle", job, "--ledger", other)
    nobody = run("settle", "nosuchjob000", "--ledger", url)

    assert (missing.exit_code, "is not there" in missing.stderr) == (1, True)
    assert (unknown.exit_code, "No call in this ledger began" in unknown.stderr) == (2, True)
    assert (nobody.exit_code, "AWS does not tell of job 'nosuchjob000'" in nobody.stderr) == (2, True)
