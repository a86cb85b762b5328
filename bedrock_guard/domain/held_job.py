"""
What is held for a job that goes on: all that another process needs to settle it, days later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from bedrock_guard.domain.ledger import LedgerKey, Line, Reservation
from bedrock_guard.domain.usage import Usage


class HeldJob(NamedTuple):
    """
    The `held` of an entry with the outcome `started`.

    Attributes:
        reservation: Its id, and that of the entry with which it will end.
        at_s: When the call was opened.
        expires_at_s: When it is charged at its estimate.
        lines: What is held where.
        usage: What is held for, at most, by meter.
        geography: The model's, as prices go by it.
        records: Of its input; None where nobody read it.
        largest_input_tokens: The most that one record can send.
        files: Of its input, as they were when they were read.
    """

    reservation: str
    at_s: float
    expires_at_s: float
    lines: tuple[Line, ...]
    usage: Usage
    geography: str
    records: int | None = None
    largest_input_tokens: int = 0
    files: tuple[str, ...] = ()

    @property
    def held(self) -> Reservation:
        """
        The reservation, as its ledger knows it.
        """
        return Reservation(self.reservation, self.lines, self.expires_at_s)

    def as_json(self) -> dict[str, Any]:
        """
        For an entry to keep.
        """
        return {**self._asdict(), "lines": [[list(line.key), *line[1:]] for line in self.lines]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """
        Back from `as_json`, in memory or through JSON.
        """
        known = {name: values[name] for name in cls._fields if name in values}
        known["lines"] = tuple(_read_line(*line) for line in values["lines"])
        known["files"] = tuple(values.get("files", ()))
        return cls(**known)


def _read_line(key: Any, *rest: Any) -> Line:
    budget, rule, per, window_start = key
    return Line(LedgerKey(budget, rule, tuple((tag, value) for tag, value in per), window_start), *rest)
