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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, Self, TypeAlias

from bedrock_guard.domain.alert_claim import ClaimsAlerts
from bedrock_guard.domain.control import ControlsChanged, KeepsControls
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.entry_filter import EntryFilter

OnExpiry: TypeAlias = Literal["charge", "release"]
# Of a rolling window; divides a minute, and so whatever rolls, into whole seconds.
SUB_WINDOWS: Final = 30
# How the rule of a key ends whose balance is a rate, and what the rule of one that rolls holds.
RATE_SUFFIX: Final = " rate"
ROLLING_PART: Final = "/rolling "
LineKind: TypeAlias = Literal["window", "rolling", "rate"]


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
        window_start: Start of the window, seconds since 1970; 0 for all time, and for a rate. In a rolling
            window, the start of the sub-window.
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
        limit: The most that spent and pending may come to; None only counts. Of a rate, its burst.
        amount: The most the call can add, in the unit of the key's rule.
        kind: `window`: this key alone is counted. `rolling`: so are the sub-windows before it.
            `rate`: a bucket, which is refilled while time goes by.
        enforce: False counts without refusing, and tells what would have been refused.
        span_s: Rolling: how long before the sub-window's start others count too. Rate: in how many seconds
            *refill* comes.
        refill: Of a rate; 0 for others.
    """

    key: LedgerKey
    limit: int | None
    amount: int
    kind: LineKind = "window"
    enforce: bool = True
    span_s: int = 0
    refill: int = 0


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """
    A line that did not fit, and the balance it met.

    Attributes:
        frees_at_s: Rolling and rate: when it would fit, if nothing else is held and nothing given back;
            None when never, and for a window, whose end the caller knows.
    """

    line: Line
    spent: int
    pending: int
    pending_calls: int | None = None
    frees_at_s: float | None = None

    @property
    def room(self) -> int:
        """
        What was free.
        """
        return max(0, (self.line.limit or 0) - self.spent - self.pending)


class Reservation(NamedTuple):
    """
    Money held for a call that is under way.

    Attributes:
        id: The entry's id.
        lines: What is held where, extensions included.
        expires_at_s: When anyone may end it, as its process is taken for dead.
        over: Of the lines that were just asked for, those that did not fit and are not enforced. The same
            entry id again does not tell it again.
    """

    id: str
    lines: tuple[Line, ...]
    expires_at_s: float
    over: tuple[RefusedLine, ...] = ()


# Every call makes two, and `Reservation()` takes twice as long.
new_reservation: Final[Callable[[type[Reservation], tuple[Any, ...]], Reservation]] = tuple.__new__


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

    Attributes:
        pending: What calls under way hold, as far as the reader can tell: of another process that leases, it
            is in *leased*.
        leased: What processes have taken to spend without asking; it counts against limits as if it were
            spent, and what is not spent comes back.
        full_at_s: Of a rate: when all that was taken from it is refilled; None for others.
    """

    key: LedgerKey
    spent: int = 0
    pending: int = 0
    full_at_s: float | None = None
    leased: int = 0


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
        damaged: Those that cannot be ended: somebody has edited their rows.
    """

    charged: int = 0
    released: int = 0
    keys: frozenset[LedgerKey] = field(default=frozenset(), compare=False, repr=False)
    damaged: int = 0

    def __add__(self, other: SweepReport) -> SweepReport:
        return SweepReport(
            self.charged + other.charged,
            self.released + other.released,
            self.keys | other.keys,
            self.damaged + other.damaged,
        )


class Ledger(ClaimsAlerts, KeepsControls, Protocol):
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
        self,
        lines: Sequence[Line],
        *,
        entry: Entry,
        hold_s: float,
        on_expiry: OnExpiry,
        controls: int | None = None,
    ) -> Reservation | Refusal | ControlsChanged:
        """
        Hold every line, or none.

        The check and the hold are one step: at no moment does any interleaving
        of callers bring `spent + pending` of a key above its limit. The open
        *entry* is stored with the hold, so that whoever sweeps can write the
        expired one. The same entry id again returns the same reservation.

        *controls* is the version of the record by which *lines* were admitted; where another is stored,
        nothing is held. None does not ask.
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


class ReadsEntries(Protocol):
    """
    What a report needs of a ledger.
    """

    def entries(
        self, where: EntryFilter, *, after: str | None = None, limit: int = 1000
    ) -> tuple[list[Entry], str | None]:
        """
        As `Ledger.entries`.
        """
        ...


def read_all_entries(ledger: ReadsEntries, where: EntryFilter) -> Iterator[Entry]:
    """
    Every entry that *where* admits, newest first, a page at a time.
    """
    after: str | None = None
    while True:
        page, after = ledger.entries(where, after=after)
        yield from page
        if after is None:
            return
