"""
The simulation's DynamoDB against another engine: the same requests, one after the other, must be answered alike.

The requests are those that ledgers make in a simulated storm, and the same ones again, repeated and changed by chance.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import dynamodb_engine
import pytest
from botocore.exceptions import ClientError
from simulation.fleet import dynamodb, scenario
from simulation.fleet.fleet import Fleet
from simulation.fleet.stores import STORES

TABLE = "books"
QUICK, MANY = 150, 2000


class Asked(NamedTuple):
    operation: str
    params: dict[str, Any]


def requests_of_a_storm(seed: int) -> list[Asked]:
    """
    What ledgers send in one simulation, in the order in which it arrives.
    """
    fleet = Fleet(scenario.make(seed, "dynamodb", STORES["dynamodb"].faults))
    found: list[Asked] = []
    send = fleet.store.engine.send

    def keep(operation: str, params: dict[str, Any], **_: Any) -> Any:
        found.append(Asked(operation, copy.deepcopy(params)))
        return send(operation, params)

    fleet.store.engine.send = keep
    assert fleet.play().failure is None
    return found


def more_of_them(found: list[Asked], dice: random.Random) -> Iterator[Asked]:
    """
    Each of them, and now and then one of those before: as it was, with another token, or with other numbers.
    """
    for place, asked in enumerate(found):
        yield asked
        if dice.random() < 0.3:
            again = copy.deepcopy(found[dice.randint(max(0, place - 40), place)])
            how = dice.choice(["same", "token", "numbers", "other numbers, same token"])
            if how in {"token", "numbers"} and "ClientRequestToken" in again.params:
                again.params["ClientRequestToken"] = f"{dice.getrandbits(120):030x}"
            if how.endswith(("numbers", "same token")):
                change_a_number(again.params, dice)
            yield again


def change_a_number(params: Any, dice: random.Random) -> None:
    numbers = [each for each in values_in(params) if "N" in each]
    if numbers:
        changed = dice.choice(numbers)
        changed["N"] = str(int(float(changed["N"])) + dice.randint(-3, 3))


def values_in(params: Any) -> Iterator[dict[str, Any]]:
    if isinstance(params, dict):
        values = params.get("ExpressionAttributeValues")
        yield from (values or {}).values()
        for each in params.values():
            yield from values_in(each)
    elif isinstance(params, list):
        for each in params:
            yield from values_in(each)


def outcome(send: Any) -> Any:
    """
    What an engine answers, without what differs from one to the next.
    """
    try:
        answer = send()
    except ClientError as error:
        reasons = error.response.get("CancellationReasons")
        return (
            error.response["Error"]["Code"],
            [(reason.get("Code"), reason.get("Item")) for reason in reasons] if reasons else None,
            error.response.get("Item"),
        )
    for name in ("ResponseMetadata", "Count", "ScannedCount", "ConsumedCapacity"):
        answer.pop(name, None)
    for found in answer.get("Responses", {}).values():
        found.sort(key=repr_of)
    return answer


def repr_of(item: dict[str, Any]) -> str:
    return repr(sorted(item.items(), key=lambda pair: pair[0]))


def renamed(params: Any, table: str) -> Any:
    if isinstance(params, dict):
        return {
            (table if name == TABLE else name): table if name == "TableName" else renamed(each, table)
            for name, each in params.items()
        }
    return [renamed(each, table) for each in params] if isinstance(params, list) else params


@pytest.mark.parametrize("count", [QUICK, pytest.param(MANY, marks=pytest.mark.slow)])
def test_the_engine_answers_as_another_does(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "PAGE_ITEMS", 10_000)  # a megabyte, as elsewhere
    dice = random.Random(20_261_122)
    table = dynamodb_engine.table_url().partition("://")[2].partition("?")[0]
    other = dynamodb_engine.client(dynamodb_engine.endpoint())
    ours = dynamodb.Engine(lambda: 0.0)
    asked = more_of_them(
        [one for seed in range(1 + count // 1000) for one in requests_of_a_storm(seed)], dice
    )
    codes = set()
    for number, (operation, params) in zip(range(count), asked, strict=False):
        mine = outcome(lambda operation=operation, params=params: ours.send(operation, params))
        theirs = outcome(
            lambda operation=operation, params=params: getattr(other, operation)(**renamed(params, table))
        )
        if isinstance(theirs, dict) and "Responses" in theirs:
            theirs = {**theirs, "Responses": {TABLE: theirs["Responses"].get(table, [])}}
        codes.add(mine[0] if isinstance(mine, tuple) else "done")
        assert mine == theirs, f"request {number}: {operation} {params}"

    assert {"done", "TransactionCanceledException", "ConditionalCheckFailedException"} <= codes
    assert count < MANY or "IdempotentParameterMismatchException" in codes
