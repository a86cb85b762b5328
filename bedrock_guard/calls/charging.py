"""
What a call is charged when it has ended: the sum of its attempts, each by what is known of it.

    not sent, rejected    nothing
    answered              what AWS reported; where that cannot be right, by a rule of `plausible`
    lost, abandoned       the estimate, for the whole of it may be billed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.cost import PRICE_STEPS_PER_NANOUSD
from bedrock_guard.domain.entry import Attempt, AttemptOutcome, Basis, Entry, new_attempt, new_entry
from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    OUTPUT_TOKENS,
    ROUTED_REQUESTS,
    USAGE_ALONE,
    Learned,
    Untold,
    Usage,
    UsageReport,
    add,
    total_input,
)
from bedrock_guard.estimators.plausible import MOST_BELIEVED, Judgement, judge
from bedrock_guard.open_call import OpenCall
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner

log = logging.getLogger("bedrock_guard")

_Charged: TypeAlias = tuple[Usage, int | None, Basis]
"""What the answered attempt of a call is charged: its usage, what that costs, and who says so."""

_WEAKEST: Final[tuple[Basis, ...]] = ("expired", "estimated", "reported")
# Of several attempts, the first of these that occurs names the call's outcome.
_OUTCOMES: Final[tuple[AttemptOutcome, ...]] = ("answered", "abandoned", "lost", "rejected", "not_sent")


def usual_entry(
    opened: OpenCall, attempts: Sequence[Attempt], report: UsageReport | None, now: float
) -> Entry | None:
    """
    What `closed_entry` makes of a call as most are, in one step; None of any other.

    It was answered at once, with usage within what was held, and all of that has a list price.
    """
    plan = opened.plan
    terms, worst = plan.terms, plan.worst
    rates = terms.rates
    if (
        rates is None
        or report is None
        or report[1:] != USAGE_ALONE
        or len(attempts) != 1
        or attempts[0].outcome != "answered"
        or ROUTED_REQUESTS in worst
    ):
        return None
    usage, rest, output, steps = report.usage, 0, 0, 0
    for meter, quantity in usage.items():
        rate = rates.get(meter)
        if rate is None or quantity < 0:
            return None
        steps += quantity * rate
        if meter == OUTPUT_TOKENS:
            output = quantity
        else:
            rest += quantity
    most_output = worst.get(OUTPUT_TOKENS, 0)
    if (
        rest + output > terms.most_tokens
        or output > most_output
        or rest > sum(worst.values()) - most_output
        or rest + most_output > MOST_BELIEVED
    ):
        return None
    entry, money = opened.entry, -(-steps // PRICE_STEPS_PER_NANOUSD)
    outcome, status, code, *_ = attempts[0]
    values = entry.__dict__.copy()
    values["outcome"] = "answered"
    values["usage"] = values["reported_usage"] = usage
    values["cost_nanousd"] = money
    values["basis"] = "reported"
    values["attempts"] = (new_attempt(Attempt, (outcome, status, code, usage, money, "reported")),)
    values["duration_ms"] = max(0, round((now - entry.at_s) * 1000))
    values["priced"] = "list"
    return new_entry(values)


def closed_entry(
    planner: Planner,
    opened: OpenCall,
    attempts: Sequence[Attempt],
    report: UsageReport | None,
    *,
    learned: Learned | None,
    now: float,
) -> Entry:
    """
    The entry of *opened* with which it ends, by its *attempts* and by what AWS said of the last.
    """
    entry, plan = opened.entry, opened.plan
    told: dict[str, Any] = {"priced": plan.priced}
    answer: _Charged | None = None
    if report is not None:
        stated = report.usage
        if ROUTED_REQUESTS in plan.worst:  # for a fee that no reply states
            report = report._replace(usage={**report.usage, ROUTED_REQUESTS: 1})
        verdict = judge(report, plan.worst)
        if verdict is None:  # as good as always
            money, priced = planner.cost(plan, report)
            answer = report.usage, money, "reported"
            told = {"priced": priced, "reported_usage": stated}
        else:
            answer, told = _doubted(planner, opened, report, verdict, stated)
        if report.untold is not None:
            answer = _untold(answer, told, report.untold)
        if report.service_tier is not None:
            told["service_tier"] = report.service_tier
        if report.latency is not None:
            told["latency"] = report.latency
    estimate: _Charged = plan.worst, plan.nanousd, "estimated"
    is_free = planner.settings.on_lost_reply == "release"
    if len(attempts) == 1:
        charged: tuple[Attempt, ...] = (_charge(attempts[0], answer, estimate, is_free=is_free),)
    else:
        charged = tuple([_charge(attempt, answer, estimate, is_free=is_free) for attempt in attempts])
    if learned is not None and report is None and attempts:
        estimate, told = _left(planner, plan, learned)
        charged = (*charged[:-1], _charge(attempts[-1], answer, estimate, is_free=is_free))
    whole = charged[0] if len(charged) == 1 else _sum_up(charged)
    if plan.terms.has_own_prices:
        told["list_cost_nanousd"] = _list_cost(planner, plan, charged, report)
    return entry.changed(
        outcome=whole.outcome,
        usage=whole.usage,
        cost_nanousd=whole.cost_nanousd,
        basis=whole.basis,
        attempts=charged,
        duration_ms=max(0, round((now - entry.at_s) * 1000)),
        **told,
    )


def _untold(answer: _Charged | None, told: dict[str, Any], untold: Untold) -> _Charged | None:
    """
    What an answer is charged that leaves part of its usage, or all, to be known by its request.
    """
    stated = {meter: most for meter, most in told["reported_usage"].items() if meter not in untold.usage}
    told["reported_usage"] = stated or None
    if untold.job is not None:
        told["job"] = untold.job
    if answer is None or not answer[0]:  # the request tells no more than the most that it can be
        return None
    usage, money, basis = answer
    return usage, money, "estimated" if untold.is_estimate else basis


def _doubted(
    planner: Planner, opened: OpenCall, report: UsageReport, verdict: Judgement, stated: Usage
) -> tuple[_Charged, dict[str, Any]]:
    """
    What a report that cannot be right is charged, and what its entry says of it.
    """
    plan, usage = opened.plan, verdict.charged
    # Figures only, so that the log tells no more than an entry does.
    log.warning(
        "Call %s reports usage that cannot be right (%s): %s; it is charged by its rule.",
        opened.entry.id,
        ", ".join(verdict.anomalies),
        dict(stated),
    )
    answer: _Charged = plan.worst, plan.nanousd, "estimated"
    priced = plan.priced
    if usage is not None:
        money, priced = planner.cost(plan, report._replace(usage=usage))
        answer = usage, money, "reported" if usage is report.usage else "estimated"
    return answer, {"priced": priced, "reported_usage": stated, "anomalies": verdict.anomalies}


def _charge(attempt: Attempt, answer: _Charged | None, estimate: _Charged, *, is_free: bool) -> Attempt:
    """
    *attempt* with what it is charged; *is_free* when lost ones are.
    """
    outcome, status, code = attempt.outcome, attempt.status, attempt.error_code
    if outcome in ("not_sent", "rejected"):
        return attempt
    if outcome == "answered" and answer is not None:
        return Attempt(outcome, status, code, *answer)
    if outcome == "lost" and is_free:
        return Attempt(outcome, status, code, basis="estimated")
    return Attempt(outcome, status, code, *estimate)


def _list_cost(
    planner: Planner, plan: Plan, attempts: Sequence[Attempt], report: UsageReport | None
) -> int | None:
    costs = [planner.list_cost(plan, attempt.usage, report) for attempt in attempts if attempt.usage]
    return None if None in costs else sum(cost or 0 for cost in costs)


def _left(planner: Planner, plan: Plan, learned: Learned) -> tuple[_Charged, dict[str, Any]]:
    """
    What a stream that was left is charged, and what its entry says of it: the estimate, whatever it had said.

    Its input, once AWS has counted it, is no estimate any more; its output stays the most it can be,
    for AWS may bill what nobody read. Only if that is more than was held possible, so much is charged.
    """
    estimate: _Charged = plan.worst, plan.nanousd, "estimated"
    told: dict[str, Any] = {"priced": plan.priced, "received_bytes": learned.received_bytes}
    if learned.input_usage is None:
        return estimate, told
    rest = {meter: most for meter, most in plan.worst.items() if meter not in ALL_INPUT_METERS}
    usage = {**learned.input_usage, **rest}
    told |= {"narrowed_usage": usage, "narrowed_by": learned.told_by}
    if total_input(usage) > total_input(plan.worst):
        money, told["priced"] = planner.cost(plan, UsageReport(usage))
        told["anomalies"] = ("above_bound",)
        estimate = usage, money, "estimated"
    return estimate, told


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
