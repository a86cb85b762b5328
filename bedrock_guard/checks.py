"""
What callers hand in, looked at once, at the door: a mistake is quoted, and says what is allowed.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import BUILT_IN_TAGS, USD, Budget, parse_limit
from bedrock_guard.domain.control import BREAKER
from bedrock_guard.domain.cost import NANOUSD_PER_USD
from bedrock_guard.domain.entry import Basis, Outcome
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import Usage
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import METERS

_OUTCOMES: Final = tuple(name for name in typing.get_args(Outcome) if name != "pending")
_BASES: Final = typing.get_args(Basis)
# No figure of a ledger is more: SQLite counts no further.
_MOST: Final = 2**63 - 1


def check_usage(usage: object) -> Usage:
    """
    *usage*, if it is a mapping of meters to whole quantities.
    """
    if type(usage) is not dict and not isinstance(usage, Mapping):
        raise ConfigurationError(f"Usage is {usage!r}; it maps meters to quantities: {{'input_tokens': 10}}.")
    for meter, quantity in usage.items():
        if meter not in METERS:
            raise ConfigurationError(f"{meter!r} is no meter; known are {', '.join(METERS)}.")
        if type(quantity) is not int or quantity < 0:
            raise ConfigurationError(f"{meter} is {quantity!r}; quantities are whole numbers from 0 on.")
    return usage


def check_allow_up_to(text: object) -> None:
    """
    Refuse an `allow_up_to` that is no limit in USD.
    """
    if text is None:
        return
    example = "it is an amount of USD, for each window or for all time: '5 USD/hour', '20 USD'."
    if not isinstance(text, str):
        raise ConfigurationError(f"allow_up_to is {text!r}; {example}")
    try:
        limit = parse_limit(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"allow_up_to: {error}") from None
    if limit.unit != USD:
        raise ConfigurationError(f"allow_up_to is {text!r}; {example}")


def check_tags_to_aws(names: object) -> None:
    """
    Refuse a `tags_to_aws` that is neither a truth value nor names of tags that a program sets.
    """
    if isinstance(names, bool):
        return
    is_list = isinstance(names, list | tuple)
    if not is_list or not all(isinstance(name, str) and name for name in names):  # type: ignore[attr-defined]
        raise ConfigurationError(
            f"tags_to_aws is {names!r}; it names tags, ['team', 'user'], or is true for all that are set."
        )
    for name in names:  # type: ignore[attr-defined]
        if name in BUILT_IN_TAGS:
            raise ConfigurationError(
                f"tags_to_aws names {name!r}, a built-in tag; Bedrock's logs tell it already."
            )


def check_ledger_error(settings: Settings) -> None:
    """
    Refuse `on_ledger_error` and `allow_up_to` where one lacks the other.
    """
    if settings.on_ledger_error not in ("refuse", "allow"):
        raise ConfigurationError(
            f"on_ledger_error is {settings.on_ledger_error!r}; it is 'refuse' or 'allow'."
        )
    check_allow_up_to(settings.allow_up_to)
    if settings.on_ledger_error == "allow" and settings.allow_up_to is None:
        raise ConfigurationError(
            'on_ledger_error = "allow" lets calls through that no budget has room for, so it needs to know '
            'how much each process may spend so: write allow_up_to = "5 USD/hour" beside it.'
        )
    if settings.on_ledger_error == "refuse" and settings.allow_up_to is not None:
        raise ConfigurationError(
            f"allow_up_to is {settings.allow_up_to!r}, and has a meaning only with "
            'on_ledger_error = "allow"; with "refuse" nothing is let through. Leave one of them out.'
        )


def check_model_id(model_id: object) -> str:
    """
    *model_id*, if it is a string that says something.
    """
    if not isinstance(model_id, str) or not model_id:
        raise ConfigurationError(
            f"The model id is {model_id!r}; it is a string, such as 'us.anthropic.claude-opus-4-6-v1'."
        )
    return model_id


def check_region(region: object) -> str:
    """
    *region*, if it is a string that says something.
    """
    if not isinstance(region, str) or not region:
        raise ConfigurationError(f"The region is {region!r}; it is a string, such as 'us-east-1'.")
    return region


def check_word(name: str, word: object) -> str:
    """
    *word*, if it is a string.
    """
    if not isinstance(word, str):
        raise ConfigurationError(f"{name} is {word!r}; it is a string.")
    return word


def check_moment(name: str, moment: object) -> datetime | None:
    """
    *moment*, if it is None or a datetime that knows its zone.
    """
    if moment is None or (isinstance(moment, datetime) and moment.tzinfo is not None):
        return moment
    raise ConfigurationError(
        f"{name} is {moment!r}; it is a datetime with a zone: datetime(2026, 11, 22, tzinfo=UTC)."
    )


def read_filters(filters: Mapping[str, Any]) -> EntryFilter:
    """
    The entries that *filters* ask for.
    """
    read: dict[str, Any] = {}
    for name, value in filters.items():
        if name not in _FILTERS:
            raise ConfigurationError(f"{name!r} is no filter of entries; known are {', '.join(_FILTERS)}.")
        field = _FIELDS.get(name, name)
        read[field] = None if value is None else _FILTERS[name](name, value)
    return EntryFilter(**read)


def check_tag_mapping(name: str, tags: object) -> Mapping[str, str]:
    """
    *tags*, if it is a mapping of strings to strings.
    """
    if isinstance(tags, Mapping) and all(isinstance(part, str) for pair in tags.items() for part in pair):
        return tags
    raise ConfigurationError(f"{name} is {tags!r}; it maps names to values: {{'team': 'search'}}.")


def check_budgets(budgets: object) -> list[Budget | str]:
    """
    *budgets*, if it is one budget or several.
    """
    if isinstance(budgets, str | Budget):
        return [budgets]
    if isinstance(budgets, Mapping) or not isinstance(budgets, Iterable):
        raise ConfigurationError(
            f'budgets is {budgets!r}; it is a list of strings or Budgets: ["search: 5 USD/day"].'
        )
    return list(budgets)


def check_breakers(breakers: object) -> list[Breaker | str]:
    """
    *breakers*, if it is one breaker or several.
    """
    if isinstance(breakers, str | Breaker):
        return [breakers]
    if isinstance(breakers, Mapping) or not isinstance(breakers, Iterable):
        raise ConfigurationError(
            f"breakers is {breakers!r}; it is a list of strings or Breakers: "
            '["cache: cache_hit >= 0.5 after 1M total_input_tokens"].'
        )
    return list(breakers)


def check_breaker_names(breakers: Iterable[Breaker], budgets: Iterable[Budget]) -> None:
    """
    Refuse two breakers of one name, and a budget that is named as breakers are in the ledger.
    """
    names = [breaker.name for breaker in breakers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"Two breakers are named {twice[0]!r}; names are unique in a guard, as figures go by them."
        )
    theirs = next((budget.name for budget in budgets if names and budget.name.startswith(BREAKER)), None)
    if theirs is not None:
        raise ConfigurationError(
            f"A budget is named {theirs!r}, which is how the ledger names breakers; give it another name."
        )


def _read_moment(name: str, value: object) -> float:
    moment = check_moment(name, value)
    return moment.timestamp() if moment is not None else 0.0


def _read_word(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is {value!r}; it is a string.")
    return value


def _one_of(allowed: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if value not in allowed:
            raise ConfigurationError(f"{name} is {value!r}; it is one of {', '.join(allowed)}.")
        return str(value)

    return read


def _read_cost(name: str, value: object) -> int:
    """
    Whole nano-dollars: a least cost is rounded up and a most cost down, which keeps what is between.
    """
    usd = Decimal("NaN")
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        usd = Decimal(value)
    if not usd.is_finite() or usd < 0:
        raise ConfigurationError(f'{name} is {value!r}; it is USD from 0 on, as a Decimal: Decimal("0.05").')
    rounding = ROUND_CEILING if name == "cost_min" else ROUND_FLOOR
    usd = min(usd, Decimal(_MOST) / NANOUSD_PER_USD)
    return int((usd * NANOUSD_PER_USD).to_integral_value(rounding))


def _read_count(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{name} is {value!r}; it is a whole number from 0 on.")
    return min(value, _MOST)


_FILTERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "since": _read_moment,
    "until": _read_moment,
    "outcome": _one_of(_OUTCOMES),
    "operation": _read_word,
    "model": _read_word,
    "model_id": _read_word,
    "family": _read_word,
    "region": _read_word,
    "service_tier": _read_word,
    "basis": _one_of(_BASES),
    "tags": check_tag_mapping,
    "cost_min": _read_cost,
    "cost_max": _read_cost,
    "tokens_min": _read_count,
    "tokens_max": _read_count,
    "attempts_min": _read_count,
    "status": _read_count,
    "error_code": _read_word,
}
# Where a filter is named otherwise inside: money is USD at the API, and nano-dollars in a ledger.
_FIELDS: Final = {"cost_min": "cost_nanousd_min", "cost_max": "cost_nanousd_max"}
