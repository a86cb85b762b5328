"""
Text of others, made safe to show: tags may be an end user's, and names a newer version's.

Nothing here is markup to a terminal, a command to it, or a formula to a spreadsheet.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

LONGEST: Final = 60
"""How much of a value a table shows; JSON and CSV have it whole."""

# What spreadsheets take for a formula at the start of a cell, the wide forms of East Asian keyboards too.
_FORMULA: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
# A figure below 0 is none, and must stay one that can be added up.
_FIGURE: Final = re.compile(r"-[0-9]+(\.[0-9]+)?")


def plain(text: str, longest: int | None = LONGEST) -> str:
    r"""
    *text* with what a terminal would act on spelled out, and of *longest* characters at most.

    Controls, escapes and what turns the direction of writing become `\x1b`, `\u202e`.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return text if text.isprintable() else "".join([_spelled(each) for each in text])


def cell(value: object) -> str:
    """
    *value* for a CSV file: as `plain`, and never a formula.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    shown = plain(value, None)
    is_formula = shown.lstrip().startswith(_FORMULA) and not _FIGURE.fullmatch(shown)
    return f"'{shown}" if is_formula else shown


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """
    *rows* as CSV, each as it comes, with every cell made safe; a column that a row lacks is empty.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([cell(column) for column in columns])
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])


def to_json(value: Any) -> str:
    """
    *value* as JSON on one line, in ASCII: what a terminal would act on is escaped.
    """
    return json.dumps(value, default=dict)


def _spelled(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
