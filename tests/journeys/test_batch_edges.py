"""
Batch jobs that go wrong: told twice, late, badly, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import boto3
import dynamodb_engine
import pytest
from batch_jobs import INPUT, RATES, client_of, create, pending, put_input, spent
from botocore_versions import needs_newer_model

from bedrock_guard import Guard
from bedrock_guard.errors import ConfigurationError, UnmeteredOperation
from bedrock_guard.testing.bedrock_server import BedrockServer

pytestmark = needs_newer_model

DAY = 86_400.0
CANVAS = "amazon.nova-canvas-v1:0"
FLAT = {"bedrock:CreateModelInvocationJob": "2 USD"}
LEDGERS = ("memory", "sqlite", "dynamodb")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BedrockServer]:
    with BedrockServer(rates=RATES) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{running.url}/_s3")
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", running.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield running


@pytest.fixture
def make_guard() -> Iterator[Callable[..., Guard]]:
    guards: list[Guard] = []

    def make(ledger: str = "memory://", **settings: Any) -> Guard:
        guards.append(Guard(budget="search: 5 USD", ledger=ledger, **{"batch_input": "read", **settings}))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


class Told:
    """
    A client of `bedrock` that tells of jobs what a test wants told.
    """

    def __init__(self, **told: Any) -> None:
        self._told = told

    def get_model_invocation_job(self, **params: Any) -> dict[str, Any]:
        return {**boto3.client("bedrock").get_model_invocation_job(**params), **self._told}


def put_manifest(server: BedrockServer, job: str, content: bytes) -> None:
    server.batches.put(f"s3://files/out/{job.rpartition('/')[2]}/manifest.json.out", content)


@pytest.mark.parametrize("status", ["Queued", ""])
def test_a_job_of_a_status_that_nobody_knows_goes_on(
    status: str, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    AWS has added some before: money that is let go while a job waits is spent twice.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    held = pending(guard)

    settled = guard.settle_batch(job, bedrock=Told(status=status, processedRecordCount=0))

    assert settled.how == "running"
    assert pending(guard) == held > 0


def test_a_manifest_is_believed_before_a_count_of_records(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    The count lags behind, and the manifest is written in the end.
    """
    guard = make_guard()
    put_input(server, "hello", "world")
    job = create(guard)
    server.batches.run(job, status="Stopped", records=1)

    settled = guard.settle_batch(job, bedrock=Told(processedRecordCount=0))

    assert (settled.how, spent(guard)) == ("settled", server.bill.nanousd)
    assert server.bill.nanousd > 0


