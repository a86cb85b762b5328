"""
Time zones, by their IANA names.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bedrock_guard.errors import ConfigurationError


def open_zone(name: str) -> ZoneInfo:
    """
    The zone of an IANA name.

    Raises:
        ConfigurationError: There is none of this name on this machine.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ConfigurationError(
            f"time_zone {name!r} is no IANA zone known here, such as 'UTC' or 'Europe/Berlin' "
            "(on a machine without zone data: pip install tzdata)."
        ) from error
