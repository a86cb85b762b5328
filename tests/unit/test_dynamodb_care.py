"""
Who may do what with a table, which schema it has, and how long it keeps entries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import dynamodb_engine
import dynamodb_iam
import dynamodb_rules
import pytest
from botocore import xform_name
from typer.testing import CliRunner, Result

from bedrock_guard import Guard
from bedrock_guard.cli import app
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Reservation, SweepReport
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, create_table, items, packing, schema, segments
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.testing.ledger_alert_contract import HALF
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
    NOW,
    SetClock,
    books,
    hold,
    ids,
    open_entry,
    settle,
)
from bedrock_guard.testing.ledger_controls_contract import TRIP

DAY_S = 86_400


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def url() -> str:
    return dynamodb_engine.table_url()


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[DynamoDBLedger]:
    ledger = DynamoDBLedger.open(url, clock=clock)
    yield ledger
    ledger.close()


def table_of(url: str) -> str:
    return url.removeprefix("dynamodb://").partition("?")[0]


def item_of(url: str, place: items.Place) -> dict[str, Any] | None:
    client = dynamodb_engine.client(dynamodb_engine.endpoint())
    found = client.get_item(TableName=table_of(url), Key=items.place_item(place), ConsistentRead=True)
    return found.get("Item")


def put_schema(url: str, number: int, region: str = "us-east-1") -> None:
    item = {"schema": {"N": f"{number}"}, "region": {"S": region}}
    dynamodb_engine.client(dynamodb_engine.endpoint()).put_item(
        TableName=table_of(url), Item={**items.place_item(items.SCHEMA_PLACE), **item}
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ledger", *arguments])


@contextmanager
def on_event(event: str, handler: Callable[..., Any]) -> Iterator[None]:
    """
    With a handler on all clients that are made meanwhile.
    """
    events = dynamodb_engine._session("us-east-1").events
    events.register(event, handler)
    try:
        yield
    finally:
        events.unregister(event, handler)


@contextmanager
def asked() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """
    The requests that a ledger makes which is opened meanwhile.
    """
    seen: list[tuple[str, dict[str, Any]]] = []

    def see(params: dict[str, Any], model: Any, **_: Any) -> None:
        seen.append((xform_name(model.name), params))

    with on_event("before-parameter-build.dynamodb", see):
        yield seen


def denied(operation: str) -> AbstractContextManager[None]:
    """
    As by IAM, for a ledger that is opened meanwhile.
    """
    text = (
        f"User: arn:aws:iam::111122223333:user/app is not authorized to perform: dynamodb:{operation} on "
        "resource: arn:aws:dynamodb:us-east-1:111122223333:table/t because no identity-based policy allows it"
    )
    return told(operation, "AccessDeniedException", text)


def told(operation: str, code: str, text: str) -> AbstractContextManager[None]:
    """
    An answer of AWS's, to a ledger that is opened meanwhile.
    """
    answer = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return on_event(
        f"before-call.dynamodb.{operation}", lambda **_: (SimpleNamespace(status_code=400), answer)
    )


# Permissions


def spend(ledger: DynamoDBLedger) -> None:
    """
    Everything that a program does to a ledger.
    """
    own = f"{int(NOW * 1000):011x}-00"
    settle(ledger, hold(ledger, own, 10), 5)
    one = hold(ledger, "foreign", 10)
    ledger.extend(one, hold_s=2 * HOLD_S)
    ledger.extend(one, one.lines)
    ledger.release(one, open_entry("foreign", outcome="not_sent"))
    hold(ledger, "dead", 10)
    ledger.record(open_entry("refused", outcome="refused"))
    assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(charged=1)
    assert ledger.sweep(now=NOW + 9 * HOLD_S) == SweepReport()
    assert len(ledger.balances()) == len(ledger.balances([DAY])) == 1
    assert len(ids(ledger)) == 4
    assert ledger.claim_alert(HALF)
    assert ledger.unconfirmed_alerts() == [HALF]
    ledger.confirm_alert(HALF)
    assert ledger.write_control(TRIP, open_entry("tripped", outcome="stop"))


def test_a_program_needs_no_more_than_the_writers_policy_and_no_less(url: str, clock: SetClock) -> None:
    """
    What steers a program is not for itself to write; and a policy that lacks a key stops a fleet.
    """
    create_table(url)
    with asked() as requests:
        ledger = DynamoDBLedger.open(url, clock=clock)
        spend(ledger)
        ledger.close()

        leased = LeasedLedger(read_address(url), clock=clock, keeps_itself=False)
        hold(leased, "leased", 10)
        hold(LeasedLedger(read_address(url), clock=clock, keeps_itself=False), "dead", 10)
        leased.sweep(now=NOW + 99 * HOLD_S)
        leased.close()

    for operation, params in requests:
        dynamodb_iam.check("WriterPolicy", operation, params)
    found = {each for request in requests for each in dynamodb_iam.asked(*request)}
    reading, writing = dynamodb_iam.statements("WriterPolicy")
    for statement, kind in (
        (reading, {"GetItem", "Query", "BatchGetItem"}),
        (writing, {"PutItem", "UpdateItem"}),
    ):
        assert {f"dynamodb:{action}" for action, _ in found if action in kind} == set(statement["Action"])
    assert {_kind(partition) for action, partition in found if action in {"PutItem", "UpdateItem"}} == {
        _kind(pattern) for pattern in items.WRITTEN
    }
    assert {_kind(partition) for _, partition in found} >= {"M"}


def _kind(partition: str) -> str:
    return partition.partition("#")[0]


@pytest.mark.parametrize("partition", ["M", "C#stop", "C#"])
def test_what_steers_programs_can_be_read_by_them_and_not_written(partition: str) -> None:
    """
    An application that is taken over must not raise its own limit.
    """
    key = items.place_item((partition, "any"))

    dynamodb_iam.check("WriterPolicy", "get_item", {"Key": key})
    for operation, params in (("put_item", {"Item": key}), ("update_item", {"Key": key})):
        with pytest.raises(dynamodb_iam.Denied):
            dynamodb_iam.check("WriterPolicy", operation, params)
        dynamodb_iam.check("OperatorPolicy", operation, params)


def test_reports_write_nothing(ledger: DynamoDBLedger, url: str, clock: SetClock) -> None:
    """
    A dashboard may be open to many, and run with rights to read.
    """
    settle(ledger, hold(ledger, "one", 60), 40)

    with asked() as requests:
        reader = DynamoDBLedger.open(url, clock=clock)
        assert books(reader) == (40, 0)
        assert len(reader.balances()) == 1
        assert ids(reader) == ["one"]
        reader.close()

    for operation, params in requests:
        dynamodb_iam.check("ReaderPolicy", operation, params)
    assert {action for request in requests for action, _ in dynamodb_iam.asked(*request)} == {
        "GetItem",
        "Query",
        "BatchGetItem",
    }


def test_a_table_that_nobody_set_up_names_the_command_for_it(url: str, clock: SetClock) -> None:
    """
    CloudFormation makes the table empty, and a program may not say what it is.
    """
    with denied("PutItem"), pytest.raises(ConfigurationError) as caught:
        DynamoDBLedger.open(url, clock=clock)

    table = table_of(url)
    assert f"table {table} is not set up yet" in str(caught.value)
    assert f"bedrock-guard ledger migrate 'dynamodb://{table}?region=us-east-1'" in str(caught.value)
    with asked() as requests:
        assert run("migrate", url).stdout == f"{url} is set up, with schema 1.\n"
    for operation, params in requests:
        dynamodb_iam.check("OperatorPolicy", operation, params)
    with denied("PutItem"):
        ledger = DynamoDBLedger.open(url, clock=clock)
    assert ledger.entries(EntryFilter()) == ([], None)
    ledger.close()


@pytest.mark.parametrize(
    ("operation", "work", "needed"),
    [
        ("GetItem", lambda ledger: None, "dynamodb:GetItem"),
        (
            "TransactWriteItems",
            lambda ledger: hold(ledger, "one", 60),
            "dynamodb:PutItem and dynamodb:UpdateItem",
        ),
        ("UpdateItem", lambda ledger: ledger.record(open_entry("one")), "dynamodb:UpdateItem"),
        ("BatchGetItem", books, "dynamodb:BatchGetItem"),
        ("Query", ids, "dynamodb:Query"),
    ],
)
def test_a_permission_that_is_missing_is_named(
    url: str, clock: SetClock, operation: str, work: Callable[[Any], object], needed: str
) -> None:
    """
    Who reads it may be the one who can grant it.
    """
    create_table(url)
    with denied(operation), pytest.raises(LedgerUnavailable) as caught:
        work(DynamoDBLedger.open(url, clock=clock))

    assert f"DynamoDB table {table_of(url)} cannot be used" in str(caught.value)
    assert f"The credentials need {needed} on it." in str(caught.value)
    assert caught.value.outcome == "not_done"


@pytest.mark.parametrize(
    ("text", "is_about_keys"),
    [
        ("Item size to update has exceeded the maximum allowed size", False),
        ("The provided key element does not match the schema", True),
        ("One or more parameter values were invalid: Missing the key id in the item", True),
    ],
)
def test_only_a_table_with_other_keys_is_taken_for_one(
    url: str, clock: SetClock, text: str, is_about_keys: bool
) -> None:
    """
    The advice would send its reader to make a table that is there.
    """
    with told("UpdateItem", "ValidationException", text), pytest.raises(LedgerUnavailable) as caught:
        DynamoDBLedger.open(url, clock=clock).record(open_entry("one"))

    assert text in str(caught.value)
    assert ("pk and sk" in str(caught.value)) is is_about_keys


# Schema


def test_migrate_sets_a_new_table_up_and_leaves_it_as_it_is(url: str) -> None:
    """
    Once is enough, and twice is no harm.
    """
    first, again, told = run("migrate", url), run("migrate", url), run("migrate", url, "--json")

    assert first.stdout == f"{url} is set up, with schema 1.\n"
    assert again.stdout == f"{url} has schema 1; nothing to do.\n"
    assert json.loads(told.stdout) == {"ledger": url, "before": 1, "after": 1}


def test_the_version_before_goes_on_while_a_table_is_migrated(
    ledger: DynamoDBLedger, url: str, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A fleet is never all of one version.
    """
    reservation = hold(ledger, "one", 60)
    with monkeypatch.context() as next_version:
        next_version.setattr(schema, "SCHEMA", 2)
        next_version.setattr(schema, "NEWEST_USABLE", 3)
        newer = DynamoDBLedger.open(url, clock=clock)
        assert json.loads(run("migrate", url, "--json").stdout) == {"ledger": url, "before": 1, "after": 2}
        assert "has schema 2; nothing to do" in run("migrate", url).stdout

    settle(ledger, reservation, 40)
    beside = DynamoDBLedger.open(url, clock=clock)
    hold(newer, "two", 10)
    assert books(ledger) == books(beside) == books(newer) == (40, 10)
    assert run("migrate", url).stdout == f"{url} has schema 2; nothing to do.\n"
    newer.close()
    beside.close()


