"""
What a ledger keeps: reservations, and the balance of each key.

    pending --settle--> settled
            --release-> released
            --expire--> expired --settle (late)--> settled

Amounts are whole nano-dollars, or whole counts, so that every backend adds
integers and no two of them can disagree on a rounding. Which unit a key counts
is part of its `rule`, so amounts of different units never meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from bedrock_guard.domain.alert import ClaimsAlerts
from bedrock_guard.domain.entry import Entry

OnExpiry: TypeAlias = Literal["charge", "release"]


class Clock(Protocol):
    """
    Where time comes from.
    """

    def __call__(self) -> float:
        """
        Seconds since 1970-01-01T00:00Z.
        """
        ...


class LedgerKey(NamedTuple):
    """
    Whose balance: a budget, in one unit and period, for one value of its `per` tags, in one window.

    A changed limit keeps its balance; a changed unit, period or zone is another one.

    Attributes:
        budget: The budget's name.
        rule: Unit, period and zone in canonical form: `"USD/day@UTC"`, `"USD"` for all time.
        per: Sorted `(tag, value)` pairs; empty when the budget keeps one balance.
        window_start: Start of the window, seconds since 1970; 0 for all time.
    """

    budget: str
    rule: str
    per: tuple[tuple[str, str], ...]
    window_start: int


class Line(NamedTuple):
    """
    One balance that a call counts towards.

    Attributes:
        key: Whose balance.
        limit: The most that spent and pending may come to; None only counts.
        amount: The most the call can add, in the unit of the key's rule.
    """

    key: LedgerKey
    limit: int | None
    amount: int


class Reservation(NamedTuple):
    """
    Money held for a call that is under way.

    Attributes:
        id: The entry's id.
        lines: What is held where, extensions included.
        expires_at_s: When anyone may end it, as its process is taken for dead.
    """

    id: str
    lines: tuple[Line, ...]
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """
    A line that did not fit, and the balance it met.
    """

    line: Line
    spent: int
    pending: int
    pending_calls: int | None = None

    @property
    def room(self) -> int:
        """
        What was free.
        """
        return max(0, (self.line.limit or 0) - self.spent - self.pending)


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    The lines that did not fit; nothing was reserved.
    """

    lines: tuple[RefusedLine, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """
    What a key has spent, and what calls under way hold.
    """

    key: LedgerKey
    spent: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """
    How the end of a reservation was taken.

    Attributes:
        how: `settled` or `released`; `replayed` when it had ended so before;
            `corrected` when it had expired and the books were put right.
        overrun: True when a line was settled above what it had reserved.
    """

    how: Literal["settled", "released", "replayed", "corrected"]
    overrun: bool = False


@dataclass(frozen=True, slots=True)
class SweepReport:
    """
    What a sweep did: reservations of dead processes ended, by how.

    Attributes:
        keys: Whose balances were charged.
    """

    charged: int = 0
    released: int = 0
    keys: frozenset[LedgerKey] = field(default=frozenset(), compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """
    Which entries to read; None does not narrow.

    Attributes:
        since, until: Seconds since 1970; from `since` on, up to but not including `until`.
        outcome, operation, model, model_id, family, region, service_tier, basis: Equal to.
        tags: Each of these tags has this value.
        cost_nanousd_min, cost_nanousd_max: Both included; a call without a price is in neither.
        tokens_min, tokens_max: Of `tokens_of`, both included.
        attempts_min: At least so many HTTP requests.
        status, error_code: That of at least one of the attempts.
    """

    since: float | None = None
    until: float | None = None
    outcome: str | None = None
    operation: str | None = None
    model: str | None = None
    model_id: str | None = None
    family: str | None = None
    region: str | None = None
    service_tier: str | None = None
    basis: str | None = None
    tags: Mapping[str, str] | None = None
    cost_nanousd_min: int | None = None
    cost_nanousd_max: int | None = None
    tokens_min: int | None = None
    tokens_max: int | None = None
    attempts_min: int | None = None
    status: int | None = None
    error_code: str | None = None

    def admits(self, entry: Entry) -> bool:
        """
        Whether *entry* is among those asked for.
        """
        return (
            _is_between(entry.at_s, self.since, None)
            and (self.until is None or entry.at_s < self.until)
            and all(
                wanted is None or getattr(entry, name) == wanted
                for name in EQUAL_FILTERS
                for wanted in (getattr(self, name),)
            )
            and all(entry.tags.get(tag) == value for tag, value in (self.tags or {}).items())
            and _is_between(entry.cost_nanousd, self.cost_nanousd_min, self.cost_nanousd_max)
            and (
                (self.tokens_min is None and self.tokens_max is None)
                or _is_between(tokens_of(entry), self.tokens_min, self.tokens_max)
            )
            and _is_between(len(entry.attempts), self.attempts_min, None)
            and (self.status is None or any(each.status == self.status for each in entry.attempts))
            and (
                self.error_code is None or any(each.error_code == self.error_code for each in entry.attempts)
            )
        )


# Names that an entry and its filter have in common.
EQUAL_FILTERS: Final = (
    "outcome",
    "operation",
    "model",
    "model_id",
    "family",
    "region",
    "service_tier",
    "basis",
)
TOKENS_SUFFIX: Final = "_tokens"


def tokens_of(entry: Entry) -> int:
    """
    Every token that *entry* is charged for: input, output, and of caches.
    """
    return sum(quantity for meter, quantity in entry.usage.items() if meter.endswith(TOKENS_SUFFIX))


def _is_between(figure: float | None, least: float | None, most: float | None) -> bool:
    if least is None and most is None:
        return True
    return figure is not None and (least is None or figure >= least) and (most is None or figure <= most)


class Ledger(ClaimsAlerts, Protocol):
    """
    Where reservations and balances are kept.

    Every method is atomic and safe to call from any thread. `LedgerUnavailable`
    and, where named, `ReservationClosed` are the only errors.
    """

    blocking: bool
    """Whether calls may wait for a disk or a network."""

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Self:
        """
        The ledger at *url*, made if it does not exist.
        """
        ...

    def reserve(
        self, lines: Sequence[Line], *, entry: Entry, hold_s: float, on_expiry: OnExpiry
    ) -> Reservation | Refusal:
        """
        Hold every line, or none.

        The check and the hold are one step: at no moment does any interleaving
        of callers bring `spent + pending` of a key above its limit. The open
        *entry* is stored with the hold, so that whoever sweeps can write the
        expired one. The same entry id again returns the same reservation.
        """
        ...

    def extend(
        self, reservation: Reservation, lines: Sequence[Line] = (), *, hold_s: float | None = None
    ) -> Reservation | Refusal:
        """
        Hold more money, for longer, or both: all of it or none.

        Raises:
            ReservationClosed: It has ended.
        """
        ...

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        """
        Turn a reservation into spend, at what the call did cost.

        *amounts* may exceed what was reserved: the money is spent, and a ledger
        that refused would only be wrong. The same settle twice is one; after an
        expiry it corrects the books, once. A key that is absent from *amounts*
        is settled at 0.

        Raises:
            ReservationClosed: It was settled with other amounts, or released.
        """
        ...

    def release(self, reservation: Reservation, entry: Entry | None = None) -> Settled:
        """
        Give back everything that is held: nothing reached AWS.

        Raises:
            ReservationClosed: It was settled.
        """
        ...

    def record(self, entry: Entry) -> None:
        """
        Keep an entry without money; one with an id that is there already adds to its count.
        """
        ...

    def balances(self, keys: Sequence[LedgerKey] | None = None) -> list[Balance]:
        """
        One balance for each of *keys*, zeros where there is none; all that there are for None.
        """
        ...

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        At most *limit* entries, newest first, and where to go on (`after`), or None at the end.
        """
        ...

    def sweep(self, *, now: float, limit: int = 500) -> SweepReport:
        """
        End the reservations whose time is over, each by its own `on_expiry`.
        """
        ...

    def close(self) -> None:
        """
        Give back files and connections; the ledger cannot be used afterwards.
        """
        ...


@runtime_checkable
class DropsEntries(Protocol):
    """
    A ledger whose entries are dropped by whoever sweeps; others forget by themselves, or never.
    """

    def drop_entries(self, *, before: float, limit: int = 1000) -> int:
        """
        Forget at most *limit* entries of calls that were opened, and whose holds ended, before then.

        Balances and open reservations stay. Returns how many were dropped.
        """
        ...


@runtime_checkable
class KeepsEntries(Protocol):
    """
    A ledger whose store deletes by itself: what ends is told then how long it is kept.
    """

    def keep_entries(self, seconds: float | None) -> None:
        """
        Keep what ends from now on for *seconds*, None for ever; of several wishes the longest holds.
        """
        ...


def read_all_entries(ledger: Ledger, where: EntryFilter) -> Iterator[Entry]:
    """
    Every entry that *where* admits, newest first, a page at a time.
    """
    after: str | None = None
    while True:
        page, after = ledger.entries(where, after=after)
        yield from page
        if after is None:
            return
