"""
What a request is billed for that is no token: images, seconds of sound or video, queries.

Families say it as a `BesideReader`. What a request leaves open counts as the most
that its model takes; a figure above that is believed, for lists of limits grow old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, isfinite
from typing import Any, Final, NamedTuple, TypeAlias

from bedrock_guard.domain.usage import Usage

# Beyond what any model makes or reads: AWS refuses it, and so does every budget.
_ABSURD: Final = 1_000_000


class Beside(NamedTuple):
    """
    What a request is billed for beside its tokens, or instead of them.

    Attributes:
        usage: By meter, the most it can be.
        reads_tokens: Whether its text is billed by the token too.
        is_exact: Whether AWS bills no less.
    """

    usage: Usage
    reads_tokens: bool = False
    is_exact: bool = True


BesideReader: TypeAlias = Callable[[Mapping[str, Any]], Beside]
"""Reads a request of any shape; never raises."""

MadeReader: TypeAlias = Callable[[Mapping[str, Any], Usage], Usage]
"""Reads from a reply what was made, by meter, beside what was asked for; empty where it shows nothing."""


def always(beside: Beside) -> BesideReader:
    """
    A reader for models whose every request is billed the same.
    """
    return lambda _body: beside


def how_many(value: object, *, default: int, most: int) -> int:
    """
    A count or a duration that a request states: *default* where it does not, *most* where it cannot be read.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return most
    return min(ceil(value), _ABSURD) if isinstance(value, int) or isfinite(value) else most
