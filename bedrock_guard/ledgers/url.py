"""
The URL of a ledger, taken apart: `scheme://location?parameter=value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from bedrock_guard.errors import ConfigurationError


def read_url(url: str, parameters: Mapping[str, tuple[str, ...] | None]) -> tuple[str, dict[str, str]]:
    """
    Location and parameters of *url*; *parameters* names the known ones and their values.

    A parameter without values takes a whole number above 0, and one of None any text.

    Raises:
        ConfigurationError: A parameter is unknown, given twice, or has another value.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        _check_parameter(url, scheme, (name, value), parameters)
        if name in given:
            raise ConfigurationError(f"{url!r} gives {name!r} twice.")
        given[name] = value
    return unquote(location), given


def _check_parameter(
    url: str, scheme: str, given: tuple[str, str], parameters: Mapping[str, tuple[str, ...] | None]
) -> None:
    name, value = given
    if name not in parameters:
        known = ", ".join(parameters)
        raise ConfigurationError(f"{url!r}: {name!r} is no parameter of {scheme}://. Known: {known}.")
    allowed = parameters[name]
    if allowed is None:
        is_allowed, allowed = bool(value), ("any text",)
    else:
        is_allowed = value in allowed if allowed else value.isdecimal() and int(value) > 0
    if not is_allowed:
        values = ", ".join(allowed) if allowed else "a whole number above 0"
        raise ConfigurationError(f"{url!r}: {name} cannot be {value!r}. Allowed: {values}.")
