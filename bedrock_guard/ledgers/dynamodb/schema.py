"""
Makes a table for the ledger, and looks whether one is a ledger's.

Schema N is read and written by N - 1 too, so that a rolling deploy never stops the old processes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import actions, items
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.dynamodb.items import Item
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn, code_of, has_other_keys

SCHEMA: Final = 1
NEWEST_USABLE: Final = SCHEMA + 1

# What a template and `create_table` make alike.
KEYS: Final[dict[str, Any]] = {
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ],
    "KeySchema": [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
TTL_ATTRIBUTE: Final = "ttl"

_WAIT: Final = {"Delay": 1, "MaxAttempts": 120}


def check(table: Table) -> None:
    """
    See that the table is a ledger's, of a schema that is understood, and at home in this region.

    One that is new is set up, by whoever may: its home is where that is done.

    Raises:
        ConfigurationError: There is no such table, it is not for ledgers, or not set up yet.
        LedgerUnavailable: It does not answer, or was written by a newer version.
    """
    _set_up(table)


def migrate(url: str) -> tuple[int, int]:
    """
    Bring the table that *url* names to this version's schema; which one it had (0: it was new), and has now.

    The version before goes on reading and writing it. For operators: programs need not be allowed to.

    Raises:
        ConfigurationError: There is no such table, or it is not for ledgers.
        LedgerUnavailable: It does not answer, or was written by a newer version.
    """
    table = Table(read_address(url))
    try:
        before = _set_up(table)
        if 0 < before < SCHEMA:
            with table.turn() as turn:
                _lift(table, turn, before)
        return before, max(before, SCHEMA)
    finally:
        table.close()


def _set_up(table: Table) -> int:
    """
    Set the table up if it is new, else check it; the schema that it had, 0 for none.
    """
    table.clients.prepare()
    with table.turn() as turn:
        found, is_new = _read_or_write(table, turn)
    home, schema = found["region"]["S"], int(found["schema"]["N"])
    if schema > NEWEST_USABLE:
        raise LedgerUnavailable(
            f"DynamoDB table {table.name} cannot be used: its schema is {schema}, and this version of "
            f"bedrock_guard knows {SCHEMA} and can use {NEWEST_USABLE}. Upgrade bedrock_guard."
        )
    if home != table.clients.region:
        raise ConfigurationError(
            f"DynamoDB table {table.name} keeps its books in {home}, and was opened in "
            f"{table.clients.region}. Replicas in several regions would each admit the whole budget: "
            f"write dynamodb://...?region={home}, or another table."
        )
    return 0 if is_new else schema


def create_table(url: str) -> None:
    """
    Make the table that *url* names, on demand, with point-in-time recovery, and wait until it is there.

    One that is there already is left as it is, if it is a ledger's.

    Raises:
        ConfigurationError: The URL cannot be understood, or the table is another program's.
        LedgerUnavailable: DynamoDB does not let us.
    """
    table = Table(read_address(url))
    try:
        _create(table)
        check(table)
    finally:
        table.close()


def _create(table: Table) -> None:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  (imported on use)

    client = table.clients.within(table.address.deadline_s)
    try:
        client.create_table(TableName=table.name, **KEYS)
    except client.exceptions.ResourceInUseException:
        return
    except (BotoCoreError, ClientError) as error:
        raise table.unavailable(error, "create_table") from error
    try:
        client.get_waiter("table_exists").wait(TableName=table.name, WaiterConfig=_WAIT)
        client.update_time_to_live(
            TableName=table.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        )
        if table.address.endpoint_url is None:  # what runs elsewhere has no such backups
            client.update_continuous_backups(
                TableName=table.name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
    except (BotoCoreError, ClientError) as error:
        raise table.unavailable(error, "create_table") from error


def _read_or_write(table: Table, turn: Turn) -> tuple[Item, bool]:
    """
    What the table says it is; a new one is told, and whether it was.
    """
    own = {"schema": {"N": str(SCHEMA)}, "region": {"S": table.clients.region}}
    try:
        found = _read(table, turn)
        if found:
            return found, False
        return (own, True) if _write(table, turn, own) else (_read(table, turn) or own, False)
    except LedgerUnavailable as error:
        cause = error.__cause__
        if code_of(cause) == "ResourceNotFoundException" or has_other_keys(cause):
            raise ConfigurationError(str(error)) from error
        raise


def _read(table: Table, turn: Turn) -> Item | None:
    key = items.place_item(items.SCHEMA_PLACE)
    answer = table.send(turn, "get_item", TableName=table.name, Key=key, ConsistentRead=True)
    found: Item | None = answer.get("Item")
    return found


def _write(table: Table, turn: Turn, own: Item) -> bool:
    item = {**items.place_item(items.SCHEMA_PLACE), **own}
    condition = actions.expressions(condition=actions.IS_UNKNOWN)
    try:
        table.send(turn, "put_item", TableName=table.name, Item=item, **condition)
    except ConditionFailed:
        return False
    except LedgerUnavailable as error:
        # Programs must not be able to write what steers them: an operator does, once.
        if not code_of(error.__cause__).startswith("AccessDenied"):
            raise
        raise ConfigurationError(
            f"DynamoDB table {table.name} is not set up yet, and these credentials may not do it "
            "(dynamodb:PutItem on partition M). An operator runs, once: bedrock-guard ledger migrate "
            f"'dynamodb://{table.name}?region={table.clients.region}'"
        ) from error
    return True


def _lift(table: Table, turn: Turn, before: int) -> None:
    parts = actions.expressions(
        update="SET #schema = :schema",
        condition="#schema = :before",  # somebody else may have been quicker
        values={"schema": {"N": str(SCHEMA)}, "before": {"N": str(before)}},
    )
    key = items.place_item(items.SCHEMA_PLACE)
    with suppress(ConditionFailed):
        table.send(turn, "update_item", TableName=table.name, Key=key, **parts)
