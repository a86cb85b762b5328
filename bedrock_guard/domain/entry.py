"""
An entry: the immutable record of one call, of refusals that were alike, of a stop, resume or top-up, of
what a breaker was judged by, or of a job that goes on.

It holds figures and names; never a word of a prompt or a reply.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.entry_fields import read_fields

AttemptOutcome: TypeAlias = Literal["not_sent", "rejected", "answered", "lost", "abandoned"]
Outcome: TypeAlias = Literal[
    "pending",
    "answered",
    "rejected",
    "lost",
    "abandoned",
    "not_sent",
    "refused",
    "would_refuse",
    "stop",
    "resume",
    "top_up",
    "judged",
    "started",
]
Basis: TypeAlias = Literal["reported", "estimated", "expired"]


class Attempt(NamedTuple):
    """
    One HTTP request of a call; botocore may make several.

    Attributes:
        outcome: `not_sent` and `rejected` are free, `answered` is charged at its
            usage, `lost` and `abandoned` (a stream left early) at the estimate.
        status: HTTP status, or None when no answer came.
        error_code: AWS's error code, or the name of the exception.
        usage: Quantities by meter that it is charged for.
        cost_nanousd: What that costs; None when the model has no price.
        basis: Whether AWS reported the usage, or it is the estimate.
    """

    outcome: AttemptOutcome
    status: int | None = None
    error_code: str | None = None
    usage: Mapping[str, int] = {}
    cost_nanousd: int | None = 0
    basis: Basis = "reported"

    @property
    def cost(self) -> Decimal | None:
        """
        In USD; None when the model has no price.
        """
        return None if self.cost_nanousd is None else usd_from_nanousd(self.cost_nanousd)


_new: Final = object.__new__
_set: Final = object.__setattr__
# Every call makes some, and `Attempt()` takes twice as long.
new_attempt: Final[Callable[[type[Attempt], tuple[Any, ...]], Attempt]] = tuple.__new__


@dataclass(frozen=True, kw_only=True)
class Entry:
    """
    The record of one call.

    Attributes:
        id: Of the entry, and of its reservation.
        at_s: When the call was opened, seconds since 1970; `at` is the same as a datetime.
        outcome: How the call ended; `"pending"` while it has not.
        usage: Quantities by meter, over all attempts.
        reported_usage: What AWS said, alone; None when it said nothing.
        cost_nanousd: By the account's prices, over all attempts; None when the model has no price.
        has_own_prices: Whether the guard has prices of its own; else the cost is at list price.
        list_cost_nanousd: With such prices, the cost at list price; None where the list has none.
        estimated_cost_nanousd: What was reserved for the first attempt.
        basis: The weakest of the attempts': `reported`, `estimated`, `expired`.
        priced: `"upper_bound"` when a meter without a price was charged at the dearest.
        attempts: One for each HTTP request.
        duration_ms: From the open to the end of the call.
        anomalies: What cannot be right in what AWS reported, names of `estimators.plausible.ANOMALIES`.
        received_bytes: How much of a stream had come when it ended without its usage; else None.
        narrowed_usage: The most that the attempt left so can have used, by what its stream had said:
            the input as AWS counted it, beside the output of the estimate. The charge stays the estimate.
        narrowed_by: Which event told that, `"message_start"`.
        job: The ARN of the job that the call began, which may go on long after; else None.
        held: With the outcome `started`, what is held for that job, for whoever settles it; else None.
        allowed_by: `"on_ledger_error"` when that setting let the call, or a retry of it, through while the
            ledger was gone; None when its budgets had room for all of it.
        clamped_max_tokens: The limit on output tokens that the request was sent with, where that was lowered
            so that the call fits; else None.
        counted_input_tokens: The input as CountTokens counted it, where the call was held by that; else None.
        fallback_from: The model that was asked for, where another was asked instead; else None.
        waited_ms: How long the call waited for room.
        exceeded: Names of the budgets that had no room for the call and let it go on: soft limits, shadows.
        budget: Who refused, or would have, for refusals; a breaker is named `breaker:<name>`.
        reason: Of `would_refuse`, why: `"budget"`, `"stopped"`, `"breaker"`, `"unpriced"`, `"untagged"` or
            `"unmetered"`; `"clamped"` where the call would have been let through with a lower limit on its
            output. Of `abandoned`, `"stopped"` where `stream_cutoff` closed its stream. Of `judged`, what
            came of it: `"kept"` or `"tripped"`.
        control: The stop that refused, or would have, or that closed a stream; with the outcomes `stop`,
            `resume` and `top_up`, what was told: who, why, whose calls or which balance, until when. Of
            `judged`, the breaker, whose calls, and the figures.
        count: How many refusals this entry stands for; 1 for a call.
        unread: Names of fields that the ledger has otherwise than any version writes them, as after an edit
            by hand. They are empty here, and an unread cost is None.
    """

    id: str
    at_s: float
    operation: str
    model_id: str
    model: str | None
    family: str
    region: str
    service_tier: str
    latency: str
    tags: Mapping[str, str]
    outcome: Outcome = "pending"
    usage: Mapping[str, int] = field(default_factory=dict)
    reported_usage: Mapping[str, int] | None = None
    cost_nanousd: int | None = 0
    has_own_prices: bool = False
    list_cost_nanousd: int | None = None
    estimated_cost_nanousd: int | None = None
    basis: Basis = "reported"
    priced: str = "list"
    attempts: tuple[Attempt, ...] = ()
    duration_ms: int | None = None
    anomalies: tuple[str, ...] = ()
    received_bytes: int | None = None
    narrowed_usage: Mapping[str, int] | None = None
    narrowed_by: str | None = None
    job: str | None = None
    held: Mapping[str, Any] | None = None
    allowed_by: str | None = None
    clamped_max_tokens: int | None = None
    counted_input_tokens: int | None = None
    fallback_from: str | None = None
    waited_ms: int = 0
    exceeded: tuple[str, ...] = ()
    budget: str | None = None
    reason: str | None = None
    control: Mapping[str, Any] | None = None
    count: int = 1
    unread: tuple[str, ...] = ()

    @property
    def at(self) -> datetime:
        """
        When the call was opened, aware UTC.
        """
        return datetime.fromtimestamp(self.at_s, UTC)

    @property
    def over_at_s(self) -> float:
        """
        From when on it may be forgotten: its call's opening, or the end of the hold of the job that began.
        """
        return self.at_s if self.held is None else max(self.at_s, float(self.held["expires_at_s"]))

    @property
    def cost(self) -> Decimal | None:
        """
        In USD, by the account's prices; None when the model has no price.
        """
        return None if self.cost_nanousd is None else usd_from_nanousd(self.cost_nanousd)

    @property
    def list_cost(self) -> Decimal | None:
        """
        In USD at list price; None when the list has none.
        """
        nanousd = self.list_cost_nanousd if self.has_own_prices else self.cost_nanousd
        return None if nanousd is None else usd_from_nanousd(nanousd)

    @property
    def estimated_cost(self) -> Decimal | None:
        """
        What was reserved for the first attempt, in USD; None when the model has no price.
        """
        if self.estimated_cost_nanousd is None:
            return None
        return usd_from_nanousd(self.estimated_cost_nanousd)

    @staticmethod
    def opened(values: dict[str, Any]) -> Entry:
        """
        As the constructor with the fields *values*, and several times as quick.

        What *values* leave out it has from its class: the less is its own, the quicker it is changed.
        """
        values.setdefault("usage", {})
        return new_entry(values)

    def changed(self, **changes: Any) -> Entry:
        """
        As `dataclasses.replace`, without checks and several times as quick.
        """
        return new_entry(self.__dict__ | changes)

    def expired(self) -> Entry:
        """
        This open entry, as it ends when its process died: lost, at its estimate.
        """
        return self.changed(outcome="lost", basis="expired", cost_nanousd=self.estimated_cost_nanousd)

    def to_json(self) -> str:
        """
        One line of JSON, for ledgers to store; what is as an open entry has it is left out.
        """
        own = self.__dict__
        rest: dict[str, Any] = {"at_s": self.at_s, "outcome": self.outcome, "basis": self.basis}
        for name, default in _LEFT_OUT:
            value = own.get(name, default)
            if value is not default and value != default:
                rest[name] = value
        if self.attempts:
            rest["attempts"] = [dict(zip(Attempt._fields, attempt, strict=True)) for attempt in self.attempts]
        named = _encode_named(*_NAMES_OF(self))
        tags = _encode_tags(tuple(self.tags.items()))
        return f'{{"id":{_ENCODE(self.id)},{named},"tags":{tags},{_ENCODE(rest)[1:]}'

    @staticmethod
    def from_json(text: str, *, at_s: float = 0.0) -> Entry:
        """
        Back from `to_json`; fields of a newer version are left out, and `unread` names what is damaged.

        *at_s* is when the call was opened, where the text does not tell.
        """
        known = read_fields(text, at_s)
        if "attempts" in known:
            known["attempts"] = tuple(
                Attempt(**{name: attempt[name] for name in Attempt._fields if name in attempt})
                for attempt in known["attempts"]
            )
        for name in _LISTS:
            if name in known:
                known[name] = tuple(known[name])
        return Entry.opened(known)


def new_entry(values: dict[str, Any]) -> Entry:
    """
    The entry that has *values*, its usage among them; it keeps the dictionary.
    """
    entry = _new(Entry)
    _set(entry, "__dict__", values)
    return entry


# What an entry holds before it is told.
_OPEN: dict[str, Any] = {
    field.name: {} if field.default_factory is not MISSING else field.default
    for field in fields(Entry)
    if field.default is not MISSING or field.default_factory is not MISSING
}
# Ledgers filter by `outcome` and `basis`, which are always written.
_LEFT_OUT = tuple((name, value) for name, value in _OPEN.items() if name not in {"outcome", "basis"})
_LISTS = ("anomalies", "exceeded", "unread")
# What many calls have alike.
_NAMES = ("operation", "model_id", "model", "family", "region", "service_tier", "latency")
_NAMES_OF = attrgetter(*_NAMES)
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=dict).encode


@lru_cache(maxsize=1024)
def _encode_named(*values: str | None) -> str:
    return _ENCODE(dict(zip(_NAMES, values, strict=True)))[1:-1]


@lru_cache(maxsize=1024)
def _encode_tags(tags: tuple[tuple[str, str], ...]) -> str:
    return _ENCODE(dict(tags))
