"""
The bill of the loopback Bedrock: what AWS would charge for what it generated.

It is the truth that ledgers are compared with, so it shares no code and no
price with what it judges: rates are given by the test, quantities by the
server, and everything else is derived from one tally when asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal, Inexact
from threading import Lock
from typing import Final, TypeAlias

Rates: TypeAlias = Mapping[str, Mapping[str, str | Decimal]]

# One generation as a key: equal ones are counted, so a long benchmark stays small.
_Charged: TypeAlias = tuple[str, tuple[tuple[str, int], ...]]

# Exact, or an exception: a rounded bill could hide a wrong ledger.
_EXACT: Final = Context(prec=80, traps=[Inexact])


class Bill:
    """
    Quantities and dollars of every generation so far; safe to read from any thread.

    Args:
        rates: USD for one unit, by model id as called and meter.
    """

    def __init__(self, rates: Rates | None = None) -> None:
        self._rates = {
            (model_id, meter): Decimal(rate)
            for model_id, by_meter in (rates or {}).items()
            for meter, rate in by_meter.items()
        }
        self._charged: Counter[_Charged] = Counter()
        self._lock = Lock()

    def add(self, model_id: str, quantities: Mapping[str, int]) -> None:
        """
        Charge one generation.
        """
        used = tuple(sorted((meter, quantity) for meter, quantity in quantities.items() if quantity))
        with self._lock:
            self._charged[model_id, used] += 1

    def clear(self) -> None:
        """
        Begin an empty bill at the same rates.
        """
        with self._lock:
            self._charged.clear()

    @property
    def has_rates(self) -> bool:
        """
        Whether dollars can be asked for at all.
        """
        return bool(self._rates)

    @property
    def requests(self) -> int:
        """
        Generations billed, retries that reached the model included.
        """
        return sum(self._snapshot().values())

    @property
    def lines(self) -> dict[tuple[str, str], int]:
        """
        Quantities by model id and meter; a meter never used has no line.
        """
        lines: Counter[tuple[str, str]] = Counter()
        for (model_id, used), times in self._snapshot().items():
            for meter, quantity in used:
                lines[model_id, meter] += quantity * times
        return dict(lines)

    @property
    def usd(self) -> Decimal:
        """
        The exact total, unrounded.

        Raises:
            LookupError: Something was used that has no rate.
        """
        total = Decimal(0)
        for line, quantity in self.lines.items():
            total = _EXACT.add(total, self._cost(*line, quantity))
        return total

    @property
    def nanousd(self) -> int:
        """
        The total with each generation summed exactly and rounded up once.

        Raises:
            LookupError: Something was used that has no rate.
        """
        total = 0
        for (model_id, used), times in self._snapshot().items():
            cost = Decimal(0)
            for meter, quantity in used:
                cost = _EXACT.add(cost, self._cost(model_id, meter, quantity))
            total += times * int(_EXACT.scaleb(cost, 9).to_integral_value(ROUND_CEILING))
        return total

    def _snapshot(self) -> dict[_Charged, int]:
        with self._lock:
            return dict(self._charged)

    def _cost(self, model_id: str, meter: str, quantity: int) -> Decimal:
        rate = self._rates.get((model_id, meter))
        if rate is None:
            known = ", ".join(sorted(f"{model} {name}" for model, name in self._rates)) or "none"
            message = (
                f"No rate for meter {meter!r} of {model_id!r}, used {quantity} times. Known: {known}.\n"
                "Add it to the rates that BedrockServer is given."
            )
            raise LookupError(message)
        return _EXACT.multiply(rate, Decimal(quantity))


def stated(bill: Bill) -> dict[str, object]:
    """
    A bill as JSON shows it, with dollars where there are rates.
    """
    lines = [
        {"model_id": model_id, "meter": meter, "quantity": quantity}
        for (model_id, meter), quantity in sorted(bill.lines.items())
    ]
    document: dict[str, object] = {"requests": bill.requests, "lines": lines}
    if bill.has_rates:
        document.update(usd=str(bill.usd), nanousd=bill.nanousd)
    return document
