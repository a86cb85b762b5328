"""
What pages on a period have in common: which it is, and how far it has been read.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from bedrock_guard.dashboard.desk import Desk
from bedrock_guard.dashboard.sums import PERIODS, Read, S
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.reports.moments import moment_of

LAST: Final = "last"
_USUAL: Final = "24h"


def read_last(request: Request) -> str:
    """
    The period that is asked for, one of `PERIODS`.

    Raises:
        ConfigurationError: There is none of that name.
    """
    last = request.query_params.get(LAST) or _USUAL
    if last not in PERIODS:
        raise ConfigurationError(f"{LAST} {last[:30]!r} is no period; there are {', '.join(PERIODS)}.")
    return last


def reading_json(desk: Desk, last: str, read: Read[Any]) -> dict[str, Any]:
    """
    How far it has been read; units in order, each with its name and its beginning.
    """
    is_read = [span for span, sums in read.spans if sums is not None] or [read.spans[-1][0]]
    return {
        "last": last,
        "unit": PERIODS[last].unit,
        "since": moment_of(read.spans[0][0].since, desk.zone).isoformat(),
        "is_whole": read.is_whole,
        "read_share": round(read.done / len(read.spans), 3),
        # What has been read is the newest of it.
        "read_since": moment_of(is_read[0].since, desk.zone).isoformat(),
        "times": [span.name for span, _ in read.spans],
        "starts": [span.since for span, _ in read.spans],
    }


def all_of(read: Read[S], empty: S) -> S:
    """
    *empty* with every unit added to it.
    """
    for _, sums in read.spans:
        if sums is not None:
            empty.merge(sums)
    return empty
