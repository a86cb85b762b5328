"""
An alert: what somebody should hear of a budget, once; and who hears it.

It holds figures and names; never a word of a prompt or a reply.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, Protocol, Self, runtime_checkable

from bedrock_guard.domain.budget import USD, Window
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey

JSON_VERSION: Final = 1
"""Of the shape that `Alert.to_json` writes; what is added does not change it."""

KINDS: Final[dict[str, str]] = {
    "threshold": "a share of a limit is spent",
    "refused": "a call was refused, for the first time in its window and balance",
    "clamped": "a call was given a lower limit on its output, for the first time in its window and balance",
    "overrun": "a call came to more than was held for it",
    "breaker": "calls broke a breaker's condition",
    "anomaly": "AWS reported usage that cannot be right",
    "price_age": "prices in use are old",
    "ledger": "the ledger could not take a call",
}
"""Every kind, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    One thing to tell, the same for every process that would tell it.

    Attributes:
        id: Of what it is about (kind, threshold, balance and window), so that a receiver knows a second one.
        kind: One of `KINDS`.
        threshold: The share of the limit, of kind `threshold`; else None.
        budget: The budget's name, or `breaker:` and a breaker's; None where it is about neither.
        per: Whose balance, sorted `(tag, value)` pairs; else the model, if it is about one.
        window_start, window_end: Aware UTC; the end is None for all time. Where a budget has no windows, the
            time in which this is told once: of what rolls a run of its period, of a rate a day.
        unit: `"USD"`, or what is counted; None where it is about no budget.
        spent, limit: USD as `Decimal`, counts as `int`; None where it is about no budget. Of a rate, what is
            taken of its burst.
        text: For people: one line.
        at: When it was noticed, aware UTC.
    """

    id: str
    kind: str
    threshold: float | None = None
    budget: str | None = None
    per: tuple[tuple[str, str], ...] = ()
    window_start: datetime
    window_end: datetime | None = None
    unit: str | None = None
    spent: Decimal | int | None = None
    limit: Decimal | int | None = None
    text: str
    at: datetime

    @property
    def used_share(self) -> float | None:
        """
        What is spent, as a share of the limit; None where there is no limit, or one of 0.
        """
        return float(Decimal(self.spent or 0) / Decimal(self.limit)) if self.limit else None

    def to_dict(self) -> dict[str, Any]:
        """
        As JSON has it: USD as strings, so that nobody reads money as a float; times in ISO 8601.
        """
        return {
            "version": JSON_VERSION,
            "id": self.id,
            "kind": self.kind,
            "threshold": self.threshold,
            "budget": self.budget,
            "per": dict(self.per),
            "window": {"start": self.window_start.isoformat(), "end": _write_time(self.window_end)},
            "unit": self.unit,
            "currency": USD if self.unit == USD else None,
            "spent": _write_amount(self.spent),
            "limit": _write_amount(self.limit),
            "text": self.text,
            "at": self.at.isoformat(),
        }

    def to_json(self) -> str:
        """
        One line of JSON, ASCII.
        """
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """
        Back from `to_json`; what a newer version added is left out.
        """
        values = json.loads(text)
        read = Decimal if values["unit"] == USD else int
        return cls(
            **{name: values[name] for name in ("id", "kind", "threshold", "budget", "unit", "text")},
            per=tuple(sorted(values["per"].items())),
            window_start=datetime.fromisoformat(values["window"]["start"]),
            window_end=_read_time(values["window"]["end"]),
            spent=None if values["spent"] is None else read(values["spent"]),
            limit=None if values["limit"] is None else read(values["limit"]),
            at=datetime.fromisoformat(values["at"]),
        )


class AlertSink(Protocol):
    """
    Who is told.
    """

    def send(self, alert: Alert) -> None:
        """
        Tell it; whatever is raised is a failure, and is tried again.

        Called in a thread beside the calls, never twice at once. What takes longer than 10 s has failed.
        """
        ...


@runtime_checkable
class ObservesEntries(Protocol):
    """
    A sink that is also told of every call that ended, and of every one that was refused.
    """

    def observe(self, entry: Entry) -> None:
        """
        Look at *entry*, a moment after its call ended; what is raised is logged, and not tried again.
        """
        ...


class Looking(Protocol):
    """
    What is looked at beside the calls, together with alerts.
    """

    @property
    def has_news(self) -> bool:
        """
        Whether something is to be looked at.
        """
        ...

    def look(self) -> None:
        """
        Look at it.

        Raises:
            LedgerUnavailable: The rest stays to be looked at.
        """
        ...

    def forget(self) -> None:
        """
        In a fork: what was to be looked at is the parent's to look at.
        """
        ...


class Telling(Protocol):
    """
    Who tells of trips, and looks beside the calls that it has seen end.
    """

    breakers: Looking | None

    def see_tripped(self, key: LedgerKey, window: Window, text: str) -> None:
        """
        Tell *text* once for *key*, whose rule names the trip.
        """
        ...


def alert_id(kind: str, threshold: float | None, balance: tuple[object, ...]) -> str:
    """
    The same for every process and host: of the kind, the threshold, and whose balance in which window.
    """
    text = json.dumps([kind, threshold, *balance])
    return sha256(text.encode()).hexdigest()[:32]


def _write_amount(amount: Decimal | int | None) -> str | int | None:
    return f"{amount:f}" if isinstance(amount, Decimal) else amount


def _write_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
