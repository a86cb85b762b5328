"""
Budgets: how much may be spent, by which calls, over which period.

A limit is one string, `"250 USD/month"`; its grammar is `parse_limit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bedrock_guard.domain.cost import nanousd_from_usd, usd_from_nanousd
from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
)
from bedrock_guard.errors import ConfigurationError

USD: Final = "USD"
REQUESTS: Final = "requests"

# Which meters each counted unit adds up; USD and requests are no sums of meters.
UNITS: Final[dict[str, tuple[str, ...]]] = {
    USD: (),
    REQUESTS: (),
    "tokens": (*ALL_INPUT_METERS, OUTPUT_TOKENS),
    "total_input_tokens": ALL_INPUT_METERS,
    "uncached_input_tokens": (INPUT_TOKENS,),
    "cache_write_tokens": (CACHE_WRITE_5M, CACHE_WRITE_1H),
    "output_tokens": (OUTPUT_TOKENS,),
}

# Which periods may be counted in N ("6 hours"); the others are calendar names only.
PERIODS: Final[dict[str, bool]] = {
    "minute": True,
    "hour": True,
    "day": True,
    "week": False,
    "month": False,
    "quarter": False,
    "year": False,
}

BUILT_IN_TAGS: Final = ("model", "model_id", "family", "region", "operation", "service_tier")

DEFAULT_ALERTS: Final = (0.5, 0.8, 1.0)
MAX_LIMIT: Final = 2**63 - 1
_MULTIPLES: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_LIMIT = re.compile(
    r"^(?P<dollar>\$)?\s*(?P<number>[0-9]+(?:[,_][0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?P<multiple>[KMB]?)"
    r"(?:\s+(?P<unit>[A-Za-z_]+))?"
    r"(?:\s*/\s*(?:(?P<count>[0-9]+)\s+)?(?P<period>[a-z]+?)(?P<plural>s)?)?$"
)
_GRAMMAR = (
    'A limit reads "<number>[K|M|B] <unit>[/<period>]": "5 USD/day", "$5/day", "20 USD" (for all time), '
    '"100 requests/minute", "50M uncached_input_tokens/day", "5 USD/6 hours". '
    f"Units: {', '.join(UNITS)}. Periods: {', '.join(PERIODS)}, or N minutes, hours or days."
)
# A soft limit may be passed; what is above ten times of it was meant as per cent.
_MOST_SHARE: Final = 10
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 _.:@+-]{0,127}$")


@dataclass(frozen=True, slots=True)
class Period:
    """
    The rule that makes windows: a calendar unit, or *count* of them; `"lifetime"` never ends.
    """

    unit: str = "lifetime"
    count: int = 1

    def __str__(self) -> str:
        return self.unit if self.count == 1 else f"{self.count} {self.unit}s"


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
        return f"{self.unit}/{self.period}@{time_zone}"


@dataclass(frozen=True, slots=True)
class Budget:
    """
    A limit over a period for the calls it matches.

    Attributes:
        name: Unique in a guard; part of the ledger's keys, so a new name starts afresh.
        limit: A string such as `"5 USD/day"` (see `parse_limit`), or a `Limit`.
        match: Tag -> glob; a call counts when every one matches. Empty: every call.
        per: Tags with a balance for each of their values. Empty: one balance.
        alerts: Shares of the limit; somebody is told when so much is spent. 1.0 counts as reached, too,
            when a call is refused.

    Raises:
        ConfigurationError: The name, limit, a tag or a share cannot be understood.
    """

    name: str
    limit: Limit
    match: Mapping[str, str] = field(default_factory=dict)
    per: tuple[str, ...] = ()
    alerts: tuple[float, ...] = DEFAULT_ALERTS

    def __init__(
        self,
        name: str,
        limit: str | Limit,
        *,
        match: Mapping[str, str] | None = None,
        per: str | Iterable[str] = (),
        alerts: Iterable[float] = DEFAULT_ALERTS,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is not a budget's name: 1 to 128 letters, digits, spaces or any of _ . : @ + -, "
                "beginning with a letter or digit."
            )
        if isinstance(per, Mapping) or not hasattr(per, "__iter__"):
            raise ConfigurationError(f"Budget {name!r}: per is {per!r}; it is a tag or several: per='user'.")
        if match is not None and not isinstance(match, Mapping):
            raise ConfigurationError(
                f"Budget {name!r}: match is {match!r}; it maps tags to globs: {{'model': 'anthropic.*'}}."
            )
        tags = (per,) if isinstance(per, str) else tuple(per)
        _check_tags(name, tags, dict(match or {}))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "limit", limit if isinstance(limit, Limit) else parse_limit(limit))
        object.__setattr__(self, "match", dict(match or {}))
        object.__setattr__(self, "per", tags)
        object.__setattr__(self, "alerts", _read_shares(name, alerts))

    def __str__(self) -> str:
        return f"{self.name} ({self.limit})"


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
    return Period(unit, number)


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


def _read_shares(name: str, alerts: object) -> tuple[float, ...]:
    given: tuple[Any, ...] = (
        tuple(alerts) if isinstance(alerts, Iterable) and not isinstance(alerts, str) else (None,)
    )
    if not all(_is_share(share) for share in given):
        raise ConfigurationError(
            f"Budget {name!r}: alerts is {alerts!r}; it is shares of the limit, above 0 and up to "
            f"{_MOST_SHARE}: alerts=(0.5, 0.8, 1.0)."
        )
    return tuple(sorted({float(share) for share in given}))


def _is_share(share: object) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= _MOST_SHARE


def _check_tags(name: str, per: tuple[str, ...], match: dict[str, str]) -> None:
    for tag in (*per, *match):
        if not isinstance(tag, str) or not tag:
            raise ConfigurationError(f"Budget {name!r}: {tag!r} is not a tag's name: a non-empty string.")
    if len(set(per)) != len(per):
        raise ConfigurationError(f"Budget {name!r}: per names a tag twice: {', '.join(per)}.")
    for tag, glob in match.items():
        if not isinstance(glob, str):
            raise ConfigurationError(
                f"Budget {name!r}: match[{tag!r}] is {glob!r}; a glob is a string, 'anthropic.*'."
            )
