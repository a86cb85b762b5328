"""
What every ledger here decides the same way: sums, ends, and pages of entries.

Pure functions; a backend keeps rows and locks, and asks here what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, Literal, TypeAlias, get_args

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry, Settled
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, ReservationClosed

State: TypeAlias = Literal["pending", "settled", "released", "expired", "recorded"]
How: TypeAlias = Literal["settled", "released", "replayed", "corrected"]
Booked: TypeAlias = tuple[int, ...]
"""What was spent on each line, in the order of the lines."""

MAX_AMOUNT: Final = 2**63 - 1

# How the end `[1]` is taken in the state `[0]`; what is not here closes a reservation twice.
# `replayed` holds only for the same amounts.
ENDS: Final[dict[tuple[State, State], How]] = {
    ("pending", "settled"): "settled",
    ("pending", "released"): "released",
    ("expired", "settled"): "corrected",
    ("expired", "released"): "corrected",
    ("settled", "settled"): "replayed",
    ("released", "released"): "replayed",
}

# Made once: a settle is in every call's way.
SETTLED: Final[dict[tuple[How, bool], Settled]] = {
    (how, overrun): Settled(how, overrun) for how in get_args(How) for overrun in (False, True)
}

# Of a line.
_key_of: Final = itemgetter(0)


def merge(lines: Sequence[Line]) -> tuple[Line, ...]:
    """
    *lines* with one for each key: amounts of the same key are added, its last limit holds.

    Raises:
        LedgerUnavailable: An amount is negative, or larger than a ledger counts.
    """
    for line in lines:
        if not 0 <= line.amount <= MAX_AMOUNT:
            raise uncountable(line.key, line.amount)
    if len(lines) < 2 or len(set(map(_key_of, lines))) == len(lines):
        return tuple(lines)
    by_key: dict[LedgerKey, Line] = {}
    for line in lines:
        known = by_key.get(line.key)
        by_key[line.key] = line._replace(amount=line.amount + known.amount) if known else line
    return merge(tuple(by_key.values()))


def align(lines: tuple[Line, ...], amounts: Mapping[LedgerKey, int]) -> tuple[tuple[Line, ...], Booked, bool]:
    """
    *amounts* in the order of *lines*, and whether one is above what its line reserved.

    A key that was never reserved becomes a line of 0.
    """
    booked = []
    absent = 0
    is_overrun = False
    for line in lines:
        amount = amounts.get(line.key)
        if amount is None:
            absent += 1
            amount = 0
        elif amount > line.amount:
            is_overrun = True
        if not 0 <= amount <= MAX_AMOUNT:
            raise uncountable(line.key, amount)
        booked.append(amount)
    if len(lines) - absent != len(amounts):
        known = {line.key for line in lines}
        extra = merge([Line(key, None, amount) for key, amount in amounts.items() if key not in known])
        extra = tuple(line for line in extra if line.amount)
        lines += tuple(line._replace(amount=0) for line in extra)
        booked += [line.amount for line in extra]
        is_overrun = is_overrun or bool(extra)
    return lines, tuple(booked), is_overrun


def how_ends(reservation_id: str, state: State, end: State, *, is_same: bool) -> How:
    """
    How *end* is taken in *state*; *is_same* tells whether the amounts are those of the first end.

    Raises:
        ReservationClosed: It ended before, differently.
    """
    how = ENDS.get((state, end))
    if how is None or (how == "replayed" and not is_same):
        raise already(reservation_id, state)
    return how


def already(reservation_id: str, state: State) -> ReservationClosed:
    """
    The error for a reservation that was to go on, or to end otherwise.
    """
    return ReservationClosed(f"Reservation {reservation_id} is already {state}; a reservation ends once.")


def unknown(reservation_id: str) -> ReservationClosed:
    """
    The error for a reservation that is not here.
    """
    return ReservationClosed(
        f"Reservation {reservation_id} is not in this ledger: it was made in another one, "
        "or ended so long ago that its entry was dropped."
    )


def uncountable(key: LedgerKey, amount: int) -> LedgerUnavailable:
    """
    The error for a sum that would not be a whole number of 64 bits; nothing was changed.
    """
    return LedgerUnavailable(
        f"Budget {key.budget!r} ({key.rule}) cannot count {amount}: "
        f"a ledger counts whole numbers from 0 to {MAX_AMOUNT}.",
        is_lasting=True,
    )


def expired_entry(entry: Entry, on_expiry: OnExpiry) -> Entry:
    """
    The open *entry* as it ends when its process died.
    """
    ended = entry.expired()
    if on_expiry == "charge":
        return ended
    return ended.changed(cost_nanousd=0, list_cost_nanousd=None if entry.list_cost_nanousd is None else 0)


def expired_amounts(lines: Iterable[Line], on_expiry: OnExpiry) -> Booked:
    """
    What an expiry spends on each of *lines*.
    """
    return tuple(line.amount if on_expiry == "charge" else 0 for line in lines)


def write_cursor(at_s: float, sequence: int, name: str = "") -> str:
    """
    Where a page of entries ends, for `after`; *name* tells apart what has the same time and sequence.
    """
    return f"{at_s!r}:{sequence}:{name}" if name else f"{at_s!r}:{sequence}"


def read_cursor(after: str | None) -> tuple[float, int, str]:
    """
    Back from `write_cursor`; before the newest entry for None.
    """
    if after is None:
        return float("inf"), MAX_AMOUNT, ""
    at_s, sequence, name, *_ = *after.split(":", 2), "", ""
    try:
        return float(at_s), int(sequence), name
    except ValueError:
        raise ConfigurationError(
            f"{after!r} is no place in a ledger's entries; pass on what `entries` returned."
        ) from None
