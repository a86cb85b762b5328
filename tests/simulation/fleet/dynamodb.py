"""
A DynamoDB in memory: the requests that a ledger makes, done one after the other, as AWS says they are done.

It is held against another engine by `test_engine_against_ministack`. What only a network or a busy
service does (loss, conflicts, throttling) is not here: see `network`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import dynamodb_rules
from botocore.exceptions import ClientError
from simulation.fleet import expressions

Item: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str, str]
# What a write changed: where, what was there before, what is there now.
Changes: TypeAlias = dict[Place, tuple[Item | None, Item | None]]

TOKEN_S = 600.0
# How far behind a read may be that does not ask to be consistent, and how much of the past is kept for it.
STALE_S = 1.0
# A page ends after 1 MB: a thousand entries or so. Less shows more of the ledger's paging.
PAGE_ITEMS = 40


def refusal(operation: str, code: str, message: str, status: int = 400, **more: Any) -> ClientError:
    """
    An answer of DynamoDB's that is an error.
    """
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, operation)


class _Failed(Exception):
    """
    A condition does not hold.
    """


class Engine:
    """
    One table.

    Attributes:
        items: What it holds.
        on_write: Told of each write that was done.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.items: dict[Place, Item] = {}
        self.on_write: Callable[[str, Changes], None] = lambda *_: None
        self._clock = clock
        self._partitions: dict[str, dict[str, None]] = {}
        # Requests that were done, by token: until when they are remembered, and what they were.
        self._tokens: dict[str, tuple[float, list[Any]]] = {}
        self._past: dict[Place, list[tuple[float, Item | None]]] = {}

    def send(self, operation: str, params: Mapping[str, Any], *, lag_s: float = 0.0) -> Item:
        """
        Do it; a read that need not be consistent sees what was there *lag_s* ago.

        Raises:
            ClientError: It is refused.
        """
        self._check(operation, params)
        work: Callable[..., Item] = getattr(self, f"_{operation}")
        is_stale = operation in {"query", "get_item"} and not params.get("ConsistentRead")
        try:
            return work(params, lag_s) if is_stale else work(params)
        except expressions.ExpressionError as error:
            raise refusal(operation, "ValidationException", str(error)) from None

    def _transact_write_items(self, params: Mapping[str, Any]) -> Item:
        token, now = params["ClientRequestToken"], self._clock()
        content = params["TransactItems"]
        known = self._tokens.get(token)
        if known is not None and known[0] >= now:
            if known[1] != content:
                raise refusal(
                    "transact_write_items", "IdempotentParameterMismatchException", "other parameters"
                )
            return {}
        changes: Changes = {}
        reasons: list[Item] = []
        for action in params["TransactItems"]:
            ((kind, body),) = action.items()
            try:
                place, before, after = self._written(kind, body)
                if place in changes:
                    raise expressions.ExpressionError(
                        "Transaction request cannot include multiple operations on one item"
                    )
                changes[place] = before, after
                reasons.append({"Code": "None"})
            except _Failed:
                reasons.append(self._reason(body))
        if any(reason["Code"] != "None" for reason in reasons):
            codes = ", ".join(reason["Code"] for reason in reasons)
            message = (
                f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
            )
            code = "TransactionCanceledException"
            raise refusal("transact_write_items", code, message, CancellationReasons=reasons)
        self._tokens[token] = now + TOKEN_S, content
        self._keep("transact_write_items", changes)
        return {}

    def _update_item(self, params: Mapping[str, Any]) -> Item:
        return self._write_one("update_item", "Update", params)

    def _put_item(self, params: Mapping[str, Any]) -> Item:
        return self._write_one("put_item", "Put", params)

    def _delete_item(self, params: Mapping[str, Any]) -> Item:
        return self._write_one("delete_item", "Delete", params)

    def _write_one(self, operation: str, kind: str, params: Mapping[str, Any]) -> Item:
        try:
            place, before, after = self._written(kind, params)
        except _Failed:
            found = self._reason(params).get("Item")
            more = {"Item": found} if found else {}
            code = "ConditionalCheckFailedException"
            raise refusal(operation, code, "The conditional request failed", **more) from None
        self._keep(operation, {place: (before, after)})
        wanted = {"ALL_NEW": after, "ALL_OLD": before}.get(params.get("ReturnValues", "NONE"))
        return {"Attributes": dict(wanted)} if wanted else {}

    def _get_item(self, params: Mapping[str, Any], lag_s: float = 0.0) -> Item:
        item = self._as_of(_place(params["Key"]), lag_s)
        return {"Item": dict(item)} if item else {}

    def _transact_get_items(self, params: Mapping[str, Any]) -> Item:
        return {"Responses": [self._get_item(each["Get"]) for each in params["TransactItems"]]}

    def _batch_get_item(self, params: Mapping[str, Any]) -> Item:
        responses = {}
        for table, wanted in params["RequestItems"].items():
            found = (self.items.get(_place(key)) for key in wanted["Keys"])
            responses[table] = [dict(item) for item in found if item]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _query(self, params: Mapping[str, Any], lag_s: float = 0.0) -> Item:
        given = _given(params)
        is_meant = expressions.condition(params["KeyConditionExpression"])
        is_wanted = expressions.condition(params.get("FilterExpression", ""))
        pk = _partition_of(params, given)
        keys = sorted(
            self._partitions.get(pk, ()), key=str.encode, reverse=not params.get("ScanIndexForward", True)
        )
        start = params.get("ExclusiveStartKey")
        if start is not None:
            last, is_up = start["sk"]["S"].encode(), params.get("ScanIndexForward", True)
            keys = [sk for sk in keys if (sk.encode() > last if is_up else sk.encode() < last)]
        most = min(params.get("Limit", PAGE_ITEMS), PAGE_ITEMS)
        found: list[Item] = []
        seen: list[str] = []
        for sk in keys:
            item = self._as_of((pk, sk), lag_s)
            if item is None or not is_meant(item, given):
                continue
            if len(seen) == most:
                return {"Items": found, "LastEvaluatedKey": {"pk": {"S": pk}, "sk": {"S": seen[-1]}}}
            seen.append(sk)
            if is_wanted(item, given):
                found.append(dict(item))
        return {"Items": found}

    def _written(self, kind: str, body: Mapping[str, Any]) -> tuple[Place, Item | None, Item | None]:
        """
        What a write would change, if its condition holds.
        """
        key = body["Item"] if kind == "Put" else body["Key"]
        place, given = _place(key), _given(body)
        before = self.items.get(place)
        if not expressions.condition(body.get("ConditionExpression", ""))(before or {}, given):
            raise _Failed
        if kind == "ConditionCheck":
            return place, before, before
        if kind == "Put":
            return place, before, {name: expressions.canonical(value) for name, value in body["Item"].items()}
        if kind == "Delete":
            return place, before, None
        after = expressions.update(body.get("UpdateExpression", ""))(before or {}, given)
        return place, before, {**after, "pk": key["pk"], "sk": key["sk"]}

    def _reason(self, body: Mapping[str, Any]) -> Item:
        reason: Item = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
        item = self.items.get(_place(body.get("Key") or body["Item"]))
        if item and body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            reason["Item"] = dict(item)
        return reason

    def _keep(self, operation: str, changes: Changes) -> None:
        now = self._clock()
        for place, (before, after) in changes.items():
            past = [(at, item) for at, item in self._past.get(place, ()) if at > now - 2 * STALE_S]
            self._past[place] = [*past, (now, before)]
            if after is None:
                self.items.pop(place, None)
                self._partitions.get(place[0], {}).pop(place[1], None)
            else:
                self.items[place] = after
                self._partitions.setdefault(place[0], {})[place[1]] = None
        self.on_write(operation, changes)

    def _as_of(self, place: Place, lag_s: float) -> Item | None:
        if lag_s:
            since = self._clock() - lag_s
            for at, before in self._past.get(place, ()):
                if at > since:
                    return before
        return self.items.get(place)

    def _check(self, operation: str, params: Mapping[str, Any]) -> None:
        """
        Refuse what DynamoDB would; each form of request once.
        """
        bodies = [body for action in params.get("TransactItems", ()) for body in action.values()]
        form = operation, *[body.get(name) for body in bodies or [params] for name in _EXPRESSIONS]
        if form not in _CHECKED:
            _CHECKED.add(form)
            dynamodb_rules.check(operation, dict(params))


_CHECKED: set[tuple[str | None, ...]] = set()
_EXPRESSIONS = ("UpdateExpression", "ConditionExpression", "KeyConditionExpression", "FilterExpression")


def _place(key: Mapping[str, Any]) -> Place:
    return key["pk"]["S"], key["sk"]["S"]


def _given(params: Mapping[str, Any]) -> expressions.Given:
    return params.get("ExpressionAttributeNames", {}), params.get("ExpressionAttributeValues", {})


def _partition_of(params: Mapping[str, Any], given: expressions.Given) -> str:
    """
    The partition that a query names; there must be one.
    """
    text = params["KeyConditionExpression"]
    for name, value in given[1].items():
        for alias, attribute in given[0].items():
            if attribute == "pk" and f"{alias} = {name}" in text:
                return str(value["S"])
    raise expressions.ExpressionError(f"{json.dumps(text)} names no partition")
