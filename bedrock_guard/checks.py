"""
What callers hand in, looked at once, at the door: a mistake is quoted, and says what is allowed.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.entry import Basis, Outcome
from bedrock_guard.domain.ledger import EntryFilter
from bedrock_guard.domain.usage import Usage
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import METERS

_OUTCOMES: Final = tuple(name for name in typing.get_args(Outcome) if name != "pending")
_BASES: Final = typing.get_args(Basis)


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
    known = EntryFilter.__dataclass_fields__
    read: dict[str, Any] = {}
    for name, value in filters.items():
        if name not in known:
            raise ConfigurationError(f"{name!r} is no filter of entries; known are {', '.join(known)}.")
        read[name] = None if value is None else _FILTERS.get(name, _read_word)(name, value)
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


_FILTERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "since": _read_moment,
    "until": _read_moment,
    "tags": check_tag_mapping,
    "outcome": _one_of(_OUTCOMES),
    "basis": _one_of(_BASES),
}
