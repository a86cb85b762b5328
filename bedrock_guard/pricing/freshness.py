"""
How old a price list may be before its age is worth a word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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


class Watch:
    """
    Says at most once a day that prices in use are old: for a program that makes its guard once and
    runs for months.

    Attributes:
        tell: Is told of it as well: of which model, and of when its prices are.
    """

    def __init__(self) -> None:
        self._told_on: date | None = None
        self.tell: Callable[[str, date], object] | None = None

    def look(self, model: str, as_of: date, today: date) -> None:
        """
        Look at the prices of *model*, which are those of *as_of*; cheap enough for every call.
        """
        if today == self._told_on or (today - as_of).days < _OLD_DAYS:
            return
        age = age_warning(as_of, today)
        if age is not None:
            self._told_on = today
            log.log(
                logging.ERROR if age == "very old" else logging.WARNING,
                "The prices of %s are %s, of %s, and may have changed. Run `bedrock-guard prices sync`, or "
                "install a newer bedrock-guard.",
                model,
                age,
                as_of,
            )
            if self.tell is not None:
                self.tell(model, as_of)
