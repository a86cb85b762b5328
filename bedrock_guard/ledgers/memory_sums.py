"""
What a line meets among the balances of a ledger in memory, and what it leaves there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import (
    Clock,
    LedgerKey,
    Line,
    OnExpiry,
    Refusal,
    RefusedLine,
)
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers import lines as line_kinds

Sums: TypeAlias = tuple[int, int, int]
"""What a balance has spent, what is pending, and how many calls hold that."""

Balances: TypeAlias = Mapping[LedgerKey, Sums]

NOTHING: Final[Sums] = (0, 0, 0)

FULL_AT: Final = -1
"""The window of a rate's other balance: when its bucket is full, in nanoseconds since 1970."""


class Call(NamedTuple):
    """
    One reservation, or one recorded entry, which has no lines.
    """

    sequence: int
    state: books.State
    entry: Entry | None
    lines: tuple[Line, ...] = ()
    booked: books.Booked = ()
    expires_at_s: float = 0.0
    on_expiry: OnExpiry = "charge"


# Each call makes two of them, and `Call()` takes twice as long.
new_call: Final[Callable[[type[Call], tuple[Any, ...]], Call]] = tuple.__new__


def held(
    balances: Balances,
    lines: tuple[Line, ...],
    now: float,
    over: list[RefusedLine],
    *,
    by: Call | None = None,
) -> dict[LedgerKey, Sums] | Refusal:
    """
    The balances with *lines* held, unless one does not fit; *by* a call that holds others already.

    What does not fit and is not enforced is added to *over*.
    """
    sums: dict[LedgerKey, Sums] = {}
    for line in lines:
        key = line.key
        spent, pending, calls = balances.get(key, NOTHING)
        pending += line.amount
        limit = line.limit
        if line.kind != "window" or spent + pending > (books.MAX_AMOUNT if limit is None else limit):
            refused = unfit(balances, line, now)
            if refused is not None:
                if line.enforce:
                    return _refusal(balances, lines, now)
                over.append(refused)
            if line.kind == "rate":
                sums[full_at_key(key)] = taken(balances, line, now)[0], 0, 0
        if by is None or all(key != known.key for known in by.lines):
            calls += 1
        sums[key] = spent, pending, calls
    return sums


def ended(balances: Balances, call: Call, end: Call, clock: Clock) -> dict[LedgerKey, Sums]:
    """
    The balances with what *end* has booked in place of what *call* holds or has spent.
    """
    left = len(call.lines) if call.state == "pending" else 0
    before = call.booked + (0,) * (len(end.lines) - len(call.booked))
    sums: dict[LedgerKey, Sums] = {}
    for line, new, old in zip(end.lines, end.booked, before, strict=True):
        key = line.key
        if old and key not in balances:
            continue  # its window is forgotten
        spent, pending, calls = balances.get(key, NOTHING)
        if left:  # what follows are keys that were never reserved
            left -= 1
            pending -= line.amount
            calls -= 1
        if line.kind == "rate":
            held_before = line.amount if call.state == "pending" else old
            age_s = clock() - (call.entry.at_s if call.entry else 0.0)
            full_at_ns = given_back(balances, line, held_before, new, age_s=age_s)
            sums[full_at_key(key)] = full_at_ns, 0, 0
        sums[key] = spent + new - old, pending, calls
    return sums


def settled(
    balances: Balances, call: Call, amounts: Mapping[LedgerKey, int], entry: Entry
) -> tuple[dict[LedgerKey, Sums], Call, bool] | None:
    """
    What an open *call* leaves that is settled at *amounts*, as it ended, and whether it overran; in one step.

    None for whatever is not as usual, which `books.align` and `ended` tell: a rate, or an amount that is
    missing, was not reserved, or cannot be counted.
    """
    lines = call.lines
    if len(lines) != len(amounts):
        return None
    sums: dict[LedgerKey, Sums] = {}
    booked = []
    is_overrun = False
    for line in lines:
        key, _, held_before, kind, _, _, _ = line
        amount = amounts.get(key, -1)
        if kind == "rate" or not 0 <= amount <= books.MAX_AMOUNT:
            return None
        if amount > held_before:
            is_overrun = True
        spent, pending, calls = balances.get(key, NOTHING)
        sums[key] = spent + amount, pending - held_before, calls - 1
        booked.append(amount)
    sequence, until_s, on_expiry = call.sequence, call.expires_at_s, call.on_expiry
    end = new_call(Call, (sequence, "settled", entry, lines, tuple(booked), until_s, on_expiry))
    return sums, end, is_overrun


def unfit(balances: Balances, line: Line, now: float) -> RefusedLine | None:
    """
    The balance that *line* met, if it does not fit.

    Raises:
        LedgerUnavailable: It would be larger than a ledger counts.
    """
    spent, pending, calls = balances.get(line.key, NOTHING)
    used = spent + pending + line.amount
    if used > books.MAX_AMOUNT and (line.limit is None or not line.enforce or line.kind == "rate"):
        raise books.uncountable(line.key, used)
    if line.limit is None:
        return None
    if line.kind == "rate":
        after_ns, free_at_s = taken(balances, line, now)
        return None if free_at_s is None else line_kinds.refused_rate(line, after_ns, free_at_s, now)
    if line.kind == "rolling":
        return line_kinds.refused_rolling(line, _sub_windows(balances, line))
    return RefusedLine(line, spent, pending, calls) if used > line.limit else None


def taken(balances: Balances, line: Line, now: float) -> tuple[int, float | None]:
    """
    When the bucket of a rate *line* is full once its amount is taken, and when it may be: None for now.
    """
    full_at_ns = balances.get(full_at_key(line.key), NOTHING)[0]
    return line_kinds.taken(line, full_at_ns, line_kinds.nanoseconds(now))


def given_back(balances: Balances, line: Line, held: int, spent: int, *, age_s: float) -> int:
    """
    When that bucket is full once what was *held* of it, *age_s* ago, is known to be *spent*.
    """
    full_at_ns = balances.get(full_at_key(line.key), NOTHING)[0]
    return full_at_ns + line_kinds.given_back_ns(line, held, spent, age_ns=line_kinds.nanoseconds(age_s))


def full_at_s(balances: Balances, key: LedgerKey) -> float | None:
    """
    When the bucket of a rate is full, in seconds since 1970; None where *key* is no rate's.
    """
    if not line_kinds.is_rate(key):
        return None
    return balances.get(full_at_key(key), NOTHING)[0] / 10**9


def full_at_key(key: LedgerKey) -> LedgerKey:
    """
    Under which that moment is kept.
    """
    return key._replace(window_start=FULL_AT)


def _refusal(balances: Balances, lines: tuple[Line, ...], now: float) -> Refusal:
    found = [unfit(balances, line, now) for line in lines]
    return Refusal(tuple([refused for refused in found if refused is not None and refused.line.enforce]))


def _sub_windows(balances: Balances, line: Line) -> dict[int, Sums]:
    """
    What counts for a rolling line: as much after its own as before, for a clock that was set back.
    """
    budget, rule, per, start = line.key
    step = line_kinds.sub_window_s(line)
    # A plain tuple is equal to a key, and made in a fraction of the time.
    look_up: Callable[[tuple[object, ...]], Sums | None] = balances.get  # type: ignore[assignment]
    found = {}
    for each in range(line_kinds.counts_since(line), start + line.span_s + step, step):
        sums = look_up((budget, rule, per, each))
        if sums is not None:
            found[each] = sums
    return found
