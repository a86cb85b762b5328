"""
Ledgers, by the scheme of their URL.

To add one: write `ledgers/<name>.py` with a class that keeps the contract of
`Ledger`, and add its line to `LEDGERS`. The contract tests find it from there.
Other packages add theirs as entry points of the group `bedrock_guard.ledgers`,
named by the scheme.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from bedrock_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    from bedrock_guard.domain.ledger import Clock, Ledger

# Named, not imported: `import bedrock_guard` must not pay for backends unused.
LEDGERS: Final[dict[str, str]] = {
    "memory": "bedrock_guard.ledgers.memory:MemoryLedger",
    "sqlite": "bedrock_guard.ledgers.sqlite:SQLiteLedger",
    "dynamodb": "bedrock_guard.ledgers.leased:DynamoDBLedgers",
}

ENTRY_POINTS: Final = "bedrock_guard.ledgers"


def open_ledger(url: str, *, clock: Clock) -> Ledger:
    """
    The ledger at *url*, made if it does not exist.

    Raises:
        ConfigurationError: No ledger has that scheme, or it does not understand the rest.
        LedgerUnavailable: It is there, and cannot be used.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in LEDGERS:
        module, _, name = LEDGERS[scheme].partition(":")
        ledger = cast("type[Ledger]", getattr(import_module(module), name))
        return ledger.open(url, clock=clock)
    others = _entry_points()
    if scheme in others.names:
        return cast("type[Ledger]", others[scheme].load()).open(url, clock=clock)
    known = ", ".join(f"{scheme}://" for scheme in (*LEDGERS, *sorted(others.names)))
    raise ConfigurationError(f"No ledger is registered for {url!r}. Known: {known}.")


def _entry_points() -> EntryPoints:
    # Reading every installed package's metadata takes milliseconds: only for schemes that are not ours.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return entry_points(group=ENTRY_POINTS)
