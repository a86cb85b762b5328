"""
Templates, and values made text that cannot be anything else.

Every value that a template shows goes through `shown`, and then through Jinja's escaping: no template has
to remember either.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bedrock_guard.cli.safe_text import plain
from bedrock_guard.cli.screen import dollars, percent

_TEMPLATES: Final = Path(__file__).parent / "templates"
# Longer values are shown, and are no links.
_LONGEST_LINK: Final = 256

Pairs: TypeAlias = Sequence[tuple[str, str]]


@cache
def templates() -> Environment:
    """
    The templates, ready to render: made once, and before the first request.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        dollars=dollars, usd=_usd, percent=percent, share=_share, cut=plain, moment=_moment, zip=zip
    )
    environment.globals.update(address=address)
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


def shown(value: Any) -> Any:
    r"""
    *value* as a page shows it: controls and what turns the direction of writing as `\x1b`, `\u202e`.
    """
    if isinstance(value, Markup):
        return value
    return "" if value is None else plain(str(value), None)


def address(path: str, given: Pairs = (), /, **more: str) -> str:
    """
    *path* with what is *given*, of which *more* takes the place; what is empty is left out.
    """
    kept = [pair for pair in given if pair[0] not in more]
    query = urlencode([(name, value) for name, value in (*kept, *more.items()) if value], errors="replace")
    return f"{path}?{query}" if query else path


def is_linkable(value: str) -> bool:
    """
    Whether an address can hold *value*, so that it comes back as it is.
    """
    return len(value) <= _LONGEST_LINK and not any("\ud800" <= each <= "\udfff" for each in value)


def _moment(iso: str) -> str:
    """
    A moment as JSON has it, for people.
    """
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M}"


def _usd(text: str) -> str:
    """
    USD as JSON has it, for people.
    """
    nanousd = int(Decimal(text).scaleb(9))
    return f"-{dollars(-nanousd)}" if nanousd < 0 else dollars(nanousd)


def _share(share: float | None) -> str:
    """
    A share as JSON has it, for people; a dash where there is none.
    """
    return "–" if share is None else percent(Fraction(share))  # noqa: RUF001
