"""
Breakers: what must hold of the calls of a scope for more of them to make sense.

A condition is one string, `"cache_hit >= 0.5 after 1M total_input_tokens"`; its grammar is
`parse_condition`. Whose calls break it is stopped, or told of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from bedrock_guard.domain.budget import REQUESTS, SECONDS, Limit, Mode, Period, parse_limit
from bedrock_guard.domain.budget_fields import check_match, check_name, check_tags, check_word, read_per
from bedrock_guard.domain.control import BREAKER
from bedrock_guard.domain.globs import Globs, read_match
from bedrock_guard.errors import ConfigurationError

OnTrip: TypeAlias = Literal["refuse", "warn"]

INPUT: Final = "total_input_tokens"
"""What is counted until a condition is judged."""

READ: Final = "cache_read_tokens"
WRITTEN: Final = "cache_write_tokens"

CACHE_HIT: Final = "cache_hit"
CACHE_THRASH: Final = "cache_write / cache_read"
SAME_REQUEST: Final = "same_request"


class Measure(NamedTuple):
    """
    What a condition looks at.

    Attributes:
        relation: How it must stand to its bound.
        units: What a ledger counts for it, *INPUT* first; empty for what each process counts by itself.
    """

    relation: str
    units: tuple[str, ...]


MEASURES: Final[dict[str, Measure]] = {
    CACHE_HIT: Measure(">=", (INPUT, READ)),
    CACHE_THRASH: Measure("<=", (INPUT, READ, WRITTEN)),
    SAME_REQUEST: Measure("<=", ()),
}

_CONDITION: Final = re.compile(
    r"^(?P<measure>[a-z_]+(?:\s*/\s*[a-z_]+)?)\s*(?P<relation>[<>]=?|=+)\s*"
    r"(?P<bound>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:\s*/\s*(?P<period>[0-9]*\s*[a-z]+)|\s+after\s+(?P<after>.+))?$"
)
_GRAMMAR: Final = (
    'A condition reads "cache_hit >= 0.5 after 1M total_input_tokens[/<period>]", '
    '"cache_write / cache_read <= 5 after 1M total_input_tokens[/<period>]" or "same_request <= 20/minute".'
)
_SHOWN: Final = {10**9: "B", 10**6: "M", 10**3: "K"}


@dataclass(frozen=True, slots=True)
class Condition:
    """
    What must hold.

    Attributes:
        measure: One of `MEASURES`.
        bound: What it must not fall below, or exceed.
        after: How many input tokens make a figure worth judging; each so many are judged by themselves. None
            where nothing is counted in a ledger.
        period: Of `same_request`: in how much time.
    """

    measure: str
    bound: Decimal
    after: Limit | None = None
    period: Period | None = None

    def __str__(self) -> str:
        text = f"{self.measure} {MEASURES[self.measure].relation} {self.bound:f}"
        if self.after is None:
            return f"{text}/{self.period}"
        period = "" if self.after.period.unit == "lifetime" else f"/{self.after.period}"
        return f"{text} after {show_count(self.after.amount)} {INPUT}{period}"


@dataclass(frozen=True, slots=True)
class Breaker:
    """
    A condition for the calls it matches.

    Attributes:
        name: Unique in a guard; part of the ledger's keys, so a new name starts afresh.
        condition: A string such as `"cache_hit >= 0.5 after 1M total_input_tokens"` (see `parse_condition`),
            or a `Condition`.
        match: Tag -> glob, `"!glob"`, or a list of them, as a budget's. Empty: every call.
        per: Tags with figures for each of their values, and a stop for each. Empty: one.
        on_trip: `"refuse"`: calls are stopped in every process that shares the ledger; `"warn"`: somebody is
            told, and calls go on.
        resume_after_s: Seconds after which a stop passes by itself; None: somebody resumes it.
        mode: `"enforce"`, or `"shadow"`: what would have been stopped is kept as entries.

    Raises:
        ConfigurationError: The name, the condition or a tag cannot be understood.
    """

    name: str
    condition: Condition
    match: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    per: tuple[str, ...] = ()
    on_trip: OnTrip = "refuse"
    resume_after_s: float | None = None
    mode: Mode = "enforce"

    def __init__(
        self,
        name: str,
        condition: str | Condition,
        *,
        match: Mapping[str, Globs] | None = None,
        per: str | Iterable[str] = (),
        on_trip: OnTrip = "refuse",
        resume_after_s: float | None = None,
        mode: Mode = "enforce",
    ) -> None:
        check_name("breaker", name)
        owner = f"Breaker {name!r}"
        tags = read_per(owner, per)
        check_match(owner, match)
        check_tags(owner, tags, match or {})
        check_word(owner, "on_trip", on_trip, get_args(OnTrip))
        check_word(owner, "mode", mode, get_args(Mode))
        _check_seconds(owner, resume_after_s, on_trip)
        read = condition if isinstance(condition, Condition) else parse_condition(condition)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "condition", read)
        object.__setattr__(self, "match", read_match(owner, match or {}))
        object.__setattr__(self, "per", tags)
        object.__setattr__(self, "on_trip", on_trip)
        object.__setattr__(self, "resume_after_s", resume_after_s)
        object.__setattr__(self, "mode", mode)

    @property
    def key_name(self) -> str:
        """
        Its name where budgets and people are named too.
        """
        return BREAKER + self.name

    def __str__(self) -> str:
        return f"{self.name} ({self.condition})"


def parse_breaker(text: str) -> Breaker:
    """
    A breaker from one string: `"cache: cache_hit >= 0.5 after 1M total_input_tokens"`.

    Raises:
        ConfigurationError: It cannot be understood.
    """
    name, colon, condition = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon:
        raise ConfigurationError(f'{text!r} is not a breaker: write "name: condition". {_GRAMMAR}')
    return Breaker(name.strip(), condition.strip())


def parse_condition(text: str) -> Condition:
    """
    A condition from its one string.

    Raises:
        ConfigurationError: It quotes *text* and shows the grammar.
    """
    found = _CONDITION.match(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(f"{text!r} is not a condition. {_GRAMMAR}")
    measure = re.sub(r"\s*/\s*", " / ", found["measure"])
    if measure not in MEASURES:
        known = ", ".join(MEASURES)
        raise ConfigurationError(
            f"{text!r} is not a condition: {measure!r} is no measure; known are {known}. {_GRAMMAR}"
        )
    if found["relation"] != MEASURES[measure].relation:
        raise ConfigurationError(
            f"{text!r} is not a condition: it says what must hold, {measure} "
            f"{MEASURES[measure].relation} ... {_GRAMMAR}"
        )
    bound = Decimal(found["bound"])
    if measure == SAME_REQUEST:
        return Condition(measure, bound, period=_period(text, found, bound))
    if measure == CACHE_HIT and not 0 < bound <= 1:
        raise ConfigurationError(f"{text!r} is not a condition: cache_hit is a share, above 0 and up to 1.")
    return Condition(measure, bound, after=_after(text, found))


def show_count(count: int) -> str:
    """
    A count as conditions write it, exactly: `1M`.
    """
    for size, letter in _SHOWN.items():
        if count and count % size == 0:
            return f"{count // size}{letter}"
    return str(count)


def _after(text: str, found: re.Match[str]) -> Limit:
    if found["after"] is None:
        raise ConfigurationError(
            f"{text!r} is not a condition: after how many tokens is it judged? A few calls say nothing. "
            f"{_GRAMMAR}"
        )
    try:
        after = parse_limit(found["after"])
    except ConfigurationError as error:
        raise ConfigurationError(f"{text!r} is not a condition. {error}") from None
    if after.unit != INPUT or after.period.kind != "window" or not after.amount:
        raise ConfigurationError(
            f"{text!r} is not a condition: it is judged after an amount of {INPUT}, of a window or for all "
            f"time. {_GRAMMAR}"
        )
    return after


def _period(text: str, found: re.Match[str], bound: Decimal) -> Period:
    if found["period"] is None or bound != int(bound) or bound < 1:
        raise ConfigurationError(
            f"{text!r} is not a condition: how many alike, at least 1, in how much time? {_GRAMMAR}"
        )
    try:
        period = parse_limit(f"1 {REQUESTS}/{found['period']}").period
    except ConfigurationError as error:
        raise ConfigurationError(f"{text!r} is not a condition. {error}") from None
    if period.unit not in SECONDS:
        raise ConfigurationError(f"{text!r} is not a condition: seconds, minutes, hours or days. {_GRAMMAR}")
    return period


def _check_seconds(owner: str, seconds: object, on_trip: OnTrip) -> None:
    if seconds is None:
        return
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < float("inf"):  # type: ignore[operator]
        raise ConfigurationError(
            f"{owner}: resume_after_s is {seconds!r}; it is seconds above 0, or left out: until somebody "
            "resumes."
        )
    if on_trip == "warn":
        raise ConfigurationError(
            f'{owner}: resume_after_s is {seconds!r}, and with on_trip = "warn" nothing is stopped. '
            "Leave one of them out."
        )
