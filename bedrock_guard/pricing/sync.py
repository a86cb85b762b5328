"""
AWS's price list into the overlay: read, compare, and written only when it can be believed.

It is asked for by hand, `bedrock-guard prices sync`, never in the background and
never by a call. History stays: a new price is a new row from its day on, and the
row before it ends there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from bedrock_guard.pricing.listed_rows import Key, Reading, Reported, Value, read_records
from bedrock_guard.pricing.overlay import ANY_MODEL, locked, parse_content, read_content, write_overlay
from bedrock_guard.pricing.price_gates import Move, find_contradictions, find_moves
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_records import Record
from bedrock_guard.pricing.rows import OPTIMIZED, STANDARD, read_packaged, show_price

SOURCE: Final = "aws-price-list"


@dataclass(frozen=True, slots=True)
class SyncResult:
    """
    What a sync found, and whether it wrote it.

    Attributes:
        moves: Every price that was read: new, changed or unchanged.
        refused: Records that are wrong, or not in USD; the rest is not held up by them.
        unmatched: Records of a model or meter that nobody knows here.
        doubled: Where AWS has two prices for one thing; the dearer counts.
        skipped: How many records are of what no call pays.
        held: Why nothing was written, unless *accept* was given; empty when all is well.
        as_of: The day of the newest list in the overlay; None while there is none.
    """

    path: Path
    moves: tuple[Move, ...]
    refused: tuple[Reported, ...]
    unmatched: tuple[Reported, ...]
    doubled: tuple[Reported, ...]
    skipped: int
    held: tuple[str, ...]
    as_of: date | None
    is_written: bool


def sync(records: Iterable[Record], path: Path, *, accept: bool = False, dry_run: bool = False) -> SyncResult:
    """
    Lay what *records* say over the overlay at *path*.

    Prices that moved too far, or that contradict each other, hold all of it back
    unless *accept* says that they are true. Nothing is written by a *dry_run*.

    Raises:
        ConfigurationError: The overlay at *path*, or what is read, is malformed.
    """
    # All of it first: another sync must not wait until AWS has answered this one.
    records = list(records)
    with nullcontext() if dry_run else locked(path):
        return _sync(records, path, accept=accept, dry_run=dry_run)


def _sync(records: Sequence[Record], path: Path, *, accept: bool, dry_run: bool) -> SyncResult:
    before_content = read_content(path)
    before = _list_of(path, before_content)
    reading = read_records(records, before)
    content = _lay(before_content, reading)
    moves, held = find_moves(reading.prices, before)
    after = _list_of(path, content)
    held += find_contradictions(moves, before, after)
    is_written = bool(reading.prices) and (accept or not held) and not dry_run
    if is_written:
        write_overlay(path, content)
    kept = content if is_written else before_content
    return SyncResult(
        path=path,
        moves=tuple(moves),
        refused=tuple(reading.refused),
        unmatched=tuple(reading.unmatched),
        doubled=tuple(reading.doubled),
        skipped=reading.skipped,
        held=tuple(held),
        as_of=None if kept is None else date.fromisoformat(kept["as_of"]),
        is_written=is_written,
    )


def _list_of(path: Path, content: Any) -> PriceList:
    overlay = None if content is None else parse_content(path, content)
    return PriceList(read_packaged, lambda: overlay)


def _lay(content: Any, reading: Reading) -> dict[str, Any]:
    """
    *content* with the prices that were read; a price older than what is there is refused.
    """
    laid: dict[str, Any] = copy.deepcopy(dict(content)) if content else {"models": {}}
    laid.setdefault(ANY_MODEL, {"rows": []})
    current = {
        _identity(model, row): row
        for model, entry in (*laid["models"].items(), (None, laid[ANY_MODEL]))
        for row in entry["rows"]
        if "effective_to" not in row
    }
    for key, value in sorted(reading.prices.items(), key=lambda item: str(item[0])):
        row = _row(key, value)
        present = current.get(_identity(key.model, row))
        if present is not None and present["usd"] == row["usd"]:
            if present["published"] <= row["published"]:
                present.update({name: row[name] for name in ("published", "rate_code", "sku", "version")})
            continue
        if present is not None and row["published"] < present["published"]:
            reason = f"{key}: older than what the overlay has, of {present['published']}"
            reading.refused.append(Reported(value.sku, "", key.region, reason))
            del reading.prices[key]
            continue
        if present is not None:
            row["effective_from"] = present["effective_to"] = _start_after(present, value)
        entry = laid[ANY_MODEL] if key.model is None else laid["models"].setdefault(key.model, {"rows": []})
        entry["rows"].append(row)
    days = [value.published.isoformat() for value in reading.prices.values()]
    return {
        **laid,
        "as_of": max([*days, *([laid["as_of"]] if "as_of" in laid else [])], default="1970-01-01"),
    }


def _start_after(present: dict[str, Any], value: Value) -> str:
    """
    The day on which a price takes over: its own, if that is after the one it follows.
    """
    began = date.fromisoformat(present["effective_from"])
    if value.effective_from > began:
        return value.effective_from.isoformat()
    # A file by hand may begin at the end of time; it is refused when it is read back.
    return max(value.published, began + min(timedelta(days=1), date.max - began)).isoformat()


def _row(key: Key, value: Value) -> dict[str, Any]:
    variant = {"latency": OPTIMIZED} if key.variant == OPTIMIZED else {"service_tier": key.variant}
    return {
        "where": list(key.where),
        **({} if key.variant == STANDARD else variant),
        **({"above_input_tokens": key.above_input_tokens} if key.above_input_tokens else {}),
        "effective_from": value.effective_from.isoformat(),
        "usd": {key.meter: show_price(value.steps)},
        "source": SOURCE,
        "sku": value.sku,
        "rate_code": value.rate_code,
        "version": value.version,
        "published": value.published.isoformat(),
    }


def _identity(model: str | None, row: dict[str, Any]) -> tuple[object, ...]:
    variant = row.get("service_tier") or row.get("latency")
    return model, tuple(row["where"]), variant, row.get("above_input_tokens", 0), tuple(row["usd"])
