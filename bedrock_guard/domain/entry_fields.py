"""
What a stored entry has, field by field: a row may have been edited by hand, or be a newer version's.

A field that is not what it should be is left unread, and the entry says so: whoever adds up a month's costs
must see a row that is damaged, and neither stop at it nor take it for 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

_Check: TypeAlias = Callable[[Any], bool]

# What databases, clocks and `Decimal` can all hold.
_LARGEST: Final = 2**63


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_count(value: Any) -> bool:
    return type(value) is int and -_LARGEST < value < _LARGEST


def _is_moment(value: Any) -> bool:
    return (type(value) is float and value == value) or _is_count(value)  # noqa: PLR0124 - NaN is not


def _are_texts(value: Any) -> bool:
    return type(value) is list and all(map(_is_text, value))


def _is_tags(value: Any) -> bool:
    return type(value) is dict and all(map(_is_text, value.values()))


def _is_usage(value: Any) -> bool:
    return type(value) is dict and all(map(_is_count, value.values()))


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_hold(value: Any) -> bool:
    return type(value) is dict and _is_moment(value.get("expires_at_s"))


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


_ATTEMPT: Final[Mapping[str, _Check]] = {
    "outcome": _is_text,
    "status": _or_none(_is_count),
    "error_code": _or_none(_is_text),
    "usage": _is_usage,
    "cost_nanousd": _or_none(_is_count),
    "basis": _is_text,
}


def _is_attempt(value: Any) -> bool:
    if not isinstance(value, dict) or "outcome" not in value:
        return False
    return all(check(value[name]) for name, check in _ATTEMPT.items() if name in value)


def _are_attempts(value: Any) -> bool:
    return type(value) is list and all(map(_is_attempt, value))


# Of every field of an entry, in its order.
FIELDS: Final[Mapping[str, _Check]] = {
    **dict.fromkeys(("id", "operation", "model_id"), _is_text),
    "model": _or_none(_is_text),
    **dict.fromkeys(("family", "region", "service_tier", "latency", "outcome", "basis", "priced"), _is_text),
    "at_s": _is_moment,
    "tags": _is_tags,
    "usage": _is_usage,
    **dict.fromkeys(("reported_usage", "narrowed_usage"), _or_none(_is_usage)),
    **dict.fromkeys(
        (
            "cost_nanousd",
            "list_cost_nanousd",
            "estimated_cost_nanousd",
            "duration_ms",
            "received_bytes",
            "clamped_max_tokens",
            "counted_input_tokens",
        ),
        _or_none(_is_count),
    ),
    "has_own_prices": lambda value: type(value) is bool,
    "attempts": _are_attempts,
    **dict.fromkeys(("anomalies", "exceeded", "unread"), _are_texts),
    **dict.fromkeys(
        ("narrowed_by", "job", "allowed_by", "fallback_from", "budget", "reason"), _or_none(_is_text)
    ),
    "held": _or_none(_is_hold),
    "control": _or_none(_is_object),
    **dict.fromkeys(("waited_ms", "count"), _is_count),
}
# Always written: an entry without one is damaged, too.
_ALWAYS: Final = frozenset(
    ("id", "at_s", "operation", "model_id", "model", "family", "region", "service_tier", "latency", "tags")
)
# In place of what is unread; of others, what an open entry has. The cost is unknown, and not 0.
_IN_ITS_PLACE: Final[Mapping[str, Any]] = {
    **dict.fromkeys(_ALWAYS, ""),
    "model": None,
    "tags": {},
    "outcome": "",
    "basis": "estimated",
    "cost_nanousd": None,
}


# Of text that is no entry at all.
_UNKNOWN: Final = ("cost_nanousd", "outcome", "basis")


def read_fields(text: str, at_s: float) -> dict[str, Any]:
    """
    The fields of an entry that is stored as *text*, to construct it of.

    Those of a newer version are left out. What cannot be read is named by the field `unread`; a moment is
    *at_s* then.
    """
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        stored = None
    values: dict[str, Any] = stored if type(stored) is dict else dict.fromkeys(_UNKNOWN, ...)
    known: dict[str, Any] = {name: value for name, value in values.items() if name in FIELDS}
    unread = [name for name, value in known.items() if not FIELDS[name](value)]
    unread += [name for name in _ALWAYS if name not in known]
    if unread:
        for name in unread:
            known.pop(name, None)
            if name in _IN_ITS_PLACE:
                known[name] = at_s if name == "at_s" else _IN_ITS_PLACE[name]
        known["unread"] = sorted({*known.get("unread", ()), *unread})
    return known
