"""
Ledger keys, lines and entries as SQLite stores them, and back.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.books import Booked

KeyColumns: TypeAlias = tuple[str, str, str, int]

# How much of what is damaged an error quotes.
_SHOWN: Final = 60

_encode = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=4096)
def key_columns(key: LedgerKey) -> KeyColumns:
    """
    The primary key of a balance.
    """
    return key.budget, key.rule, _encode(key.per), key.window_start


def read_key(budget: str, rule: str, per: str, window_start: int) -> LedgerKey:
    """
    Back from `key_columns`.

    Raises:
        LedgerUnavailable: The row is damaged.
    """
    try:
        return LedgerKey(budget, rule, _read_per(json.loads(per)), window_start)
    except (ValueError, TypeError):
        raise LedgerUnavailable(
            f"A balance of the budget {budget!r} ({rule}) cannot be read: its per is {per!r}. No program "
            "writes that; mend the row, or take the file of a backup."
        ) from None


@lru_cache(maxsize=1024)
def write_lines(lines: tuple[Line, ...]) -> str:
    """
    Lines as JSON; the same lines are the same text.

    A call's are asked for twice, when it is opened and when it ends.
    """
    parts = []
    for line in lines:
        limit = "null" if line.limit is None else line.limit
        parts.append(f"[{_key_text(line.key)},{limit},{line.amount}]")
    return f"[{','.join(parts)}]"


def read_lines(text: str) -> tuple[Line, ...]:
    """
    Back from `write_lines`.

    Raises:
        LedgerUnavailable: The row is damaged.
    """
    try:
        found = tuple(_read_line(each) for each in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise damaged("lines", text) from None
    return found


def write_booked(booked: Booked) -> str:
    """
    What was spent on each line, as JSON.
    """
    return f"[{','.join(map(str, booked))}]"


def read_booked(text: str | None) -> Booked:
    """
    Back from `write_booked`; nothing for a call that has not ended.

    Raises:
        LedgerUnavailable: The row is damaged.
    """
    try:
        found = tuple(json.loads(text)) if text else ()
    except (ValueError, TypeError, RecursionError):
        raise damaged("booked", text) from None
    if not all(type(amount) is int for amount in found):
        raise damaged("booked", text)
    return found


def write_entry(entry: Entry) -> str:
    """
    An entry as JSON that SQLite can store.

    A tag may hold half of a surrogate pair, which is no text in UTF-8; its escape is.
    """
    text = entry.to_json()
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def read_entry(text: str, count: int, at_s: float = 0.0) -> Entry:
    """
    Back from `write_entry`, for as many as were counted; of a call that was opened at *at_s*.
    """
    entry = Entry.from_json(text, at_s=at_s)
    return entry if entry.count == count else replace(entry, count=count)


@lru_cache(maxsize=4096)
def _key_text(key: LedgerKey) -> str:
    return _encode(key)[1:-1]


def _read_line(stored: list[Any]) -> Line:
    budget, rule, per, window_start, limit, amount = stored
    key = LedgerKey(budget, rule, _read_per(per), window_start)
    is_sound = type(budget) is type(rule) is str and type(window_start) is type(amount) is int
    if not is_sound or not (limit is None or type(limit) is int):
        raise TypeError
    return Line(key, limit, amount)


def damaged(column: str, text: str | None) -> LedgerUnavailable:
    """
    The error for a *column* of a call that no program has written so.
    """
    return LedgerUnavailable(
        f"A call of the ledger cannot be read: its {column} is {str(text)[:_SHOWN]!r}. No program writes "
        "that; mend the row, or take the file of a backup. `bedrock-guard ledger check` names it."
    )


def _read_per(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((tag, value) for tag, value in pairs)
