"""
The story of one call: open, reserve, settle or release. Every `if` of it is here.

    open      bound it, price the bound, find the budgets
    reserve   hold the bound in every budget; else what `edge` finds that fits, or refuse
    rebound   what is about to be sent is not what was bounded: hold the difference
    retry     the answer to an attempt was lost: hold another, or refuse to send again
    end       charge what AWS reported, the estimate where it reported nothing, or
              release what never left

Where the ledger is gone, `outage` says who is refused and who is let through.

It knows neither botocore's events nor which ledger it talks to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bedrock_guard.budgets.refusing import as_whole_call, record_refusal, refuse
from bedrock_guard.budgets.soft import SoftLimits, lines_of_retry
from bedrock_guard.calls import shadow
from bedrock_guard.calls.announcing import Announcer
from bedrock_guard.calls.charging import closed_entry, usual_entry
from bedrock_guard.calls.drafting import Source, as_begun
from bedrock_guard.calls.edge import Edge
from bedrock_guard.calls.outage import SLOW_S, Outage, StandIn, expired
from bedrock_guard.calls.steering import Helm
from bedrock_guard.calls.sweeping import Sweeper
from bedrock_guard.calls.tripping import Breakers
from bedrock_guard.calls.upkeep import Upkeep
from bedrock_guard.context import current_scope
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.control import ControlsChanged
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.entry_id import new_entry_id
from bedrock_guard.domain.ledger import Clock, Ledger, Line, Refusal, Reservation
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import Learned, UsageReport
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable, ReservationClosed, Stopped
from bedrock_guard.open_call import OpenCall, open_entry
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner
from bedrock_guard.telling.noticing import Alerts


class Pipeline:
    """
    The steps of one guard, in order.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        clock: Clock,
        new_id: Callable[[float], str] = new_entry_id,
        wanted: Settings | None = None,
        alerts: Alerts | None = None,
        breakers: Breakers | None = None,
        tells_first: bool = False,
    ) -> None:
        self.planner = planner
        self.settings = settings = planner.settings
        self.ledger = ledger
        self.clock = clock
        self.alerts = alerts
        self.upkeep = Upkeep(ledger, clock, alerts=alerts, breakers=breakers)
        self.outage = Outage()
        self._announcer = Announcer(
            alerts, tells_first=tells_first, invocations=self.upkeep.invocations, outage=self.outage
        )
        self.sweeper = Sweeper(ledger, clock, keep_entries_days=settings.keep_entries_days, alerts=alerts)
        self.helm = Helm(ledger, clock, planner.settings)
        if alerts is not None:
            alerts.balances.topped_up = self.helm.topped_up
        self.edge = Edge(
            planner, ledger, clock, self.helm, upkeep=self.upkeep, sweeper=self.sweeper, alerts=alerts
        )
        if self._announcer.tells_first or breakers is not None:
            self.edge.quick = None  # these may ask, too, when a call ends
        self.loops = None if breakers is None else breakers.join(self.helm, alerts)
        self.is_shadow = planner.settings.mode == "shadow"
        self.stand_in = shadow.ShadowStandIn(clock) if self.is_shadow else StandIn(planner.settings, clock)
        self._soft = SoftLimits(ledger, is_shadow=self.is_shadow)
        self._wanted = wanted or planner.settings
        self.new_id = new_id

    def open(self, call: Call) -> OpenCall:
        """
        Bound *call*, price it and find its budgets. Nothing is held before `reserve`, so that
        whoever ends the call has it in hand from the first moment that something is.

        Raises:
            UnpricedModel: It cannot be priced.
        """
        now = self.clock()
        plan = self.planner.plan(call, now)
        entry = open_entry(self.new_id(now), now, plan)
        if self.is_shadow:
            shadow.tell(self.ledger, self.planner, self._wanted, plan, entry)
        opened = OpenCall(plan, entry, current_scope().tallies)
        if self.alerts is not None and self.alerts.watchers:
            opened.tallies += tuple([watcher.begin(entry) for watcher in self.alerts.watchers])
        return opened

    def allows_unmetered(self, service: str, operation: str, region: str) -> bool:
        """
        Whether an operation that may bill, and cannot be counted, may be called.
        """
        if self.is_shadow and self._wanted.on_unmetered == "refuse":
            shadow.tell_unmetered(self.ledger, self.clock(), service, operation, region)
        return self.settings.on_unmetered == "allow"

    def reserve(self, opened: OpenCall, *, hold_s: float, source: Source | None = None) -> None:
        """
        Hold the most that a call can cost, or its request is brought to, in every budget it counts towards.

        Raises:
            BudgetExceeded: It does not fit; nothing is held.
            Stopped: Calls like it are stopped.
            LedgerUnavailable: The ledger cannot tell, and `on_ledger_error` does not let it through.
        """
        if not self.upkeep.is_kept:
            self.upkeep.begin()
        try:
            answer: Reservation | Refusal | None = None
            if opened.may_wait and not self.edge.queue.is_any:
                answer = self._reserve(opened, hold_s, source)
            if not isinstance(answer, Reservation):
                answer = self._admit(opened, hold_s, source, answer)
        except (Stopped, LedgerUnavailable) as error:
            self._end_unheld(opened, error, hold_s)
        else:
            if isinstance(answer, Refusal):
                opened.take_end()
                raise self._refused(opened.plan, opened.entry, answer)
            opened.reservation = answer
            opened.hold_s = hold_s
            opened.is_held = True
            if answer.over or self.is_shadow:
                self._note(opened, answer)
            self.upkeep.watch(opened)
            # After the hold: where the ledger is gone, a call must not wait for it twice.
            if opened.entry.at_s >= self.sweeper.due_at:
                self.sweeper.sweep_if_due(opened.entry.at_s)
        if opened.is_ended:  # its task was dropped while a thread reserved for it
            self._write(opened, opened.not_sent())

    def rebound(self, opened: OpenCall, call: Call, plan: Plan | None = None) -> None:
        """
        Hold what *call*, as it is about to be sent, can cost beyond what was held for it; *plan*
        is what it may come to, where that is known.

        Raises:
            BudgetExceeded: The difference does not fit.
            Stopped: Calls like it are stopped.
            LedgerUnavailable: The ledger cannot tell, or the hold has expired.
        """
        plan = self.planner.plan(call, self.clock()) if plan is None else plan
        entry = open_entry(opened.entry.id, opened.entry.at_s, plan)
        held = {line.key: line.amount for line in opened.reservation.lines}
        lines = self._more(plan, entry, plan.lines())
        more = [line._replace(amount=max(0, line.amount - held.get(line.key, 0))) for line in lines]
        money = None if plan.nanousd is None else max(0, plan.nanousd - (opened.plan.nanousd or 0))
        is_more = money or any(line.amount or line.key not in held for line in more)
        answer = self._extend(opened, more, money) if is_more else opened.reservation._replace(over=())
        if isinstance(answer, Refusal):
            raise self._refused(plan, entry, as_whole_call(answer, held))
        entry = as_begun(entry, opened.entry)
        if answer.over:
            entry = self._soft.note(entry, plan.matches, answer.over)
        opened.reservation, opened.plan, opened.entry = answer, plan, entry

    def retry(self, opened: OpenCall) -> None:
        """
        Hold one more attempt: the one before may have been billed, and this one will be. Where a lost reply
        is not charged nothing more is held, and a stop still vetoes it.

        Raises:
            BudgetExceeded: The budgets cannot pay for both.
            Stopped: Calls like it are stopped.
            LedgerUnavailable: The ledger cannot tell, or the hold has expired.
        """
        plan = opened.plan
        if self.settings.on_lost_reply == "release":
            self._more(plan, opened.entry, ())
            return
        held = {line.key: line.amount for line in opened.reservation.lines}
        later = self.planner.matcher.roll(plan.matches, self.clock())
        lines = self._more(plan, opened.entry, lines_of_retry(plan.matches, later, plan.lines(), held))
        plan = plan._replace(matches=later)
        answer = self._extend(opened, lines, plan.nanousd, is_retry=True)
        if isinstance(answer, Refusal):
            raise self._refused(plan, opened.entry, answer, is_retry=True)
        opened.reservation, opened.plan = answer, plan
        if answer.over:
            opened.entry = self._soft.note(opened.entry, plan.matches, answer.over)

    def end(
        self,
        opened: OpenCall,
        attempts: Sequence[Attempt],
        report: UsageReport | None,
        learned: Learned | None = None,
    ) -> Entry | None:
        """
        End *opened* at the sum of its *attempts*; *report* is what AWS said of the last, or
        *learned* what its stream had said before it was left.

        Returns the entry, or None when the call had ended before. No ledger's
        trouble is raised: the reply has been paid for, and the caller gets it.
        While the ledger cannot be written the hold stays, and the end is tried again beside the calls.
        """
        entry: Entry | None = None
        has_end = False
        try:
            if not (has_end := opened.take_end()):
                return None
            entry = usual_entry(opened, attempts, report, now := self.clock())
            entry = entry or closed_entry(self.planner, opened, attempts, report, learned=learned, now=now)
            self._write(opened, entry)
        except BaseException as error:  # an interrupt: what follows it must find the call to be ended
            if entry is not None:
                if entry.allowed_by is not None:
                    self.stand_in.settle(entry)
                self.upkeep.put_off(opened, entry, error)
            elif has_end:
                opened.give_back_end()
            raise
        if self.edge.queue.is_any:
            self.edge.queue.wake()
        for tally in opened.tallies:
            tally.count(entry)
        if self._announcer.tells_first:  # asked here, too: every call comes by
            self._announcer.wait()
        return entry

    def close(self) -> None:
        """
        Write and tell what is left: the ledger is about to be closed.
        """
        self.sweeper.close()
        self.upkeep.close()
        if self.alerts is not None:
            self.alerts.close()

    def write_last(self) -> None:
        """
        Write and tell what is left; the ledger is somebody else's, and goes on.
        """
        self.upkeep.write_ends()
        if self.alerts is not None:
            self.alerts.leave()

    def _admit(
        self, opened: OpenCall, hold_s: float, source: Source | None, refusal: Refusal | None
    ) -> Reservation | Refusal:
        if not opened.may_wait:
            return self.edge.hold_at_once(opened, hold_s, is_gone=self.outage.is_on)
        # Without a refusal yet, others may wait for room already.
        if refusal is None and not self.edge.is_crowded(opened.plan):
            answer = self._reserve(opened, hold_s, source)
            if isinstance(answer, Reservation):
                return answer
            refusal = answer
        return self.edge.fit(opened, refusal, source, partial(self._reserve, opened, hold_s, source))

    def _reserve(self, opened: OpenCall, hold_s: float, source: Source | None) -> Reservation | Refusal:
        is_gone = self.outage.is_on
        if is_gone:
            if self.helm.known.is_active:
                self.helm.admit(opened.plan, opened.entry, (), is_gone=True)
            self.outage.check()
        if self.upkeep.invocations.are_any:
            hold_s = self.upkeep.invocations.hold_s(hold_s)
        try:
            if opened.plan.call.size.output_limit is None and source is not None and self.edge.clamp.is_on:
                self.edge.clamp.take_share(opened, source)
            while True:  # until it is admitted by the stops and top-ups that the ledger keeps
                steering, lines = self.helm.known, opened.plan.lines()
                if steering.is_active:
                    steering, lines = self.helm.admit(opened.plan, opened.entry, lines)
                answer = self.ledger.reserve(
                    lines,
                    entry=opened.entry,
                    hold_s=hold_s,
                    on_expiry=self.settings.on_expiry,
                    controls=steering.version,
                )
                if not isinstance(answer, ControlsChanged):
                    break
                self.helm.catch_up(steering)
        except LedgerUnavailable as error:
            self._see_trouble(opened, error)
            raise
        if is_gone:
            self.outage.end()
            self.upkeep.hurry()
        return answer

    def _see_trouble(self, opened: OpenCall, error: LedgerUnavailable) -> None:
        at_s, is_first = opened.entry.at_s, not self.outage.is_on
        is_slow = self.clock() - at_s > SLOW_S and not self.upkeep.has_held_since(at_s)
        if is_first:
            self._announcer.see_trouble(error)
        if not error.is_lasting:
            self.outage.begin(error, is_slow=is_slow)

    def _note(self, opened: OpenCall, answer: Reservation) -> None:
        # What would have refused it, and did not.
        if self.is_shadow:
            self.helm.tell(opened.plan, opened.entry)
        if answer.over:
            reason = self.edge.clamp.verdict(opened.plan, answer.over, self._wanted)
            opened.entry = self._soft.note(opened.entry, opened.plan.matches, answer.over, reason=reason)

    def _more(self, plan: Plan, entry: Entry, lines: Sequence[Line]) -> list[Line]:
        try:
            return self.helm.more(plan, entry, lines, is_gone=self.outage.is_on)
        except Stopped:
            self._announcer.see_stopped(entry)
            raise

    def _end_unheld(self, opened: OpenCall, error: Stopped | LedgerUnavailable, hold_s: float) -> None:
        """
        Refuse *opened*, for which nothing is held, by *error*; or let it through without the ledger, where
        that is gone and settings do. What it may hold all the same is released behind the back of the caller,
        who has waited long enough.
        """
        if isinstance(error, Stopped):
            opened.take_end()
            self._announcer.see_stopped(opened.entry)
            raise error
        try:
            if not self.is_shadow and (self.upkeep.is_closed or error.is_lasting):
                raise error
            opened.reservation = self.stand_in.hold(opened, error, hold_s=hold_s)
        except LedgerUnavailable:
            opened.take_end()
            if error.outcome == "unknown":
                self.upkeep.put_off(opened, opened.not_sent(), error)
            raise
        opened.hold_s = hold_s
        self.upkeep.note(opened)

    def _write(self, opened: OpenCall, entry: Entry) -> None:
        if entry.allowed_by is not None:
            self.stand_in.settle(entry)
            self.upkeep.write_soon(opened, entry)
            return
        try:
            self.upkeep.write(opened, entry)
        except Exception as error:  # noqa: BLE001 - whatever a ledger raises, the reply has been paid for
            # Also when the collector ends a stream while this very thread is in the ledger.
            self.upkeep.put_off(opened, entry, error)

    def _extend(
        self, opened: OpenCall, lines: Sequence[Line], nanousd: int | None, *, is_retry: bool = False
    ) -> Reservation | Refusal:
        if self.stand_in.holds(opened):
            return self.stand_in.extend(opened, lines, nanousd, None, is_retry=is_retry)
        try:
            answer = self.ledger.extend(opened.reservation, lines)
        except ReservationClosed as error:
            if not self.is_shadow:
                raise expired(opened, error) from error
            return self.stand_in.extend(opened, lines, nanousd, expired(opened, error), is_retry=is_retry)
        except LedgerUnavailable as error:
            if not self.is_shadow and (self.upkeep.is_closed or error.is_lasting):
                raise
            # From in here: an error that is kept holds this frame, and that the reply.
            return self.stand_in.extend(opened, lines, nanousd, error, is_retry=is_retry)
        if is_retry and isinstance(answer, Reservation):
            opened.retried_nanousd += nanousd or 0
        return answer

    def _refused(
        self, plan: Plan, entry: Entry, refusal: Refusal, *, is_retry: bool = False
    ) -> BudgetExceeded:
        record_refusal(self.ledger, entry, refusal.lines[0].line.key)
        self._announcer.see_refused(plan.matches, refusal, entry)
        return refuse(
            refusal,
            matches=plan.matches,
            entry=entry,
            output=self.planner.output(plan),
            zone=self.planner.matcher.zone,
            now=self.clock(),
            is_retry=is_retry,
        )
