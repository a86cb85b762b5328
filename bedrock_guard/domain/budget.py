"""
Budgets: how much may be spent, by which calls, over which period.

A limit is one string, `"250 USD/month"`; its grammar is `parse_limit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, TypeAlias, get_args

from bedrock_guard.domain import budget_fields
from bedrock_guard.domain.cost import nanousd_from_usd, usd_from_nanousd
from bedrock_guard.domain.globs import Globs, read_match
from bedrock_guard.domain.ledger import RATE_SUFFIX, LineKind
from bedrock_guard.domain.named_limits import read_limits
from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
)
from bedrock_guard.errors import ConfigurationError

OnExceed: TypeAlias = Literal["refuse", "warn"]
Mode: TypeAlias = Literal["enforce", "shadow"]

USD: Final = "USD"
REQUESTS: Final = "requests"

# Which meters each counted unit adds up; USD and requests are no sums of meters.
UNITS: Final[dict[str, tuple[str, ...]]] = {
    USD: (),
    REQUESTS: (),
    "tokens": (*ALL_INPUT_METERS, OUTPUT_TOKENS),
    "total_input_tokens": ALL_INPUT_METERS,
    "uncached_input_tokens": (INPUT_TOKENS,),
    "cache_read_tokens": (CACHE_READ,),
    "cache_write_tokens": (CACHE_WRITE_5M, CACHE_WRITE_1H),
    "output_tokens": (OUTPUT_TOKENS,),
}

# Which periods may be counted in N ("6 hours"); the others are calendar names only.
PERIODS: Final[dict[str, bool]] = {
    "second": True,
    "minute": True,
    "hour": True,
    "day": True,
    "week": False,
    "month": False,
    "quarter": False,
    "year": False,
}

# Periods of a fixed length: what rolls, or is a rate, is measured in these.
SECONDS: Final[dict[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
# What may be a rate when a burst is named; a second always is one.
_RATES: Final = ("second", "minute", "hour")

BUILT_IN_TAGS: Final = ("model", "model_id", "family", "region", "operation", "service_tier", "principal")

MAX_LIMIT: Final = 2**63 - 1
_MULTIPLES: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_LIMIT = re.compile(
    r"^(?P<dollar>\$)?\s*(?P<number>[0-9]+(?:[,_][0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?P<multiple>[KMB]?)"
    r"(?:\s+(?P<unit>[A-Za-z_]+))?"
    r"(?:\s*/\s*(?P<rolling>rolling\s+)?(?:(?P<count>[0-9]+)\s+)?(?P<period>[a-z]+?)(?P<plural>s)?)?$"
)
_GRAMMAR = (
    'A limit reads "<number>[K|M|B] <unit>[/<period>]": "5 USD/day", "$5/day", "20 USD" (for all time), '
    '"100 requests/minute", "50M uncached_input_tokens/day", "5 USD/6 hours", "10 USD/rolling 24 hours", '
    '"5 requests/second" (a rate). '
    f"Units: {', '.join(UNITS)}. Periods: {', '.join(PERIODS)}, or N seconds, minutes, hours or days; "
    "rolling minutes, hours or days."
)
_MOST_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Period:
    """
    The rule that makes windows: a calendar unit, or *count* of them; `"lifetime"` never ends.

    Attributes:
        kind: `window` begins and ends; `rolling` is the time until now; `rate` is refilled by time.
    """

    unit: str = "lifetime"
    count: int = 1
    kind: LineKind = "window"

    @property
    def seconds(self) -> int:
        """
        How long it is; of a fixed length only.
        """
        return SECONDS[self.unit] * self.count

    def __str__(self) -> str:
        length = self.unit if self.count == 1 else f"{self.count} {self.unit}s"
        return f"rolling {length}" if self.kind == "rolling" else length


@dataclass(frozen=True, slots=True)
class Window:
    """
    One run of a period: `[start, end)`, seconds since 1970; *end* is None for all time.
    """

    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Limit:
    """
    The most a budget allows in one window.

    Attributes:
        amount: Nano-dollars when *unit* is USD, else a count.
        unit: One of `UNITS`.
        period: How long a window is.
    """

    amount: int
    unit: str
    period: Period = Period()

    def __str__(self) -> str:
        shown = show_amount(self.amount, self.unit)
        return shown if self.period.unit == "lifetime" else f"{shown}/{self.period}"

    def rule(self, time_zone: str) -> str:
        """
        Unit, period and zone in canonical form, for ledger keys: a changed limit keeps it.
        """
        if self.period.unit == "lifetime":
            return self.unit
        if self.period.kind == "rate":
            return f"{self.unit}/{self.period}{RATE_SUFFIX}"
        return f"{self.unit}/{self.period}" + ("" if self.period.kind == "rolling" else f"@{time_zone}")


@dataclass(frozen=True, slots=True)
class Budget:
    """
    A limit over a period for the calls it matches.

    Attributes:
        name: Unique in a guard; part of the ledger's keys, so a new name starts afresh.
        limit: A string such as `"5 USD/day"` (see `parse_limit`), or a `Limit`.
        match: Tag -> glob, `"!glob"`, or a list of them; a call counts when every tag matches (see
            `domain.globs`). Empty: every call.
        per: Tags with a balance for each of their values. Empty: one balance.
        limits: Value of the one `per` tag -> its own limit, `""` for calls without the tag; `"*"` may
            stand for *limit*. All are of one unit and period.
        on_exceed: `"refuse"`, or `"warn"`: a soft limit, which is counted, told, and never refuses.
        mode: `"enforce"`, or `"shadow"`: counted and never refused; what would have been refused is kept as
            entries.
        burst: The most that a rate allows at once: nano-dollars when its unit is USD, else a count. None for
            windows. As an argument in USD or as a count; a rate without one has that of its limit.
        alerts: Shares of the limit; somebody is told when so much is spent. 1.0 counts as reached, too,
            when a call is refused. A rate has none.
        fallback: Model ids: a Converse that does not fit is sent to the first of them with which it does.
        wait_s: For how many seconds a call that does not fit waits for room, in order of arrival.

    Raises:
        ConfigurationError: The name, a limit, a tag or a share cannot be understood.
    """

    name: str
    limit: Limit
    match: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    per: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = field(default_factory=dict)
    on_exceed: OnExceed = "refuse"
    mode: Mode = "enforce"
    burst: int | None = None
    alerts: tuple[float, ...] = budget_fields.DEFAULT_ALERTS
    fallback: tuple[str, ...] = ()
    wait_s: float = 0.0

    def __init__(
        self,
        name: str,
        limit: str | Limit | None = None,
        *,
        match: Mapping[str, Globs] | None = None,
        per: str | Iterable[str] = (),
        limits: Mapping[str, str | Limit] | None = None,
        on_exceed: OnExceed = "refuse",
        mode: Mode = "enforce",
        burst: float | Decimal | str | None = None,
        alerts: Iterable[float] | None = None,
        fallback: str | Iterable[str] = (),
        wait_s: float = 0.0,
    ) -> None:
        budget_fields.check_name("budget", name)
        owner = f"Budget {name!r}"
        tags = budget_fields.read_per(owner, per)
        budget_fields.check_match(owner, match)
        budget_fields.check_tags(owner, tags, match or {})
        budget_fields.check_word(owner, "on_exceed", on_exceed, get_args(OnExceed))
        budget_fields.check_word(owner, "mode", mode, get_args(Mode))
        usual, own = read_limits(name, limit, limits, per=tags, read=_read_limit)
        rate, most = _rate(name, usual, burst)
        if most is not None and own:
            raise ConfigurationError(
                f"Budget {name!r}: a rate has one limit, so limits cannot be given beside it; name a budget "
                "with match for each."
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "limit", rate)
        object.__setattr__(self, "on_exceed", on_exceed)
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "burst", most)
        object.__setattr__(self, "match", read_match(f"Budget {name!r}", match or {}))
        object.__setattr__(self, "per", tags)
        object.__setattr__(self, "limits", own)
        object.__setattr__(self, "alerts", budget_fields.read_shares(name, alerts, is_rate=most is not None))
        object.__setattr__(self, "fallback", budget_fields.read_fallback(name, fallback))
        object.__setattr__(self, "wait_s", budget_fields.read_wait(name, wait_s))

    @property
    def most(self) -> int:
        """
        What a balance holds at most: the limit; of a rate, its burst.
        """
        return self.limit.amount if self.burst is None else self.burst

    def __str__(self) -> str:
        shown = [f"{value or 'untagged'}: {limit}" for value, limit in self.limits.items()]
        more = [f"{len(shown) - _MOST_SHOWN} more"] if len(shown) > _MOST_SHOWN else []
        return f"{self.name} ({'; '.join([str(self.limit), *shown[:_MOST_SHOWN], *more])})"

    def limit_of(self, per: tuple[tuple[str, str], ...]) -> Limit:
        """
        The limit of the balance *per*, as a ledger's key names it.
        """
        return self.limits.get(per[0][1], self.limit) if self.limits and per else self.limit


def parse_budget(text: str) -> Budget:
    """
    A budget from one string: `"5 USD/day"` is named `default`, `"search: 250 USD/day"` is named.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f'{text!r} is not a budget: write "5 USD/day" or "name: 5 USD/day".')
    name, colon, limit = text.rpartition(":")
    try:
        return Budget(name.strip(), limit.strip()) if colon else Budget("default", text.strip())
    except ConfigurationError as error:
        if repr(text) in str(error):
            raise
        raise ConfigurationError(f"{text!r} is not a budget. {error}") from None


