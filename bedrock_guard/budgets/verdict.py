"""
What a refusal says: figures first, then when it ends, then what would fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from typing import Final
from zoneinfo import ZoneInfo

from bedrock_guard.budgets.matching import Match
from bedrock_guard.domain.budget import UNITS, USD, in_api_units, show_amount
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.ledger import RefusedLine
from bedrock_guard.domain.usage import OUTPUT_TOKENS
from bedrock_guard.errors import RefusedBudget

LONGEST_VALUE: Final = 256
"""Of a tag's value where people read it; as Bedrock takes them."""


@dataclass(frozen=True, slots=True)
class Output:
    """
    The part of an estimate that the caller can shrink.

    Attributes:
        tokens: Output tokens that were bounded, for each candidate.
        candidates: How many answers were asked for.
        is_callers: Whether the caller set the limit; else it is the model's maximum.
        nanousd: What they are of the estimate.
        fitting: Room in nano-USD -> the most tokens with which the call would fit.
        clamp: Whose limits are lowered, as the settings have it.
        least: Fewer tokens no call is lowered to.
    """

    tokens: int
    candidates: int
    is_callers: bool
    nanousd: int
    fitting: Callable[[int], int]
    clamp: str = "never"
    least: int = 0


def describe(lines: Sequence[tuple[Match, RefusedLine]]) -> tuple[RefusedBudget, ...]:
    """
    Every budget that had no room; the one that frees last comes first.
    """
    order = sorted(lines, key=lambda pair: frees_at(*pair) or float("inf"), reverse=True)
    return tuple(_describe_line(match, refused) for match, refused in order)


def frees_at(match: Match, refused: RefusedLine) -> float | None:
    """
    When there is room for a call again, seconds since 1970; None for never.
    """
    return match.window.end if refused.line.kind == "window" else refused.frees_at_s


def _describe_line(match: Match, refused: RefusedLine) -> RefusedBudget:
    unit, limit, kind = match.unit, refused.line.limit or 0, refused.line.kind
    extra = limit - match.limit
    # A rate's is its burst.
    usual = match.budget.limit if kind == "rate" else replace(match.budget.limit, amount=match.limit)
    at_s = frees_at(match, refused)
    return RefusedBudget(
        budget=match.budget.name,
        per=match.key.per,
        limit_text=str(usual) + (f" + {show_amount(extra, unit)}" if extra > 0 else ""),
        unit=unit,
        limit=in_api_units(limit, unit),
        spent=in_api_units(refused.spent, unit),
        pending=in_api_units(refused.pending, unit),
        requested=in_api_units(refused.line.amount, unit),
        remaining=in_api_units(refused.room, unit),
        resets_at=None if at_s is None else datetime.fromtimestamp(at_s, UTC),
        reason="larger_than_limit" if refused.line.amount > limit else "rate" if kind == "rate" else "limit",
        pending_calls=refused.pending_calls,
        kind=kind,
    )


def write(
    refusals: Sequence[RefusedBudget], *, now: float, zone: ZoneInfo, output: Output | None, is_retry: bool
) -> str:
    """
    The text of a `BudgetExceeded`: two lines for the budget that frees last, more where they help.
    """
    first = refusals[0]
    lines = [_headline(first, is_retry=is_retry), _balance(first, now=now, zone=zone)]
    if first.reason == "larger_than_limit":
        lines.append(_LARGER[first.kind])
    if output is not None and not is_retry:
        advice = _advice(output, refusals)
        lines += [advice] if advice else []
    lines += [f"{other.budget} ({other.limit_text}) has no room either" for other in refusals[1:]]
    return "\n".join(lines)


def show(amount: Decimal | int, unit: str, *, up: bool = False) -> str:
    """
    A figure for people: dollars to the cent from $1 on, to four digits below.
    """
    if unit != USD:
        return f"{amount:,} {unit}"
    usd = Decimal(amount)
    digits = -2 if usd == 0 or abs(usd) >= 1 else max(-9, min(-2, usd.adjusted() - 3))
    shown = usd.quantize(Decimal(1).scaleb(digits), rounding=ROUND_CEILING if up else ROUND_DOWN)
    whole, _, cents = f"{shown:,f}".partition(".")
    return f"${whole}.{cents.rstrip('0').ljust(2, '0')}"


def show_per(per: Iterable[tuple[str, str]]) -> str:
    """
    Whose balance, behind the name of its budget: ` [user=ann] [team=untagged]`.
    """
    return "".join([f" [{tag}={one_line(cut(value)) or 'untagged'}]" for tag, value in per])


