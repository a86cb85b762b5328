"""
What `match` may say of one tag.

    "search"                 this value
    "ads*"                   `*` is any text, `?` one character, `[ab]` one of these
    "!nightly*"              every value but these
    ["search", "ads*"]       any of these
    ["ads*", "!ads-test"]    any of these, and none of those

A call without the tag has the value `""`, which `"*"` matches and `"?*"` does not: to
leave a tag away is no way round a budget that matches by what it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Final, TypeAlias

from bedrock_guard.errors import ConfigurationError

Globs: TypeAlias = str | Sequence[str]
"""A glob, or several; see the module."""

NOT: Final = "!"
_SPECIAL: Final = frozenset("*?[")


def read_match(owner: str, match: Mapping[str, Globs]) -> dict[str, str | tuple[str, ...]]:
    """
    *match* as it is kept: what it maps to are strings, and tuples of them. *owner* is named in errors.

    Raises:
        ConfigurationError: It is no glob, or a list of none.
    """
    return {tag: _read_globs(f"{owner}: match[{tag!r}]", globs) for tag, globs in match.items()}


def compile_match(match: Mapping[str, Globs]) -> Callable[[Mapping[str, str]], bool]:
    """
    A function that tells whether the tags of a call are those that *match* means.

    Raises:
        ConfigurationError: It is no match.
    """
    tests = [(tag, compile_globs(globs)) for tag, globs in read_match("A match", match).items()]

    def is_matched(tags: Mapping[str, str]) -> bool:
        for tag, test in tests:  # noqa: SIM110 - a generator would take twice as long
            if not test(tags.get(tag, "")):
                return False
        return True

    return is_matched


def compile_globs(globs: Globs) -> Callable[[str], object]:
    """
    A function that tells, by the truth of what it returns, whether a value is matched.
    """
    each = (globs,) if isinstance(globs, str) else globs
    wanted = [glob for glob in each if not glob.startswith(NOT)]
    unwanted = [glob.removeprefix(NOT) for glob in each if glob.startswith(NOT)]
    if not unwanted:
        return _any_of(wanted)
    is_unwanted = _any_of(unwanted)
    if not wanted:
        return lambda value: not is_unwanted(value)
    is_wanted = _any_of(wanted)
    return lambda value: is_wanted(value) and not is_unwanted(value)


def is_literal(glob: str) -> bool:
    """
    Whether *glob* means one value, itself.
    """
    return not glob.startswith(NOT) and _SPECIAL.isdisjoint(glob)


def show_globs(globs: Globs) -> str:
    """
    *globs* in one line.
    """
    return globs if isinstance(globs, str) else " | ".join(globs)


def _any_of(globs: Sequence[str]) -> Callable[[str], object]:
    if all(map(is_literal, globs)):
        return frozenset(globs).__contains__
    return re.compile("|".join(translate(glob) for glob in globs)).match


def _read_globs(place: str, globs: object) -> str | tuple[str, ...]:
    if isinstance(globs, str):
        return _check_glob(place, globs, globs)
    listed = globs if isinstance(globs, Iterable) and not isinstance(globs, Mapping) else (globs,)
    each = tuple([_check_glob(place, globs, glob) for glob in listed])
    if not each:
        raise ConfigurationError(f"{place} is an empty list, which no call matches; leave it out for all.")
    return each


def _check_glob(place: str, globs: object, glob: object) -> str:
    if not isinstance(glob, str):
        raise ConfigurationError(
            f"{place} is {globs!r}; it is a glob or a list of globs: 'anthropic.*', '!nightly*', "
            "['search', 'ads*']."
        )
    if glob == NOT:
        raise ConfigurationError(f"{place}: '!' stands before a glob; '?*' is any value but none.")
    return glob
