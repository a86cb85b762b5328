"""
The story of one call: open, reserve, settle or release. Every `if` of it is here.

    open      bound it, price the bound, find the budgets
    reserve   hold the bound in every budget, or refuse
    rebound   what is about to be sent is not what was bounded: hold the difference
    retry     the answer to an attempt was lost: hold another, or refuse to send again
    end       charge what AWS reported, the estimate where it reported nothing, or
              release what never left

It knows neither botocore's events nor which ledger it talks to.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bedrock_guard.budgets.refusing import record_refusal, refuse
from bedrock_guard.context import Tally, current_scope
from bedrock_guard.domain.budget import REQUESTS, amount_of
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Attempt, AttemptOutcome, Basis, Entry
from bedrock_guard.domain.ledger import (
    Clock,
    Ledger,
    LedgerKey,
    Line,
    Refusal,
    RefusedLine,
    Reservation,
    SweepReport,
)
from bedrock_guard.domain.usage import UsageReport, add
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable, ReservationClosed
from bedrock_guard.planning import Plan, Planner

log = logging.getLogger("bedrock_guard")

_SWEEP_EVERY_S: Final = 60.0
# More of any meter than one call can use; such a report is a fault, and the estimate is charged.
_MOST_BELIEVED: Final = 10**12
_WEAKEST: Final[tuple[Basis, ...]] = ("expired", "estimated", "reported")
# Of several attempts, the first of these that occurs names the call's outcome.
_OUTCOMES: Final[tuple[AttemptOutcome, ...]] = ("answered", "abandoned", "lost", "rejected", "not_sent")


class OpenCall:
    """
    A call that may hold money, until it is ended, once.

    Attributes:
        plan: What it may come to.
        entry: As it is while the call is open.
        reservation: What is held; before `reserve`, what will be.
        is_held: Whether the ledger has said that it holds it.
    """

    __slots__ = ("_unended", "entry", "is_held", "plan", "reservation", "tallies")

    def __init__(self, plan: Plan, entry: Entry, tallies: tuple[Tally, ...]) -> None:
        self.plan = plan
        self.entry = entry
        self.reservation = Reservation(entry.id, (), entry.at_s)
        self.is_held = False
        self.tallies = tallies
        self._unended = [True]

    @property
    def is_ended(self) -> bool:
        """
        Whether somebody has taken the end.
        """
        return not self._unended

    def take_end(self) -> bool:
        """
        True for the first of all who want to end this call, in whatever thread.
        """
        try:
            return self._unended.pop()  # atomic; a stream may end in the collector's thread
        except IndexError:
            return False

    def give_back_end(self) -> None:
        """
        Let another end it: who took the end was interrupted.
        """
        self._unended.append(True)


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
    ) -> None:
        self.planner = planner
        self.settings = planner.settings
        self.ledger = ledger
        self.clock = clock
        self._new_id = new_id
        self._sweeps_at = clock() + _SWEEP_EVERY_S
        self._unwritten: deque[tuple[OpenCall, Entry]] = deque()

    def open(self, call: Call) -> OpenCall:
        """
        Bound *call*, price it and find its budgets. Nothing is held before `reserve`, so that
        whoever ends the call has it in hand from the first moment that something is.

        Raises:
            UnpricedModel: It cannot be priced.
        """
        now = self.clock()
        self._keep_house(now)
        plan = self.planner.plan(call, now)
        return OpenCall(plan, _open_entry(self._new_id(), now, plan), current_scope().tallies)

    def reserve(self, opened: OpenCall, *, hold_s: float) -> None:
        """
        Hold the most that a call can cost, in every budget it counts towards.

        Raises:
            BudgetExceeded: It does not fit; nothing is held.
            LedgerUnavailable: The ledger cannot tell whether it fits.
        """
        plan, entry = opened.plan, opened.entry
        try:
            answer = self.ledger.reserve(
                plan.lines(), entry=entry, hold_s=hold_s, on_expiry=self.settings.on_expiry
            )
        except LedgerUnavailable as error:
            if error.outcome == "not_done":
                opened.take_end()
            raise
        if isinstance(answer, Refusal):
            opened.take_end()
            raise self._refused(plan, entry, answer)
        opened.reservation = answer
        opened.is_held = True
        if opened.is_ended:  # its task was dropped while a thread reserved for it
            self._write_end(opened, opened.entry.changed(outcome="not_sent", cost_nanousd=0, usage={}))

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
        answer = self._extend(opened, more)
        if isinstance(answer, Refusal):
            raise self._refused(plan, entry, _as_whole_call(answer, held))
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
        answer = self._extend(opened, lines)
        if isinstance(answer, Refusal):
            raise self._refused(plan, opened.entry, answer, is_retry=True)
        opened.reservation = answer

    def end(self, opened: OpenCall, attempts: Sequence[Attempt], report: UsageReport | None) -> Entry | None:
        """
        End *opened* at the sum of its *attempts*; *report* is what AWS said of the last.

        Returns the entry, or None when the call had ended before. No ledger's
        trouble is raised: the reply has been paid for, and the caller gets it.
        While the ledger cannot be written the hold stays, and later calls try again.
        """
        entry: Entry | None = None
        has_end = False
        try:
            has_end = opened.take_end()
            if not has_end:
                return None
            entry = self._closed_entry(opened, attempts, report)
            self._write_end(opened, entry)
        except LedgerUnavailable as error:
            # Also when the collector ends a stream while this very thread is in the ledger.
            self._put_off(opened, entry, error)
        except BaseException:  # an interrupt: what follows it must find the call to be ended
            if entry is not None:
                self._unwritten.append((opened, entry))
            elif has_end:
                opened.give_back_end()
            raise
        if entry is not None:
            for tally in opened.tallies:
                tally.count(entry)
        return entry

    def write_ends(self) -> None:
        """
        Write what has ended and is not in the ledger yet, until the ledger fails again.
        """
        while self._unwritten:
            try:
                opened, entry = self._unwritten.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                self._write_end(opened, entry)
            except LedgerUnavailable as error:
                self._put_off(opened, entry, error)
                return
            except BaseException:
                self._unwritten.append((opened, entry))
                raise

    def _put_off(self, opened: OpenCall, entry: Entry | None, error: LedgerUnavailable) -> None:
        if entry is not None:
            self._unwritten.append((opened, entry))
            log.warning("Call %s could not be settled and is tried again later: %s", entry.id, error)

    def _write_end(self, opened: OpenCall, entry: Entry) -> None:
        try:
            if entry.outcome == "not_sent":
                self.ledger.release(opened.reservation, entry)
            else:
                self.ledger.settle(opened.reservation, _amounts(opened.plan, entry), entry)
        except ReservationClosed as error:
            # One that was interrupted may never have been held.
            if opened.is_held:
                log.warning("Call %s ended twice, which must not happen: %s", entry.id, error)

    def _extend(self, opened: OpenCall, lines: Sequence[Line]) -> Reservation | Refusal:
        try:
            return self.ledger.extend(opened.reservation, lines)
        except ReservationClosed as error:
            raise LedgerUnavailable(
                f"The hold of call {opened.entry.id} expired while it was under way, and nothing more can "
                f"be held for it; set hold_s above the longest call. {error}"
            ) from error

    def _keep_house(self, now: float) -> None:
        if self._unwritten:
            self.write_ends()
        if now >= self._sweeps_at:
            self._sweeps_at = now + _SWEEP_EVERY_S
            try:
                self.ledger.sweep(now=now)
            except LedgerUnavailable as error:
                log.warning("Reservations of dead processes could not be swept: %s", error)

    def sweep_all(self) -> SweepReport:
        """
        End every reservation whose process is taken for dead.
        """
        self.write_ends()
        charged = released = 0
        while True:
            report = self.ledger.sweep(now=self.clock())
            charged, released = charged + report.charged, released + report.released
            if not (report.charged or report.released):
                return SweepReport(charged, released)

    def _refused(
        self, plan: Plan, entry: Entry, refusal: Refusal, *, is_retry: bool = False
    ) -> BudgetExceeded:
        record_refusal(self.ledger, entry, refusal.lines[0].line.key)
        return refuse(
            refusal,
            matches=plan.matches,
            entry=entry,
            output=self.planner.output(plan),
            zone=self.planner.matcher.zone,
            now=self.clock(),
            is_retry=is_retry,
        )

    def _charge(self, plan: Plan, attempt: Attempt, report: UsageReport | None, money: int | None) -> Attempt:
        """
        *attempt* with what it is charged: *money* as reported, or the estimate where money may be gone.
        """
        outcome, status, code = attempt.outcome, attempt.status, attempt.error_code
        if outcome in ("not_sent", "rejected"):
            return attempt
        if outcome == "answered" and report is not None:
            return Attempt(outcome, status, code, report.usage, money)
        if outcome == "lost" and self.settings.on_lost_reply == "release":
            return Attempt(outcome, status, code, basis="estimated")
        return Attempt(outcome, status, code, plan.worst, plan.nanousd, "estimated")

    def _closed_entry(
        self, opened: OpenCall, attempts: Sequence[Attempt], report: UsageReport | None
    ) -> Entry:
        entry = opened.entry
        plan = opened.plan
        if report is not None and any(quantity > _MOST_BELIEVED for quantity in report.usage.values()):
            log.warning("Call %s reports usage that cannot be: %s", entry.id, dict(report.usage))
            report = None
        money, priced = (None, plan.priced) if report is None else self.planner.cost(plan, report)
        charged = tuple([self._charge(plan, attempt, report, money) for attempt in attempts])
        whole = charged[0] if len(charged) == 1 else _sum_up(charged)
        return entry.changed(
            outcome=whole.outcome,
            usage=whole.usage,
            reported_usage=None if report is None else report.usage,
            cost_nanousd=whole.cost_nanousd,
            basis=whole.basis,
            priced=priced,
            service_tier=(report and report.service_tier) or entry.service_tier,
            latency=(report and report.latency) or entry.latency,
            attempts=charged,
            duration_ms=max(0, round((self.clock() - entry.at_s) * 1000)),
        )


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


def _sum_up(attempts: Sequence[Attempt]) -> Attempt:
    """
    Several attempts, or none, as if they were one.
    """
    if not attempts:
        return Attempt("not_sent")
    costs = [attempt.cost_nanousd for attempt in attempts]
    return Attempt(
        outcome=min([attempt.outcome for attempt in attempts], key=_OUTCOMES.index),
        usage=add(attempt.usage for attempt in attempts),
        cost_nanousd=None if None in costs else sum(cost or 0 for cost in costs),
        basis=min([attempt.basis for attempt in attempts], key=_WEAKEST.index),
    )


def _open_entry(entry_id: str, now: float, plan: Plan) -> Entry:
    call = plan.call
    return Entry.opened(
        id=entry_id,
        at_s=now,
        operation=call.operation,
        model_id=call.model.model_id,
        model=call.model.model,
        family=call.family,
        region=call.region,
        service_tier=call.service_tier,
        latency=call.latency,
        tags=plan.tags,
        usage=plan.worst,
        basis="estimated",
        cost_nanousd=plan.nanousd,
        estimated_cost_nanousd=plan.nanousd,
    )


def _amounts(plan: Plan, entry: Entry) -> dict[LedgerKey, int]:
    return {
        match.key: amount_of(match.unit, nanousd=entry.cost_nanousd or 0, usage=entry.usage)
        for match in plan.matches
    }
