"""
Breakers, as a ledger's balances have them: what is counted, what is judged, and what a trip says.

    breaker:cache (refuse)           what calls have used since the window began, a balance for each unit
    breaker:cache (refuse) judged    what of it has been judged

The difference is what is judged next. It is judged once it has come to its *after*, and then added to what
has been judged, kept or tripped: so each so many tokens stand for themselves. No healthy past hides a cache
that stops working, and nobody who resumes is stopped at once for what was judged before. Each verdict has
figures of its own: who has tried a condition as a shadow, and enforces it, begins at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2s
from typing import Final, NamedTuple, TypeAlias, get_args

from bedrock_guard.budgets.verdict import show_per
from bedrock_guard.domain.breaker import (
    CACHE_HIT,
    CACHE_THRASH,
    INPUT,
    MEASURES,
    READ,
    WRITTEN,
    Breaker,
    Condition,
    OnTrip,
)
from bedrock_guard.domain.budget import Budget, Limit, Period
from bedrock_guard.domain.globs import NOT
from bedrock_guard.domain.ledger import Balance, LedgerKey

Figures: TypeAlias = Mapping[str, int]
"""Unit -> how many, since the last time that a breaker was judged."""

LEAST_CACHED: Final = 1000
"""Shorter prompts no model caches, in tokens: Nova from 1,000 on, Claude from 1,024 (AWS, prompt caching)."""

_FOREVER: Final = Period()


class Keys(NamedTuple):
    """
    The balances of a breaker's scope: by its units, what is counted and what has been judged of it.
    """

    counted: tuple[LedgerKey, ...]
    judged: tuple[LedgerKey, ...]


def as_budget(breaker: Breaker) -> Budget:
    """
    A budget that matches the calls of *breaker*, and has its windows and scopes; its limit means nothing.
    """
    after = breaker.condition.after
    period = _FOREVER if after is None else after.period
    return Budget(breaker.name, Limit(1, INPUT, period), match=breaker.match, per=breaker.per, alerts=())


def keys_of(breaker: Breaker, key: LedgerKey, verdict: str, time_zone: str) -> Keys:
    """
    The balances of the scope whose key `as_budget` has, for this *verdict*.
    """
    after = breaker.condition.after
    period = _FOREVER if after is None else after.period
    rules = [Limit(1, unit, period).rule(time_zone) for unit in MEASURES[breaker.condition.measure].units]
    counted = f"{breaker.key_name} ({verdict})"  # no breaker's name has brackets, so that no two have one key
    return Keys(
        tuple(key._replace(budget=counted, rule=rule) for rule in rules),
        tuple(key._replace(budget=f"{counted} judged", rule=rule) for rule in rules),
    )


def counted_by(breaker: Breaker, time_zone: str) -> Iterator[tuple[str, str]]:
    """
    Budget and rule of every key that figures of *breaker* may have.
    """
    for verdict in (*get_args(OnTrip), "shadow"):
        keys = keys_of(breaker, LedgerKey(breaker.name, "", (), 0), verdict, time_zone)
        for key in (*keys.counted, *keys.judged):
            yield key.budget, key.rule


def read_figures(condition: Condition, keys: Keys, balances: Sequence[Balance]) -> tuple[Figures, str]:
    """
    What is to be judged, and by what that goes which was judged before: another once it is judged.
    """
    spent = {balance.key: balance.spent for balance in balances}
    units = MEASURES[condition.measure].units
    figures = {
        unit: max(0, spent[counted] - spent[judged])
        for unit, counted, judged in zip(units, keys.counted, keys.judged, strict=True)
    }
    name = repr((keys.judged[0], [spent[judged] for judged in keys.judged]))
    return figures, blake2s(name.encode(errors="backslashreplace"), digest_size=12).hexdigest()


def entry_id(what: str, id_: str, now: float) -> str:
    """
    The id of the entry that is written for *what*: the same for all who judge the same in this minute, and
    beginning with the time, as journals are ordered by it.
    """
    digest = blake2s(f"{what} {id_}".encode(), digest_size=8).hexdigest()
    return f"{int(now // 60) * 60_000:011x}-{digest}"


def is_due(condition: Condition, figures: Figures) -> bool:
    """
    Whether there is enough to judge by.
    """
    return condition.after is not None and figures[INPUT] >= condition.after.amount


def is_broken(condition: Condition, figures: Figures) -> bool:
    """
    Whether *condition* does not hold.
    """
    return _MEASURED[condition.measure].is_broken(condition, figures)


def tell(breaker: Breaker, per: Sequence[tuple[str, str]], figures: Figures) -> str:
    """
    Why *breaker* has tripped: the figures, and the likely cause.
    """
    what = _MEASURED[breaker.condition.measure].tell(breaker.condition, figures)
    return f"{what} [{breaker}]{show_per(per)}"


def tell_loop(breaker: Breaker, per: Sequence[tuple[str, str]], count: int) -> str:
    """
    As `tell`, of a request that was sent *count* times.
    """
    period = breaker.condition.period or _FOREVER
    span = f"one {period}" if period.count == 1 else period
    return (
        f"a loop: one request was made {count} times in {span} by one process; does an "
        f"agent not see the answer, or does a wrapper retry what did not fail? [{breaker}]{show_per(per)}"
    )


def match_of(breaker: Breaker, per: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    """
    Whose calls a trip stops: those that *breaker* matches, of the one scope *per*.

    As it comes back from a ledger: lists, not tuples.
    """
    match = {tag: globs if isinstance(globs, str) else list(globs) for tag, globs in breaker.match.items()}
    return {**match, **{tag: _as_glob(value) for tag, value in per}}


class _Measured(NamedTuple):
    is_broken: Callable[[Condition, Figures], bool]
    tell: Callable[[Condition, Figures], str]


def _tell_hit(_: Condition, figures: Figures) -> str:
    share = 100 * figures[READ] / figures[INPUT]
    does = "nothing" if share < 1 else "little"
    return (
        f"prompt caching does {does}: {share:.1f} % of {_show(figures[INPUT])} input tokens were read from a "
        "cache; is a cachePoint in the request, does its prefix change at each call?"
    )


def _tell_thrash(condition: Condition, figures: Figures) -> str:
    written, read = _show(figures[WRITTEN]), _show(figures[READ])
    return (
        f"caches are written and hardly read: {written} tokens written, {read} read, and at most "
        f"{condition.bound:f} to 1 make sense; does the prefix change at each call, does the cache expire "
        "between calls?"
    )


_MEASURED: Final[dict[str, _Measured]] = {
    CACHE_HIT: _Measured(
        lambda condition, figures: figures[READ] < condition.bound * figures[INPUT], _tell_hit
    ),
    CACHE_THRASH: _Measured(
        lambda condition, figures: figures[WRITTEN] > condition.bound * figures[READ], _tell_thrash
    ),
}


def _show(count: int) -> str:
    """
    A count for people, to three digits: `1.24M`.
    """
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            shown = f"{count / size:.2f}" if count < 100 * size else f"{count / size:.0f}"
            return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown}{letter}"
    return str(count)


def _as_glob(value: str) -> str:
    """
    The glob that matches *value* alone.
    """
    glob = "".join(f"[{character}]" if character in "*?[" else character for character in value)
    # What begins with it is a negation, and so is a class: the other of this class is in no tag.
    return f"[\0{NOT}]{glob[1:]}" if glob.startswith(NOT) else glob
