"""
An entry as commands show it: a line of a table, an object of JSON, a line of CSV.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from bedrock_guard.cli.safe_text import plain, to_json
from bedrock_guard.cli.screen import dollars, percent, table
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.reports.moments import moment_of
from bedrock_guard.reports.totals import NO_CALLS, Totals

_WORDS: Final = ("at", "outcome", "operation", "model", "basis", "tags")
_FIGURES: Final = ("in", "cached", "out", "cost")
SPARE: Final = ("operation", "cached", "in", "out")
"""Columns that a narrow screen can do without, the first first."""

_MONEY: Final = "_nanousd"
_MOST_TAGS: Final = 4

CSV_COLUMNS: Final = (
    "id",
    "at",
    "outcome",
    "operation",
    "model",
    "model_id",
    "family",
    "region",
    "service_tier",
    "latency",
    "cost",
    "list_cost",
    "estimated_cost",
    "basis",
    "priced",
    "input_tokens",
    "output_tokens",
    "usage",
    "attempts",
    "duration_ms",
    "budget",
    "reason",
    "count",
    "tags",
)


def entry_table(entries: Iterable[Entry], zone: ZoneInfo) -> Table:
    """
    *entries* as lines; moments in *zone*.
    """
    made = table((*_WORDS[:4], *_FIGURES, *_WORDS[4:]), words=_WORDS, whole=("at", "outcome", "basis"))
    for entry in entries:
        made.add_row(*cells(entry, zone))
    return made


def cells(entry: Entry, zone: ZoneInfo) -> list[Text]:
    """
    One line of the table.
    """
    totals = Totals()
    totals.add(entry)
    is_call = entry.outcome not in NO_CALLS
    words = (
        f"{moment_of(entry.at_s, zone):%Y-%m-%d %H:%M:%S}",
        plain(entry.outcome) + (f" x {entry.count}" if entry.count != 1 else ""),
        plain(entry.operation),
        plain(entry.model or entry.model_id),
        f"{totals.input_tokens:,}" if is_call else "",
        percent(totals.cache_hit_share) if is_call else "",
        f"{totals.output_tokens:,}" if is_call else "",
        dollars(entry.cost_nanousd) if is_call else "",
        plain(entry.basis) if is_call else plain(_why(entry)),
        show_tags(entry.tags),
    )
    return [Text(word) for word in words]


def show_tags(tags: Mapping[str, str]) -> str:
    """
    Tags on one line, the first few of them.
    """
    shown = [f"{plain(tag, 30)}={plain(value, 30)}" for tag, value in sorted(tags.items())[:_MOST_TAGS]]
    return " ".join([*shown, *([f"and {len(tags) - _MOST_TAGS} more"] if len(tags) > _MOST_TAGS else [])])


def entry_json(entry: Entry) -> dict[str, Any]:
    """
    All of an entry; money in USD as strings, the moment in UTC.
    """
    shown: dict[str, Any] = {"id": entry.id, "at": moment_of(entry.at_s, UTC).isoformat()}
    for name in Entry.__dataclass_fields__:
        value = getattr(entry, name)
        if name.endswith(_MONEY):
            shown[name.removesuffix(_MONEY)] = _usd(value)
        elif name not in {"at_s", "attempts"}:
            shown[name] = value
    if not entry.has_own_prices:
        shown["list_cost"] = shown["cost"]
    shown["attempts"] = [_attempt_json(attempt) for attempt in entry.attempts]
    return shown


def entry_csv(entry: Entry) -> dict[str, object]:
    """
    The columns of `CSV_COLUMNS`; usage and tags as JSON.
    """
    totals = Totals()
    totals.add(entry)
    return {
        **entry_json(entry),
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "usage": to_json(entry.usage),
        "attempts": len(entry.attempts),
        "tags": to_json(entry.tags),
    }


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    shown = attempt._asdict()
    shown["cost"] = _usd(shown.pop("cost_nanousd"))
    return shown


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else usd_text(nanousd)


def _why(entry: Entry) -> str:
    return " ".join(word for word in (entry.budget, entry.reason) if word)
