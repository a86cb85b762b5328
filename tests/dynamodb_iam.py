"""
What IAM would say to a request, by the policies of the template; no engine on one machine asks them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from bedrock_guard.ledgers.dynamodb.template import template

ACTIONS = {
    "get_item": "GetItem",
    "put_item": "PutItem",
    "update_item": "UpdateItem",
    "query": "Query",
    "batch_get_item": "BatchGetItem",
}
IN_TRANSACTIONS = {"Put": "PutItem", "Update": "UpdateItem"}


class Denied(AssertionError):
    """
    IAM would answer with an AccessDeniedException.
    """


def statements(policy: str) -> list[dict[str, Any]]:
    """
    Those of `WriterPolicy`, `ReaderPolicy` or `OperatorPolicy`.
    """
    document = template("any")["Resources"][policy]["Properties"]["PolicyDocument"]
    return list(document["Statement"])


def check(policy: str, operation: str, params: dict[str, Any]) -> None:
    """
    Raise for a request that *policy* does not allow, all of it.
    """
    for action, partition in asked(operation, params):
        if not any(_allows(each, action, partition) for each in statements(policy)):
            raise Denied(f"{policy} does not allow {action} on {partition}")


def asked(operation: str, params: dict[str, Any]) -> list[tuple[str, str]]:
    """
    What a request asks leave for: an action, and the partition it is on.
    """
    if operation == "transact_write_items":
        return [
            (IN_TRANSACTIONS[kind], _partition(body))
            for each in params["TransactItems"]
            for kind, body in each.items()
        ]
    if operation == "batch_get_item":
        keys = [key for each in params["RequestItems"].values() for key in each["Keys"]]
        return [("BatchGetItem", key["pk"]["S"]) for key in keys]
    if operation == "query":
        return [("Query", params["ExpressionAttributeValues"][":pk"]["S"])]
    return [(ACTIONS[operation], _partition(params))]


def _partition(body: dict[str, Any]) -> str:
    return str((body.get("Key") or body["Item"])["pk"]["S"])


def _allows(statement: dict[str, Any], action: str, partition: str) -> bool:
    if f"dynamodb:{action}" not in statement["Action"]:
        return False
    condition = statement.get("Condition")
    if condition is None:
        return True
    patterns = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    return any(fnmatchcase(partition, pattern) for pattern in patterns)
