"""
Limits of named values: `limits={"alice": "50 USD/month", "*": "4 USD/month"}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from bedrock_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from bedrock_guard.domain.budget import Limit

_OTHERS: Final = "*"
_LIMITS: Final = (
    "it maps values of the per tag to limits: "
    'per="user", limits={"alice": "50 USD/month", "*": "4 USD/month"}.'
)


def read_limits(
    name: str,
    limit: str | Limit | None,
    limits: Mapping[str, str | Limit] | None,
    *,
    per: tuple[str, ...],
    read: Callable[[str | Limit], Limit],
) -> tuple[Limit, dict[str, Limit]]:
    """
    The limit of most balances of the budget *name*, and those of named values.

    Raises:
        ConfigurationError: There is none for most, or they are not of one unit and period.
    """
    given = {} if limits is None else limits
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given):
        raise ConfigurationError(f"Budget {name!r}: limits is {limits!r}; {_LIMITS}")
    if (limit is None) == (_OTHERS not in given):
        has = "neither limit nor" if limit is None else "both limit and"
        raise ConfigurationError(
            f'Budget {name!r} has {has} limits["*"]; one of them says what most may spend: "5 USD/day".'
        )
    usual = read(given[_OTHERS] if limit is None else limit)
    if limits is None:
        return usual, {}
    if len(per) != 1:
        raise ConfigurationError(
            f"Budget {name!r}: limits names values of one tag, and per names {len(per)}; {_LIMITS} "
            "Otherwise write a budget for each, with match."
        )
    own = {value: read(each) for value, each in given.items() if value != _OTHERS}
    for value, each in own.items():
        if "*" in value or "?" in value:
            raise ConfigurationError(
                f"Budget {name!r}: limits[{value!r}] is a glob, and limits names values; '*' is all others."
            )
        if (each.unit, each.period) != (usual.unit, usual.period):
            raise ConfigurationError(
                f"Budget {name!r}: limits[{value!r}] is {str(each)!r} and others are {str(usual)!r}; limits "
                "of one budget have one unit and one period, or a changed limit would start a balance afresh."
            )
    return usual, own