def cut(text: str, longest: int = LONGEST_VALUE) -> str:
    """
    *text*, of *longest* characters at most.
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def one_line(text: str) -> str:
    """
    *text* without what would begin another line of a log, or turn letters round: tags may be an end user's.
    """
    return "".join([each if each.isprintable() else " " for each in text])


def show_duration(seconds: float) -> str:
    """
    A duration in its two largest units: `6 h 12 m`.
    """
    left = max(0, int(seconds))
    parts = []
    for name, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


# What is said of a call that is larger than the limit.
_LARGER: Final = {
    "window": "the call alone is larger than the limit: no window can ever fit it",
    "rolling": "the call alone is larger than the limit: it can never fit",
    "rate": "the call alone is larger than the burst: it can never fit",
}


def _headline(refused: RefusedBudget, *, is_retry: bool) -> str:
    per = show_per(refused.per)
    asked = show(refused.requested, refused.unit, up=True)
    verb = "cost" if refused.unit == USD else "use"
    what = f"sending it again may {verb}" if is_retry else f"the call may {verb}"
    free = show(refused.remaining, refused.unit)
    return f"{refused.budget} ({refused.limit_text}){per}: {what} up to {asked}, {free} is free"


def _balance(refused: RefusedBudget, *, now: float, zone: ZoneInfo) -> str:
    if refused.kind == "rate":
        return _rate(refused, now=now)
    calls = refused.pending_calls
    counted = "" if not calls else f" ({calls} call{'s' if calls != 1 else ''})"
    parts = [
        f"spent {show(refused.spent, refused.unit)}",
        f"pending {show(refused.pending, refused.unit)}{counted}",
    ]
    verb = "frees" if refused.kind == "rolling" else "resets"
    if refused.resets_at is None:
        parts.append(f"never {verb}")
    else:
        ends = refused.resets_at.astimezone(zone)
        seconds = refused.resets_at.timestamp() - now
        stamp = ends.strftime("%H:%M %Z" if seconds <= 86400 else "%Y-%m-%d %H:%M %Z")
        parts.append(f"{verb} {stamp} (in {show_duration(seconds)})")
    return " · ".join(parts)


def _rate(refused: RefusedBudget, *, now: float) -> str:
    taken = (
        f"rate: {show(refused.spent, refused.unit)} of a burst of {show(refused.limit, refused.unit)} taken"
    )
    if refused.resets_at is None:
        return f"{taken} · never frees"
    seconds = max(0.0, refused.resets_at.timestamp() - now)
    return f"{taken} · frees in {f'{seconds:.3g} s' if seconds < 60 else show_duration(seconds)}"


def fitting_tokens(output: Output, unit: str, *, amount: int, room: int) -> int:
    """
    The most output tokens with which a call of *amount* fits in *room*, both in a ledger's *unit*; 0 or
    less for none.
    """
    if unit == USD:
        return output.fitting(room)
    if OUTPUT_TOKENS not in UNITS[unit]:
        return 0 if amount > room else output.tokens
    return (room - amount + output.tokens * output.candidates) // output.candidates


def _fitting(output: Output, refused: RefusedBudget) -> int:
    amounts = [
        int(Decimal(each).scaleb(9)) if refused.unit == USD else int(each)
        for each in (refused.requested, refused.remaining)
    ]
    return fitting_tokens(output, refused.unit, amount=amounts[0], room=amounts[1])


def _advice(output: Output, refusals: Sequence[RefusedBudget]) -> str | None:
    fitting = min(_fitting(output, refused) for refused in refusals)
    would = f"maxTokens<={fitting} would fit" if fitting > 0 else None
    if would and output.clamp != "never" and fitting < output.least:
        would += f", less than min_output_tokens={output.least}"
    if all(refused.unit != USD for refused in refusals):
        return would
    of_it = f"is {show(usd_from_nanousd(output.nanousd), USD)} of it"
    if output.is_callers:
        advice = f"maxTokens={output.tokens} {of_it}" + (f"; {would}" if would else "")
        is_held = output.clamp == "unset" and fitting >= output.least
        return (
            f'{advice}\nit is held in full, as the caller set it; clamp = "always" would lower it'
            if is_held
            else advice
        )
    if would is None:
        return None
    return f"maxTokens is not set, so the model's {output.tokens} are held, which {of_it}; {would}"
