"""
What `bedrock-guard prices` prints: tables for a person, plain values for `--json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bedrock_guard.cli.screen import console
from bedrock_guard.pricing.price_gates import Move
from bedrock_guard.pricing.price_views import PricedMeter
from bedrock_guard.pricing.rows import show_price
from bedrock_guard.pricing.sync import SyncResult
from bedrock_guard.pricing.unit_prices import UnitPrices

_MOST_SHOWN: Final = 20
_FOLDED: Final = {"meter": 28, "source": 17}
_PER: Final = 1_000_000


def table(*columns: str) -> Table:
    """
    An empty table; columns of figures are to the right.
    """
    made = Table(box=None, pad_edge=False)
    for column in columns:
        is_number = column.startswith(("USD", "above", "before", "after"))
        # On a narrow terminal long names fold; those of tokens and all figures stay whole, to be copied.
        made.add_column(
            column,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=column not in _FOLDED,
            min_width=_FOLDED.get(column),
        )
    return made


def report(result: SyncResult, *, dry_run: bool) -> None:
    """
    Tell what a sync found and did.
    """
    out = console()
    counts = dict.fromkeys(("new", "changed", "unchanged"), 0)
    for move in result.moves:
        counts[move.change] += 1
    told = ", ".join(f"{count} {change}" for change, count in counts.items())
    out.print(
        f"{told}; {len(result.refused)} refused, {len(result.unmatched)} unmatched, "
        f"{result.skipped} skipped.",
        soft_wrap=True,
    )
    changed = [move for move in result.moves if move.change == "changed"]
    _print_some(out, "changed", [_move_text(move) for move in changed])
    for name, reported in (
        ("refused", result.refused),
        ("unmatched", result.unmatched),
        ("two prices", result.doubled),
    ):
        lines = [f"{each.usage_type or each.sku} {each.region}: {each.reason}" for each in reported]
        _print_some(out, name, lines)
    for line in result.held:
        out.print(Text(f"held: {line}", style="yellow"), soft_wrap=True)
    if result.is_written:
        out.print(f"Written to {result.path}: prices of {result.as_of}.", soft_wrap=True, markup=False)
    elif dry_run:
        out.print("Nothing is written: a dry run.")
    elif result.held:
        out.print("Nothing is written. If these are true, sync again with --accept.")
    else:
        out.print("Nothing is written: no price was read.")


def _print_some(out: Console, name: str, lines: Sequence[str]) -> None:
    for line in lines[:_MOST_SHOWN]:
        out.print(Text(f"{name}: {line}"), soft_wrap=True)
    if len(lines) > _MOST_SHOWN:
        out.print(f"{name}: {len(lines) - _MOST_SHOWN} more; --json has all.")


def result_json(result: SyncResult) -> dict[str, Any]:
    """
    What a sync found and did, all of it; prices as strings.
    """
    return {
        "path": str(result.path),
        "written": result.is_written,
        "as_of": None if result.as_of is None else result.as_of.isoformat(),
        "held": list(result.held),
        "moves": [
            {
                "change": move.change,
                **move.key._asdict(),
                "before": unit(move.before),
                "after": unit(move.after),
                "rate_code": move.rate_code,
            }
            for move in result.moves
        ],
        "refused": [each._asdict() for each in result.refused],
        "unmatched": [each._asdict() for each in result.unmatched],
        "two_prices": [each._asdict() for each in result.doubled],
        "skipped": result.skipped,
    }


def _move_text(move: Move) -> str:
    return f"{move.key}: {million(move.before)} -> {million(move.after)} USD a million"


def print_found(found: UnitPrices, meters: Sequence[PricedMeter], as_of: date) -> None:
    """
    What `show` found, as a table.
    """
    out = console()
    place = f"{found.geography}, {found.region or 'any region'}"
    asked = f"{place}, tier {found.service_tier}, latency {found.latency}"
    out.print(f"{found.model}  ({asked}; price list of {as_of})", soft_wrap=True, markup=False)
    columns = ("meter", "above", "USD per million", "USD per unit", "source", "grade", "from", "layer", "")
    shown = table(*columns)
    for each in meters:
        shown.add_row(*map(Text, meter_cells(each)))
    out.print(shown)


def found_json(found: UnitPrices, meters: Sequence[PricedMeter], as_of: date) -> dict[str, Any]:
    """
    The same for `--json`.
    """
    return {
        "model": found.model,
        "geography": found.geography,
        "region": found.region,
        "service_tier": found.service_tier,
        "latency": found.latency,
        "as_of": as_of.isoformat(),
        "meters": [meter_json(each) for each in meters],
    }


def meter_cells(each: PricedMeter) -> tuple[str, ...]:
    """
    One line of `show`.
    """
    origin = each.origin
    until = f" to {origin.effective_to}" if origin.effective_to else ""
    return (
        each.meter,
        f"{each.above_input_tokens:,}" if each.above_input_tokens else "",
        million(each.unit_price),
        show_price(each.unit_price),
        origin.source,
        each.grade,
        f"{origin.effective_from or ''}{until}",
        origin.layer,
        "bound" if each.is_bound else "",
    )


def meter_json(each: PricedMeter) -> dict[str, Any]:
    """
    The same for `--json`.
    """
    origin = each.origin
    days = {
        name: None if (day := getattr(origin, name)) is None else day.isoformat()
        for name in ("effective_from", "effective_to", "published")
    }
    return {
        "meter": each.meter,
        "above_input_tokens": each.above_input_tokens,
        "usd_per_unit": unit(each.unit_price),
        "usd_per_million": million(each.unit_price),
        "is_bound": each.is_bound,
        "source": origin.source,
        "grade": each.grade,
        "layer": origin.layer,
        "rate_code": origin.rate_code,
        **days,
    }


def unit(steps: int | None) -> str | None:
    """
    USD per unit.
    """
    return None if steps is None else show_price(steps)


def million(steps: int | None) -> str:
    """
    USD per million units.
    """
    return "" if steps is None else show_price(steps * _PER)
