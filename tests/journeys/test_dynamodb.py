"""
A fleet on one DynamoDB table: processes that share a budget, and a table that goes away.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dynamodb_engine
import dynamodb_process
import pytest

from bedrock_guard import BudgetExceeded
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Line, Reservation, read_all_entries
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.testing.bedrock_server import BedrockServer
from bedrock_guard.testing.ledger_calls import CALLS, books, hold, reserve, settle

from .conftest import HELLO, Guarded, eventually

DEADLINE_S = 1.0
BUSY_S = 0.7  # a machine that runs other tests too


@pytest.mark.parametrize(("processes", "limit"), [(4, 2000), pytest.param(8, 20_000, marks=pytest.mark.slow)])
def test_processes_spend_a_budget_to_its_exact_end(processes: int, limit: int) -> None:
    """
    The last dollar is usable, and the one after it is not, whoever comes.
    """
    url = dynamodb_engine.table_url(deadline_ms=60_000)
    workers = [
        subprocess.Popen(
            [sys.executable, dynamodb_process.__file__, url, str(limit)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    ledger = open_ledger(url, clock=time.time)
    key, over = dynamodb_process.KEYS[0], []
    while any(worker.poll() is None for worker in workers):
        spent, pending = books(ledger, key)
        if spent + pending > limit:
            over.append((spent, pending))
        time.sleep(0.01)
    answers = [json.loads(worker.communicate()[0]) for worker in workers]

    assert over == []
    assert books(ledger, key) == books(ledger, dynamodb_process.KEYS[1]) == (limit, 0)
    assert sum(spent for _, spent in answers) == limit
    entries = list(read_all_entries(ledger, EntryFilter()))
    assert len(entries) == len({entry.id for entry in entries}) == sum(count for count, _ in answers)
    ledger.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[dynamodb_engine.Engine]:
    engine = dynamodb_engine.Engine(tmp_path)
    engine.start()
    yield engine
    engine.stop()


def test_a_table_that_goes_away_refuses_in_time_and_comes_back_by_itself(
    engine: dynamodb_engine.Engine,
) -> None:
    """
    Nobody restarts a fleet because its ledger was restarted.
    """
    url = dynamodb_engine.table_url(engine.url, deadline_ms=int(1000 * DEADLINE_S))
    ledger = open_ledger(url, clock=time.time)
    before = hold(ledger, "before", 60)

    engine.stop()
    waited = [timed(lambda: reserve(ledger, "refused", 1)) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        waited += pool.map(lambda n: timed(lambda: settle(ledger, before, 40)), range(8))
    engine.start()

    assert max(waited) < DEADLINE_S + BUSY_S
    assert settle(ledger, before, 40).how == "settled"
    assert isinstance(reserve(ledger, "after", 60), Reservation)
    assert books(ledger) == (40, 60)
    ledger.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
def test_a_table_that_hangs_refuses_in_time_and_what_it_did_late_is_known(
    engine: dynamodb_engine.Engine,
) -> None:
    """
    It takes the request and does not answer: no thread waits for it longer than the deadline.
    """
    url = dynamodb_engine.table_url(engine.url, deadline_ms=int(1000 * DEADLINE_S))
    ledger = open_ledger(url, clock=time.time)
    hold(ledger, "before", 30)

    os.kill(engine.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            waited = list(pool.map(lambda n: timed(lambda: reserve(ledger, f"late {n}", 5)), range(8)))
    finally:
        os.kill(engine.pid, signal.SIGCONT)

    assert max(waited) < DEADLINE_S + BUSY_S
    # The requests were in its socket, and are carried out now; each release finds its own, or bars it.
    assert eventually(lambda: all(release(ledger, f"late {n}") for n in range(8)))
    assert books(ledger) == (0, 30)
    ledger.close()


def release(ledger: Any, entry_id: str) -> bool:
    try:
        ledger.release(Reservation(entry_id, (), 0))
    except LedgerUnavailable:
        return False
    return True


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="did not answer within 1 s"):
        work()
    return time.monotonic() - began


# A guarded client


def test_a_guarded_client_settles_what_aws_reported(make_guarded: Callable[..., Guarded]) -> None:
    """
    The same client, on a ledger that a fleet shares.
    """
    guarded = make_guarded(budget="search: 1 USD/day", ledger=dynamodb_engine.table_url())

    guarded.client.converse(**HELLO)
    for _ in guarded.client.converse_stream(**HELLO)["stream"]:
        pass

    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0
    assert guarded.pending == [0]
    assert [entry.outcome for entry in guarded.guard.entries()] == ["answered", "answered"]


def test_a_dropped_stream_settles_at_once(make_guarded: Callable[..., Guarded]) -> None:
    """
    An error that the ledger kept would keep its callers' frames, and the stream, until the collector comes.
    """
    guarded = make_guarded(budget="search: 1 USD/day", ledger=dynamodb_engine.table_url())
    gc.collect()
    gc.disable()
    try:
        guarded.client.converse_stream(**HELLO)  # the first call: its balance is missing, which is an error

        assert guarded.pending == [0]
        assert guarded.entry.outcome == "abandoned"
    finally:
        gc.enable()


def test_two_hosts_share_one_budget(make_guarded: Callable[..., Guarded]) -> None:
    """
    What one has spent is gone for the other, and its refusal has the figures.
    """
    url = dynamodb_engine.table_url()
    probe = make_guarded(budget="1 USD")
    cost = probe.guard.estimate("Converse", **HELLO).cost
    here, there = (make_guarded(budget=f"search: {cost} USD/day", ledger=url) for _ in range(2))
    here.client.converse(**HELLO)

    with pytest.raises(BudgetExceeded) as caught:
        there.client.converse(**HELLO)

    assert caught.value.spent * 10**9 == here.spent_nanousd
    assert caught.value.pending == 0
    assert next(here.guard.entries(outcome="refused")).budget == "search"


def test_an_unnamed_budget_is_no_budget_for_a_fleet(make_guarded: Callable[..., Guarded]) -> None:
    """
    Two services that name none would share one balance by accident.
    """
    url = dynamodb_engine.table_url()

    for budget in ("5 USD/day", "default: 5 USD/day"):
        with pytest.raises(ConfigurationError, match=r"name.*'search: 5 USD/day'"):
            make_guarded(budget=budget, ledger=url)


# What is wrong with a table


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("dynamodb://", "names no table. Write dynamodb://my-table?region=eu-central-1"),
        ("dynamodb://a b", "names no table"),
        ("dynamodb://arn:aws:s3:::bucket", "names no table"),
        ("dynamodb://my-table?mode=fast", "Allowed: exact, lease."),
        ("dynamodb://my-table?region=", "region cannot be ''. Allowed: any text."),
        ("dynamodb://my-table?deadline_ms=0", "Allowed: a whole number above 0."),
        ("dynamodb://my-table", "cannot be reached: You must specify a region."),
        ("dynamodb://my-table?region=us-east-1&role_arn=admin", "role_arn cannot be 'admin'"),
        (
            "dynamodb://arn:aws:dynamodb:eu-west-1:111122223333:table/t-1?region=us-east-1",
            "the table is in eu-west-1, and region says 'us-east-1'",
        ),
    ],
)
def test_a_url_that_names_no_table_says_what_would(url: str, message: str) -> None:
    """
    A slip must not open another table, or wait for one.
    """
    with pytest.raises(ConfigurationError) as caught:
        open_ledger(url, clock=time.time)
    assert message in str(caught.value)


def test_a_table_that_does_not_exist_is_named_with_the_command_that_makes_it() -> None:
    """
    The first run on a new account.
    """
    url = dynamodb_engine.table_url().replace("dynamodb://test-", "dynamodb://none-")

    with pytest.raises(ConfigurationError, match=r"table none-.*bedrock-guard dynamodb create-table none-"):
        open_ledger(url, clock=time.time)


def test_a_table_with_other_keys_is_not_touched() -> None:
    """
    It is another program's.
    """
    url = dynamodb_engine.table_url()
    client = dynamodb_engine.client(dynamodb_engine.endpoint())
    client.create_table(
        TableName="other-program",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    query = url.partition("?")[2]

    with pytest.raises(ConfigurationError, match=r"table other-program.*pk and sk"):
        open_ledger(f"dynamodb://other-program?{query}", clock=time.time)
    client.delete_table(TableName="other-program")


@pytest.mark.parametrize(
    ("schema", "region", "error", "message"),
    [
        (2, "us-east-1", None, ""),
        (3, "us-east-1", LedgerUnavailable, "its schema is 3, .* knows 1 and can use 2"),
        (1, "eu-west-1", ConfigurationError, "keeps its books in eu-west-1, and was opened in us-east-1"),
    ],
)
def test_a_newer_schema_and_a_replica_are_told_apart_from_ours(
    schema: int, region: str, error: type[Exception] | None, message: str
) -> None:
    """
    The next version may deploy beside us; a replica would admit the whole budget once more.
    """
    url = dynamodb_engine.table_url()
    table = url.removeprefix("dynamodb://").partition("?")[0]
    item = {"pk": {"S": "M"}, "sk": {"S": "schema"}, "schema": {"N": f"{schema}"}, "region": {"S": region}}
    dynamodb_engine.client(dynamodb_engine.endpoint()).put_item(TableName=table, Item=item)

    if error is None:
        ledger = open_ledger(url, clock=time.time)
        hold(ledger, "one", 60, Line(CALLS, None, 1))
        assert books(ledger) == (0, 60)
        ledger.close()
        return
    with pytest.raises(error, match=message):
        open_ledger(url, clock=time.time)


def test_a_role_is_assumed_for_the_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The table may be in another account than the models, and the program's own credentials stay its own.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", dynamodb_engine.endpoint())
    role = "arn:aws:iam::000000000000:role/budgets"
    ledger = open_ledger(f"{dynamodb_engine.table_url()}&role_arn={role}", clock=time.time)
    assert isinstance(ledger, DynamoDBLedger)

    hold(ledger, "one", 60)

    credentials = ledger._table.clients.within(10)._request_signer._credentials
    assert credentials.method == "assume-role"
    assert credentials.access_key != os.environ["AWS_ACCESS_KEY_ID"]
    assert books(ledger) == (0, 60)
    ledger.close()


def test_a_guard_of_the_whole_process_leaves_its_own_ledger_alone(
    server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It covers every session that is made later, the ledger's too: what it asks must not be asked of itself.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", dynamodb_engine.endpoint())
    url = f"{dynamodb_engine.table_url()}&role_arn=arn:aws:iam::000000000000:role/budgets"
    program = f"""
        import json, boto3
        from bedrock_guard import Guard, guard_process
        guard = guard_process(budget="search: 1 USD", ledger={url!r})
        client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url={server.url!r})
        again = Guard(budget="other: 1 USD", ledger={url!r})  # made when every new session is guarded
        client.converse(**{HELLO!r})
        ledgers = [each.ledger._table.clients for each in (guard, again)]
        print(json.dumps({{
            "guarded": Guard.of(client) is guard,
            "spent": [int(row.spent * 10**9) for row in guard.status()],
            "owners": [type(Guard.of(clients.within(9))).__name__ for clients in ledgers],
            "services": [clients.within(9).meta.service_model.service_name for clients in ledgers],
            "entries": len(list(again.entries())),
        }}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "guarded": True,
        "spent": [server.bill.nanousd],
        "owners": ["NoneType"] * 2,
        "services": ["dynamodb"] * 2,
        "entries": 1,
    }


def test_create_table_makes_one_that_opens_and_leaves_one_that_is_there() -> None:
    """
    Who runs it twice, or on the wrong name, loses nothing.
    """
    from bedrock_guard.ledgers.dynamodb import create_table

    url = dynamodb_engine.table_url().replace("dynamodb://test-", "dynamodb://made-")
    create_table(url)
    ledger = open_ledger(url, clock=time.time)
    hold(ledger, "one", 60)
    create_table(url)

    assert books(ledger) == (0, 60)
    table = url.removeprefix("dynamodb://").partition("?")[0]
    client = dynamodb_engine.client(dynamodb_engine.endpoint())
    ttl = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "ttl")
    ledger.close()
