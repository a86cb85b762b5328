"""
A client of DynamoDB to which a test can do what a network does.

No engine that runs on one machine ever throttles, or lets transactions meet in conflict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import dynamodb_iam
from botocore.exceptions import ClientError, ReadTimeoutError

from bedrock_guard.ledgers.dynamodb import DynamoDBLedger

Fault = Callable[[Callable[[], Any], str, dict[str, Any]], Any]
WRITES = {"transact_write_items", "update_item", "put_item"}


class Watched:
    """
    Stands where the ledger looks for clients: counts requests and the partitions they are on, and lets faults have them.

    Each must be one that the policy of programs allows, or that of operators as it is told. Faults are those of `operations`;
    `is_over` is a deadline that has passed.
    """

    def __init__(self, ledger: DynamoDBLedger, faults: Iterator[Fault | None] | None = None) -> None:
        self._clients = ledger._table.clients
        self.faults = faults
        self.sent: list[str] = []
        self.partitions: list[str] = []
        self.is_over = False
        self.operations = WRITES
        self.capacity = 0.0
        self._lock = threading.Lock()
        self._role = threading.local()
        ledger._table.clients = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clients, name)

    def as_operator(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self._role.policy = "OperatorPolicy"
            try:
                return work(*args)
            finally:
                self._role.policy = "WriterPolicy"

        return run

    def within(self, seconds: float) -> Any:
        client = None if self.is_over else self._clients.within(seconds)
        return None if client is None else _Client(self, client)

    def send(self, client: Any, operation: str, params: dict[str, Any]) -> Any:
        dynamodb_iam.check(getattr(self._role, "policy", "WriterPolicy"), operation, params)
        with self._lock:
            self.sent.append(operation)
            self.partitions += [partition for _, partition in dynamodb_iam.asked(operation, params)]
            is_meant = operation in self.operations
            fault = next(self.faults, None) if self.faults is not None and is_meant else None

        def send() -> Any:
            answer = getattr(client, operation)(**params, ReturnConsumedCapacity="TOTAL")
            found = answer.get("ConsumedCapacity", [])
            with self._lock:
                self.capacity += sum(
                    each["CapacityUnits"] for each in (found if isinstance(found, list) else [found])
                )
            return answer

        return send() if fault is None else fault(send, operation, params)


class _Client:
    def __init__(self, watched: Watched, client: Any) -> None:
        self._watched, self._client = watched, client

    def __getattr__(self, operation: str) -> Any:
        if operation in {"meta", "exceptions", "close"}:
            return getattr(self._client, operation)
        return lambda **params: self._watched.send(self._client, operation, params)


def lose_answer(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    It is done, and nobody hears of it.
    """
    send()
    raise ReadTimeoutError(endpoint_url="http://lost")


def lose_answer_and_token(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    As `lose_answer`, ten minutes later: the token of the request is forgotten, and only conditions remember.
    """
    if "ClientRequestToken" in params:
        params["ClientRequestToken"] = params["ClientRequestToken"][::-1]
    send()
    raise ReadTimeoutError(endpoint_url="http://lost")


def lose_request(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    It never arrives, which looks the same.
    """
    raise ReadTimeoutError(endpoint_url="http://lost")


def send_twice(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    Somebody between repeats it; tokens are not to be relied on, so the second has another.
    """
    answer = send()
    if "ClientRequestToken" in params:
        params["ClientRequestToken"] = params["ClientRequestToken"][::-1]
    with suppress(ClientError):
        send()
    return answer


class Delay:
    """
    Taken for lost, it arrives after all: when `arrive` is called, or after its repetition.
    """

    def __init__(self) -> None:
        self.late: list[Callable[[], Any]] = []

    def __call__(self, send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        again = dict(params)
        if "ClientRequestToken" in again:
            again["ClientRequestToken"] = again["ClientRequestToken"][::-1]
        params.update(again)
        self.late.append(send)
        raise ReadTimeoutError(endpoint_url="http://late")

    def arrive(self) -> None:
        for send in self.late:
            with suppress(ClientError):
                send()
        self.late.clear()


def conflict(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    if operation != "transact_write_items":
        raise ClientError(
            {"Error": {"Code": "TransactionConflictException", "Message": "conflict"}}, operation
        )
    reasons = [{"Code": "None"} for _ in params["TransactItems"]]
    reasons[-1] = {"Code": "TransactionConflict", "Message": "conflict"}
    error = {"Code": "TransactionCanceledException", "Message": "conflict"}
    raise ClientError({"Error": error, "CancellationReasons": reasons}, operation)  # type: ignore[typeddict-unknown-key]


def throttle(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    raise ClientError(
        {
            "Error": {"Code": "ThrottlingException", "Message": "slow down"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        },  # type: ignore[typeddict-item]
        operation,
    )


def exceed_throughput(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    One partition's thousand writes a second are over, which a transaction tells in its reasons.
    """
    error = {"Code": "ProvisionedThroughputExceededException", "Message": "too much"}
    if operation != "transact_write_items":
        raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}, operation)  # type: ignore[typeddict-item]
    reasons = [{"Code": "ThrottlingError"}, *({"Code": "None"} for _ in params["TransactItems"][1:])]
    error = {"Code": "TransactionCanceledException", "Message": "too much"}
    raise ClientError({"Error": error, "CancellationReasons": reasons}, operation)  # type: ignore[typeddict-unknown-key]


def fail_inside(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    """
    An internal error of theirs, after which it may be done or not.
    """
    send()
    raise ClientError(
        {
            "Error": {"Code": "InternalServerError", "Message": "internal"},
            "ResponseMetadata": {"HTTPStatusCode": 500},
        },  # type: ignore[typeddict-item]
        operation,
    )


def in_progress(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
    time.sleep(0.001)
    raise ClientError({"Error": {"Code": "TransactionInProgressException", "Message": "wait"}}, operation)
