"""
A plan: what a call may come to, as numbers, and the balances that it counts towards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from bedrock_guard.budgets.matching import Match
from bedrock_guard.domain.budget import USD, amount_of, in_api_units
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.cost import PriceBasis, usd_from_nanousd
from bedrock_guard.domain.ledger import Line
from bedrock_guard.domain.usage import Usage
from bedrock_guard.pricing.price_list import UnitPrices

# A call may have ten of them, and `Line()` takes twice as long.
_new_line: Final[Callable[[type[Line], tuple[Any, ...]], Line]] = tuple.__new__


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    The most that a call can use and cost.

    Attributes:
        usage: Quantities by meter, each input token on the dearest meter it could land on.
        cost: In USD; None when the model has no price and `on_unpriced` is `"allow"`.
        lines: Budget name -> the amount held there, in the budget's unit.
    """

    usage: Usage
    cost: Decimal | None
    lines: Mapping[str, Decimal | int]


class Plan(NamedTuple):
    """
    What a call may come to, before anything is held.

    Attributes:
        at: When the call was made; prices go by it.
        alternatives: Ways the call's usage can fall; the bound is the worst of them in each unit.
        worst: The dearest of them.
        worst_prices: By which prices it is the dearest.
        nanousd: What that costs; None without a price.
        has_own_prices: Whether the account's own prices may have been used.
        list_nanousd: The same at list price; None where the list has none.
        priced: Whether those are its own prices, or the dearest of the list.
    """

    call: Call
    at: datetime
    tags: Mapping[str, str]
    prices: UnitPrices | None
    alternatives: tuple[Usage, ...]
    worst: Usage
    worst_prices: UnitPrices | None
    nanousd: int | None
    has_own_prices: bool
    list_nanousd: int | None
    priced: PriceBasis
    matches: Sequence[Match]

    def lines(self) -> list[Line]:
        """
        What to hold, balance by balance.
        """
        money = self.nanousd or 0
        lines: list[Line] = []
        for match in self.matches:
            amount, unit = money, match.unit
            if unit != USD:
                amount = 0
                for usage in self.alternatives:
                    amount = max(amount, amount_of(unit, nanousd=money, usage=usage))
            if match.special is None:
                lines.append(_new_line(Line, (match.key, match.limit, amount, "window", True, 0, 0)))
            else:
                lines.append(match.line(amount))
        return lines


def as_estimate(plan: Plan) -> Estimate:
    """
    A plan as the API shows it.
    """
    lines = zip(plan.matches, plan.lines(), strict=True)
    return Estimate(
        plan.worst,
        None if plan.nanousd is None else usd_from_nanousd(plan.nanousd),
        {match.budget.name: in_api_units(line.amount, match.unit) for match, line in lines},
    )
