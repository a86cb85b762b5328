"""
Output tokens, cut short: a call that does not fit is given a limit with which it does.

    a share    of what is free beside its input, for a call whose caller set no limit, before it is held
    what fits  in such a share, for a call that the ledger refused; in half or all of what is free where
               less is too little for an answer

What fits is for the ledger to say: what is read here of balances may be old by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from bedrock_guard.budgets.matching import Match
from bedrock_guard.budgets.verdict import Output, fitting_tokens
from bedrock_guard.calls.drafting import Request, Source, replan
from bedrock_guard.calls.steering import Helm
from bedrock_guard.domain.budget import UNITS, USD
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey, Line, Refusal, RefusedLine, Reservation
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.usage import OUTPUT_TOKENS, total_input
from bedrock_guard.families.lowering import most_taken
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations.output_limit import OutputLimit, takes_limit
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner
from bedrock_guard.telling.noticing import Alerts

Hold: TypeAlias = Callable[[], Reservation | Refusal]
"""Asks the ledger for what the open call now says; may raise what a reserve may."""

Rooms: TypeAlias = Mapping[LedgerKey, int]
"""What is free of balances, each in its unit."""

# What is counted so is less with fewer output tokens.
_WITH_OUTPUT: Final = frozenset(
    unit for unit, meters in UNITS.items() if unit == USD or OUTPUT_TOKENS in meters
)
_HALF: Final = 0.5
# Others may be quicker: how often a share of what was just free is tried, before the least is.
_TRIES: Final = 4
# What a model surely takes of which no list says how much it writes.
_SURE_OUTPUT: Final = 4_096
# Of a window that the input may fill, by its bound, as much is left to an answer: bounds are high, and a
# limit that does not fit beside the input would be rejected.
_WINDOW_PARTS: Final = 32
# How long is believed that plenty was free.
_BELIEVED_S: Final = 1.0
_MOST_KNOWN: Final = 4_096


class Clamp:
    """
    Limits on output for the calls of one guard.

    Attributes:
        is_on: Whether any may be lowered.
    """

    def __init__(
        self, planner: Planner, ledger: Ledger, clock: Clock, helm: Helm, *, alerts: Alerts | None = None
    ) -> None:
        self._alerts = alerts
        self._planner = planner
        self._settings = planner.settings
        self.is_on = planner.settings.clamp != "never"
        shares = (planner.settings.clamp_share, _HALF, 1)
        self._parts = [(share, most) for share in shares for most in (max(_HALF, share), 1)]
        self._ledger = ledger
        self._clock = clock
        self._helm = helm
        # How much of what was free of a balance this process has not held since, and how long to believe it.
        self._plenty: dict[LedgerKey, list[float]] = {}

    def take_share(self, opened: OpenCall, source: Source) -> None:
        """
        Hold *opened*, whose caller set no limit, at a share of what is free, where its bound is more.

        Raises:
            LedgerUnavailable: It cannot be read.
        """
        plan = opened.plan
        lines = [
            line
            for match, line in zip(plan.matches, plan.lines(), strict=True)
            if match.special is None and match.unit in _WITH_OUTPUT
        ]
        is_open = plan.call.size.generates and takes_limit(plan.call)
        if is_open and not self._has_plenty(lines, opened.entry.at_s):
            self._share(opened, lines, source())

    def _share(self, opened: OpenCall, lines: Sequence[Line], request: Request) -> None:
        plan, now = opened.plan, self._clock()
        balances = self._ledger.balances([line.key for line in lines])
        used = {balance.key: balance.spent + balance.pending for balance in balances}
        rooms = {
            line.key: max(0, (line.limit or 0) - used.get(line.key, 0))
            for line in self._helm.read().top_up(lines, now)  # what is known of top-ups may be old, too
        }
        if len(self._plenty) >= _MOST_KNOWN:
            self._plenty.clear()
        self._plenty.update((line.key, [rooms[line.key] - line.amount, now + _BELIEVED_S]) for line in lines)
        how, output = self.lowerable(request), self._planner.output(plan)
        if how is None or output is None:
            return
        tokens = self._fitting(plan, output, rooms, how.least)
        if how.least <= tokens < output.tokens and self._limit(plan, request, how, tokens):
            replan(self._planner, opened, request)
            self._tell(opened, plan, output, rooms, how.least)

    def _has_plenty(self, lines: Sequence[Line], now: float) -> bool:
        """
        Whether a share of what is known to be free is more than each of *lines*; they count as held then.
        """
        share = self._settings.clamp_share
        for line in lines:
            known = self._plenty.get(line.key)
            if known is None or now >= known[1] or line.amount > known[0] * share:
                return False
            known[0] -= line.amount
        return True

    def verdict(self, plan: Plan, over: Sequence[RefusedLine], wanted: Settings) -> str:
        """
        What a shadow that has no room for the call would have done by the settings that are *wanted*:
        `"clamped"` it, or refused it for its `"budget"`.
        """
        output, least = self._planner.output(plan), wanted.min_output_tokens
        is_touched = wanted.clamp == "always" or (wanted.clamp == "unset" and not plan.call.size.output_limit)
        if output is None or not is_touched:
            return "budget"
        rooms = {refused.line.key: refused.room for refused in over}
        return "clamped" if least <= self._fitting(plan, output, rooms, least) < output.tokens else "budget"

    def lowerable(self, request: Request) -> OutputLimit | None:
        """
        How the request limits its output, if that may be lowered.
        """
        if not self.is_on:
            return None
        settings = self._settings
        is_callers = settings.clamp == "unset"  # what callers set is kept, budgets for thinking too
        how = request.read_limit(settings.min_output_tokens, keeps_thinking=is_callers)
        return None if how is None or (how.is_stated and is_callers) else how

    def lower(
        self, opened: OpenCall, refusal: Refusal, request: Request, hold: Hold, how: OutputLimit
    ) -> Reservation | Refusal:
        """
        Hold *opened*, which the ledger refused, with as many output tokens as fit.
        """
        plan, whole = opened.plan, request.draft
        output = self._planner.output(plan)
        rooms: dict[LedgerKey, int] = {}
        for more in reversed(range(_TRIES)):
            rooms.update({refused.line.key: refused.room for refused in refusal.lines})
            tokens = 0 if output is None else self._fitting(plan, output, rooms, how.least)
            is_asked = tokens >= how.least or (more == _TRIES - 1 and _frees_in_time(plan, refusal))
            if output is None or not is_asked or not how.least <= output.tokens:
                return refusal
            request.draft = whole
            is_lowered = tokens < output.tokens
            tokens = max(tokens, how.least) if more else how.least
            if is_lowered and not self._limit(plan, request, how, tokens):
                return refusal
            replan(self._planner, opened, request)
            answer = hold()
            if isinstance(answer, Reservation):
                if is_lowered:
                    self._tell(opened, plan, output, rooms, how.least)
                return answer
            refusal = answer
        return refusal

    def _limit(self, plan: Plan, request: Request, how: OutputLimit, tokens: int) -> bool:
        if not how.is_stated:  # then it is for the model to say what it takes
            read = total_input(plan.worst)
            calls = request.call.routes or (request.call,)
            tokens = min(tokens, *(self._most_taken(each, read) for each in calls))
        return tokens >= how.least and request.limit(how, tokens)

    def _most_taken(self, call: Call, read: int) -> int:
        """
        The largest limit that Bedrock surely takes for *call*, beside an input of up to *read* tokens.
        """
        limits = self._planner.prices.limits(call.model)
        most = min(limits.max_output_tokens or _SURE_OUTPUT, most_taken(call.family))
        window = limits.max_input_tokens
        if window is None:
            return most
        return min(most, max(window - read, min(_SURE_OUTPUT, window // _WINDOW_PARTS)))

    def _fitting(self, plan: Plan, output: Output, rooms: Rooms, least: int) -> int:
        """
        How many output tokens the call may have: what fits in a share of the smallest room that is left
        beside its input and its thinking, but not in more than half of that room, which leaves as much to
        another; where that is less than *least*, in more of it, and at last in all.
        """
        tokens = 0
        for share, most in self._parts:
            parts = self._divide(plan, output, rooms, least, share=share, most=most)
            tokens = min(
                fitting_tokens(output, match.unit, amount=amount, room=part) for match, amount, part in parts
            )
            if tokens >= least:
                break
        return tokens

    def _divide(
        self, plan: Plan, output: Output, rooms: Rooms, least: int, *, share: float, most: float
    ) -> list[tuple[Match, int, int]]:
        """
        What *plan* comes to in each of *rooms*, and what it may have there: a *share* of what is free beside
        what no limit lowers, and at *most* so much of all.
        """
        shrinks = max(0, output.tokens - (least - self._settings.min_output_tokens))
        return [
            (
                match,
                line.amount,
                _part(rooms[line.key], line.amount - _amount_of(output, shrinks, match.unit), share, most)
                if match.unit in _WITH_OUTPUT
                else rooms[line.key],
            )
            for match, line in zip(plan.matches, plan.lines(), strict=True)
            if line.key in rooms
        ]

    def _tell(self, opened: OpenCall, plan: Plan, output: Output, rooms: Rooms, least: int) -> None:
        """
        Say that *opened*, which would have come to *plan*, is cut short, and for want of room in what.
        """
        if self._alerts is None:
            return
        share, most = self._parts[0]
        parts = self._divide(plan, output, rooms, least, share=share, most=most)
        tight = [match for match, amount, part in parts if amount > part]
        self._alerts.see_clamped(tight, opened.entry, opened.entry.clamped_max_tokens or 0)


def _frees_in_time(plan: Plan, refusal: Refusal) -> bool:
    """
    Whether a call may wait for what refuses, and has to ask for the least to be told until when: of all that
    it wants it may be for ever.
    """
    flowing = {match.key for match in plan.matches if match.special is not None and match.budget.wait_s}
    return any(refused.line.key in flowing for refused in refusal.lines)


def _amount_of(output: Output, tokens: int, unit: str) -> int:
    """
    What so many *tokens* of each answer are of what a call comes to, in a ledger's *unit*.
    """
    if unit == USD:
        return output.nanousd * tokens // output.tokens
    return tokens * output.candidates if unit in _WITH_OUTPUT else 0


def _part(room: int, rest: int, share: float, most: float) -> int:
    """
    *rest*, which no limit lowers, and a *share* of what is free beside it; at *most* so much of the room.
    """
    return min(rest + int((room - rest) * share), int(room * most))