def parse_limit(text: str) -> Limit:
    """
    A limit from its one string.

    Raises:
        ConfigurationError: It quotes *text* and shows the grammar.
    """
    found = _LIMIT.match(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(f"{text!r} is not a limit. {_GRAMMAR}")
    unit = _unit(text, found)
    period = _period(text, found)
    amount = _amount(text, found, unit)
    return Limit(amount, unit, period)


def show_amount(amount: int, unit: str) -> str:
    """
    An amount with its unit, as a limit string says it: `"5 USD"`, `"50000000 tokens"`.
    """
    if unit != USD:
        return f"{amount} {unit}"
    usd = usd_from_nanousd(amount)
    return f"{usd.to_integral_value() if usd == usd.to_integral_value() else usd:f} USD"


def in_api_units(amount: int, unit: str) -> Decimal | int:
    """
    A ledger amount as the API shows it: USD as `Decimal`, counts as `int`.
    """
    return usd_from_nanousd(amount) if unit == USD else amount


def amount_of(unit: str, *, nanousd: int, usage: Usage) -> int:
    """
    What a call that was sent adds to a balance in *unit*.
    """
    if unit == USD:
        return nanousd
    if unit == REQUESTS:
        return 1
    amount = 0
    for meter in UNITS[unit]:  # every call comes by: a generator would take twice as long
        amount += usage.get(meter, 0)
    return amount


def _unit(text: str, found: re.Match[str]) -> str:
    named = found["unit"]
    if found["dollar"]:
        if named not in (None, USD):
            raise ConfigurationError(f"{text!r} is not a limit: $ and {named!r} are two units. {_GRAMMAR}")
        return USD
    if named is None:
        raise ConfigurationError(f"{text!r} is not a limit: it has no unit. {_GRAMMAR}")
    if named not in UNITS:
        raise ConfigurationError(f"{text!r} is not a limit: {named!r} is no unit. {_GRAMMAR}")
    return str(named)


def _period(text: str, found: re.Match[str]) -> Period:
    unit, count = found["period"], found["count"]
    if unit is None:
        return Period()
    if unit not in PERIODS:
        raise ConfigurationError(f"{text!r} is not a limit: {unit!r} is no period. {_GRAMMAR}")
    if count is None and found["plural"]:
        raise ConfigurationError(f"{text!r} is not a limit: how many {unit}s? {_GRAMMAR}")
    if count is not None and not PERIODS[unit]:
        raise ConfigurationError(f"{text!r} is not a limit: a {unit} cannot be counted in N. {_GRAMMAR}")
    number = int(count or 1)
    if not 1 <= number <= 10_000:
        raise ConfigurationError(f"{text!r} is not a limit: a period is 1 to 10000 {unit}s. {_GRAMMAR}")
    if not found["rolling"]:
        return Period(unit, number, "rate" if unit == "second" else "window")
    if unit == "second" or not PERIODS[unit]:
        raise ConfigurationError(f"{text!r} is not a limit: minutes, hours and days roll. {_GRAMMAR}")
    return Period(unit, number, "rolling")


def _rate(name: str, limit: Limit, burst: object) -> tuple[Limit, int | None]:
    """
    *limit* as it is meant with this *burst*, and the burst in the ledger's unit; None for a window.
    """
    period = limit.period
    if burst is None and period.kind != "rate":
        return limit, None
    if period.kind == "rolling" or period.unit not in _RATES or not limit.amount:
        raise ConfigurationError(
            f"Budget {name!r}: {limit} is no rate"
            + (", so it has no burst" if limit.amount else "")
            + f". A rate is an amount above 0 in N {'s, '.join(_RATES)}s, such as '5 requests/second'."
        )
    amount = limit.amount if burst is None else _burst(name, burst, limit.unit)
    return replace(limit, period=replace(period, kind="rate")), amount


def _burst(name: str, burst: object, unit: str) -> int:
    try:
        number = Decimal(str(burst))
        amount = nanousd_from_usd(number) if unit == USD else int(number)
    except (ArithmeticError, ValueError):
        number, amount = Decimal(0), 0
    if isinstance(burst, bool) or not 1 <= amount <= MAX_LIMIT or (unit != USD and amount != number):
        raise ConfigurationError(
            f"Budget {name!r}: burst is {burst!r}; it is the most {unit} at once: burst=10."
        )
    return amount


def _amount(text: str, found: re.Match[str], unit: str) -> int:
    try:
        number = Decimal(found["number"].replace("_", "").replace(",", "")) * _MULTIPLES[found["multiple"]]
    except InvalidOperation:
        raise ConfigurationError(f"{text!r} is not a limit. {_GRAMMAR}") from None
    amount = nanousd_from_usd(number) if unit == USD else int(number)
    if unit != USD and number != amount:
        raise ConfigurationError(f"{text!r} is not a limit: {unit} are counted in whole ones. {_GRAMMAR}")
    if number and not amount:
        raise ConfigurationError(f"{text!r} is not a limit: the least is a nano-dollar, 0.000000001 USD.")
    if not 0 <= amount <= MAX_LIMIT:
        raise ConfigurationError(f"{text!r} is too large a limit: the most is 9 billion USD or 9e18 units.")
    return amount


def _read_limit(limit: str | Limit) -> Limit:
    return limit if isinstance(limit, Limit) else parse_limit(limit)
