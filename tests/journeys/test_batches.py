"""
Batch jobs over real sockets: bounded by their records, held while they run, settled at what the server billed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dynamodb_engine
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.batches.settling import SettledBatch
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, UnmeteredOperation, UnpricedModel
from bedrock_guard.testing.bedrock_server import BedrockServer, lost_answer

pytestmark = needs_newer_model

NOVA = "amazon.nova-lite-v1:0"
SONNET_4 = "us.anthropic.claude-sonnet-4-20250514-v1:0"
# Half of what they cost on demand.
RATES = {
    f"batch/{NOVA}": {"input_tokens": "0.00000003", "output_tokens": "0.00000012"},
    f"batch/{SONNET_4}": {"input_tokens": "0.0000015", "output_tokens": "0.0000075"},
}
INPUT = "s3://files/in.jsonl"
NOTHING_TOLD = b'{"inputTokenCount": 0, "outputTokenCount": 0}'
DAY = 86_400.0


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

    def make(budget: str = "5 USD/day", ledger: str = "memory://", **settings: Any) -> Guard:
        guards.append(Guard(budget=budget, ledger=ledger, **{"batch_input": "read", **settings}))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def converse_record(number: int, text: str = "hello", tokens: int = 100) -> bytes:
    body = {
        "messages": [{"role": "user", "content": [{"text": text}]}],
        "inferenceConfig": {"maxTokens": tokens},
    }
    return json.dumps({"recordId": f"r{number:010d}", "modelInput": body}).encode() + b"\n"


def put_input(server: BedrockServer, *texts: str, uri: str = INPUT) -> None:
    server.batches.put(uri, b"".join(converse_record(number, text) for number, text in enumerate(texts)))


def client_of(guard: Guard) -> Any:
    retry_once = Config(retries={"total_max_attempts": 1}, read_timeout=5)
    return guard.client("bedrock", region_name="us-east-1", config=retry_once)


def create(guard: Guard, uri: str = INPUT, model: str = NOVA, **params: Any) -> str:
    reply = client_of(guard).create_model_invocation_job(
        jobName="mine",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId=model,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": uri}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        **{"modelInvocationType": "Converse", **params},
    )
    assert "ReservationId" in reply["ResponseMetadata"]["BedrockGuard"]
    assert "CostUSD" not in reply["ResponseMetadata"]["BedrockGuard"]
    return str(reply["jobArn"])


def spent(guard: Guard) -> int:
    return int(guard.status()[0].spent * 10**9)


def pending(guard: Guard) -> Decimal | int:
    return guard.status()[0].pending


def test_a_job_is_held_while_it_runs_and_settled_at_what_the_server_billed(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Days are between the two, and the money is no one else's meanwhile.
    """
    guard = make_guard()
    put_input(server, "hello", "a longer question than that " * 50)

    job = create(guard)
    held = pending(guard)
    assert guard.settle_batch(job).how == "running"
    assert pending(guard) == held > 0
    server.batches.run(job)
    settled = guard.settle_batch(job)

    assert (settled.how, settled.basis, settled.status) == ("settled", "reported", "Completed")
    assert spent(guard) == server.bill.nanousd > 0
    assert pending(guard) == 0
    assert held * 10**9 >= server.bill.nanousd
    ended = next(guard.entries(outcome="answered"))
    started = next(guard.entries(outcome="started"))
    assert (ended.job, ended.service_tier, ended.basis) == (job, "batch", "reported")
    assert int((ended.cost or 0) * 10**9) == server.bill.nanousd
    assert (started.job, started.cost, started.held["records"]) == (job, 0, 2)
    assert started.held["files"][0].startswith(f'{INPUT} "')
    assert started.held["files"][0].endswith(" v1")


