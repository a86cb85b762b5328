"""
One table: requests that end within a deadline, and what their errors mean.

    answered       done, or a condition failed: certain
    turned away    throttled, in conflict: certainly not done, asked again
    lost           no answer: perhaps done; asked again, and the conditions tell

What was lost last when the time is over is reported as `unknown`.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb.address import Address
from bedrock_guard.ledgers.dynamodb.clients import Clients
from bedrock_guard.ledgers.dynamodb.items import Item

Meaning: TypeAlias = Literal["condition", "turned_away", "lost", "refused"]

_WRITES: Final = frozenset(["transact_write_items", "update_item", "put_item"])
_FIRST_SLEEP_S: Final = 0.005
_LONGEST_SLEEP_S: Final = 0.25

_TURNED_AWAY: Final = frozenset(
    [
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
    ]
)
# A mismatch of tokens: somebody else's token was the same, or our own request came twice, changed.
_LOST: Final = frozenset(
    ["IdempotentParameterMismatchException", "InternalServerError", "TransactionInProgressException"]
)
# botocore's errors of requests that never left.
_UNSENT: Final = frozenset(
    ["ConnectTimeoutError", "ConnectionError", "EndpointConnectionError", "ProxyConnectionError", "SSLError"]
)
_MAKE: Final = "bedrock-guard dynamodb create-table {table}"
_ADVICE: Final = {
    "ResourceNotFoundException": f"Make it, in this region and account: {_MAKE}",
    "UnrecognizedClientException": "The credentials are not AWS's, or of another partition.",
    "ExpiredTokenException": "The credentials have expired.",
}
# A ValidationException is about many things; this is what it says of a table with other keys.
_ABOUT_KEYS: Final = re.compile(r"\bkeys?\b", re.IGNORECASE)
_OTHER_KEYS: Final = f"Is it a ledger's? Its keys are two strings, pk and sk, as made by {_MAKE}"
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
_TOO_LARGE: Final = "item size"
_ACTIONS: Final = {
    "transact_write_items": "dynamodb:PutItem and dynamodb:UpdateItem",
    "update_item": "dynamodb:UpdateItem",
    "put_item": "dynamodb:PutItem",
    "get_item": "dynamodb:GetItem",
    "batch_get_item": "dynamodb:BatchGetItem",
    "query": "dynamodb:Query",
    "create_table": "dynamodb:CreateTable, DescribeTable, UpdateTimeToLive and UpdateContinuousBackups",
}


class Reason(NamedTuple):
    """
    What became of one action of a write that was not done.
    """

    is_failed: bool
    item: Item | None


class ConditionFailed(Exception):
    """
    A write was not done, for a condition of it does not hold; one reason for each action.
    """

    def __init__(self, reasons: list[Reason]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


class Turn:
    """
    One operation of the ledger: until when, and whether something of it may be under way.

    Attributes:
        id: What it writes itself down by, so that it knows its own doing again.
        in_doubt: Whether a request of it was lost, and nothing has told what became of it.
    """

    __slots__ = ("ends_at", "id", "in_doubt", "sleep_s")

    def __init__(self, seconds: float) -> None:
        self.id = os.urandom(8).hex()
        self.ends_at = time.monotonic() + seconds
        self.in_doubt = False
        self.sleep_s = _FIRST_SLEEP_S

    @property
    def left_s(self) -> float:
        """
        The time that is left.
        """
        return self.ends_at - time.monotonic()


class Table:
    """
    Sends a request until it is answered, or the time is over.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = address.table
        self.clients = Clients(address)
        self._inside = threading.local()
        self._is_closed = False

    @contextmanager
    def turn(self, share: float = 1.0) -> Iterator[Turn]:
        """
        One operation, for *share* of the deadline.

        Not for a finalizer that runs in the very thread that is inside already: a connection pool's
        lock would wait for itself.
        """
        if self._is_closed:
            raise LedgerUnavailable(f"DynamoDB table {self.name} is closed.")
        if getattr(self._inside, "is_so", False):
            raise LedgerUnavailable(
                f"DynamoDB table {self.name} was called from inside itself; try again later."
            )
        try:
            self._inside.is_so = True
            yield Turn(share * self.address.deadline_s)
        finally:
            self._inside.is_so = False

    def transact(self, turn: Turn, actions: list[Item]) -> None:
        """
        All of *actions*, or none.

        Raises:
            ConditionFailed: A condition does not hold.
        """
        self.send(turn, "transact_write_items", TransactItems=actions)

    def send(self, turn: Turn, operation: str, **params: Any) -> Item:
        """
        The answer to a request.

        Raises:
            ConditionFailed: A condition does not hold.
            LedgerUnavailable: There was none in time, or it is an error that stays.
        """
        token: str | None = None
        # Its text, for an error holds the frames that hold it: a cycle that keeps a caller's stream alive.
        last = ""
        while True:
            client = self.clients.within(turn.left_s)
            if client is None:
                raise self._too_late(turn, last)
            if operation == "transact_write_items":
                # Tokens are the account's, for ten minutes: never one that another could have.
                token = params["ClientRequestToken"] = token or str(uuid.uuid4())
            try:
                answer: Item = getattr(client, operation)(**params)
            except Exception as error:
                last, meaning = _text(error), _meaning(error)
                if meaning == "condition":
                    raise ConditionFailed(_reasons(error)) from None
                if meaning == "refused":
                    raise self.unavailable(error, operation, turn) from error
                if meaning == "lost":
                    # Asked again as it was, DynamoDB knows it by its token; the conditions know it for ever.
                    turn.in_doubt = turn.in_doubt or operation in _WRITES
                    token = None if code_of(error).startswith("Idempotent") else token
                else:
                    token = None
                self.rest(turn)
            else:
                turn.in_doubt = turn.in_doubt and operation not in _WRITES
                return answer

    def unavailable(self, error: Exception, operation: str, turn: Turn | None = None) -> LedgerUnavailable:
        """
        The error for one that asking again would not change.
        """
        code = code_of(error)
        if code.startswith("AccessDenied"):
            advice = f"The credentials need {_ACTIONS[operation]} on it."
        elif has_other_keys(error):
            advice = _OTHER_KEYS.format(table=self.name)
        else:
            advice = _ADVICE.get(code, "").format(table=self.name)
        is_unknown = turn is not None and turn.in_doubt
        return LedgerUnavailable(
            f"DynamoDB table {self.name} cannot be used: {_text(error)} {advice}".rstrip(),
            "unknown" if is_unknown else "not_done",
        )

    def close(self) -> None:
        """
        Give connections back; what comes later is refused.
        """
        self._is_closed = True
        self.clients.close()

    def rest(self, turn: Turn) -> None:
        """
        A pause before a request is sent again; each is longer than the one before.
        """
        # The whole of it at random: those that met in conflict must not meet again.
        time.sleep(max(0.0, min(random.uniform(0, turn.sleep_s), turn.left_s)))  # noqa: S311
        turn.sleep_s = min(2 * turn.sleep_s, _LONGEST_SLEEP_S)

    def _too_late(self, turn: Turn, last: str) -> LedgerUnavailable:
        why = f": {last}" if last else "."
        doubt = " Whether it was done is not known." if turn.in_doubt else ""
        return LedgerUnavailable(
            f"DynamoDB table {self.name} did not answer within {self.address.deadline_s:g} s{why}{doubt}",
            "unknown" if turn.in_doubt else "not_done",
        )


