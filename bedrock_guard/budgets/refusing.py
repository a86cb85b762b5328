"""
From a ledger's refusal to the error that the caller gets, and the entry that stays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2s
from typing import Any
from zoneinfo import ZoneInfo

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import Output, describe, frees_at, write
from bedrock_guard.domain.control import Stop, as_mapping
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Ledger, LedgerKey, Refusal, RefusedLine
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable

log = logging.getLogger("bedrock_guard")


def refuse(
    refusal: Refusal,
    *,
    matches: Sequence[Match],
    entry: Entry,
    output: Output | None,
    zone: ZoneInfo,
    now: float,
    is_retry: bool,
) -> BudgetExceeded:
    """
    The error for a call that found no room, with every figure a caller may want.
    """
    by_key = {match.key: match for match in matches}
    pairs = [(by_key[refused.line.key], refused) for refused in refusal.lines]
    refusals = describe(pairs)
    frees = [frees_at(match, refused) for match, refused in pairs]
    return BudgetExceeded(
        text=write(refusals, now=now, zone=zone, output=output, is_retry=is_retry),
        refusals=refusals,
        model_id=entry.model_id,
        operation=entry.operation,
        tags=dict(entry.tags),
        retry_after_s=None if None in frees else max(0.0, max(at_s or 0 for at_s in frees) - now),
    )


def as_whole_call(refusal: Refusal, held: Mapping[LedgerKey, int]) -> Refusal:
    """
    A refusal to hold more for a call, told as if the whole call had been refused.
    """
    lines = []
    for refused in refusal.lines:
        own = held.get(refused.line.key, 0)
        line = refused.line._replace(amount=refused.line.amount + own)
        calls = refused.pending_calls
        # What is taken of a rate is all that is known of it, and is refilled while a call lasts.
        is_rate = line.kind == "rate"
        lines.append(
            RefusedLine(
                line,
                max(0, refused.spent - own) if is_rate else refused.spent,
                refused.pending if is_rate else refused.pending - own,
                calls - 1 if calls and own else calls,
                None if line.amount > (line.limit or 0) else refused.frees_at_s,
            )
        )
    return Refusal(tuple(lines))


def record_refusal(ledger: Ledger, entry: Entry, key: LedgerKey) -> None:
    """
    Leave one entry for all refusals of one balance and model within a minute.

    A ledger that cannot take it does not change the verdict.
    """
    _record(ledger, entry, key, key.budget, budget=key.budget)


def record_stopped(ledger: Ledger, entry: Entry, stop: Stop) -> None:
    """
    Leave one entry for all refusals of one stop and model within a minute.

    A ledger that cannot take it does not change the verdict.
    """
    _record(ledger, entry, stop.id, f"stop {stop.id}", control=as_mapping(stop))


def _record(ledger: Ledger, entry: Entry, who: object, name: str, **changes: Any) -> None:
    refused = replace(
        entry,
        id=_alike(entry, who),
        outcome="refused",
        usage={},
        cost_nanousd=0,
        basis="reported",
        **changes,
    )
    try:
        ledger.record(refused)
    except LedgerUnavailable as error:
        log.warning("The refusal of a call by %s could not be recorded: %s", name, error)


def record_would_refuse(
    ledger: Ledger,
    entry: Entry,
    *,
    reason: str,
    budget: str | None = None,
    per: tuple[tuple[str, str], ...] = (),
    stop: Stop | None = None,
) -> None:
    """
    Leave one entry for all that a shadow would have refused alike within a minute; it never raises.
    """
    would = replace(
        entry,
        id=_alike(entry, ("would", reason, budget, per, stop and stop.id)),
        outcome="would_refuse",
        usage={},
        cost_nanousd=0,
        basis="reported",
        exceeded=(),
        budget=budget,
        reason=reason,
        control=None if stop is None else as_mapping(stop),
    )
    try:
        ledger.record(would)
    except Exception as error:  # noqa: BLE001 - a shadow raises nothing
        log.warning("What %s would have refused could not be recorded: %s", budget or reason, error)


def _alike(entry: Entry, what: object) -> str:
    minute = int(entry.at_s // 60) * 60
    digest = blake2s(repr((what, entry.model_id, entry.operation)).encode(), digest_size=8).hexdigest()
    return f"refused-{minute:x}-{digest}"
