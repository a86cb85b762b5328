"""
What the fields of a budget, or of a breaker, may be that are neither limits nor globs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bedrock_guard.errors import ConfigurationError

DEFAULT_ALERTS: Final = (0.5, 0.8, 1.0)
"""At which shares of a limit somebody is told, where nobody says."""

# A soft limit may be passed; what is above ten times of it was meant as per cent.
_MOST_SHARE: Final = 10
_LONGEST_WAIT_S: Final = 3_600
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 _.:@+-]{0,127}$")


def check_name(what: str, name: object) -> None:
    """
    Refuse what cannot be the name of *what*, such as `"budget"`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a {what}'s name: 1 to 128 letters, digits, spaces or any of _ . : @ + -, "
            "beginning with a letter or digit."
        )


def read_shares(name: str, alerts: object, *, is_rate: bool) -> tuple[float, ...]:
    """
    The shares of the limit of the budget *name* at which somebody is told; None for the usual ones.

    Raises:
        ConfigurationError: They are no shares, or of a rate, which is full again and again.
    """
    if alerts is None:
        return () if is_rate else DEFAULT_ALERTS
    given: tuple[Any, ...] = (
        tuple(alerts) if isinstance(alerts, Iterable) and not isinstance(alerts, str) else (None,)
    )
    if not all(_is_share(share) for share in given):
        raise ConfigurationError(
            f"Budget {name!r}: alerts is {alerts!r}; it is shares of the limit, above 0 and up to "
            f"{_MOST_SHARE}: alerts=(0.5, 0.8, 1.0)."
        )
    if given and is_rate:
        raise ConfigurationError(
            f"Budget {name!r}: alerts is {alerts!r}, and a rate, which time refills, has no share that is "
            "spent; of the first call that it refuses in a day somebody is told."
        )
    return tuple(sorted({float(share) for share in given}))


def read_fallback(name: str, fallback: object) -> tuple[str, ...]:
    """
    The models that calls fall back to which the budget *name* has no room for.

    Raises:
        ConfigurationError: They are no model ids, or one comes twice.
    """
    given: tuple[Any, ...] = (
        (fallback,) if isinstance(fallback, str) or not isinstance(fallback, Iterable) else tuple(fallback)
    )
    if not all(isinstance(each, str) and each for each in given) or len(set(given)) != len(given):
        raise ConfigurationError(
            f"Budget {name!r}: fallback is {fallback!r}; it is model ids, each once, the first to be tried "
            "first: fallback=['us.amazon.nova-lite-v1:0']."
        )
    return given


def read_wait(name: str, wait_s: object) -> float:
    """
    For how long a call waits that the budget *name* has no room for, in seconds.

    Raises:
        ConfigurationError: It is no time, or longer than any reply is worth waiting for.
    """
    is_number = isinstance(wait_s, int | float) and not isinstance(wait_s, bool)
    if not is_number or not 0 <= wait_s <= _LONGEST_WAIT_S:  # type: ignore[operator]
        raise ConfigurationError(
            f"Budget {name!r}: wait_s is {wait_s!r}; it is seconds, from 0 to {_LONGEST_WAIT_S}: wait_s=5."
        )
    return float(wait_s)  # type: ignore[arg-type]


def read_per(owner: str, per: object) -> tuple[str, ...]:
    """
    The tags of *per*, one or several; *owner*, such as `"Budget 'a'"`, is named in errors.

    Raises:
        ConfigurationError: It names none.
    """
    if isinstance(per, Mapping) or not isinstance(per, Iterable):
        raise ConfigurationError(f"{owner}: per is {per!r}; it is a tag or several: per='user'.")
    return (per,) if isinstance(per, str) else tuple(per)


def check_match(owner: str, match: object) -> None:
    """
    Refuse what is no mapping of tags.
    """
    if match is not None and not isinstance(match, Mapping):
        raise ConfigurationError(
            f"{owner}: match is {match!r}; it maps tags to globs: {{'model': 'anthropic.*'}}."
        )


def check_tags(owner: str, per: tuple[str, ...], match: Mapping[str, object]) -> None:
    """
    Refuse tags of *owner* that are none, or come twice.
    """
    for tag in (*per, *match):
        if not isinstance(tag, str) or not tag:
            raise ConfigurationError(f"{owner}: {tag!r} is not a tag's name: a non-empty string.")
    if len(set(per)) != len(per):
        raise ConfigurationError(f"{owner}: per names a tag twice: {', '.join(per)}.")


def check_word(owner: str, what: str, word: object, words: tuple[str, ...]) -> None:
    """
    Refuse what is none of *words*.
    """
    if word not in words:
        raise ConfigurationError(f"{owner}: {what} is {word!r}; it is one of {', '.join(words)}.")


def _is_share(share: object) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= _MOST_SHARE
