"""
What is tried for a call whose bound does not fit, before it is refused. In this order:

    sweep      end what dead processes hold, if that is due
    refine     ask Bedrock how large its input is, exactly
    clamp      lower its limit on output tokens to what fits
    fall back  ask a model that its budget names instead, refined and clamped alike
    wait       until what is pending ends, or a window does; then all of that again

Each step ends in the ledger: what fits is what it has held. Nothing of this runs before the ledger has
refused, but for one step: a call whose caller set no limit is held at a share of what is free, for it
must not hold the day's money against all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import frees_at
from bedrock_guard.calls.clamping import Clamp, Hold
from bedrock_guard.calls.drafting import Request, Source, replan, restore
from bedrock_guard.calls.steering import Helm
from bedrock_guard.calls.sweeping import Sweeper
from bedrock_guard.calls.upkeep import Upkeep
from bedrock_guard.calls.waiting import Queue
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey, Line, Refusal, RefusedLine, Reservation
from bedrock_guard.domain.ledger_options import AnswersAtOnce
from bedrock_guard.domain.usage import total_input
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, Stopped, UnpricedModel
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations.output_limit import OutputLimit
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner
from bedrock_guard.telling.noticing import Alerts

# No prompt is fewer tokens than a tenth of its bound.
_FEWEST: Final = 10


class Lingers(Exception):
    """
    A call does not fit, and may be kept waiting for what does; not where it is being opened.

    Attributes:
        go_on: Opens it after all, elsewhere.
    """

    def __init__(self, go_on: Callable[[], None] | None = None) -> None:
        super().__init__("to be opened where it may wait")
        self.go_on = go_on


class Waits(Lingers):
    """
    The ledger has to be asked for a call, and not where it is being opened.
    """


class Edge:
    """
    The steps of one guard.

    Attributes:
        clamp: Lowers limits on output.
        queue: The calls that wait for room.
        lingers: Whether a call may be kept waiting: by a budget, or for a count.
        quick: The ledger, where a call can be opened and ended without asking anybody.
    """

    def __init__(
        self,
        planner: Planner,
        ledger: Ledger,
        clock: Clock,
        helm: Helm,
        *,
        upkeep: Upkeep,
        sweeper: Sweeper,
        alerts: Alerts | None = None,
    ) -> None:
        self.clamp = Clamp(planner, ledger, clock, helm, alerts=alerts)
        self.queue = Queue()
        self._planner = planner
        self._refines = planner.settings.refine == "count_tokens"
        self._clock = clock
        self._helm = helm
        self._upkeep = upkeep
        self._sweeper = sweeper
        is_shadow = planner.settings.mode == "shadow"
        self.quick = None if is_shadow or not isinstance(ledger, AnswersAtOnce) else ledger
        self.lingers = self._refines or any(budget.wait_s for budget in planner.matcher.budgets)

    def hold_at_once(self, opened: OpenCall, hold_s: float, *, is_gone: bool) -> Reservation:
        """
        Hold *opened*, as nearly all calls are held, while nobody need be asked for anything.

        Raises:
            Waits: Somebody is to be asked. Nothing is held, and nobody has to end it.
        """
        plan, entry, steering = opened.plan, opened.entry, self._helm.known
        now, invocations = self._clock(), self._upkeep.invocations
        is_plain = not (
            is_gone
            or self.queue.is_any
            or entry.at_s >= self._sweeper.due_at
            or (self.clamp.is_on and plan.call.size.output_limit is None)
            or steering.find_stop(plan.tags, now) is not None
        )
        held = None
        if is_plain and self.quick is not None:
            held = self.quick.reserve_at_once(
                steering.top_up(plan.lines(), now),
                entry=entry,
                hold_s=invocations.hold_s(hold_s) if invocations.are_any else hold_s,
                on_expiry=self._planner.settings.on_expiry,
                controls=steering.version,
            )
        if held is None:
            opened.take_end()
            raise Waits
        return held

    def is_crowded(self, plan: Plan) -> bool:
        """
        Whether others wait for room where a call of *plan* needs it: it is not to be quicker.
        """
        return self.queue.is_waited_for([match.key for match in plan.matches if match.budget.wait_s])

    def fit(
        self, opened: OpenCall, refusal: Refusal | None, source: Source | None, hold: Hold
    ) -> Reservation | Refusal:
        """
        Take the steps for *opened*, which the ledger refused, until it holds one of them, or none is left;
        without a *refusal*, in its turn behind those that wait already. Where the ledger goes meanwhile, its
        refusal is the last that it said.

        Raises:
            Lingers: It may be kept waiting, and not here. Nothing is held, and nobody has to end it.
            LedgerUnavailable: It can be asked no more, and has not refused.
            Stopped: Calls like it are stopped.
        """
        if self.lingers and not opened.may_linger:
            opened.take_end()
            raise Lingers
        request = source and source()
        answer: Reservation | Refusal | None = refusal
        matches = opened.plan.matches
        try:
            if refusal is not None and self._sweeper.sweep_for_room(self._clock()):
                answer = hold()
            if isinstance(answer, Refusal):
                answer = self._steps(opened, answer, request, hold)
            if not isinstance(answer, Reservation):
                answer = self._wait(opened, answer, request, hold)
        except LedgerUnavailable as error:
            if request is not None:
                restore(self._planner, opened, request)
            if refusal is None:
                raise
            if error.outcome == "unknown":
                self._upkeep.put_off(opened, opened.not_sent(), error)
            # Another window may have begun while the call waited: it is told of those that refused.
            opened.plan = opened.plan._replace(matches=matches)
            answer = refusal
        return _as_asked(opened.plan, answer) if isinstance(answer, Refusal) else answer

    def _steps(
        self, opened: OpenCall, refusal: Refusal, request: Request | None, hold: Hold
    ) -> Reservation | Refusal:
        if request is None:
            return refusal
        restore(self._planner, opened, request)  # it may have been refused at a share
        matches = opened.plan.matches
        answer = self._shrink(opened, refusal, request, hold)
        for model_id in _fallbacks(matches, refusal):
            if isinstance(answer, Reservation):
                return answer
            request.draft = request.base
            if request.ask(model_id):
                tried = self._ask_another(opened, request, hold)
                answer = tried if isinstance(tried, Reservation) else answer
        if isinstance(answer, Refusal):
            restore(self._planner, opened, request)
        return answer

    def _ask_another(self, opened: OpenCall, request: Request, hold: Hold) -> Reservation | Refusal | None:
        call = request.call
        stated, most = call.size.output_limit, self._planner.prices.limits(call.model).max_output_tokens
        if stated and most and stated > most:  # Bedrock would reject it
            how = None if not self.clamp.is_on else request.read_limit(1)
            if how is None or not request.limit(how, most):
                return None
        try:
            replan(self._planner, opened, request)
            if opened.plan.nanousd is None or self._helm.stops(opened.plan):
                return None  # what has no price would fit in any budget
            answer = hold()
            return self._shrink(opened, answer, request, hold) if isinstance(answer, Refusal) else answer
        except (ConfigurationError, Stopped, UnpricedModel):  # of the other model's
            return None

    def _shrink(
        self, opened: OpenCall, refusal: Refusal, request: Request, hold: Hold
    ) -> Reservation | Refusal:
        """
        Refine, then clamp.
        """
        how = self.clamp.lowerable(request)
        if self._refines and self._may_fit(opened.plan, refusal, how) and request.count():
            replan(self._planner, opened, request)
            answer = hold()
            if isinstance(answer, Reservation):
                return answer
            refusal = answer
        return refusal if how is None else self.clamp.lower(opened, refusal, request, hold, how)

    def _may_fit(self, plan: Plan, refusal: Refusal, how: OutputLimit | None) -> bool:
        """
        Whether the call would fit if its input were as small as it can be.
        """
        smallest = plan.call.counted(total_input(plan.worst) // _FEWEST)
        return _fits(self._smallest(smallest, how), refusal)

    def _smallest(self, call: Call, how: OutputLimit | None) -> list[Line]:
        limit = call.size.output_limit
        if how is not None:
            call = call.limited(how.least if limit is None else min(limit, how.least))
        return self._planner.plan(call, self._clock()).lines()

    def _wait(
        self, opened: OpenCall, refusal: Refusal | None, request: Request | None, hold: Hold
    ) -> Reservation | Refusal:
        """
        Try again as money is given back, for as long as the budgets that refuse allow.
        """
        began = monotonic()
        wait_s = _patience(opened.plan) if refusal is None else self._waits_for(opened, refusal, request)
        if not wait_s:
            return self._try_again(opened, request, hold) if refusal is None else refusal
        keys = [refused.line.key for refused in refusal.lines] if refusal else _patient_keys(opened.plan)
        with self.queue.join(keys, until=began + self._upkeep.invocations.left_s(wait_s)) as place:
            while True:
                is_over = not place.wait()  # a last try: what was waited for may have come since
                if refusal is not None and request is not None and request.is_dropped:
                    return refusal
                opened.entry = opened.entry.changed(waited_ms=round((monotonic() - began) * 1000))
                answer = self._try_again(opened, request, hold)
                if isinstance(answer, Reservation) or is_over:
                    return answer
                if not self._waits_for(opened, answer, request):
                    return answer
                refusal = answer

    def _try_again(self, opened: OpenCall, request: Request | None, hold: Hold) -> Reservation | Refusal:
        if request is None:
            opened.plan = opened.plan._replace(
                matches=self._planner.matcher.match(opened.plan.tags, self._clock())
            )
        else:
            request.at_s = self._clock()
            request.draft = request.base
            replan(self._planner, opened, request)
        answer = hold()
        return self._steps(opened, answer, request, hold) if isinstance(answer, Refusal) else answer

    def _waits_for(self, opened: OpenCall, refusal: Refusal, request: Request | None) -> float:
        """
        For how many seconds it is worth waiting; 0 where what refuses does not wait, or will not have room.
        """
        by_key = {match.key: match for match in opened.plan.matches}
        # Of a model that was asked instead, other budgets may have refused last.
        found = [(by_key[refused.line.key], refused) for refused in refusal.lines]
        wait_s = min(match.budget.wait_s for match, _ in found)
        if not wait_s:
            return 0.0
        least = {refused.line.key: refused.line.amount for refused in refusal.lines}
        if request is not None:
            if self._refines:
                request.count()
            least.update(
                (line.key, line.amount)
                for line in self._smallest(request.call, self.clamp.lowerable(request))
            )
        until = self._clock() + wait_s
        may_come = _may_fit_by(until, found, least) or any(
            _may_fit_by(until, found, other) for other in self._least_of_others(opened, refusal, request)
        )
        return wait_s if may_come else 0.0

    def _least_of_others(
        self, opened: OpenCall, refusal: Refusal, request: Request | None
    ) -> Iterator[Mapping[LedgerKey, int]]:
        """
        The least that the call would come to with each model that may be asked instead, where all of what has
        refused counts that.
        """
        if request is None:
            return
        asked = request.draft
        for model_id in _fallbacks(opened.plan.matches, refusal):
            request.draft = request.base
            try:
                lines: list[Line] = []
                if request.ask(model_id):
                    lines = self._smallest(request.call, self.clamp.lowerable(request))
            except (ConfigurationError, UnpricedModel):
                lines = []
            finally:
                request.draft = asked
            least = {line.key: line.amount for line in lines}
            if all(least.get(refused.line.key) for refused in refusal.lines):
                yield least


def _may_fit_by(
    until: float, found: Sequence[tuple[Match, RefusedLine]], least: Mapping[LedgerKey, int]
) -> bool:
    """
    Whether there may be room for *least* by then, as windows end or all that is pending does.
    """
    for match, refused in found:
        amount, limit = least[refused.line.key], refused.line.limit or 0
        frees_at_s = frees_at(match, refused)
        is_near = frees_at_s is not None and frees_at_s <= until and amount <= limit
        if not is_near and refused.spent + amount > limit:
            return False
    return True


def _fits(lines: Sequence[Line], refusal: Refusal) -> bool:
    amounts = {line.key: line.amount for line in lines}
    return all(amounts.get(each.line.key, each.line.amount) <= each.room for each in refusal.lines)


def _fallbacks(matches: Sequence[Match], refusal: Refusal) -> list[str]:
    """
    The models that the budgets which refuse name, in their order.
    """
    refusing = {refused.line.key for refused in refusal.lines}
    return list(
        dict.fromkeys(each for match in matches if match.key in refusing for each in match.budget.fallback)
    )


def _patience(plan: Plan) -> float:
    return min((match.budget.wait_s for match in plan.matches if match.budget.wait_s), default=0.0)


def _patient_keys(plan: Plan) -> list[LedgerKey]:
    return [match.key for match in plan.matches if match.budget.wait_s]


def _as_asked(plan: Plan, refusal: Refusal) -> Refusal:
    """
    *refusal* with the amounts of the call as its caller made it, which is *plan*.
    """
    amounts = {line.key: line.amount for line in plan.lines()}
    return Refusal(
        tuple(
            replace(
                refused, line=refused.line._replace(amount=amounts.get(refused.line.key, refused.line.amount))
            )
            for refused in refusal.lines
        )
    )
