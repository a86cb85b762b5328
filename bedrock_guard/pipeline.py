"""
The story of one call: open, reserve, settle or release. Every `if` of it is here.

    open      bound it, price the bound, find the budgets
    reserve   hold the bound in every budget, or refuse
    rebound   what is about to be sent is not what was bounded: hold the difference
    retry     the answer to an attempt was lost: hold another, or refuse to send again
    end       charge what AWS reported, the estimate where it reported nothing, or
              release what never left

Where the ledger is gone, `outage` says who is refused and who is let through.

It knows neither botocore's events nor which ledger it talks to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bedrock_guard.budgets.refusing import record_refusal, refuse
from bedrock_guard.charging import closed_entry
from bedrock_guard.context import current_scope
from bedrock_guard.domain.budget import REQUESTS
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.ledger import (
    Clock,
    Ledger,
    LedgerKey,
    Line,
    Refusal,
    RefusedLine,
    Reservation,
)
from bedrock_guard.domain.usage import Learned, UsageReport
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable, ReservationClosed
from bedrock_guard.noticing import PROMPT_S, Alerts
from bedrock_guard.open_call import OpenCall
from bedrock_guard.outage import SLOW_S, Outage, StandIn
from bedrock_guard.planning import Plan, Planner
from bedrock_guard.upkeep import Upkeep


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
        new_id: Callable[[], str],
        alerts: Alerts | None = None,
        tells_first: bool = False,
    ) -> None:
        self.planner = planner
        self.settings = planner.settings
        self.ledger = ledger
        self.clock = clock
        self.alerts = alerts
        self._tells_first = tells_first and alerts is not None
        self.upkeep = Upkeep(
            ledger, clock, keep_entries_days=planner.settings.keep_entries_days, alerts=alerts
        )
        self.outage = Outage()
        self.stand_in = StandIn(planner.settings, clock)
        self._new_id = new_id

    def open(self, call: Call) -> OpenCall:
        """
        Bound *call*, price it and find its budgets. Nothing is held before `reserve`, so that
        whoever ends the call has it in hand from the first moment that something is.

        Raises:
            UnpricedModel: It cannot be priced.
        """
        now = self.clock()
        plan = self.planner.plan(call, now)
        return OpenCall(plan, _open_entry(self._new_id(), now, plan), current_scope().tallies)

    def reserve(self, opened: OpenCall, *, hold_s: float) -> None:
        """
        Hold the most that a call can cost, in every budget it counts towards.

        Raises:
            BudgetExceeded: It does not fit; nothing is held.
            LedgerUnavailable: The ledger cannot tell whether it fits, and `on_ledger_error` does not let
                it through.
        """
        plan, entry = opened.plan, opened.entry
        if not self.upkeep.is_kept:
            self.upkeep.begin()
        try:
            answer = self._reserve(opened, hold_s)
            if isinstance(answer, Refusal) and self.upkeep.sweep_for_room(self.clock()):
                answer = self._reserve(opened, hold_s)
        except LedgerUnavailable as error:
            self._go_without(opened, error, hold_s)
        else:
            if isinstance(answer, Refusal):
                opened.take_end()
                raise self._refused(plan, entry, answer)
            opened.reservation = answer
            opened.hold_s = hold_s
            opened.is_held = True
            self.upkeep.watch(opened)
            # After the hold: where the ledger is gone, a call must not wait for it twice.
            if entry.at_s >= self.upkeep.due_at:
                self.upkeep.sweep_if_due(entry.at_s)
        if opened.is_ended:  # its task was dropped while a thread reserved for it
            self._write(opened, _not_sent(opened))

    def rebound(self, opened: OpenCall, call: Call) -> None:
        """
        Hold what *call*, as it is about to be sent, can cost beyond what was held for it.

        Raises:
            BudgetExceeded: The difference does not fit.
            LedgerUnavailable: The ledger cannot tell, or the hold has expired.
        """
        plan = self.planner.plan(call, self.clock())
        entry = _open_entry(opened.entry.id, opened.entry.at_s, plan)
        held = {line.key: line.amount for line in opened.reservation.lines}
        more = [line._replace(amount=max(0, line.amount - held.get(line.key, 0))) for line in plan.lines()]
        money = None if plan.nanousd is None else max(0, plan.nanousd - (opened.plan.nanousd or 0))
        answer = self._extend(opened, more, money)
        if isinstance(answer, Refusal):
            raise self._refused(plan, entry, _as_whole_call(answer, held))
        entry = entry.changed(allowed_by=opened.entry.allowed_by)
        opened.reservation, opened.plan, opened.entry = answer, plan, entry

    def retry(self, opened: OpenCall) -> None:
        """
        Hold one more attempt: the one before may have been billed, and this one will be.

        Raises:
            BudgetExceeded: The budgets cannot pay for both.
            LedgerUnavailable: The ledger cannot tell, or the hold has expired.
        """
        if self.settings.on_lost_reply == "release":
            return
        plan = opened.plan
        units = {match.key: match.unit for match in plan.matches}
        lines = [line for line in plan.lines() if units[line.key] != REQUESTS]
        answer = self._extend(opened, lines, plan.nanousd, is_retry=True)
        if isinstance(answer, Refusal):
            raise self._refused(plan, opened.entry, answer, is_retry=True)
        opened.reservation = answer

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
            has_end = opened.take_end()
            if not has_end:
                return None
            entry = closed_entry(self.planner, opened, attempts, report, learned=learned, now=self.clock())
            self._write(opened, entry)
        except BaseException as error:  # an interrupt: what follows it must find the call to be ended
            if entry is not None:
                self.upkeep.put_off(opened, entry, error)
            elif has_end:
                opened.give_back_end()
            raise
        for tally in opened.tallies:
            tally.count(entry)
        if self._tells_first:
            self._tell()
        return entry

    def close(self) -> None:
        """
        Write and tell what is left: the ledger is about to be closed.
        """
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

    def _reserve(self, opened: OpenCall, hold_s: float) -> Reservation | Refusal:
        is_gone = self.outage.is_on
        if is_gone:
            self.outage.check()
        try:
            answer = self.ledger.reserve(
                opened.plan.lines(),
                entry=opened.entry,
                hold_s=self.upkeep.invocations.hold_s(hold_s),
                on_expiry=self.settings.on_expiry,
            )
        except LedgerUnavailable as error:
            opened_at_s = opened.entry.at_s
            if self.alerts is not None and not self.outage.is_on:
                self.alerts.see_trouble(error)
            is_slow = self.clock() - opened_at_s > SLOW_S and not self.upkeep.has_held_since(opened_at_s)
            self.outage.begin(error, is_slow=is_slow)
            raise
        if is_gone:
            self.outage.end()
            self.upkeep.hurry()
        return answer

    def _go_without(self, opened: OpenCall, error: LedgerUnavailable, hold_s: float) -> None:
        """
        Let *opened* through without the ledger, if settings do; what that may hold of it all the same
        is released behind the caller's back, who has waited long enough.
        """
        try:
            if self.upkeep.is_closed:
                raise error
            opened.reservation = self.stand_in.hold(opened, error, hold_s=hold_s)
        except LedgerUnavailable:
            opened.take_end()
            if error.outcome == "unknown":
                self.upkeep.put_off(opened, _not_sent(opened), error)
            raise
        opened.hold_s = hold_s

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
        gone: LedgerUnavailable | None = None
        if not self.stand_in.holds(opened):
            try:
                return self.ledger.extend(opened.reservation, lines)
            except ReservationClosed as error:
                raise LedgerUnavailable(
                    f"The hold of call {opened.entry.id} expired while it was under way (was this process "
                    f"suspended?), and nothing more can be held for it. {error}"
                ) from error
            except LedgerUnavailable as error:
                if self.upkeep.is_closed:
                    raise
                gone = error
        return self.stand_in.extend(opened, lines, nanousd, gone, is_retry=is_retry)

    def _tell(self) -> None:
        """
        Wait for alerts, where this process may freeze with the reply; a decorated handler does so itself.
        """
        if self.alerts is not None and not self.upkeep.invocations.are_any:
            self.alerts.flush(PROMPT_S)

    def _refused(
        self, plan: Plan, entry: Entry, refusal: Refusal, *, is_retry: bool = False
    ) -> BudgetExceeded:
        record_refusal(self.ledger, entry, refusal.lines[0].line.key)
        if self.alerts is not None:
            self.alerts.see_refused(plan.matches, refusal, entry)
            if self._tells_first:
                self._tell()
        return refuse(
            refusal,
            matches=plan.matches,
            entry=entry,
            output=self.planner.output(plan),
            zone=self.planner.matcher.zone,
            now=self.clock(),
            is_retry=is_retry,
        )


def _not_sent(opened: OpenCall) -> Entry:
    return opened.entry.changed(outcome="not_sent", cost_nanousd=0, usage={})


def _as_whole_call(refusal: Refusal, held: Mapping[LedgerKey, int]) -> Refusal:
    """
    A refusal to hold more for a call, told as if the whole call had been refused.
    """
    lines = []
    for refused in refusal.lines:
        own = held.get(refused.line.key, 0)
        calls = refused.pending_calls
        lines.append(
            RefusedLine(
                refused.line._replace(amount=refused.line.amount + own),
                refused.spent,
                refused.pending - own,
                calls - 1 if calls and own else calls,
            )
        )
    return Refusal(tuple(lines))


def _open_entry(entry_id: str, now: float, plan: Plan) -> Entry:
    call = plan.call
    return Entry.opened(
        {
            "id": entry_id,
            "at_s": now,
            "operation": call.operation,
            "model_id": call.model.model_id,
            "model": call.model.model,
            "family": call.family,
            "region": call.region,
            "service_tier": call.service_tier,
            "latency": call.latency,
            "tags": plan.tags,
            "usage": plan.worst,
            "basis": "estimated",
            "cost_nanousd": plan.nanousd,
            "priced": plan.priced,
            "has_own_prices": plan.has_own_prices,
            "list_cost_nanousd": plan.list_nanousd if plan.has_own_prices else None,
            "estimated_cost_nanousd": plan.nanousd,
        }
    )
