"""
DynamoDB's expressions: conditions, updates and keys, as far as a ledger writes them; anything else raises.

Each text is read once, into functions of an item; what it names is looked up in the request.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

Item: TypeAlias = Mapping[str, Any]
Value: TypeAlias = Mapping[str, Any]
# Of an item, and of the request's names and values.
Given: TypeAlias = tuple[Mapping[str, str], Mapping[str, Value]]
Operand: TypeAlias = Callable[[Item, Given], "Value | None"]
Condition: TypeAlias = Callable[[Item, Given], bool]
Update: TypeAlias = Callable[[Item, Given], dict[str, Any]]

_TOKEN = re.compile(r"\s*([#:]\w+|<>|<=|>=|[=<>(),+\-]|[A-Za-z_]\w*)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SECTIONS = ("SET", "REMOVE", "ADD")


class ExpressionError(ValueError):
    """
    A ValidationException.
    """


def number(text: str) -> int | Decimal:
    """
    A number of DynamoDB's, exactly.
    """
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def text_of(value: int | Decimal) -> str:
    """
    As DynamoDB writes it: no exponent, no zeros at the end.
    """
    if isinstance(value, int):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def canonical(value: Value) -> Value:
    """
    A value as DynamoDB keeps it.
    """
    text = value.get("N")
    if text is None or (text.isdecimal() and text[0] != "0"):
        return value
    return {"N": text_of(number(text))}


def plain(value: Value) -> tuple[str, Any]:
    """
    What two values are compared by.
    """
    ((kind, content),) = value.items()
    return kind, number(content) if kind == "N" else content


class _Reader:
    """
    One expression, from left to right.
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        for found in _TOKEN.finditer(text):
            if found.start() != end:
                break
            self.tokens.append(found[1])
            end = found.end()
        if text[end:].strip():
            raise ExpressionError(f"{text!r} cannot be read from {text[end:]!r} on")
        self.text, self.place = text, 0

    @property
    def next(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.next
        if not token or (wanted and token not in wanted):
            raise ExpressionError(
                f"{self.text!r}: {token!r} where {' or '.join(wanted) or 'more'} was to come"
            )
        self.place += 1
        return token

    def took(self, token: str) -> bool:
        is_next = self.next == token
        self.place += is_next
        return is_next

    def end(self) -> None:
        if self.next:
            raise ExpressionError(f"{self.text!r}: nothing may follow before {self.next!r}")

    def name(self) -> str:
        token = self.take()
        if token[0] != "#":
            raise ExpressionError(f"{self.text!r}: {token!r} is no name behind #")
        return token

    # Conditions, the loosest first.

    def either(self) -> Condition:
        parts = [self.both()]
        while self.took("OR"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda item, given: any(part(item, given) for part in parts)

    def both(self) -> Condition:
        parts = [self.negated()]
        while self.took("AND"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else lambda item, given: all(part(item, given) for part in parts)

    def negated(self) -> Condition:
        if self.took("NOT"):
            part = self.negated()
            return lambda item, given: not part(item, given)
        if self.took("("):
            part = self.either()
            self.take(")")
            return part
        return (
            self.is_there() if self.next in {"attribute_exists", "attribute_not_exists"} else self.compared()
        )

    def is_there(self) -> Condition:
        wanted = self.take() == "attribute_exists"
        self.take("(")
        name = self.name()
        self.take(")")
        return lambda item, given: (given[0][name] in item) is wanted

    def compared(self) -> Condition:
        if self.next == "begins_with":
            return self.begins()
        left = self.operand()
        token = self.take(*_COMPARE, "<>", "BETWEEN")
        if token == "BETWEEN":
            low = self.operand()
            self.take("AND")
            high = self.operand()
            return lambda item, given: (
                _holds("<=", low, left, item, given) and _holds("<=", left, high, item, given)
            )
        right = self.operand()
        if token == "<>":
            return lambda item, given: not _holds("=", left, right, item, given)
        return lambda item, given: _holds(token, left, right, item, given)

    def begins(self) -> Condition:
        self.take("begins_with")
        self.take("(")
        name = self.name()
        self.take(",")
        value = self.operand()
        self.take(")")

        def holds(item: Item, given: Given) -> bool:
            found, start = item.get(given[0][name]), value(item, given)
            return found is not None and start is not None and plain(found)[1].startswith(plain(start)[1])

        return holds

    def operand(self) -> Operand:
        token = self.take()
        if token[0] == ":":
            return lambda _, given: given[1][token]
        if token[0] == "#":
            return lambda item, given: item.get(given[0][token])
        raise ExpressionError(f"{self.text!r}: {token!r} is no operand that this engine knows")

    # Updates.

    def updates(self) -> list[tuple[str, str, Operand | None]]:
        found: list[tuple[str, str, Operand | None]] = []
        while self.next:
            section = self.take(*_SECTIONS)
            while True:
                name, new = self.name(), None
                if section == "SET":
                    self.take("=")
                    new = self.sum()
                elif section == "ADD":
                    new = self.operand()
                found.append((section, name, new))
                if not self.took(","):
                    break
        return found

    def sum(self) -> Operand:
        left = self.default()
        if self.next not in {"+", "-"}:
            return left
        sign = 1 if self.take() == "+" else -1
        right = self.default()

        def total(item: Item, given: Given) -> Value:
            one, other = left(item, given), right(item, given)
            if one is None or other is None:
                raise ExpressionError("an operand of an update is not there")
            return {"N": text_of(number(one["N"]) + sign * number(other["N"]))}

        return total

    def default(self) -> Operand:
        if not self.took("if_not_exists"):
            return self.operand()
        self.take("(")
        name = self.name()
        self.take(",")
        other = self.operand()
        self.take(")")
        return lambda item, given: item.get(given[0][name]) or other(item, given)


def _holds(sign: str, left: Operand, right: Operand, item: Item, given: Given) -> bool:
    one, other = left(item, given), right(item, given)
    if one is None or other is None:
        return False
    first, second = plain(one), plain(other)
    return first[0] == second[0] and _COMPARE[sign](first[1], second[1])


@lru_cache(maxsize=4096)
def condition(text: str) -> Condition:
    """
    Whether an item meets *text*.
    """
    if not text:
        return lambda _, __: True
    reader = _Reader(text)
    found = reader.either()
    reader.end()
    return found


@lru_cache(maxsize=4096)
def update(text: str) -> Update:
    """
    The attributes of an item after *text*; all that it reads are those before.
    """
    parts = _Reader(text).updates() if text else []

    def run(item: Item, given: Given) -> dict[str, Any]:
        after = dict(item)
        for section, name, operand in parts:
            attribute = given[0][name]
            if operand is None:
                after.pop(attribute, None)
                continue
            value = operand(item, given)
            if value is None:
                raise ExpressionError(
                    "The provided expression refers to an attribute that does not exist in the item"
                )
            if section == "ADD":
                before = item.get(attribute, {"N": "0"})
                value = {"N": text_of(number(before["N"]) + number(value["N"]))}
            after[attribute] = canonical(value)
        return after

    return run
