"""
Which entries a command is asked for: the filters of `Guard.entries`, as options.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from bedrock_guard.checks import read_filters
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.errors import ConfigurationError

_AGO: Final = re.compile(r"(\d+)\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DECIMALS: Final = ("cost_min", "cost_max")
_MOMENTS: Final = ("since", "until")

Since = Annotated[
    str | None, typer.Option(help="From then on: 2h, 7d (ago), 2026-11-22, or 2026-11-22T18:00Z.")
]
Until = Annotated[str | None, typer.Option(help="Up to, and not at: the same.")]
Tag = Annotated[list[str] | None, typer.Option(help="TAG=VALUE. Repeat it: all must be so.")]
Model = Annotated[str | None, typer.Option(help="The model, as `report by model` names it.")]
ModelId = Annotated[str | None, typer.Option(help="The id that the call named.")]
Operation = Annotated[str | None, typer.Option(help="Converse, InvokeModel, …")]
Family = Annotated[str | None, typer.Option(help="anthropic, nova, …")]
Region = Annotated[str | None, typer.Option(help="us-east-1, …")]
Tier = Annotated[str | None, typer.Option(help="The service tier that served.")]
Outcome = Annotated[str | None, typer.Option(help="answered, refused, lost, abandoned, …")]
Basis = Annotated[str | None, typer.Option(help="reported, estimated or expired.")]
CostMin = Annotated[str | None, typer.Option(help="USD, included.")]
CostMax = Annotated[str | None, typer.Option(help="USD, included.")]
TokensMin = Annotated[int | None, typer.Option(help="All that are charged, included.")]
TokensMax = Annotated[int | None, typer.Option(help="The same.")]
AttemptsMin = Annotated[int | None, typer.Option(help="At least so many HTTP requests.")]
Status = Annotated[int | None, typer.Option(help="HTTP status of any attempt.")]
ErrorCode = Annotated[str | None, typer.Option(help="AWS's error code of any attempt.")]


def read_where(zone: ZoneInfo, tags: list[str] | None, **filters: Any) -> EntryFilter:
    """
    The filter that options ask for; moments without a zone are in *zone*.

    Raises:
        ConfigurationError: One cannot be understood; it is quoted.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    for name in _MOMENTS:
        if name in given:
            given[name] = read_moment(f"--{name}", given[name], zone)
    for name in _DECIMALS:
        if name in given:
            given[name] = _read_usd(f"--{name.replace('_', '-')}", given[name])
    if tags:
        given["tags"] = _read_tags(tags)
    return read_filters(given)


def read_moment(option: str, text: str, zone: ZoneInfo) -> datetime:
    """
    A moment as it is written for *option*: so long ago, a day, or a time.

    Raises:
        ConfigurationError: It is none.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return datetime.fromtimestamp(time.time(), UTC) - span
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{option} {text!r} is no time; write 2h or 7d (ago), 2026-11-22, or 2026-11-22T18:00Z."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _read_usd(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ConfigurationError(f"{option} {text!r} is no amount of USD; write 0.50.") from None


def _read_tags(pairs: list[str]) -> dict[str, str]:
    read: dict[str, str] = {}
    for pair in pairs:
        tag, equals, value = pair.partition("=")
        if not tag or not equals:
            raise ConfigurationError(f"--tag {pair!r}: write TAG=VALUE.")
        if read.setdefault(tag, value) != value:
            raise ConfigurationError(f"--tag {pair!r}: {tag} is given twice, and has one value.")
    return read