def test_two_that_migrate_at_once_migrate_once(
    ledger: DynamoDBLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The slower one must not bring back what a version after it has made.
    """
    monkeypatch.setattr(schema, "SCHEMA", 2)
    monkeypatch.setattr(schema, "NEWEST_USABLE", 3)

    with on_event("before-call.dynamodb.UpdateItem", lambda **_: put_schema(url, 3)):
        assert run("migrate", url).exit_code == 0

    found = item_of(url, items.SCHEMA_PLACE)
    assert found is not None
    assert found["schema"] == {"N": "3"}


@pytest.mark.parametrize(
    ("number", "region", "code", "says"),
    [
        (
            3,
            "us-east-1",
            1,
            "its schema is 3, and this version of bedrock_guard knows 1 and can use 2. Upgrade",
        ),
        (1, "eu-west-1", 2, "keeps its books in eu-west-1, and was opened in us-east-1"),
    ],
)
def test_migrate_leaves_alone_what_it_does_not_know(
    url: str, number: int, region: str, code: int, says: str
) -> None:
    """
    A table of a later version, or a replica.
    """
    put_schema(url, number, region)

    done = run("migrate", url)

    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr


def test_migrate_names_a_table_that_is_not_there(url: str) -> None:
    """
    And vacuum and check what they are for.
    """
    missing = run("migrate", url.replace("dynamodb://test-", "dynamodb://none-"))

    assert missing.exit_code == 2
    assert "bedrock-guard dynamodb create-table none-" in missing.stderr
    for command in ("vacuum", "check"):
        assert "this is for sqlite:// ledgers" in run(command, url).stderr


# Retention


def kept_days(url: str, entry_id: str, from_s: float = NOW) -> float | None:
    item = item_of(url, items.place_of_call(entry_id))
    assert item is not None
    return (int(item["ttl"]["N"]) - from_s) / DAY_S if "ttl" in item else None


@pytest.mark.parametrize("days", [1, 400, None])
def test_a_guard_s_setting_says_how_long_entries_are_kept(
    url: str, clock: SetClock, days: int | None
) -> None:
    """
    However a call ends; and one that is open is never cleaned away.
    """
    with Guard(budget="search: 5 USD", ledger=url, clock=clock, keep_entries_days=days) as guard:
        ledger = guard.ledger
        settle(ledger, hold(ledger, "settled", 10), 5)
        ledger.release(hold(ledger, "released", 10))
        hold(ledger, "expired", 10)
        ledger.record(open_entry("refused", outcome="refused"))
        assert kept_days(url, "expired") is None
        guard.ledger.sweep(now=NOW + HOLD_S)

    assert [kept_days(url, each) for each in ("settled", "released", "refused")] == [days] * 3
    assert kept_days(url, "expired", NOW + HOLD_S) == days


def test_of_two_guards_on_one_ledger_the_one_that_keeps_longer_decides(
    ledger: DynamoDBLedger, url: str, clock: SetClock
) -> None:
    """
    The other loses nothing by it.
    """
    entries = []
    for days in (30, 400, 60, None, 90):
        Guard(budget="search: 5 USD", ledger=ledger, clock=clock, keep_entries_days=days)
        settle(ledger, hold(ledger, f"{days}", 1, limit=None), 1)
        entries.append(kept_days(url, f"{days}"))

    assert entries == [30, 400, 400, None, None]


def test_who_keeps_for_ever_keeps_what_another_would_have_deleted(
    ledger: DynamoDBLedger, url: str, clock: SetClock
) -> None:
    """
    A call that was taken for dead, by a sweeper with another setting, settles after all.
    """
    reservation = hold(ledger, "late", 60)
    ledger.sweep(now=NOW + HOLD_S)
    assert kept_days(url, "late", NOW + HOLD_S) == 90

    ledger.keep_entries(None)
    settle(ledger, reservation, 40)

    assert kept_days(url, "late") is None


# Rules


def test_a_request_that_dynamodb_would_refuse_fails_in_every_test() -> None:
    """
    The engine takes it; the clients of tests do not.
    """
    client = dynamodb_engine.client(dynamodb_engine.endpoint())

    with pytest.raises(dynamodb_rules.Refused, match="'used' stands bare"):
        client.update_item(TableName="any", Key=items.place_item(("a", "b")), UpdateExpression="REMOVE used")


def test_a_settle_of_more_balances_than_a_transaction_takes_is_named(ledger: DynamoDBLedger) -> None:
    """
    Before anything is written.
    """
    reservation = hold(ledger, "one", 60)
    amounts = {DAY._replace(budget=f"{number}"): 1 for number in range(49)}

    with pytest.raises(LedgerUnavailable, match=r"50 balances; .* 49 are the most"):
        ledger.settle(reservation, {DAY: 5, **amounts}, open_entry("one"))

    assert books(ledger) == (0, 60)
    assert len(ledger.balances()) == 1


def test_a_ledger_that_is_handed_in_needs_names_too(ledger: DynamoDBLedger) -> None:
    """
    Two services collide in a table, however they came to it.
    """
    with pytest.raises(
        ConfigurationError, match="a budget needs a name of its own: write 'search: 5 USD/day'"
    ):
        Guard(budget="5 USD/day", ledger=ledger)

    Guard(budget="search: 5 USD/day", ledger=ledger)
    Guard(budget="5 USD/day", ledger=open_ledger("memory://", clock=time.time))


def test_a_table_is_opened_by_its_arn_too(url: str, clock: SetClock) -> None:
    """
    In another account, a name would be one's own table.
    """
    table = table_of(url)
    arn = url.replace(table, f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}").replace(
        "region=us-east-1&", ""
    )

    with asked() as requests:
        ledger = DynamoDBLedger.open(arn, clock=clock)
        one = hold(ledger, "one", 60)
        ledger.close()

    assert isinstance(one, Reservation)
    named = {body["TableName"] for _, params in requests for body in _bodies(params)}
    assert named == {f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}"}


def _bodies(params: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [body for each in params.get("TransactItems", ()) for body in each.values()]
    return inner or [params]


# Items that somebody has edited by hand, or that a newer version has written


def edit(url: str, part: str, **attributes: Any) -> None:
    """
    Change the first item whose sort key has *part*; None takes an attribute away.
    """
    address = read_address(url)
    assert address.endpoint_url is not None
    client = dynamodb_engine.client(address.endpoint_url)
    found = client.scan(TableName=address.table, ConsistentRead=True)["Items"]
    (item, *_) = [item for item in found if part in item["sk"]["S"] or item["pk"]["S"].startswith(part)]
    changed = {name: value for name, value in (item | attributes).items() if value is not None}
    client.put_item(TableName=address.table, Item=changed)


@pytest.mark.parametrize(
    "damage",
    [
        {"ln": {"B": b"\x01garbage"}},
        {"ln": {"S": "x"}},
        {"ln": {"B": b"\x63of a newer version"}},
        {"pol": {"S": "burn"}},
        {"exp": {"S": "soon"}},
    ],
    ids=str,
)
def test_a_damaged_hold_keeps_no_other_from_its_end(
    url: str, ledger: DynamoDBLedger, damage: dict[str, Any]
) -> None:
    """
    A sweep comes with the calls of every program: one item must neither stop it for ever nor fail a call.
    """
    reservation = hold(ledger, "bad", 60)
    hold(ledger, "sound", 10)
    edit(url, "bad", x={"S": "a hand"}, **damage)

    assert ledger.sweep(now=NOW + HOLD_S) == SweepReport(charged=1, damaged=1)
    assert books(ledger) == (10, 60)
    with pytest.raises(LedgerUnavailable, match="item at pk 'F', sk 'bad' is as no version"):
        ledger.extend(reservation, hold_s=9 * HOLD_S)


@pytest.mark.parametrize(
    "packed", [{"B": b"\x01garbage"}, {"B": b"\x63newer"}, {"S": "x"}, {"B": b"\x01"}], ids=str
)
def test_an_entry_that_cannot_be_unpacked_is_shown_at_its_place(
    url: str, ledger: DynamoDBLedger, packed: dict[str, Any]
) -> None:
    """
    A month's report must neither lack it in silence nor be lacking.
    """
    id_ = f"{int(NOW * 1000):011x}-dddd"
    ledger.record(open_entry(id_, outcome="refused"))
    ledger.record(open_entry(f"{int(NOW * 1000) + 1:011x}-eeee", outcome="refused"))
    edit(url, "dddd", e=packed)

    found, _ = ledger.entries(EntryFilter(since=NOW - 60))

    assert [bool(entry.unread) for entry in found] == [False, True]
    assert found[1].at_s == pytest.approx(NOW, abs=0.01)


def test_a_balance_that_is_damaged_is_named(url: str, ledger: DynamoDBLedger) -> None:
    """
    Figures without it would be wrong.
    """
    hold(ledger, "a", 60)
    edit(url, "B#", used=None)
    with pytest.raises(LedgerUnavailable, match="A balance of the ledger cannot be read: the item at pk 'B#"):
        books(ledger)
    edit(url, "D#", key={"S": "[[1"})
    with pytest.raises(LedgerUnavailable, match="A balance of the ledger cannot be read: the item at pk 'D#"):
        ledger.balances()


@pytest.mark.parametrize("packed", [b"\x01garbage", packing.pack("0 @noon")["B"], packing.pack("x {}")["B"]])
def test_a_segment_that_is_damaged_is_an_entry_that_says_so(
    url: str, ledger: DynamoDBLedger, packed: bytes
) -> None:
    """
    It may hold a hundred calls: what cannot be told of them must not look like nothing.
    """
    note = segments.Note(5, NOW, open_entry("a", outcome="answered"))
    segment = segments.item_of("owner-1", [note], kept=None)
    address = read_address(url)
    assert address.endpoint_url is not None
    client = dynamodb_engine.client(address.endpoint_url)
    client.put_item(TableName=address.table, Item=segment | {"en": {"B": packed}})

    (found,), _ = ledger.entries(EntryFilter(since=NOW - 60))

    assert "cost_nanousd" in found.unread
