"""
What must be true, of which nothing is asked of the ledger: the bill is Bedrock's own log.

    at any moment   used <= limit; what Bedrock bills is held; used is the sum over open and ended calls
    in the end      nothing is held; each call is settled as its program was told, and charged at least what was billed
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from simulation.fleet.scenario import CallPlan

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers.books import State

Ending: TypeAlias = Literal["settled", "released"]


class Wrong(AssertionError):
    """
    The books do not keep what they promise.
    """


class Breach(Wrong):
    """
    More than a limit is used or billed.
    """


class Lost(Wrong):
    """
    What was billed or settled is not in the books, or not in the journal.
    """


class Double(Wrong):
    """
    One call is there twice.
    """


class Kept(NamedTuple):
    """
    A call, as a ledger has it.

    Attributes:
        has_entry: Whether the journal is to tell of it: what was refused leaves no entry of its own.
    """

    state: State
    lines: tuple[Line, ...]
    booked: tuple[int, ...]
    has_entry: bool = True

    def sums(self) -> dict[LedgerKey, tuple[int, int]]:
        """
        What it adds to each balance: to what is used, and to what is spent.
        """
        if self.state == "pending":
            return {line.key: (line.amount, 0) for line in self.lines}
        return {line.key: (amount, amount) for line, amount in zip(self.lines, self.booked, strict=False)}

    def without(self, key: LedgerKey) -> Kept:
        """
        It, but for one balance.
        """
        both = [
            (line, spent) for line, spent in zip(self.lines, self.booked, strict=False) if line.key != key
        ]
        return self._replace(lines=tuple(line for line, _ in both), booked=tuple(spent for _, spent in both))


@dataclass
class Story:
    """
    A call, as its program knows it.

    Attributes:
        lines: What it holds, as it was told; empty while it does not know.
        asked: What it may hold: extensions that were lost included.
        at_s: When it began, by the clock of its process.
        caps: The limits by which it asked.
        extra: The balance that it is charged to, and had reserved nothing of.
        tried: Ends that it asked for; `told` the one that was confirmed.
        billed: What Bedrock has charged.
        is_refused: It was told that it holds nothing.
        is_whole: Its process has left having written all that it knew.
    """

    id: str
    plan: CallPlan
    lines: tuple[Line, ...] = ()
    asked: dict[LedgerKey, int] = field(default_factory=dict)
    at_s: float = 0.0
    caps: dict[LedgerKey, int] = field(default_factory=dict)
    extra: LedgerKey | None = None
    tried: list[tuple[Ending, int]] = field(default_factory=list)
    told: tuple[Ending, int] | None = None
    billed: int = 0
    is_refused: bool = False
    is_whole: bool = False

    def held(self, key: LedgerKey) -> int:
        """
        How much of a balance it knows that it holds.
        """
        return sum(line.amount for line in self.lines if line.key == key)

    def charged(self, amount: int) -> dict[LedgerKey, int]:
        """
        What its program charges to each balance, if it cost *amount*.
        """
        more = {} if self.extra is None else {self.extra: self.plan.extra}
        return {**{line.key: amount for line in self.lines}, **more}


@dataclass
class Oracle:
    """
    Follows the fleet, and raises as soon as something is not as it must be.

    Attributes:
        limits: The highest of each balance that any process went by, and `topped` what operators have added.
        truth: What Bedrock has billed, by balance, for calls that are charged where nobody knows; above what
            a call held, once the ledger has been told.
        allowed: What may be above a limit: overruns, what was never reserved, and what calls are charged that
            wished to give their money back on expiry.
        stops: When each was written, and when it may pass for the first.
        stops_after_s: How long programs may go by a copy of before, clocks that drift included.
        revived: Calls of which a request was repeated after it had been refused, and was done then. Nobody can
            know of such a hold, so that it is charged when it expires: too much, which is the safe side.
    """

    stories: dict[str, Story] = field(default_factory=dict)
    limits: dict[LedgerKey, int] = field(default_factory=dict)
    topped: Counter[LedgerKey] = field(default_factory=Counter)
    truth: Counter[LedgerKey] = field(default_factory=Counter)
    allowed: Counter[LedgerKey] = field(default_factory=Counter)
    stops: list[tuple[float, float]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    stops_after_s: float = 0.0
    revived: set[str] = field(default_factory=set)

    def begin(self, id_: str, plan: CallPlan, lines: list[Line]) -> Story:
        """
        A program is about to ask for *lines*.
        """
        for line in lines:
            if line.limit is not None and line.kind != "rate":
                self.limits[line.key] = max(self.limits.get(line.key, 0), line.limit)
        story = self.stories.setdefault(id_, Story(id_, plan))
        story.asked = {line.key: line.amount for line in lines}
        return story

    def raise_limit(self, key: LedgerKey, base: int, amount: int) -> None:
        """
        An operator tops a balance up; from now on it may have been done.
        """
        self.limits.setdefault(key, base)
        self.topped[key] += amount

    def most(self, key: LedgerKey) -> int | None:
        """
        What may be used of a balance; None where it has no limit.
        """
        limit = self.limits.get(key)
        return None if limit is None else limit + self.topped[key] + self.allowed[key]

    def check_cap(self, story: Story, key: LedgerKey, used: int) -> None:
        """
        A call was let in, after which so much was used: no more than the limit by which it had asked.
        """
        cap = story.caps.get(key)
        if cap is not None and used > cap:
            raise Breach(f"{story.id} was let in where {used} of {cap} is used then on {key}")

    def admit(self, story: Story, asked_s: float) -> None:
        """
        A call holds money, which it had asked for then.
        """
        self.counts["admitted"] += 1
        for written_s, passes_s in self.stops:
            if written_s + self.stops_after_s < asked_s < passes_s:
                raise Wrong(
                    f"{story.id} was admitted {asked_s - written_s:.3f} s after a stop had been written"
                )

    def bill(self, story: Story) -> None:
        """
        Bedrock charges for a call.
        """
        story.billed = story.plan.cost
        self.counts["billed"] += 1
        for line in story.lines:
            if story.plan.on_expiry == "charge":
                self.truth[line.key] += min(story.billed, line.amount)
                most = self.most(line.key)
                if most is not None and self.truth[line.key] > most:
                    raise Breach(f"Bedrock has billed {self.truth[line.key]} of {most} on {line.key}")

    def book(self, story: Story) -> None:
        """
        What a call cost beyond what it held is in the books from now on.
        """
        if story.told is None or story.told[0] != "settled" or story.plan.on_expiry != "charge":
            return
        for key, amount in story.charged(story.told[1]).items():
            self.truth[key] += max(0, amount - story.held(key))

    def check_balance(self, key: LedgerKey, used: int, spent: int, *, is_whole: bool = True) -> None:
        """
        A balance, at any moment; not *is_whole* where what was spent leaves it as time goes by.
        """
        most = self.most(key)
        if not 0 <= spent <= used:
            raise Wrong(f"{key}: {spent} is spent of {used} that are used")
        if most is not None and used > most:
            raise Breach(f"{used} of {most} is used on {key}")
        if is_whole and used < self.truth[key]:
            raise Lost(f"Bedrock has billed {self.truth[key]}, and {used} is used on {key}")

    def risk(self, story: Story, amount: int) -> None:
        """
        A call is about to be charged *amount*: where it holds less, others may have that money by now.
        """
        is_sure = story.plan.on_expiry == "charge"
        for key, charged in story.charged(amount).items():
            self.allowed[key] += max(0, charged - story.held(key)) if is_sure else charged

    def check_call(self, id_: str, kept: Kept | None, listed: int) -> None:
        """
        A call, when all is over; the journal has it *listed* times.
        """
        if listed != (kept is not None and kept.has_entry):
            raise (Double if listed > 1 else Lost if not listed else Wrong)(
                f"{id_} has {listed} entries: {kept}"
            )
        story = self.stories.get(id_)
        if story is None:
            raise Wrong(f"{id_} is in the ledger, and nobody has asked for it")
        if kept is None:
            if story.lines or story.told == ("settled", story.plan.cost):
                raise Lost(f"{id_} was held, and is not there")
            return
        if kept.state == "pending":
            raise Wrong(f"{id_} is still held")
        if kept.state == "released" and not story.lines and not kept.booked:
            return  # it was refused, and its place is closed to what may still be on its way
        if story.is_refused and id_ not in self.revived:
            raise Wrong(f"{id_} holds nothing, its program was told, and is {kept.state} at {kept.booked}")
        wanted = {story.told} if story.told else {*story.tried, ("expired", 0)}
        found = self._as_ended(story, kept)
        if found is None or found not in wanted:
            raise Wrong(f"{id_} is {kept.state} at {kept.booked}; its program knows {wanted}")
        is_risked = story.plan.on_expiry == "release" and kept.state == "expired"
        is_told = story.told is not None and story.told[0] == "settled"
        least = {
            line.key: story.billed if is_told else min(story.billed, line.amount) for line in story.lines
        }
        sums = kept.sums()
        low = [key for key, amount in least.items() if sums.get(key, (0, 0))[1] < amount]
        if story.billed and not is_risked and (low or not kept.booked):
            raise Lost(f"Bedrock has billed {story.billed} for {id_}, of which {low} knows less: {kept}")
        self.counts[kept.state] += 1

    def check_entry(self, story: Story, entry: Entry) -> None:
        """
        What the journal tells of a call: what its program was told that it is charged, if it was told.
        """
        if story.told is None:
            return
        if entry.cost_nanousd != story.told[1] or entry.basis == "expired":
            raise Wrong(f"{entry.id} is {story.told}, and its entry says {entry.cost_nanousd}, {entry.basis}")

    def _as_ended(self, story: Story, kept: Kept) -> tuple[str, int] | None:
        """
        How a call has ended, if that is an end that is the same on all its balances.
        """
        if kept.state == "settled" and story.extra is not None:
            if kept.sums().get(story.extra) != (story.plan.extra, story.plan.extra):
                return None
            kept = kept.without(story.extra)
        booked = {*kept.booked} or {0}
        if kept.state == "expired":
            held = {line.amount if story.plan.on_expiry == "charge" else 0 for line in kept.lines}
            return ("expired", 0) if set(kept.booked) == held else None
        return (kept.state, booked.pop()) if len(booked) == 1 else None
