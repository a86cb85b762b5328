"""
What other models of a call use beside its own: each is priced by itself, and the sum is held or charged.

A flat price has room for them: beside it only counts what they use beyond it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_guard.domain.cost import PriceBasis
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import UsageReport, add
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.flat_prices import ONE_CALL

if TYPE_CHECKING:
    from bedrock_guard.plan import Plan
    from bedrock_guard.planning import Planner


def cost_of_parts(planner: Planner, plan: Plan, report: UsageReport) -> tuple[int, PriceBasis]:
    """
    What the parts of *report* cost together; a part without a price is charged at the dearest of the list.
    """
    total, basis, dearest = 0, "list", planner.prices.dearest()
    for part in report.parts:
        served = plan.call._replace(model=parse_model_id(part.model_id or ""), routes=())
        money, priced = nanousd(part.usage, planner.served_prices(served, plan.at), dearest=dearest)
        total += money
        basis = priced if priced == "upper_bound" else basis
    return total, "upper_bound" if basis == "upper_bound" else "list"


def list_cost_of_parts(planner: Planner, plan: Plan, report: UsageReport) -> int | None:
    """
    The same at list price; None where the list has none of one.
    """
    costs = [
        planner.list_cost(
            plan._replace(call=plan.call._replace(model=parse_model_id(part.model_id or ""))),
            part.usage,
            None,
        )
        for part in report.parts
    ]
    return None if None in costs else sum(cost or 0 for cost in costs)


def with_spent(planner: Planner, plan: Plan, spent: UsageReport) -> Plan:
    """
    *plan*, and *spent* beside it.
    """
    if plan.nanousd is None:
        return plan
    money, priced = cost_of_parts(planner, plan, spent)
    listed = list_cost_of_parts(planner, plan, spent) if plan.terms.has_own_prices else money
    if plan.worst is ONE_CALL:
        alternatives = (*plan.alternatives, spent.usage)
        if money <= plan.nanousd:
            return plan._replace(alternatives=alternatives)
        change: dict[str, Any] = {"worst": spent.usage, "nanousd": money, "list_nanousd": listed}
        return plan._replace(alternatives=alternatives, priced=priced, **change)
    has_both = plan.list_nanousd is not None and listed is not None
    return plan._replace(
        alternatives=tuple([add([each, spent.usage]) for each in plan.alternatives]),
        worst=add([plan.worst, spent.usage]),
        nanousd=plan.nanousd + money,
        list_nanousd=(plan.list_nanousd or 0) + (listed or 0) if has_both else None,
        priced=priced if priced == "upper_bound" else plan.priced,
    )
