"""
Totals as reports show them: cells of a table, values of JSON, columns of CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from bedrock_guard.cli.safe_text import plain, to_json
from bedrock_guard.cli.screen import dollars, percent, table
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.reports.cache_health import CacheFigures
from bedrock_guard.reports.spending import Spending
from bedrock_guard.reports.totals import Totals

_FIGURES: Final = ("calls", "refused", "in", "cached", "out", "cost", "reported", "estimated", "expired")
SPARE: Final = ("refused", "cached", "out", "in")
CACHE_SPARE: Final = ("written", "read", "calls", "saved")
"""Columns that a narrow screen can do without, the first first."""

LAST: Final = ("calls", "reported", "expired", "estimated")
CACHE_LAST: Final = ("uncached", "uncached cost")
"""What goes where names would have no room: a line below tells what is no figure of AWS's."""

TOTAL_COLUMNS: Final = (
    "calls",
    "refused",
    "would_refuse",
    "input_tokens",
    "output_tokens",
    "cache_hit_share",
    "cost",
    "reported",
    "estimated",
    "expired",
    "unpriced_calls",
    "usage",
)
_CACHE_FIGURES: Final = (
    "calls",
    "hit share",
    "uncached",
    "read",
    "written",
    "uncached cost",
    "could save",
    "saved",
)
CACHE_COLUMNS: Final = (
    "calls",
    "hit_share",
    "uncached_tokens",
    "read_tokens",
    "written_tokens",
    "uncached_cost",
    "could_save",
    "saved",
    "unpriced_calls",
)


def spending_table(found: Spending, most_rows: int) -> Table:
    """
    A line for each group, of which *most_rows* at most are shown (0 for all), and one for all of it.
    """
    made = table((*found.by, *_FIGURES), words=found.by)
    shown = found.groups[:most_rows] if most_rows else found.groups
    for group in shown:
        made.add_row(*(Text(plain(value) or "none") for value in group.key), *_cells(group.totals))
    blank = ("",) * (len(found.by) - 1)
    if len(shown) < len(found.groups):
        made.add_row(f"… {len(found.groups) - len(shown):,} more", *blank)
    if found.rest is not None:
        made.add_row("others", *blank, *_cells(found.rest))
    if found.by:
        made.add_section()
    made.add_row(*(("total", *blank) if found.by else ()), *_cells(found.total), style="bold")
    return made


def spending_json(found: Spending) -> dict[str, Any]:
    """
    All of it as plain values; money in USD as text.
    """
    return {
        "by": list(found.by),
        "groups": [
            dict(zip(found.by, group.key, strict=True)) | totals_json(group.totals) for group in found.groups
        ],
        "others": None if found.rest is None else totals_json(found.rest),
        "total": totals_json(found.total),
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """
    The columns of `TOTAL_COLUMNS`.
    """
    share = totals.cache_hit_share
    return {
        "calls": totals.calls,
        "refused": totals.refused,
        "would_refuse": totals.would_refuse,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "cache_hit_share": _share(share),
        "cost": usd_text(totals.nanousd),
        "reported": usd_text(totals.reported_nanousd),
        "estimated": usd_text(totals.estimated_nanousd),
        "expired": usd_text(totals.expired_nanousd),
        "unpriced_calls": totals.unpriced,
        "usage": totals.usage,
    }


def totals_csv(by: Sequence[str], key: Sequence[str], totals: Totals) -> dict[str, object]:
    """
    One line of CSV; usage as JSON.
    """
    told = totals_json(totals)
    return {**dict(zip(by, key, strict=True)), **told, "usage": to_json(told["usage"])}


def doubts(totals: Totals) -> str:
    """
    How sure the cost is, in words; empty where AWS reported all of it.
    """
    parts = []
    unsure = totals.estimated_nanousd + totals.expired_nanousd
    if unsure:
        parts.append(
            f"{dollars(unsure)} of {dollars(totals.nanousd)} is no figure of AWS's: answers were lost, or "
            "processes died."
        )
    if totals.unpriced:
        parts.append(f"Calls without a price, which the cost leaves out: {totals.unpriced:,}.")
    return " ".join(parts)


def cache_table(
    names: Sequence[str], rows: Sequence[tuple[Sequence[str], CacheFigures]], title: str
) -> Table:
    """
    A line for each of *rows*, whose keys are the columns *names*.
    """
    made = table((*names, *_CACHE_FIGURES), words=names, title=title)
    for key, figures in rows:
        made.add_row(*(Text(plain(value) or "none") for value in key), *_cache_cells(figures))
    return made


def cache_json(figures: CacheFigures) -> dict[str, Any]:
    """
    The columns of `CACHE_COLUMNS`.
    """
    return {
        "calls": figures.calls,
        "hit_share": _share(figures.hit_share),
        "uncached_tokens": figures.uncached_tokens,
        "read_tokens": figures.read_tokens,
        "written_tokens": figures.written_tokens,
        "uncached_cost": usd_text(figures.uncached_nanousd),
        "could_save": usd_text(figures.could_save_nanousd),
        "saved": usd_text(figures.saved_nanousd),
        "unpriced_calls": figures.unpriced,
    }


def _cells(totals: Totals) -> list[str]:
    return [
        f"{totals.calls:,}",
        f"{totals.refused:,}",
        f"{totals.input_tokens:,}",
        percent(totals.cache_hit_share),
        f"{totals.output_tokens:,}",
        dollars(totals.nanousd),
        dollars(totals.reported_nanousd),
        dollars(totals.estimated_nanousd),
        dollars(totals.expired_nanousd),
    ]


def _cache_cells(figures: CacheFigures) -> list[str]:
    return [
        f"{figures.calls:,}",
        percent(figures.hit_share),
        f"{figures.uncached_tokens:,}",
        f"{figures.read_tokens:,}",
        f"{figures.written_tokens:,}",
        dollars(figures.uncached_nanousd),
        dollars(figures.could_save_nanousd),
        dollars(figures.saved_nanousd),
    ]


def _share(share: Fraction | None) -> float | None:
    return None if share is None else round(float(share), 6)