def test_a_job_that_was_never_run_needs_no_right_to_its_output(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    To who may not list a bucket, S3 denies what is not there.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    server.batches.run(job, status="Failed", records=0, writes_manifest=False)
    server.batches.denies = True

    assert guard.settle_batch(job).how == "released"
    assert (pending(guard), spent(guard)) == (0, 0)


@pytest.mark.parametrize("place", [".", "in.jsonl", "/dev/null", "S3://files/in.jsonl"])
def test_a_request_cannot_have_the_disk_read(
    place: str,
    make_guard: Callable[..., Guard],
    server: BedrockServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An estimate may be of a file on disk; a job's input is in S3, or nowhere.
    """
    (tmp_path / "in.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UnmeteredOperation, match="is no place in S3"):
        create(make_guard(), place)

    assert server.requests == ()


@pytest.mark.parametrize(
    "manifest", [b'{"inputTokenCount": 0, "outputTokenCount": 0}', b'{"totalRecordCount": 1}']
)
def test_a_model_that_bills_for_images_is_charged_the_flat_price(
    manifest: bytes, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    No tokens are no images, but none that anybody has counted.
    """
    guard = make_guard(batch_input="off", flat_prices=FLAT)
    put_input(server, "a cat")
    job = create(guard, model=CANVAS, modelInvocationType="InvokeModel")
    server.batches.run(job, records=0, writes_manifest=False)
    put_manifest(server, job, manifest)

    settled = guard.settle_batch(job)

    assert (settled.basis, settled.cost, guard.status()[0].spent) == ("estimated", 2, 2)


@pytest.mark.parametrize("told", [{}, {"inputTokenCount": 7}])
def test_what_a_manifest_leaves_out_stays_as_it_was_held(
    told: dict[str, int], make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Of a model that writes, no count of what it wrote is no proof that it wrote nothing.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    held = int(pending(guard) * 10**9)
    server.batches.run(job, writes_manifest=False)
    put_manifest(server, job, json.dumps({"totalRecordCount": 1, **told}).encode())

    settled = guard.settle_batch(job)

    # At 120 nano-dollars for each of the 100 tokens of output, and 30 for those of input.
    assert (settled.basis, settled.usage["output_tokens"]) == ("estimated", 100)
    assert spent(guard) == (12_000 + 7 * 30 if told else held)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"5",
        b'["totalRecordCount"]',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"inputTokenCount": -1, "outputTokenCount": 1}',
        b'{"inputTokenCount": true, "outputTokenCount": 1}',
        b'{"inputTokenCount": 1e30, "outputTokenCount": 1}',
        b'{"inputTokenCount": 9999999999999999999, "outputTokenCount": 1}',
    ],
)
def test_a_manifest_of_nonsense_settles_nothing(
    content: bytes, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Nor is a ledger asked to count what no ledger can.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    held = pending(guard)
    server.batches.run(job, writes_manifest=False)
    put_manifest(server, job, content)

    with pytest.raises(ConfigurationError, match="is no manifest"):
        guard.settle_batch(job)

    assert pending(guard) == held > 0


def test_a_job_that_is_asked_for_twice_costs_once(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A request that is sent again with its token is answered with the job that there is.
    """
    guard = make_guard()
    put_input(server, "hello")
    monkeypatch.setattr(server.batches, "_ids", repeat(1))
    job, again = create(guard), create(guard)
    server.batches.run(job)

    settled = guard.settle_batch(job)

    assert job == again
    assert (settled.how, len(settled.entries)) == ("settled", 2)
    assert int((settled.cost or 0) * 10**9) == spent(guard) == server.bill.nanousd
    assert sum(entry.cost_nanousd or 0 for entry in guard.entries()) == server.bill.nanousd
    assert pending(guard) == 0
    assert guard.settle_batch(job).how == "already"


@pytest.mark.parametrize("kind", LEDGERS)
@pytest.mark.parametrize("on_expiry", ["charge", "release"])
@pytest.mark.parametrize("has_run", [True, False], ids=["run", "unrun"])
def test_books_are_right_however_late_a_job_is_settled(
    kind: str,
    on_expiry: str,
    has_run: bool,
    make_guard: Callable[..., Guard],
    server: BedrockServer,
    tmp_path: Path,
) -> None:
    """
    Whatever the end of the hold did with them.
    """
    clock = [1_800_000_000.0]
    server.batches.now = lambda: clock[0]
    guard = make_guard(url_of(kind, tmp_path), clock=lambda: clock[0], on_expiry=on_expiry)
    put_input(server, "hello")
    job = create(guard)
    clock[0] += 3 * DAY
    guard.sweep()
    if has_run:
        server.batches.run(job)
    else:
        server.batches.run(job, status="Failed", records=0, writes_manifest=False)

    settled, again = guard.settle_batch(job), guard.settle_batch(job)

    assert (settled.how, again.how) == ("settled" if has_run else "released", "already")
    assert (spent(guard), pending(guard)) == (server.bill.nanousd, 0)


def url_of(kind: str, folder: Path) -> str:
    if kind == "dynamodb":
        return dynamodb_engine.table_url()
    return "memory://" if kind == "memory" else f"sqlite:///{(folder / 'ledger.db').as_posix()}"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_a_job_is_settled_by_is_kept_while_it_is_held(
    kind: str, make_guard: Callable[..., Guard], server: BedrockServer, tmp_path: Path
) -> None:
    """
    Entries of a day ago are dropped, and a job may take a week.
    """
    clock = [1_800_000_000.0]
    server.batches.now = lambda: clock[0]
    guard = make_guard(url_of(kind, tmp_path), clock=lambda: clock[0], keep_entries_days=1)
    put_input(server, "hello")
    job = create(guard, timeoutDurationInHours=168)
    clock[0] += 7 * DAY
    guard.sweep()
    server.batches.run(job)

    assert guard.settle_batch(job).how == "settled"
    assert spent(guard) == server.bill.nanousd
    clock[0] += 3 * DAY
    guard.sweep()
    assert list(guard.entries()) == []


def test_a_busy_process_does_not_forget_its_job(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Of memory only the newest entries are kept, and a day has many.
    """
    guard = make_guard("memory://?keep_entries=3")
    put_input(server, "hello")
    job = create(guard)
    started = next(guard.entries(outcome="started"))
    for number in range(10):
        guard.ledger.record(started.changed(id=f"other-{number}", outcome="refused", held=None, job=None))
    server.batches.run(job)

    assert guard.settle_batch(job).how == "settled"
    assert spent(guard) == server.bill.nanousd


def test_of_a_folder_of_many_files_the_first_are_named(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    All are held for; but a table's item has an end, and an entry that does not fit would settle nothing.
    """
    guard = make_guard()
    for number in range(120):
        put_input(server, "hello", uri=f"s3://files/in/{number:03d}.jsonl")

    create(guard, "s3://files/in/")

    started = next(guard.entries(outcome="started"))
    assert (started.held["records"], len(started.held["files"])) == (120, 100)


@pytest.mark.parametrize("job", ["abcdefghijkl", "arn:aws:bedrock:us east!:1:model-invocation-job/x"])
def test_a_job_of_no_region_is_told(
    job: str, make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    By us, and with what to do.
    """
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigurationError, match="region"):
        make_guard().settle_batch(job)


def test_a_client_of_s3_that_cannot_be_made_is_a_reason_to_refuse(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Never an error that the caller's own client would not have raised.
    """
    guard = make_guard()
    put_input(server, "hello")
    client = client_of(guard)
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")

    with pytest.raises(UnmeteredOperation, match="no-such-profile"):
        client.create_model_invocation_job(
            jobName="mine",
            roleArn="arn:aws:iam::123456789012:role/batch",
            modelId="amazon.nova-lite-v1:0",
            inputDataConfig={"s3InputDataConfig": {"s3Uri": INPUT}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        )

    assert server.requests == ()
