"""
Reading and dropping entries of a SQLite ledger.

SQL narrows, by the time index first; `EntryFilter.admits` decides. What is read
at a time is bounded, for a reader holds back the write-ahead log.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EQUAL_FILTERS, TOKENS_SUFFIX, EntryFilter
from bedrock_guard.domain.ledger import SUB_WINDOWS, LedgerKey
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books, sqlite_rows, sqlite_schema
from bedrock_guard.ledgers import lines as lines_of

_TAGS: Final = """NOT EXISTS (
    SELECT 1 FROM json_each(:tags) AS wanted
    WHERE wanted.value IS NOT (
        SELECT tag.value FROM json_each(entry, '$.tags') AS tag WHERE tag.key = wanted.key
    )
)"""
_TOKENS: Final = f"""(
    SELECT coalesce(sum(value), 0) FROM json_each(entry, '$.usage')
    WHERE substr(key, -{len(TOKENS_SUFFIX)}) = '{TOKENS_SUFFIX}'
)"""  # noqa: S608 - put together from our own constants only
_ATTEMPT: Final = (
    "EXISTS (SELECT 1 FROM json_each(entry, '$.attempts') WHERE json_extract(value, '$.{0}') = :{0})"
)
# An open entry's cost is 0, and is not written.
_COST: Final = (
    "CASE json_type(entry, '$.cost_nanousd') WHEN 'null' THEN NULL "
    "ELSE coalesce(json_extract(entry, '$.cost_nanousd'), 0) END"
)
_BEFORE_ALL: Final = 0  # sequences begin with 1
_ATTEMPTS: Final = "coalesce(json_array_length(entry, '$.attempts'), 0)"

# The condition that each filter adds.
CONDITIONS: Final[dict[str, str]] = {
    "since": "at >= :since",
    **{name: f"json_extract(entry, '$.{name}') = :{name}" for name in EQUAL_FILTERS},
    "tags": _TAGS,
    "cost_nanousd_min": f"{_COST} >= :cost_nanousd_min",
    "cost_nanousd_max": f"{_COST} <= :cost_nanousd_max",
    "tokens_min": f"{_TOKENS} >= :tokens_min",
    "tokens_max": f"{_TOKENS} <= :tokens_max",
    "attempts_min": f"{_ATTEMPTS} >= :attempts_min",
    "status": _ATTEMPT.format("status"),
    "error_code": _ATTEMPT.format("error_code"),
}


class Page(NamedTuple):
    """
    Some entries, and where to go on; None at the end.
    """

    entries: list[Entry]
    after: str | None


def read_page(db: sqlite3.Connection, where: EntryFilter, after: str | None, limit: int) -> Page:
    """
    At most *limit* entries, newest first.
    """
    statement, parameters = _query(where, after)
    rows = db.execute(statement, {**parameters, "limit": limit + 1}).fetchall()
    page = rows[:limit]
    entries = (sqlite_rows.read_entry(text, count, at_s) for at_s, _, count, text in page)
    admitted = [entry for entry in entries if where.admits(entry)]
    return Page(admitted, books.write_cursor(*page[-1][:2]) if len(rows) > limit else None)


def drop(db: sqlite3.Connection, before: float, limit: int) -> int:
    """
    Forget old entries; what they had spent is added up, so that the books can still be checked, or taken
    off the sub-windows that it has rolled out of: for what rolls there is one for each thirtieth of its span.
    """
    rows = db.execute(sqlite_schema.OLD, (before, limit)).fetchall()
    spent: Counter[LedgerKey] = Counter()
    dropped = []
    for seq, lines, booked in rows:
        with suppress(LedgerUnavailable):  # what is damaged is in no sum, and stays for who mends it
            add_booked(spent, lines, booked)
            dropped.append((seq,))
    db.executemany(sqlite_schema.DROP, dropped)
    for key, amount in spent.items():
        columns = sqlite_rows.key_columns(key)
        if _has_rolled_out(key, before) and db.execute(sqlite_schema.ROLL_OUT, (*columns, amount)).rowcount:
            db.execute(sqlite_schema.DROP_EMPTY, columns)
        else:
            db.execute(sqlite_schema.ADD_DROPPED, (*columns, amount))
    return len(dropped)


def _has_rolled_out(key: LedgerKey, before: float) -> bool:
    span_s = lines_of.span_of(key.rule)
    return span_s is not None and key.window_start + span_s + span_s // SUB_WINDOWS <= before


def add_booked(spent: Counter[LedgerKey], lines: str | None, booked: str | None) -> None:
    """
    Add what one entry has spent.

    Raises:
        LedgerUnavailable: The row is damaged; nothing is added.
    """
    if lines and booked:
        held, amounts = sqlite_rows.read_lines(lines), sqlite_rows.read_booked(booked)
        if len(held) != len(amounts):
            raise sqlite_rows.damaged("booked", booked)
        for line, amount in zip(held, amounts, strict=True):
            spent[line.key] += amount


def _query(where: EntryFilter, after: str | None) -> tuple[str, dict[str, Any]]:
    before = books.read_cursor(after)[:2]
    if where.until is not None:
        # Into the cursor, where the index is entered: as a condition of its own, SQLite would come to it
        # through all that is newer.
        before = min(before, (where.until, _BEFORE_ALL))
    before_at, before_seq = before
    parameters: dict[str, Any] = {"before_at": before_at, "before_seq": before_seq}
    conditions = ["entry IS NOT NULL", "(at, seq) < (:before_at, :before_seq)"]
    for name, condition in CONDITIONS.items():
        value = getattr(where, name)
        if value is not None:
            conditions.append(condition)
            parameters[name] = _parameter(value)
    if where.outcome not in {None, sqlite_schema.USUAL_OUTCOME}:
        conditions.append(sqlite_schema.IS_UNUSUAL)  # what the index of these entries asks for
    return f"{sqlite_schema.ENTRIES} WHERE {' AND '.join(conditions)} {sqlite_schema.NEWEST}", parameters


def _parameter(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    # SQLite's largest; above it there is nothing to be told apart.
    return min(value, books.MAX_AMOUNT) if isinstance(value, int) else value
