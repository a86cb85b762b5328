"""
Calls to try a ledger with: short ways to reserve and settle, on a clock that stands still.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import (
    Ledger,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    Reservation,
    Settled,
    read_all_entries,
)

DAY: Final = LedgerKey("default", "USD/day@UTC", (), 1_800_000_000)
TEAM: Final = LedgerKey("teams", "USD/month@UTC", (("team", "search"),), 1_800_000_000)
CALLS: Final = LedgerKey("default", "requests", (), 0)

NOW: Final = 1_800_000_000.0
HOLD_S: Final = 300.0
EVERYTHING: Final = EntryFilter()


@dataclass
class SetClock:
    """
    A clock that moves when it is told to.
    """

    now: float = NOW

    def __call__(self) -> float:
        """
        Where it stands.
        """
        return self.now


def open_entry(entry_id: str, **changes: Any) -> Entry:
    """
    The entry of a call that was just opened.
    """
    entry = Entry(
        id=entry_id,
        at_s=NOW,
        operation="Converse",
        model_id="us.anthropic.claude-opus-4-6-v1",
        model="anthropic.claude-opus-4-6-v1",
        family="anthropic",
        region="us-east-1",
        service_tier="default",
        latency="standard",
        tags={"team": "search"},
        estimated_cost_nanousd=60,
    )
    return replace(entry, **changes)


def answered(entry_id: str, **changes: Any) -> Entry:
    """
    The entry of a call that AWS answered.
    """
    usage = {"input_tokens": 10, "output_tokens": 5}
    attempt = Attempt("answered", 200, usage=usage, cost_nanousd=40)
    ended = {"outcome": "answered", "usage": usage, "cost_nanousd": 40, "attempts": (attempt,)}
    return open_entry(entry_id, **{**ended, **changes})


def reserve(
    ledger: Ledger,
    entry_id: str,
    *lines: int | Line,
    limit: int | None = 100,
    on_expiry: OnExpiry = "charge",
) -> Reservation | Refusal:
    """
    Reserve; a bare number is that much of `DAY`.
    """
    wanted = [line if isinstance(line, Line) else Line(DAY, limit, line) for line in lines]
    answer = ledger.reserve(wanted, entry=open_entry(entry_id), hold_s=HOLD_S, on_expiry=on_expiry)
    return cast("Reservation | Refusal", answer)  # no version was named that could have changed


def hold(ledger: Ledger, entry_id: str, *lines: int | Line, **options: Any) -> Reservation:
    """
    Reserve what is known to fit.
    """
    reservation = reserve(ledger, entry_id, *lines, **options)
    if isinstance(reservation, Refusal):
        raise AssertionError(f"{entry_id} does not fit: {reservation}")  # noqa: TRY004 - a test's failure
    return reservation


def books(ledger: Ledger, key: LedgerKey = DAY) -> tuple[int, int]:
    """
    What is spent and pending of a key.
    """
    (balance,) = ledger.balances([key])
    return balance.spent, balance.pending


def ids(ledger: Ledger, where: EntryFilter = EVERYTHING) -> list[str]:
    """
    Ids of the entries, newest first.
    """
    return [entry.id for entry in read_all_entries(ledger, where)]


def together(work: Callable[[int], object], *, threads: int, times: int) -> list[Any]:
    """
    What *work* returns for 0, 1, 2 ... *times* - 1, from several threads at once.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, range(times)))
    finally:
        sys.setswitchinterval(before)


def settle(ledger: Ledger, reservation: Reservation, amount: int) -> Settled:
    """
    Settle at *amount* of `DAY`.
    """
    return ledger.settle(reservation, {DAY: amount}, answered(reservation.id))
