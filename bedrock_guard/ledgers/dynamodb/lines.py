"""
How lines are held in a table, by what they met there.

    window     used <= room                                     one condition
    rolling    ours <= head <= the last that it counts at,      one item for all sub-windows
               used <= room
               head < ours: v as it was read, and what left is taken off
               head later: v as it was read, used <= room
    rate       full <= now, or now < full <= the last moment that leaves room

The first request guesses; the item that it met tells the next. Of what rolls, `used` and `spent`
are the sums of all sub-windows, `u<start>` and `s<start>` those of one, `head` is the newest, and
`v` counts the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bedrock_guard.domain.ledger import (
    ROLLING_PART,
    Balance,
    LedgerKey,
    Line,
    RefusedLine,
)
from bedrock_guard.ledgers import books, lines
from bedrock_guard.ledgers.dynamodb import items
from bedrock_guard.ledgers.dynamodb.items import Item

Met = dict[LedgerKey, Item | None]
"""The items that lines met, which had no room as it was guessed; None for one that was not there."""


class Special(NamedTuple):
    """
    What an action on a balance does beside adding to `used`, `spent` and `n`.
    """

    condition: str
    values: Mapping[str, int]
    sets: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()


def is_rolling(key: LedgerKey) -> bool:
    """
    Whether the key is that of a sub-window.
    """
    return ROLLING_PART in key.rule


def read_sums(item: Item | None) -> tuple[int, int, int]:
    """
    What is spent and pending of a balance, and how many calls hold it; zeros for one that is not there.

    Raises:
        LedgerUnavailable: The item is damaged.
    """
    if item is None:
        return 0, 0, 0
    try:
        spent = int(item["spent"]["N"])
        return spent, int(item["used"]["N"]) - spent, int(item["n"]["N"])
    except items.DAMAGE:
        raise items.damaged("balance", item) from None


def read_sub_windows(item: Item | None) -> dict[int, tuple[int, int]]:
    """
    What is spent and pending in each sub-window of what rolls.
    """
    starts = [int(name[1:]) for name in item or () if name[0] == "u" and name[1:].isdecimal()]
    found = {}
    for start in starts:
        spent = int(item[f"s{start}"]["N"]) if item else 0
        found[start] = spent, (int(item[f"u{start}"]["N"]) if item else 0) - spent
    return found


def has_sub_window(item: Item | None, key: LedgerKey) -> bool:
    """
    Whether the sub-window of *key* still counts.
    """
    return item is not None and f"u{key.window_start}" in item


def read_balances(key: LedgerKey, item: Item | None) -> list[Balance]:
    """
    The balances that an item of the directory stands for.
    """
    if not is_rolling(key):
        return [read_balance(key, item)]
    starts = sorted(read_sub_windows(item))
    return [read_balance(key._replace(window_start=start), item) for start in starts]


def read_balance(key: LedgerKey, item: Item | None) -> Balance:
    """
    One balance; zeros where there is none.
    """
    if is_rolling(key):
        return Balance(key, *read_sub_windows(item).get(key.window_start, (0, 0)))
    spent, pending, _ = read_sums(item)
    leased = int(item["lent"]["N"]) if item and "lent" in item else 0
    full_at_s = _full_at_ns(item) / 10**9 if lines.is_rate(key) else None
    return Balance(key, spent, pending - leased, full_at_s, leased)


def unfit(line: Line, item: Item | None, now: float) -> RefusedLine | None:
    """
    The balance that *line* met, if it does not fit.

    Raises:
        LedgerUnavailable: It would be larger than a ledger counts.
    """
    spent, pending, calls = read_sums(item)
    used = spent + pending + line.amount
    if used > books.MAX_AMOUNT and (line.limit is None or not line.enforce or line.kind == "rate"):
        raise books.uncountable(line.key, used)
    if line.limit is None:
        return None
    if line.kind == "rate":
        after_ns, free_at_s = lines.taken(line, _full_at_ns(item), lines.nanoseconds(now))
        return None if free_at_s is None else lines.refused_rate(line, after_ns, free_at_s, now)
    if line.kind == "rolling":
        since = lines.counts_since(line)
        found = {start: sums for start, sums in read_sub_windows(item).items() if start >= since}
        return lines.refused_rolling(line, found)
    return RefusedLine(line, spent, pending, calls) if used > line.limit else None


def unfit_lines(wanted: Iterable[Line], met: Met, now: float, *, enforce: bool) -> tuple[RefusedLine, ...]:
    """
    Those of the lines that did not fit into what they *met*.
    """
    found = [
        unfit(line, met[line.key], now) for line in wanted if line.key in met and line.enforce is enforce
    ]
    return tuple(refused for refused in found if refused is not None)


def hold_rolling(line: Line, met: Met) -> tuple[int, int, Special]:
    """
    What a rolling line adds to `used` and to `spent`, and to its sub-window.
    """
    start = line.key.window_start
    last = start + line.span_s  # the newest head at which ours still counts
    adds = (f"#u{start} :own", f"#s{start} :zero", "#v :one")
    values = {"own": line.amount, "zero": 0, "one": 1}
    item = met.get(line.key)
    if line.key in met and item is None:
        values["head"] = start
        return line.amount, 0, Special("attribute_not_exists(#used)", values, ("#head = :head",), adds)
    head = start if item is None else int(item["head"]["N"])
    if item is not None and head < start:
        left = {
            each: sums for each, sums in read_sub_windows(item).items() if each < lines.counts_since(line)
        }
        spent = sum(sums[0] for sums in left.values())
        used = spent + sum(sums[1] for sums in left.values())
        values |= {"head": start, "read": int(item["v"]["N"])}
        removes = tuple(f"#{letter}{each}" for each in left for letter in "us")
        return line.amount - used, -spent, Special("#v = :read", values, ("#head = :head",), adds, removes)
    if item is not None and head > last:  # a clock is far behind
        condition = "#v = :read"
        values["read"] = int(item["v"]["N"])
    else:  # nor may a request of long ago, that arrives only now, bring back a sub-window that has left
        condition = "#head >= :head AND #head <= :last"
        values |= {"head": start, "last": last}
    if item is None or line.enforce:
        condition += " AND #used <= :room"
        values["room"] = (books.MAX_AMOUNT if line.limit is None else line.limit) - line.amount
    return line.amount, 0, Special(condition, values, (), adds)


def hold_rate(line: Line, met: Met, now: float) -> Special:
    """
    How a rate line is taken from its bucket.
    """
    now_ns = lines.nanoseconds(now)
    item = met.get(line.key)
    full_at_ns = _full_at_ns(item)
    after_ns, _ = lines.taken(line, full_at_ns, now_ns)
    if line.key in met and item is None:
        return Special("attribute_not_exists(#used)", {"after": after_ns}, ("#full = :after",))
    if item is not None and "full" not in item:
        condition = "attribute_exists(#used) AND attribute_not_exists(#full)"
        return Special(condition, {"after": after_ns}, ("#full = :after",))
    if item is None:  # a bucket that is full has room for all but what is larger than it
        larger = line.limit is not None and line.amount > line.limit
        return Special(
            "#full <= :most", {"after": after_ns, "most": -1 if larger else now_ns}, ("#full = :after",)
        )
    return Special("#full = :read", {"after": after_ns, "read": full_at_ns}, ("#full = :after",))


def end_rolling(line: Line, used: int, spent: int) -> Special:
    """
    How the end of a call changes its sub-window, if that still counts.
    """
    start = line.key.window_start
    adds = (f"#u{start} :u{start}", f"#s{start} :s{start}", "#v :one")
    values = {f"u{start}": used, f"s{start}": spent, "one": 1}
    return Special(f"attribute_exists(#u{start})", values, (), adds)


def both(one: Special, other: Special) -> Special:
    """
    Two ends in sub-windows of one item: an item can be changed once only.
    """
    return Special(
        f"{one.condition} AND {other.condition}",
        {**one.values, **other.values},
        (),
        tuple(dict.fromkeys((*one.adds, *other.adds))),
    )


def end_rate(line: Line, held: int, spent: int, age_ns: int) -> Special | None:
    """
    How the end of a call puts its bucket right; None where only the key of the rate is known.
    """
    if line.kind != "rate" or line.limit is None:
        return None
    change_ns = lines.given_back_ns(line, held, spent, age_ns=age_ns)
    return (
        Special("attribute_exists(#used)", {"change": change_ns}, (), ("#full :change",))
        if change_ns
        else None
    )


def _full_at_ns(item: Item | None) -> int:
    return int(item["full"]["N"]) if item and "full" in item else 0
