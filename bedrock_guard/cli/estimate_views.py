"""
Estimates and projections as commands show them: tables, JSON, CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from bedrock_guard.budgets.verdict import show
from bedrock_guard.cli.entry_views import show_tags
from bedrock_guard.cli.price_reports import million
from bedrock_guard.cli.safe_text import plain
from bedrock_guard.cli.screen import console, counted, fit, table
from bedrock_guard.domain.cost import Charge, round_up, usd_text
from bedrock_guard.pricing.price_views import PricedMeter
from bedrock_guard.pricing.rows import show_price
from bedrock_guard.projecting.request import Fit, RequestEstimate
from bedrock_guard.projecting.traffic import Projection, Traffic

_METERS: Final = ("meter", "at most", "USD a million", "cost", "price")
_BUDGETS: Final = ("budget", "limit", "whose", "holds", "fits")
_MONTH: Final = ("model", "a request", "a conversation", "a user", "a day", "the month")
_LIMITS: Final = ("model", "for the month", "for each day", "for each user")
MONTH_COLUMNS: Final = (
    "model",
    "request",
    "conversation",
    "user",
    "day",
    "month",
    "month_budget",
    "day_budget",
    "user_budget",
)


def show_request(found: RequestEstimate) -> None:
    """
    A request's bound, meter by meter, and the budgets that it counts towards.
    """
    out, call = console(), found.call
    out.print(
        Text(plain(f"{call.operation} of {call.model.model_id} in {call.region}", None)), soft_wrap=True
    )
    out.print(fit(_meters(found), out, ("price",)))
    out.print(Text(_output(found)), soft_wrap=True)
    if found.fits:
        out.print()
        out.print(fit(_budgets(found.fits), out, ("whose",)))


def request_json(found: RequestEstimate) -> dict[str, Any]:
    """
    All of it as plain values; money in USD as text.
    """
    call, output = found.call, found.output
    charges = {} if found.cost is None else {each.meter: each for each in found.cost.charges}
    return {
        "operation": call.operation,
        "model_id": call.model.model_id,
        "model": call.model.model,
        "region": call.region,
        "service_tier": call.service_tier,
        "cost": None if found.cost is None else usd_text(found.cost.nanousd),
        "meters": [
            {
                "meter": meter,
                "quantity": quantity,
                "unit_price": show_price(charges[meter].unit_price) if meter in charges else None,
                "cost": _usd(charges[meter]) if meter in charges else None,
                "price": _origin_json(found.prices.get(meter)),
            }
            for meter, quantity in found.usage.items()
        ],
        "output": output
        and {
            "tokens": output.tokens,
            "candidates": output.candidates,
            "is_set": output.is_callers,
            "cost": usd_text(output.nanousd),
        },
        "budgets": [
            {
                "budget": each.budget,
                "per": dict(each.per),
                "limit": each.limit,
                "unit": each.unit,
                "holds": str(each.amount),
                "most": str(each.most),
                "fits": each.fits,
                "enforced": each.enforced,
            }
            for each in found.fits
        ],
    }


def show_month(traffic: Traffic, found: Sequence[Projection]) -> None:
    """
    What traffic costs with each model, and the limits that hold it.
    """
    out = console()
    per_day = traffic.conversations
    shown = f"{int(per_day):,}" if per_day.denominator == 1 else f"{float(per_day):,.2f}"
    usage = ", ".join(f"{quantity:,} {meter}" for meter, quantity in traffic.usage.items())
    out.print(
        f"{counted(traffic.total, 'conversation')}: {counted(traffic.users, 'user')}, {shown} a day each, "
        f"{counted(traffic.days, 'day')}.\n"
        f"A conversation is {counted(traffic.requests, 'request')} of {usage}.",
        soft_wrap=True,
    )
    made = table(_MONTH, words=("model",))
    limits = table(_LIMITS, words=_LIMITS, whole=_LIMITS[1:], title="A budget that holds it")
    for each in found:
        name = Text(plain(each.model_id))
        figures = (each.request, each.conversation, each.user, each.day, each.month)
        made.add_row(name, *map(_exact, figures))
        limits.add_row(name, *each.budgets.values())
    out.print()
    out.print(fit(made, out, ("a request", "a day")))
    out.print()
    out.print(fit(limits, out, ("for each user", "for each day")))


def month_json(traffic: Traffic, found: Sequence[Projection]) -> dict[str, Any]:
    """
    All of it as plain values; money in USD as text.
    """
    return {
        "users": traffic.users,
        "days": traffic.days,
        "conversations": traffic.total,
        "requests": traffic.total * traffic.requests,
        "usage": dict(traffic.usage),
        "models": [projection_json(each) for each in found],
    }


def projection_json(each: Projection) -> dict[str, Any]:
    """
    The columns of `MONTH_COLUMNS`.
    """
    return {
        "model": each.model_id,
        "request": usd_text(each.request),
        "conversation": usd_text(each.conversation),
        "user": usd_text(each.user),
        "day": usd_text(each.day),
        "month": usd_text(each.month),
        **{f"{name}_budget": limit for name, limit in each.budgets.items()},
    }


def _meters(found: RequestEstimate) -> Table:
    made = table(_METERS, words=("meter", "price"), whole=("meter",))
    charges = {} if found.cost is None else {each.meter: each for each in found.cost.charges}
    for meter, quantity in found.usage.items():
        charge = charges.get(meter)
        # To the nano-dollar, rounded up as the sum is.
        cost = "no price" if charge is None else _exact(round_up(charge.quantity * charge.unit_price))
        unit = "" if charge is None else million(charge.unit_price)
        made.add_row(meter, f"{quantity:,}", unit, cost, Text(_origin(found.prices.get(meter))))
    made.add_section()
    whole = "no price" if found.cost is None else _exact(found.cost.nanousd)
    made.add_row("total", "", "", whole, "", style="bold")
    return made


def _output(found: RequestEstimate) -> str:
    output = found.output
    if output is None:
        return "Nothing of it is output that a limit would shorten."
    answers = "" if output.candidates == 1 else f" for each of {output.candidates} answers"
    if output.is_callers:
        return f"Its limit of {output.tokens:,} output tokens{answers} is {_exact(output.nanousd)} of it."
    return (
        f"It sets no limit on output, so the model's maximum of {output.tokens:,} tokens{answers} counts: "
        f"{_exact(output.nanousd)} of it. Set maxTokens."
    )


def _budgets(fits: Sequence[Fit]) -> Table:
    made = table(_BUDGETS, words=("budget", "limit", "whose", "fits"), whole=("fits",))
    for each in fits:
        whose = show_tags({tag: value or "untagged" for tag, value in each.per}) or "all"
        verdict = "yes" if each.fits else "no" if each.enforced else "no, and only warns"
        holds = show(each.amount, each.unit, up=True)
        made.add_row(Text(plain(each.budget)), each.limit, Text(whose), holds, verdict)
    return made


def _origin(price: PricedMeter | None) -> str:
    if price is None:
        return "the dearest of the list"
    bound = ", a bound" if price.is_bound else ""
    return f"{price.origin.layer}: {price.origin.source} ({price.grade}{bound})"


def _origin_json(price: PricedMeter | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {
        "layer": price.origin.layer,
        "source": price.origin.source,
        "grade": price.grade,
        "is_bound": price.is_bound,
        "above_input_tokens": price.above_input_tokens,
    }


def _usd(charge: Charge) -> str:
    steps = charge.quantity * charge.unit_price
    return show_price(steps) if steps else "0"


def _exact(nanousd: int) -> str:
    """
    All digits: what is small is what is multiplied.
    """
    whole, _, rest = usd_text(nanousd).partition(".")
    return f"${int(whole):,}.{rest}"
