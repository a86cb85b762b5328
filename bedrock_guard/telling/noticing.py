"""
What is worth an alert, and which process tells it.

    see     a call ended, was refused, or could not be held: remembered, in well under a microsecond
    look    beside the calls, about once a second: read the balances that they changed, claim in the
            ledger what nobody has told yet, and deliver what was claimed

A balance is read after every end that may have changed it, so that the process whose call, or whose
sweep, crosses a threshold notices it; should it die before, the next call of any process does.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Final

from bedrock_guard.background import COURIER
from bedrock_guard.budgets.alerting import (
    WHOLE,
    anomaly_text,
    breaker_alert,
    clamp_text,
    day_alert,
    day_key,
    overruns,
    refusal_text,
)
from bedrock_guard.budgets.matching import Match, Matcher
from bedrock_guard.domain.alert import AlertSink, Looking, ObservesEntries
from bedrock_guard.domain.alert_claim import RETRY_AFTER_S
from bedrock_guard.domain.budget import Window
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey, Refusal, Settled
from bedrock_guard.domain.ledger_options import ReportsLater
from bedrock_guard.domain.watching import Watcher
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.open_call import OpenCall
from bedrock_guard.telling.balances import Balances
from bedrock_guard.telling.claiming import Claims, Found, Name
from bedrock_guard.telling.delivering import Deliveries

log = logging.getLogger("bedrock_guard")

PROMPT_S: Final = 1.0
"""How long somebody waits for alerts to be told who may freeze afterwards: a Lambda function."""

# Between two looks: a balance that is busy is read so often, by each process that spends of it.
_LOOK_EVERY_S: Final = 1.0
# Between two tries at a ledger that does not answer.
_LONGEST_WAIT_S: Final = 30.0
# A ledger that was closed behind the guard's back never answers again.
_GIVE_UP_S: Final = 3600.0
_FIRST_PAUSE_S: Final = 0.01
_LEAVE_S: Final = 2.0
# Calls that are not looked at yet, for sinks that want to see each.
_MOST_ENTRIES: Final = 10_000
# Held here, for a guard may be gone before all is told.
_UNTOLD: Final[set[Alerts]] = set()


class Alerts:
    """
    Those of one guard.

    Attributes:
        breakers: Looked at beside the calls as well; None for none.
        balances: What calls have changed, and is to be read.
        watchers: Who is told of calls where they happen.
        noted: The balances that are known to be looked at; whoever changes others says so.
    """

    def __init__(
        self,
        ledger: Ledger,
        matcher: Matcher,
        clock: Clock,
        sinks: Iterable[AlertSink],
        *,
        telemetry: Iterable[Watcher | ObservesEntries] = (),
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        self._clock = clock
        told = tuple(telemetry)
        self.watchers = tuple([each for each in told if isinstance(each, Watcher)])
        observers = [each for each in told if isinstance(each, ObservesEntries)]
        self._deliveries = Deliveries(sinks, ledger.confirm_alert, observers)
        self._sees_all = self._deliveries.has_observers
        self._claims = Claims(ledger, clock, self._deliveries, retry_after_s=retry_after_s)
        self.balances = Balances(ledger, matcher, clock, self._claims)
        for watcher in self.watchers:
            watcher.follow(self.balances)
        self.breakers: Looking | None = None
        self._is_closed = False
        self._begin_anew()
        if isinstance(ledger, ReportsLater):
            ledger.tell_reported(self.see_charged)
        # Finalizers run in reverse order at exit: after that of `Upkeep`, which writes the last ends, and
        # before that of the ledger.
        weakref.finalize(self, _leave, weakref.ref(self))

    def _begin_anew(self) -> None:
        self.noted: Sequence[Match] | None = None
        self._entries: deque[Entry] = deque(maxlen=_MOST_ENTRIES)
        self._is_kept = False
        self._is_woken = False
        self._looks_at = 0.0
        self._wait_s = _LOOK_EVERY_S
        self._failed_at: float | None = None

    def begin(self) -> None:
        """
        Be there beside the calls. Not for finalizers.
        """
        COURIER.keep(self)
        self._is_kept = True

    # What calls say

    def see(self, opened: OpenCall, entry: Entry, settled: Settled) -> None:
        """
        A call has ended in the ledger, as *entry*. May be called by a finalizer.
        """
        matches = opened.plan.matches
        if self._sees_all:
            self._entries.append(entry)
        else:
            self.noted = matches  # before it is put where `look` finds it: see there
        if settled.overrun:
            held = {line.key: line.amount for line in opened.reservation.lines}
            amounts = opened.amounts(entry)
            self.balances.say("overrun", matches, overruns(matches, amounts, held))
        if entry.anomalies:
            self._find_of_day("anomaly", (("model", entry.model_id),), anomaly_text(entry))
        if matches:
            self.balances.changed[id(matches)] = matches
        self._wake()

    def see_refused(self, matches: Sequence[Match], refusal: Refusal, entry: Entry) -> None:
        """
        A call was refused.
        """
        self._see_turned_away(entry, refusal.lines[0].line.key.budget)
        by_key = {match.key: match for match in matches}
        for refused in refusal.lines:
            match = replace(by_key[refused.line.key], limit=refused.line.limit or 0)  # top-ups included
            self.balances.find("refused", match, None, spent=refused.spent, what=refusal_text(match, refused))
            if WHOLE in match.budget.alerts:
                what = "100 % counts as reached, as a call was refused"
                self.balances.find("threshold", match, WHOLE, spent=refused.spent, what=what)
        self._wake()

    def see_stopped(self, entry: Entry) -> None:
        """
        A call was stopped; who stopped it knows, so that nobody but those who see each call is told.
        """
        self._see_turned_away(entry, None)
        if self._entries:
            self._wake()

    def see_unsent(self, entry: Entry) -> None:
        """
        A call was not sent, as *entry*: no balance has changed. May be called by a finalizer.
        """
        if self._sees_all:
            self._entries.append(entry)
            self._wake()

    def see_booked(self, opened: OpenCall, entry: Entry) -> None:
        """
        A call that had been let through without the ledger is in it now, as *entry*.
        """
        if self._sees_all:
            self._entries.append(entry)
        self.see_charged(match.key for match in opened.plan.matches)

    def see_charged(self, keys: Iterable[LedgerKey]) -> None:
        """
        The balances of *keys* were charged by something else than the end of a call, such as a sweep.
        """
        self.balances.charge(keys)
        self._wake()

    def see_clamped(self, matches: Sequence[Match], entry: Entry, tokens: int) -> None:
        """
        The limit on output of a call was lowered to *tokens*, for want of room in *matches*.
        """
        text = clamp_text(entry, tokens)
        self.balances.say("clamped", matches, {match.key: text for match in matches})
        self._wake()

    def see_old_prices(self, model: str, as_of: date) -> None:
        """
        The prices of *model* are old, by the list of *as_of*.
        """
        text = f"The prices of {model} are of {as_of} and may have changed. Run `bedrock-guard prices sync`."
        self._find_of_day("price_age", (("model", model),), text)
        self._wake()

    def see_trouble(self, error: LedgerUnavailable) -> None:
        """
        The ledger could not take a call.
        """
        self._find_of_day("ledger", (), f"The ledger could not take a call: {error}")
        self._wake()

    def see_tripped(self, key: LedgerKey, window: Window, text: str) -> None:
        """
        A breaker has tripped, the trip that the rule of *key* names.
        """
        now = self._clock()
        # What has no end is remembered by when it happened: it has a name of its own.
        ends_s = int(now) if window.end is None else window.end
        write = partial(breaker_alert, key, window, text=text, at_s=now)
        self._claims.find(Name("breaker", None, key), Found(ends_s, write))
        self._wake()

    def _see_turned_away(self, entry: Entry, budget: str | None) -> None:
        if not (self._sees_all or self.watchers):
            return
        refused = entry.changed(outcome="refused", usage={}, cost_nanousd=0, budget=budget)
        for watcher in self.watchers:
            watcher.refuse(refused)
        if self._sees_all:
            self._entries.append(refused)

    def _find_of_day(self, kind: str, per: tuple[tuple[str, str], ...], text: str) -> None:
        now = self._clock()
        key = day_key(kind, per, now)
        write = partial(day_alert, kind, key, text=text, at_s=now)
        self._claims.find(Name(kind, None, key), Found(key.window_start, write))

    def _wake(self) -> None:
        if not self._is_woken and not self._is_closed:
            self._is_woken = True
            _UNTOLD.add(self)
            COURIER.wake()

    # Beside the calls

    def look(self) -> float:
        """
        Notice, claim and deliver what is due; the seconds until something will be.
        """
        if self._is_closed:
            return float("inf")
        if time.monotonic() >= self._looks_at:
            self._notice()
        sends_in = self._deliveries.send_due()
        if self._is_done:
            _UNTOLD.discard(self)
            if not self._is_done:  # since
                _UNTOLD.add(self)
        now = time.monotonic()
        if self._failed_at is not None or self.has_news:
            return max(0.0, min(sends_in, self._looks_at - now))
        takes_in = self._claims.takes_over_in_s if self._claims.has_others else float("inf")
        return max(0.0, min(sends_in, takes_in))

    @property
    def has_news(self) -> bool:
        """
        Whether something is to be looked at.
        """
        return bool(self.balances or self._claims or self._entries) or (
            self.breakers is not None and self.breakers.has_news
        )

    @property
    def _is_done(self) -> bool:
        return self._is_closed or not (self.has_news or self._deliveries)

    def flush(self, timeout_s: float, *, asks_again: bool = True) -> bool:
        """
        Look now, and wait for *timeout_s* seconds at most; whether all is told.

        Without *asks_again*, not for a ledger that has just failed.
        """
        ends_at, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
        if COURIER.is_here():  # a stream that the collector ends in that thread: it cannot wait for itself
            return self._is_done
        while not self._is_done:
            if not self._is_kept and not self._begin_to_leave():
                return self._is_done
            done = threading.Event()
            COURIER.soon(partial(self._look_now, done))
            if not done.wait(max(0.0, ends_at - time.monotonic())):
                return False
            if self._is_done:
                return True
            is_in_vain = not asks_again and self._failed_at is not None and not self._deliveries
            if is_in_vain or time.monotonic() + pause_s > ends_at:
                return False
            time.sleep(pause_s)
            pause_s *= 2
        return True

    def _begin_to_leave(self) -> bool:
        """
        Whether there is a thread; where none can be started any more, alerts are told here and now.
        """
        try:
            self.begin()
        except RuntimeError:  # from Python 3.12 on, at exit
            self._look_now(threading.Event())
            return False
        return True

    def leave(self, timeout_s: float = _LEAVE_S) -> None:
        """
        A last try: somebody is on its way out.
        """
        if self.flush(timeout_s, asks_again=False):
            return
        if self._claims or self._deliveries:
            log.warning("Alerts are left to be told by the next process.")
        else:
            log.info("Balances are left to be looked at by the next call of any process.")

    def close(self, timeout_s: float = _LEAVE_S) -> None:
        """
        A last try, and then nothing more: the ledger is about to be closed.
        """
        self.leave(timeout_s)
        self._is_closed = True
        self.forget()

    def forget(self) -> None:
        """
        In a fork: what is to be told is the parent's to tell.
        """
        self._deliveries.forget()
        self._claims.forget()
        self.balances.forget()
        if self.breakers is not None:
            self.breakers.forget()
        self._begin_anew()
        _UNTOLD.discard(self)

    def _look_now(self, done: threading.Event) -> None:
        try:
            self._looks_at = 0.0
            self.look()
        finally:
            done.set()

    def _notice(self) -> None:
        # In this order: an end that is not noted from here on puts its balances where they are found.
        self._is_woken = False
        self.noted = None
        has_failed = False
        looks = () if self.breakers is None else (self.breakers.look,)
        steps = (self._observe, self.balances.read, *looks, self._claims.claim, self._claims.take_over)
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever a ledger raises, it is told later
                is_news = self._failed_at is None and not has_failed
                log.log(logging.WARNING if is_news else logging.INFO, "Alerts wait for the ledger: %s", error)
                has_failed = True
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S) if has_failed else _LOOK_EVERY_S
        now = time.monotonic()
        self._looks_at = now + self._wait_s
        if not has_failed:
            self._failed_at = None
        elif self._failed_at is None:
            self._failed_at = now
        elif now - self._failed_at > _GIVE_UP_S:
            log.warning("Alerts are not told any more, as the ledger has been gone for an hour.")
            self.forget()

    def _observe(self) -> None:
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        if entries:
            self._deliveries.observe(entries)


def _leave(found: weakref.ref[Alerts]) -> None:
    alerts = found()
    if alerts is not None:
        alerts.leave(COURIER.last_s(_LEAVE_S))
