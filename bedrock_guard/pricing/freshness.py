"""
How old a price list may be before its age is worth a word.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import Final, Literal, TypeAlias

Age: TypeAlias = Literal["old", "very old"]

log = logging.getLogger("bedrock_guard")

_OLD_DAYS: Final = 30
_VERY_OLD_DAYS: Final = 90


def age_warning(as_of: date, today: date) -> Age | None:
    """
    What to call a list of *as_of*, looked at on *today*; None while it is fresh.

    A list from the future is fresh: clocks differ, and nothing is gained by a warning.
    """
    days = (today - as_of).days
    if days >= _VERY_OLD_DAYS:
        return "very old"
    return "old" if days >= _OLD_DAYS else None


def warn_if_old(as_of: date, today: date) -> None:
    """
    Say once in this process that the list is old; each time, and as an error, that it is very old.
    """
    age = age_warning(as_of, today)
    if age is None:
        return
    level = logging.ERROR if age == "very old" else logging.WARNING
    if age == "very old" or as_of not in _WARNED:
        _WARNED.add(as_of)
        log.log(
            level,
            "The price list is %s, of %s: prices may have changed. Run `bedrock-guard prices sync`, or "
            "install a newer bedrock-guard.",
            age,
            as_of,
        )


_WARNED: Final[set[date]] = set()
