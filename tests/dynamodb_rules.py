"""
What real DynamoDB refuses, and the engine that tests run on does not.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

# Words that may stand in an expression as they are; everything else is a name, and some are reserved.
WORDS = {
    "ADD", "AND", "BETWEEN", "DELETE", "IN", "NOT", "OR", "REMOVE", "SET",
    "attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains",
    "if_not_exists", "list_append", "size",
}  # fmt: skip
CONDITIONS = ("ConditionExpression", "FilterExpression", "KeyConditionExpression")
EXPRESSIONS = (*CONDITIONS, "UpdateExpression", "ProjectionExpression")
TOKEN = re.compile(r"[#:]?[A-Za-z_]\w*|<>|<=|>=|[=<>(),+\-*/.]|\s+|.")


class Refused(AssertionError):
    """
    DynamoDB would answer with a ValidationException.
    """


def check(operation: str, params: dict[str, Any]) -> None:
    """
    Raise for a request that DynamoDB would refuse.
    """
    if operation == "transact_write_items":
        actions = [body for each in params["TransactItems"] for body in each.values()]
        require(1 <= len(actions) <= 100, f"{len(actions)} actions")
        keys = [json.dumps(key_of(body), sort_keys=True) for body in actions]
        require(len(set(keys)) == len(keys), "two actions on one item")
        require(len(params["ClientRequestToken"]) <= 36, "token too long")
        for body in actions:
            check_one(body)
    elif operation in {"update_item", "put_item", "query"}:
        check_one(params)
    elif operation == "batch_get_item":
        for each in params["RequestItems"].values():
            require(1 <= len(each["Keys"]) <= 100, "keys in a batch")
            texts = [json.dumps(key, sort_keys=True) for key in each["Keys"]]
            require(len(set(texts)) == len(texts), "a key twice in a batch")
    require(len(repr(params)) < 4_000_000, "more than 4 MB")


def key_of(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("Key") or {name: body["Item"][name] for name in ("pk", "sk")}
    require(1 <= len(found["pk"]["S"].encode()) <= 2048, "partition key")
    require(1 <= len(found["sk"]["S"].encode()) <= 1024, "sort key")
    return found


def check_one(body: dict[str, Any]) -> None:
    texts = {name: body[name] for name in EXPRESSIONS if name in body}
    used: set[str] = set()
    for name, text in texts.items():
        used |= check_expression(text, is_condition=name in CONDITIONS)
    names, values = body.get("ExpressionAttributeNames"), body.get("ExpressionAttributeValues")
    require(names != {}, "no names")
    require(values != {}, "no values")
    defined = {*(names or ()), *(values or ())}
    require(used == defined, f"used and defined differ: {used ^ defined}")
    for value in [*(values or {}).values(), *body.get("Item", {}).values()]:
        ((kind, content),) = value.items()
        if kind == "N":
            digits = content.lstrip("-").replace(".", "").partition("e")[0]
            require(len(digits) <= 38 and "n" not in content, f"number {content}")
    require(size_of(body.get("Item", {})) < 400_000, "item too large")
    if "Key" in body or "Item" in body:
        key_of(body)


@cache
def check_expression(text: str, *, is_condition: bool) -> frozenset[str]:
    require(len(text.encode()) <= 4096, "expression too long")
    used = set()
    for token in TOKEN.findall(text):
        if token[0] in "#:" and len(token) > 1:
            used.add(token)
        elif token[0].isalpha() or token[0] == "_":
            require(token in WORDS, f"{token!r} stands bare in {text!r}")
        else:
            require(
                token.isspace() or token in set("=<>(),+-*/.") | {"<>", "<=", ">="}, f"{token!r} in {text!r}"
            )
            is_arithmetic = token in set("+-*/")
            require(not (is_arithmetic and is_condition), f"arithmetic in {text!r}")
            require(token not in {"*", "/"}, f"{token!r} in {text!r}")
    return frozenset(used)


def size_of(item: dict[str, Any]) -> int:
    """
    What AWS counts: names, text and bytes as they are, a number as about half its digits.
    """
    total = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        total += len(name.encode())
        if kind == "N":
            total += (len(content.lstrip("-").replace(".", "")) + 1) // 2 + 1
        else:
            total += len(content if isinstance(content, bytes) else content.encode())
    return total


def require(is_so: bool, what: str) -> None:
    if not is_so:
        raise Refused(f"DynamoDB refuses: {what}")
