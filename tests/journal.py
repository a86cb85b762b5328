"""
Journals for reports and commands to read: entries as a ledger has them, with figures chosen by hand.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.ledgers import open_ledger

NOVA = "amazon.nova-lite-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
# Sunday, the last day of an ISO week.
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
# What a terminal or a spreadsheet would act on.
HOSTILE = "=cmd()[bold]x[/bold]\x1b[2J\u202eevil\nline\x00" + "y" * 10_000


def made_entry(id_: str, **changes: Any) -> Entry:
    """
    An answered call of Nova Lite, 1,000 tokens in and 100 out for 84,000 nano-dollars.
    """
    usage = {"input_tokens": 1000, "output_tokens": 100}
    entry = Entry(
        id=id_,
        at_s=NOON,
        operation="Converse",
        model_id=f"us.{NOVA}",
        model=NOVA,
        family="nova",
        region="us-east-1",
        service_tier="default",
        latency="standard",
        tags={},
        outcome="answered",
        usage=usage,
        reported_usage=usage,
        cost_nanousd=84_000,
        estimated_cost_nanousd=100_000,
        attempts=(Attempt("answered", 200, None, usage, 84_000),),
        duration_ms=900,
    )
    return replace(entry, **changes)


def made_ledger(folder: Path, entries: Iterable[Entry], name: str = "ledger.db") -> str:
    """
    The URL of a SQLite ledger with *entries* in its journal.
    """
    url = f"sqlite:///{(folder / name).as_posix()}"
    ledger = open_ledger(url, clock=lambda: NOON)
    for entry in entries:
        ledger.record(entry)
    ledger.close()
    return url


def lengthen(url: str, count: int) -> None:
    """
    Put *count* entries more into a journal, each a second older: copies of its first, named e1, e2, …
    """
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute(
            """
            WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
            INSERT INTO entry (id, at, state, count, entry)
            SELECT 'e' || n, at - n, state, count,
                json_set(entry, '$.id', 'e' || n, '$.at_s', at - n, '$.tags.user', 'u' || n)
            FROM number, (SELECT * FROM entry ORDER BY seq LIMIT 1)
            """,
            (count,),
        )
    db.close()


def rewrite(url: str, id_: str, **values: Any) -> None:
    """
    Change what is stored of an entry, to what no program of this version writes.
    """
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        (text,) = db.execute("SELECT entry FROM entry WHERE id = ?", (id_,)).fetchone()
        db.execute("UPDATE entry SET entry = ? WHERE id = ?", (json.dumps(json.loads(text) | values), id_))
    db.close()
