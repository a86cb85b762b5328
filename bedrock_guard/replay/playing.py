"""
Logged calls through the pipeline that calls go through, on their own clock and a ledger in memory.

One call after the other: each has ended before the next begins. What would change a request is left out:
nothing is clamped, sent to another model, counted or kept waiting; what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.calls.charging import closed_entry
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.calls.shadow import lenient
from bedrock_guard.calls.tripping import Breakers
from bedrock_guard.domain.alert import Looking
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import Budget, Window, in_api_units
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import BudgetExceeded, ConfigurationError, Stopped
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.open_call import OpenCall, open_entry
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.replay.records import LoggedCall

_HOLD_S: Final = 300.0
# Findings are kept elsewhere; the ledger needs none of its entries.
_KEPT_ENTRIES: Final = 1_000
UNTAGGED: Final = "untagged"
"""Who refuses a call without a tag that a budget needs, where that is so set."""


class Refused(NamedTuple):
    """
    Who refuses a call: a budget, with the values of its balance, a breaker, or a stop.

    Attributes:
        by: The budget's name, `breaker:<name>`, or `UNTAGGED`.
        per: The tags of the balance, sorted.
    """

    by: str
    per: tuple[tuple[str, str], ...] = ()


class Played(NamedTuple):
    """
    What became of a call.

    Attributes:
        entry: As the call was logged: what it used and cost, also where it is refused.
        refused: By whom; empty where it goes on.
        tripped: Breakers that it tripped, and that let calls go on: they warn, or are in shadow.
    """

    entry: Entry
    refused: tuple[Refused, ...] = ()
    tripped: tuple[str, ...] = ()


class _Trips:
    """
    Hears of all breakers that trip, and keeps which of those in *names* did since somebody asked.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self.breakers: Looking | None = None
        self._names = names
        self._found: list[str] = []

    def see_tripped(self, key: LedgerKey, window: Window, text: str) -> None:  # noqa: ARG002 - the contract's
        """
        The breaker of *key* has tripped.
        """
        if key.budget in self._names:
            self._found.append(key.budget)

    def take(self) -> tuple[str, ...]:
        """
        The names of those that tripped, each as often as it did.
        """
        found = tuple(self._found)
        self._found.clear()
        return found


class Player:
    """
    A guard's settings, budgets and breakers, that calls are played through in the order of time.

    Attributes:
        planner: Its own, which tells what is behind opaque model ids.
        sees_requests: Whether a breaker asks if a request came before.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        budgets: Iterable[Budget],
        breakers: Iterable[Breaker],
        tags: Mapping[str, str],
        prices: PriceList,
    ) -> None:
        # Logs say who made a call; and nobody else's entries are here to be dropped.
        wanted = replace(settings, principal="lookup", keep_entries_days=None, on_ledger_error="refuse")
        working = lenient(replace(wanted, clamp="never", refine="off"))
        self._now = 0.0
        self._count = 0
        ledger = MemoryLedger(clock=self._clock, keep_entries=_KEPT_ENTRIES)
        is_shadow = settings.mode == "shadow"
        found = tuple(
            [_as_warning(each) if is_shadow or each.mode == "shadow" else each for each in breakers]
        )
        self._trips = _Trips(frozenset([each.key_name for each in found if each.on_trip == "warn"]))
        watching = (
            Breakers(
                found,
                settings=replace(wanted, mode="enforce"),
                ledger=ledger,
                clock=self._clock,
                prices=prices,
            )
            if found
            else None
        )
        matcher = Matcher(map(_without_waiting, budgets), working)
        # A guard's own tags go before a request's; here a record knows better who it is of.
        self._tags = dict(tags)
        self.planner = Planner(settings=working, matcher=matcher, prices=prices, tags={})
        self._free = Planner(settings=working, matcher=Matcher((), working), prices=prices, tags={})
        self._pipeline = Pipeline(
            planner=self.planner,
            ledger=ledger,
            clock=self._clock,
            new_id=self._new_id,
            wanted=wanted,
            breakers=watching,
        )
        # No call is open for longer than a moment, and time stands still meanwhile: no thread is needed.
        self._pipeline.upkeep.is_kept = True
        if watching is not None:
            watching.join(self._pipeline.helm, self._trips)
        self.sees_requests = self._pipeline.loops is not None

    def play(self, logged: LoggedCall) -> Played:
        """
        What becomes of *logged*, which is not before the one that came before it.

        Raises:
            UnpricedModel: Its model has no price, and settings let nothing through without.
        """
        if self._tags:
            call = logged.call
            call = call._replace(request_tags={**self._tags, **call.request_tags})
            logged = logged._replace(call=call)
        played = self._play(logged)
        return played._replace(tripped=self._trips.take())

    def _play(self, logged: LoggedCall) -> Played:
        self._now = max(self._now, logged.at_s)
        attempt = Attempt(logged.outcome, logged.status, logged.error_code)
        try:
            opened = self._pipeline.open(logged.call)
        except ConfigurationError:  # `untagged` is "refuse"
            return Played(self._as_logged(logged, self._opened(logged), attempt), (Refused(UNTAGGED),))
        try:
            if self._pipeline.loops is not None and logged.request is not None:
                self._pipeline.loops.see_request(opened, logged.request)
            self._pipeline.reserve(opened, hold_s=_HOLD_S)
        except BudgetExceeded as refusal:
            refused = tuple([Refused(each.budget, each.per) for each in refusal.refusals])
            return Played(self._as_logged(logged, opened, attempt), refused)
        except Stopped as stop:
            return Played(self._as_logged(logged, opened, attempt), (Refused(stop.by),))
        entry = self._pipeline.end(opened, (attempt,), logged.report)
        assert entry is not None  # it is ended here alone  # noqa: S101
        return Played(entry)

    def _opened(self, logged: LoggedCall) -> OpenCall:
        plan = self._free.plan(logged.call, self._now)
        return OpenCall(plan, open_entry(self._new_id(self._now), self._now, plan), ())

    def _as_logged(self, logged: LoggedCall, opened: OpenCall, attempt: Attempt) -> Entry:
        return closed_entry(self.planner, opened, (attempt,), logged.report, learned=None, now=self._now)

    def _clock(self) -> float:
        return self._now

    def _new_id(self, _: float) -> str:
        self._count += 1
        return f"{self._count:012d}"


def _as_warning(breaker: Breaker) -> Breaker:
    # What a shadow leaves is entries, which are not kept here; who is told of a trip counts it.
    return Breaker(breaker.name, breaker.condition, match=breaker.match, per=breaker.per, on_trip="warn")


def _without_waiting(budget: Budget) -> Budget:
    if not budget.wait_s and not budget.fallback:
        return budget
    return Budget(
        budget.name,
        budget.limit,
        match=budget.match,
        per=budget.per,
        limits=budget.limits or None,
        on_exceed=budget.on_exceed,
        mode=budget.mode,
        burst=None if budget.burst is None else in_api_units(budget.burst, budget.limit.unit),
        alerts=budget.alerts,
    )
