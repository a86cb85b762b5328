"""
Rows of a ledger that could not be read in full: shown as far as they can be, and told at the end.
"""

from __future__ import annotations

from typing import Any, Final

import typer

from bedrock_guard.cli.safe_text import plain
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Ledger

_SHOWN: Final = 5
# `tail` goes on for days, and must not remember every row of them.
_MOST: Final = 10_000


class DamageNoticed:
    """
    A ledger that remembers which of the entries that it gave are damaged; else it is *ledger* itself.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._damaged: dict[str, tuple[str, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        As the ledger's own.
        """
        found, after = self._ledger.entries(where, after=after, limit=limit)
        for entry in found:
            if entry.unread and len(self._damaged) < _MOST:
                self._damaged[entry.id] = entry.unread
        return found, after

    def tell(self) -> None:
        """
        Say on standard error which there were, and how many; nothing where there was none.
        """
        count = len(self._damaged)
        if not count:
            return
        typer.echo(
            f"Entries of the ledger that are damaged: {count:,}{' or more' if count == _MOST else ''}. They "
            "are shown as far as they can be read; a cost that cannot is in no sum.",
            err=True,
        )
        for id_, unread in list(self._damaged.items())[:_SHOWN]:
            typer.echo(f"  {plain(id_) or 'without an id'}: {', '.join(unread)}", err=True)
        if count > _SHOWN:
            typer.echo(
                f"  and {count - _SHOWN:,} more; `bedrock-guard entries --json` has `unread`.", err=True
            )
