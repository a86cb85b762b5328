"""
Breakers, from the calls that end to the stop that one of them writes.

    settle   what a call has used is counted with its end, where its budgets are charged
    judge    once there is enough: by what the ledger has counted, of all processes
    trip     a stop, an entry and an alert; or only the alert; or what would have been

A process knows what the ledger had counted when it last looked, and what it added since: once that is
enough, the call that brought it there is the last one before the judgement. What other processes add is
looked at beside the calls, about once a second. What is judged has a name that follows from what was judged
before, so that whoever judges the same writes the same stop and the same entry: once.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Final, Self

from bedrock_guard.budgets import breakers as figures_of
from bedrock_guard.budgets.breaker_scope import Scope
from bedrock_guard.budgets.breakers import Figures, Keys
from bedrock_guard.budgets.loops import Loops
from bedrock_guard.budgets.matching import Match, Matcher
from bedrock_guard.budgets.refusing import record_would_refuse
from bedrock_guard.calls.steering import Helm, blank_entry, write_control
from bedrock_guard.domain.alert import Telling
from bedrock_guard.domain.breaker import INPUT, MEASURES, Breaker
from bedrock_guard.domain.control import Stop, is_in_force
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Balance, Clock, Ledger, LedgerKey, Line, Reservation, Settled
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import CACHE_READ, CACHE_WRITE_1H, CACHE_WRITE_5M, INPUT_TOKENS, Usage
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.ledgers.books import SETTLED
from bedrock_guard.open_call import OpenCall
from bedrock_guard.pricing.price_list import PriceList

log = logging.getLogger("bedrock_guard")

# Scopes known at a time; one that is forgotten is looked at a little later.
_MOST_SCOPES: Final = 4096
# A booking is one step after another; who dies between them has charged it.
_HOLD_S: Final = 60.0
_DAY_S: Final = 86_400
# Scopes whose balances are read with one question: on DynamoDB one request.
_READ_TOGETHER: Final = 16


class Breakers:
    """
    Those of one guard.
    """

    _helm: Helm

    def __init__(
        self,
        breakers: Iterable[Breaker],
        *,
        settings: Settings,
        ledger: Ledger,
        clock: Clock,
        prices: PriceList,
    ) -> None:
        found = tuple(breakers)
        self._may_cache = lru_cache(prices.may_cache)
        self._ledger = ledger
        self._clock = clock
        self._time_zone = settings.time_zone
        self._is_shadow = settings.mode == "shadow"
        self._by_name = {breaker.name: breaker for breaker in found}
        # A breaker refuses nobody who has no tag: such calls are a scope of their own.
        lenient = replace(settings, untagged="shared")
        counting = [each for each in found if MEASURES[each.condition.measure].units]
        watching = [each for each in found if not MEASURES[each.condition.measure].units]
        self._counting = Matcher(map(figures_of.as_budget, counting), lenient)
        self._watching = Matcher(map(figures_of.as_budget, watching), lenient)
        self._loops = Loops()
        self._scopes: OrderedDict[LedgerKey, Scope] = OrderedDict()
        self._alerts: Telling | None = None

    def join(self, helm: Helm, alerts: Telling | None) -> Self | None:
        """
        Know the stops by *helm*, and tell by *alerts*.

        Returns this if requests are to be seen before they are reserved for, else None.
        """
        self._helm, self._alerts = helm, alerts
        if alerts is not None:
            alerts.breakers = self
        return self if self._watching.budgets else None

    @property
    def has_news(self) -> bool:
        """
        Whether something was counted that nobody has looked at.
        """
        return any(scope.has_news for scope in list(self._scopes.values()))

    def forget(self) -> None:
        """
        In a fork: what was counted is the parent's to look at.
        """
        self._scopes.clear()
        self._loops = Loops()  # another thread may have had its lock

    # What calls have used

    def settle(self, opened: OpenCall, entry: Entry) -> Settled:
        """
        Settle *opened* as its ledger does, and count what it has used, if AWS has reported it.

        May be called by a finalizer.

        Raises:
            LedgerUnavailable: It is not written, or nobody knows.
            ReservationClosed: It was settled with other amounts, or released.
        """
        amounts = opened.amounts(entry)
        counted = self._count(opened, entry, amounts) if entry.basis == "reported" and entry.usage else ()
        try:
            settled = self._ledger.settle(opened.reservation, amounts, entry)
        except LedgerUnavailable as error:
            if not counted or not error.is_lasting:
                raise
            settled = self._ledger.settle(opened.reservation, opened.amounts(entry), entry)
            # Of fewer balances it takes the end, which must not wait for what breakers count.
            log.warning("Breakers do not count call %s: %s Leave some of them out.", entry.id, error)
            return settled
        if not counted:
            return settled
        for scope, tokens in counted:
            scope.own += tokens
            scope.entry = entry
            after = scope.breaker.condition.after
            if after is not None and scope.most >= after.amount and not scope.has_failed:
                with suppress(Exception):  # it is tried again beside the calls; the reply has been paid for
                    self._judge(scope)
        # What is counted was never held.
        return SETTLED[settled.how, settled.overrun and _is_overrun(opened.reservation, amounts)]

    def look(self) -> None:
        """
        Judge what has changed. Called beside the calls.

        Raises:
            LedgerUnavailable: The rest stays to be looked at.
        """
        is_done = True
        news = [scope for scope in list(self._scopes.values()) if scope.has_news]
        while news:
            # One that cannot be stopped must not keep the others from it.
            is_done = self._judge(*news[:_READ_TOGETHER]) and is_done
            del news[:_READ_TOGETHER]
        if not is_done:
            raise LedgerUnavailable("A breaker has tripped, and its stop could not be written.")

    def _count(
        self, opened: OpenCall, entry: Entry, amounts: dict[LedgerKey, int]
    ) -> list[tuple[Scope, int]]:
        """
        Add to *amounts* what a call has used, and tell how many input tokens in which scopes.
        """
        counted: list[tuple[Scope, int]] = []
        usage = entry.usage
        if not self._tells_of_cache(opened, usage):
            return counted
        for match in self._counting.match(opened.plan.tags, entry.at_s):
            scope = self._scopes.get(match.key) or self._open_scope(match, entry)
            for key, meters in scope.meters:
                amount = 0
                for meter in meters:  # every call comes by: a generator would take twice as long
                    amount += usage.get(meter, 0)
                if amount:
                    amounts[key] = amount
            tokens = amounts.get(scope.keys.counted[0], 0)
            if tokens:
                counted.append((scope, tokens))
        return counted

    def _tells_of_cache(self, opened: OpenCall, usage: Usage) -> bool:
        """
        Whether a cache could have had a part in *usage*: most models have none, and short prompts are never
        in it.
        """
        if usage.get(CACHE_READ) or usage.get(CACHE_WRITE_5M) or usage.get(CACHE_WRITE_1H):
            return True
        prices = opened.plan.terms.prices
        is_long = usage.get(INPUT_TOKENS, 0) >= figures_of.LEAST_CACHED
        return is_long and (prices is None or self._may_cache(prices.model))

    def _open_scope(self, match: Match, entry: Entry) -> Scope:
        breaker = self._by_name[match.budget.name]
        verdict = self._verdict(breaker)
        keys = figures_of.keys_of(breaker, match.key, verdict, self._time_zone)
        scope = Scope(breaker, match, keys, verdict, entry)
        if len(self._scopes) >= _MOST_SCOPES:
            with suppress(KeyError):  # another thread was quicker
                self._scopes.popitem(last=False)
        return self._scopes.setdefault(match.key, scope)

    def _verdict(self, breaker: Breaker) -> str:
        return "shadow" if self._is_shadow or breaker.mode == "shadow" else breaker.on_trip

    # Judgement

    def _judge(self, *scopes: Scope) -> bool:
        """
        Judge each of *scopes* of which there is enough; False where one has tripped, and its stop could not
        be written.

        Two threads may do so at once: whoever comes second finds it done.
        """
        own = [scope.own for scope in scopes]
        try:
            balances = self._ledger.balances(
                [key for scope in scopes for key in (*scope.keys.counted, *scope.keys.judged)]
            )
        except Exception:
            for scope in scopes:
                scope.has_failed = True
            raise
        judged = [self._judge_by(balances, *each) for each in zip(scopes, own, strict=True)]
        return all(judged)

    def _judge_by(self, balances: Sequence[Balance], scope: Scope, own: int) -> bool:
        is_done = False
        try:
            figures, id_ = figures_of.read_figures(scope.breaker.condition, scope.keys, balances)
            reason = self._find_reason(scope, figures, id_)
            if reason == "tripped" and not self._trip(
                scope, figures_of.tell(scope.breaker, scope.key.per, figures), id_
            ):
                return False
            if reason is not None:
                self._book(scope, figures, id_, reason)
                figures = {INPUT: 0}
            scope.known, scope.seen = figures[INPUT], own
            is_done = True
        finally:
            scope.has_failed = not is_done
        return True

    def _find_reason(self, scope: Scope, figures: Figures, id_: str) -> str | None:
        """
        What comes of *figures*; None while there are not enough of them.

        What calls add that were under way when theirs were stopped is skipped: it would stop them a second
        time, or just after somebody has mended what was broken, and resumed.
        """
        condition = scope.breaker.condition
        is_due = figures_of.is_due(condition, figures)
        if is_due and not figures_of.is_broken(condition, figures):
            return "kept"
        if scope.verdict == "refuse" and figures[INPUT] and self._has_tripped(scope, id_, anew=is_due):
            return "stopped"
        return "tripped" if is_due else None

    def _has_tripped(self, scope: Scope, id_: str, *, anew: bool) -> bool:
        """
        Whether an earlier trip of *scope* than the one by *id_* still stops its calls.
        """
        with suppress(LedgerUnavailable):  # then the trip says so
            known = self._helm.read_anew() if anew else self._helm.read()
            match, now = figures_of.match_of(scope.breaker, scope.key.per), self._clock()
            return any(
                stop.by == scope.breaker.key_name
                and stop.id != _stop_id(id_)
                and stop.match == match
                and is_in_force(stop, now)
                for stop in known.stops
            )
        return False

    def _book(self, scope: Scope, figures: Figures, id_: str, reason: str) -> None:
        """
        Take *figures* as judged: who looks next begins where they end.
        """
        lines = [
            Line(key, None, amount) for key, amount in zip(scope.keys.judged, figures.values(), strict=True)
        ]
        now = self._clock()
        entry = blank_entry(
            figures_of.entry_id("judged", id_, now),
            now,
            outcome="judged",
            budget=scope.breaker.key_name,
            reason=reason,
            control={
                "kind": "breaker",
                "condition": str(scope.breaker.condition),
                "verdict": scope.verdict,
                "per": dict(scope.key.per),
                "figures": dict(figures),
            },
        )
        with suppress(ReservationClosed):  # somebody else has judged the same
            held = self._ledger.reserve(lines, entry=entry, hold_s=_HOLD_S, on_expiry="charge")
            if isinstance(held, Reservation):
                self._ledger.settle(held, {line.key: line.amount for line in lines}, entry)

    def _trip(self, scope: Scope, text: str, id_: str) -> bool:
        """
        Do what a breaker is for; False where a stop could not be written.
        """
        breaker = scope.breaker
        if scope.verdict == "shadow":
            record_would_refuse(
                self._ledger, scope.entry, reason="breaker", budget=breaker.key_name, per=scope.key.per
            )
            return True
        # Told also where the stop cannot be written; a second time changes nothing. What goes on trips again
        # and again: of that, somebody is told once a day.
        if self._alerts is not None:
            name = id_ if scope.verdict == "refuse" else f"day {int(self._clock() // _DAY_S)}"
            key = scope.key._replace(budget=breaker.key_name, rule=name)
            self._alerts.see_tripped(key, scope.window, text)
        return scope.verdict == "warn" or self._stop(breaker, scope.key, text, id_)

    def _stop(self, breaker: Breaker, key: LedgerKey, text: str, id_: str) -> bool:
        now = self._clock()
        stop = Stop(
            id=_stop_id(id_),
            match=figures_of.match_of(breaker, key.per),
            reason=text,
            by=breaker.key_name,
            at_s=now,
            until_s=None if breaker.resume_after_s is None else now + breaker.resume_after_s,
        )
        try:
            entry_id = figures_of.entry_id("stop", id_, now)
            write_control(self._ledger, stop, "stop", now=now, entry_id=entry_id)
        except LedgerUnavailable as error:
            log.warning("Breaker %s has tripped and could not stop calls: %s (%s)", breaker.name, error, text)
            return False
        return True

    # Loops

    def see_request(self, opened: OpenCall, request: bytes) -> None:
        """
        A request, known by its fingerprint, is about to be reserved for.

        It raises for no ledger's trouble: that is for the reserve to do.
        """
        tags, now = opened.plan.tags, opened.entry.at_s
        if self._is_stopped(tags, now):
            return  # it will not be sent
        for match in self._watching.match(tags, now):
            breaker = self._by_name[match.budget.name]
            period = breaker.condition.period
            if period is None:
                continue
            count = self._loops.count(match.key, request, period, now)
            if count > breaker.condition.bound:
                self._loops.forget(match.key, request)
                with suppress(LedgerUnavailable):  # the reserve that follows says so
                    self._trip_loop(breaker, match, opened, count)

    def _is_stopped(self, tags: Mapping[str, str], now: float) -> bool:
        known = self._helm.known
        if self._is_shadow or not known.is_active or known.find_stop(tags, now) is None:
            return False
        with suppress(LedgerUnavailable):  # it may have been resumed
            known = self._helm.read()
        return known.find_stop(tags, now) is not None

    def _trip_loop(self, breaker: Breaker, match: Match, opened: OpenCall, count: int) -> None:
        scope = Scope(breaker, match, Keys((), ()), self._verdict(breaker), opened.entry)
        tags, now = opened.plan.tags, self._clock()
        if scope.verdict == "refuse" and self._helm.read_anew().find_stop(tags, now) is not None:
            return  # another process has stopped it since
        text = figures_of.tell_loop(breaker, match.key.per, count)
        self._trip(scope, text, os.urandom(12).hex())


def _stop_id(id_: str) -> str:
    return f"stop-{id_[:8]}"


def _is_overrun(reservation: Reservation, amounts: Mapping[LedgerKey, int]) -> bool:
    return any(amounts.get(line.key, 0) > line.amount for line in reservation.lines)