def _meaning(error: Exception) -> Meaning:
    response = getattr(error, "response", None)
    if response is None:
        return _meaning_of_silence(error)
    code = code_of(error)
    if code == "TransactionCanceledException":
        codes = {reason.get("Code") for reason in response.get("CancellationReasons") or ()}
        if "ConditionalCheckFailed" in codes:
            return "condition"
        return "turned_away" if codes & _TURNED_AWAY else "refused"
    if code == "ConditionalCheckFailedException":
        return "condition"
    if code in _TURNED_AWAY:
        return "turned_away"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return "lost" if code in _LOST or status >= 500 else "refused"


def _meaning_of_silence(error: Exception) -> Meaning:
    from botocore.exceptions import HTTPClientError  # noqa: PLC0415
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    if type(error).__name__ in _UNSENT:
        return "turned_away"
    is_lost = isinstance(error, HTTPClientError | OSError | ResponseParserError)
    return "lost" if is_lost else "refused"


def _reasons(error: Any) -> list[Reason]:
    found = error.response.get("CancellationReasons")
    if found is None:
        return [Reason(is_failed=True, item=error.response.get("Item"))]
    return [
        Reason(reason.get("Code") == "ConditionalCheckFailed", reason.get("Item") or None) for reason in found
    ]


def code_of(error: BaseException | None) -> str:
    """
    AWS's code of an error; empty where it has none.
    """
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def has_other_keys(error: BaseException | None) -> bool:
    """
    Whether AWS says that a table has other keys than a ledger's.
    """
    return code_of(error) == "ValidationException" and bool(_ABOUT_KEYS.search(str(error)))


def is_too_large(error: BaseException | None) -> bool:
    """
    Whether AWS says that an item would grow beyond what it takes.
    """
    response = getattr(error, "response", None) or {}
    said = [response.get("Error", {}), *(response.get("CancellationReasons") or ())]
    return any(_TOO_LARGE in str(each.get("Message", "")).lower() for each in said)


def _text(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."