def test_settling_twice_is_settling_once(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    A cron job and a person may do both.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    server.batches.run(job)

    first, again = guard.settle_batch(job), guard.settle_batch(job.rpartition("/")[2])

    assert (first.how, again.how) == ("settled", "already")
    assert first.cost == again.cost == Decimal(server.bill.nanousd) / 10**9
    assert spent(guard) == server.bill.nanousd


def test_a_batch_that_does_not_fit_is_not_created(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Ten thousand answers are one decision.
    """
    guard = make_guard("0.001 USD")
    put_input(server, *["hello"] * 100)

    with pytest.raises(BudgetExceeded):
        create(guard)

    assert server.requests == ()
    assert pending(guard) == 0


def test_a_batch_that_aws_rejects_is_free(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    A role without a right is no job.
    """
    guard = make_guard()
    put_input(server, "hello")
    server.will_answer(400)

    with pytest.raises(ClientError):
        create(guard)

    assert (pending(guard), spent(guard)) == (0, 0)
    assert [entry.outcome for entry in guard.entries()] == ["rejected"]


def test_a_batch_whose_answer_was_lost_is_charged_at_its_estimate(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    It may run, and nobody has its name.
    """
    guard = make_guard()
    put_input(server, "hello")
    server.will_answer(lost_answer())

    with pytest.raises(Exception):  # noqa: B017 - botocore's own
        create(guard)

    entry = next(guard.entries())
    assert (entry.outcome, entry.basis, entry.cost) == ("lost", "estimated", entry.estimated_cost)
    assert pending(guard) == 0


@pytest.mark.parametrize("settings", [{"batch_input": "off"}, {}], ids=["unread", "unreadable"])
def test_a_batch_that_nobody_can_bound_is_refused_and_told_why(
    settings: dict[str, Any], make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    No budget could hold; the text says what to set, and what the store said.
    """
    guard = make_guard(**settings)
    server.batches.denies = True

    with pytest.raises(UnmeteredOperation, match='batch_input = "read"') as caught:
        create(guard)

    assert 'flat_prices = { "bedrock:CreateModelInvocationJob" = ' in str(caught.value)
    assert (settings == {}) == (INPUT in str(caught.value))
    assert server.requests == ()


@pytest.mark.parametrize("batch_input", ["off", "read"])
def test_a_flat_price_is_the_most_that_an_unread_job_can_cost(
    batch_input: str, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    For who cannot read the input, or need not: held, and settled at what was used all the same.
    """
    flat = {"bedrock:CreateModelInvocationJob": "2 USD"}
    guard = make_guard(batch_input=batch_input, flat_prices=flat)
    put_input(server, "hello")
    server.batches.denies = True

    job = create(guard)
    assert pending(guard) == 2
    server.batches.denies = False
    server.batches.run(job)
    guard.settle_batch(job)

    assert spent(guard) == server.bill.nanousd
    assert pending(guard) == 0


def test_what_is_read_is_better_than_what_was_said(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    A flat price for jobs that cannot be read must not hold two dollars for one record.
    """
    guard = make_guard(flat_prices={"bedrock:CreateModelInvocationJob": "2 USD"})
    put_input(server, "hello")

    create(guard)

    assert 0 < pending(guard) < Decimal("0.01")


def test_all_files_of_a_folder_count(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    A job of a folder runs what is in it.
    """
    guard = make_guard()
    for name in ("a", "b", "c"):
        put_input(server, "hello " * 100, uri=f"s3://files/in/{name}.jsonl")
    put_input(server, "of another job", uri="s3://files/in-other/d.jsonl")

    job = create(guard, "s3://files/in/")
    server.batches.run(job)
    guard.settle_batch(job)

    started = next(guard.entries(outcome="started"))
    assert started.held["records"] == len(started.held["files"]) == 3
    assert spent(guard) == server.bill.nanousd


def test_many_short_records_are_not_priced_as_one_long_one(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Their sum is above the threshold of long context, which is four times as dear; none of them is.
    """
    guard = make_guard("20 USD")
    put_input(server, *["word " * 8_000] * 30)

    job = create(guard, model=SONNET_4)
    held = pending(guard)
    used = server.batches.run(job)
    settled = guard.settle_batch(job)

    assert used["input_tokens"] > 200_000
    assert settled.basis == "reported"
    assert spent(guard) == server.bill.nanousd
    # 41,000 bytes at most are as many tokens, at 1.5 USD a million; 100 of output at 7.5.
    assert held < 30 * (Decimal("0.0000015") * 41_000 + Decimal("0.0000075") * 100)


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Expired", "PartiallyCompleted"])
def test_what_had_run_before_a_job_ended_is_charged(
    status: str, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    AWS charges what was processed.
    """
    guard = make_guard()
    put_input(server, "hello", "world", "again")

    job = create(guard)
    server.batches.run(job, status=status, records=2)
    settled = guard.settle_batch(job)

    assert (settled.how, settled.basis, settled.status) == ("settled", "reported", status)
    assert spent(guard) == server.bill.nanousd > 0


@pytest.mark.parametrize(("records", "how", "is_free"), [(0, "released", True), (2, "settled", False)])
def test_a_job_without_a_manifest_is_free_only_if_nothing_ran(
    records: int, how: str, is_free: bool, make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Where nothing tells what was used, what was held is charged, and it says so.
    """
    guard = make_guard()
    put_input(server, "hello", "world", "again")

    job = create(guard)
    held = pending(guard)
    server.batches.run(job, status="Failed", records=records, writes_manifest=False)
    settled = guard.settle_batch(job)

    assert settled.how == how
    assert pending(guard) == 0
    assert guard.status()[0].spent == (0 if is_free else held)
    assert settled.basis == ("reported" if is_free else "estimated")
    assert spent(guard) >= server.bill.nanousd


def test_a_manifest_that_cannot_be_read_settles_nothing(
    make_guard: Callable[..., Guard], server: BedrockServer, tmp_path: Path
) -> None:
    """
    It stays held until somebody who may read it comes, or brings it.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    held = pending(guard)
    used = server.batches.run(job)
    own = tmp_path / "manifest.json.out"
    own.write_text("{}")

    server.batches.denies = True
    with pytest.raises(ConfigurationError, match=r"manifest\.json\.out' cannot be read"):
        guard.settle_batch(job)
    with pytest.raises(ConfigurationError, match="is no manifest"):
        guard.settle_batch(job, manifest=str(own))
    assert pending(guard) == held
    own.write_text(
        json.dumps({"inputTokenCount": used["input_tokens"], "outputTokenCount": used["output_tokens"]})
    )

    assert guard.settle_batch(job, manifest=str(own)).how == "settled"
    assert spent(guard) == server.bill.nanousd


@pytest.mark.parametrize("kind", ["sqlite", "dynamodb"])
def test_another_process_settles_it(
    kind: str, make_guard: Callable[..., Guard], server: BedrockServer, tmp_path: Path
) -> None:
    """
    Who began the job has long ended; the budgets are only known by what is held.
    """
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else dynamodb_engine.table_url()
    began = make_guard("search: 5 USD/day", ledger=url, tags={"team": "search"})
    put_input(server, "hello")
    job = create(began)
    began.close()
    server.batches.run(job)

    with Guard(budgets=[], ledger=url, sinks=[]) as other:
        settled = other.settle_batch(job)

    later = make_guard("search: 5 USD/day", ledger=url)
    assert settled.how == "settled"
    assert (spent(later), pending(later)) == (server.bill.nanousd, 0)
    assert next(later.entries(outcome="answered")).tags["team"] == "search"


def test_a_hold_that_ran_out_is_charged_and_put_right_later(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    It lasts as long as the job may, and a day for somebody to settle it.
    """
    clock = [1_800_000_000.0]
    server.batches.now = lambda: clock[0]
    guard = make_guard("5 USD", clock=lambda: clock[0])
    put_input(server, "hello")
    job = create(guard, timeoutDurationInHours=48)
    held = pending(guard)

    clock[0] += 3 * DAY - 1
    assert guard.sweep().charged == 0
    clock[0] += 2
    assert guard.sweep().charged == 1
    assert (guard.status()[0].spent, pending(guard)) == (held, 0)
    server.batches.run(job)
    settled = guard.settle_batch(job)

    assert settled.how == "settled"
    assert spent(guard) == server.bill.nanousd
    assert next(guard.entries(outcome="answered")).basis == "reported"


def test_an_input_that_grew_is_charged_and_marked(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Nothing keeps a file from being replaced before AWS reads it.
    """
    guard = make_guard()
    put_input(server, "hello")
    job = create(guard)
    put_input(server, *["hello " * 50] * 100)
    server.batches.run(job)

    guard.settle_batch(job)

    entry = next(guard.entries(outcome="answered"))
    assert entry.anomalies == ("above_bound",)
    assert spent(guard) == server.bill.nanousd > (entry.estimated_cost or 0) * 10**9


def test_what_a_manifest_does_not_count_stays_as_it_was_held(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    Images are not tokens, and were made all the same.
    """
    guard = make_guard()
    body = {
        "taskType": "TEXT_IMAGE",
        "textToImageParams": {"text": "a cat"},
        "imageGenerationConfig": {"numberOfImages": 3, "width": 1024, "height": 1024, "quality": "standard"},
    }
    server.batches.put(INPUT, json.dumps({"modelInput": body}).encode())
    job = create(guard, model="amazon.nova-canvas-v1:0", modelInvocationType="InvokeModel")
    held = pending(guard)
    server.batches.put("s3://files/out/" + job.rpartition("/")[2] + "/manifest.json.out", NOTHING_TOLD)
    server.batches.run(job, records=0, writes_manifest=False)

    settled = guard.settle_batch(job)

    assert (settled.basis, settled.usage) == ("estimated", {"images_standard_1024": 3})
    assert guard.status()[0].spent == held > 0


def test_a_job_of_nobody_here_is_told(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    A wrong ledger must not look like a job that cost nothing.
    """
    put_input(server, "hello")
    job = create(make_guard())
    other = make_guard()

    with pytest.raises(ConfigurationError, match="No call in this ledger began"):
        other.settle_batch(job)
    with pytest.raises(ConfigurationError, match="AWS does not tell of job"):
        other.settle_batch("nosuchjob000")


def test_a_started_entry_that_cannot_be_written_is_charged_at_once(
    make_guard: Callable[..., Guard], server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A hold that nobody can find would block the budget for days.
    """
    guard = make_guard()
    put_input(server, "hello")

    def fail(*_: object) -> None:
        raise LedgerUnavailable("The disk is full.")

    monkeypatch.setattr(guard.ledger, "record", fail)
    job = create_anyhow(guard)
    monkeypatch.undo()

    entry = next(guard.entries())
    assert (entry.outcome, entry.basis, entry.job) == ("answered", "estimated", job)
    assert (entry.cost, pending(guard)) == (entry.estimated_cost, 0)


def create_anyhow(guard: Guard) -> str:
    reply = client_of(guard).create_model_invocation_job(
        jobName="mine",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId=NOVA,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": INPUT}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
    )
    return str(reply["jobArn"])


def test_token_budgets_hold_and_settle_too(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    A batch is the largest thing that counts against them.
    """
    guard = make_guard("1M tokens/day")
    put_input(server, "hello", "world")

    job = create(guard)
    held = pending(guard)
    used = server.batches.run(job)
    guard.settle_batch(job)

    assert held >= used["input_tokens"] + used["output_tokens"]
    assert guard.status()[0].spent == used["input_tokens"] + used["output_tokens"]


def test_a_handler_that_changes_the_model_is_bounded_again(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    The file is the same, and fifty times as dear.
    """
    guard = make_guard()
    put_input(server, "hello " * 500)
    client = client_of(guard)

    def swap(request: Any, **_: Any) -> None:
        request.data = request.data.replace(NOVA.encode(), SONNET_4.encode())
        request.headers["Content-Length"] = str(len(request.data))

    client.meta.events.register("request-created.bedrock.CreateModelInvocationJob", swap)
    job = client.create_model_invocation_job(
        jobName="mine",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId=NOVA,
        modelInvocationType="Converse",
        inputDataConfig={"s3InputDataConfig": {"s3Uri": INPUT}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
    )["jobArn"]
    held = pending(guard)
    server.batches.run(job)
    guard.settle_batch(job)

    assert spent(guard) == server.bill.nanousd <= held * 10**9
    assert next(guard.entries(outcome="answered")).model_id == SONNET_4


def test_a_handler_that_changes_the_input_to_what_cannot_be_read_is_refused(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    What was held is for another file.
    """
    guard = make_guard()
    put_input(server, "hello")
    client = client_of(guard)

    def swap(request: Any, **_: Any) -> None:
        request.data = request.data.replace(b"in.jsonl", b"no.jsonl")

    client.meta.events.register("request-created.bedrock.CreateModelInvocationJob", swap)
    with pytest.raises(UnmeteredOperation, match=r"There is no file at s3://files/no\.jsonl"):
        client.create_model_invocation_job(
            jobName="mine",
            roleArn="arn:aws:iam::123456789012:role/batch",
            modelId=NOVA,
            inputDataConfig={"s3InputDataConfig": {"s3Uri": INPUT}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://files/out/"}},
        )

    assert server.requests == ()
    assert (pending(guard), spent(guard)) == (0, 0)


def test_a_model_without_a_price_is_refused_as_elsewhere(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    A batch of it is no cheaper to know.
    """
    put_input(server, "hello")

    with pytest.raises(UnpricedModel):
        create(make_guard(), model="amazon.nova-unheard-of-v1:0")


def test_a_shadow_creates_and_settles_it_too(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    Nothing is refused, and the books are those of the real thing.
    """
    guard = make_guard("0.000001 USD", mode="shadow")
    put_input(server, "hello")

    job = create(guard)
    server.batches.run(job)
    settled = guard.settle_batch(job)

    assert isinstance(settled, SettledBatch)
    assert spent(guard) == server.bill.nanousd
    assert [entry.reason for entry in guard.entries(outcome="would_refuse")] == ["budget"]


def test_what_only_reads_jobs_is_free(make_guard: Callable[..., Guard], server: BedrockServer) -> None:
    """
    To look how a job does must work at an empty budget.
    """
    put_input(server, "hello")
    job = create(make_guard())
    empty = make_guard("0 USD")

    assert client_of(empty).get_model_invocation_job(jobIdentifier=job)["status"] == "Submitted"
    assert list(empty.entries()) == []


def test_it_is_estimated_before_anything_is_created(
    make_guard: Callable[..., Guard], server: BedrockServer, tmp_path: Path
) -> None:
    """
    From a file on disk, from S3, and as the call itself is held.
    """
    guard = make_guard()
    put_input(server, "hello", "world")
    own = tmp_path / "in.jsonl"
    own.write_bytes(converse_record(0, "hello") + b"\n" + converse_record(1, "world"))

    here = guard.estimate_batch(str(own), NOVA, invocation_type="Converse")
    there = guard.estimate_batch(INPUT, NOVA, invocation_type="Converse")
    create(guard)

    assert here.records == there.records == 2
    assert here.cost == there.cost == pending(guard)
    assert there.files[0].startswith(INPUT)
    with pytest.raises(ConfigurationError, match="There is no file"):
        guard.estimate_batch(str(tmp_path / "none.jsonl"), NOVA)
    with pytest.raises(ConfigurationError, match="invocation type is 'Invoke'"):
        guard.estimate_batch(INPUT, NOVA, invocation_type="Invoke")
