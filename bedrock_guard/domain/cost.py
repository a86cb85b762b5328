"""
Money: whole nano-dollars in the ledger, `Decimal` dollars in the API, no floats.

Unit prices are integers at 1e-16 USD, the finest step that an AWS price list
prints. A call's charges are summed exactly and rounded up once.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

NANOUSD_PER_USD: Final = 10**9
PRICE_STEPS_PER_USD: Final = 10**16
PRICE_STEPS_PER_NANOUSD: Final = PRICE_STEPS_PER_USD // NANOUSD_PER_USD

PriceBasis: TypeAlias = Literal["list", "upper_bound"]


class Charge(NamedTuple):
    """
    One meter's line of a cost.

    Attributes:
        meter: Its name.
        quantity: How much was used, in the meter's unit.
        unit_price: Price of one unit, in steps of 1e-16 USD.
    """

    meter: str
    quantity: int
    unit_price: int

    @property
    def usd(self) -> Decimal:
        """
        The exact charge, before the call's sum is rounded.
        """
        return Decimal(self.quantity * self.unit_price).scaleb(-16)


class Cost(NamedTuple):
    """
    What a call cost at list price.

    Attributes:
        nanousd: The sum of the charges, rounded up once.
        charges: Its lines.
        priced: `"upper_bound"` when a meter had no price of its own and was
            charged at the dearest one that it could be.
    """

    nanousd: int
    charges: tuple[Charge, ...]
    priced: PriceBasis = "list"

    @property
    def usd(self) -> Decimal:
        """
        The sum in USD, exact to the nano-dollar.
        """
        return usd_from_nanousd(self.nanousd)


def usd_from_nanousd(nanousd: int) -> Decimal:
    """
    Nano-dollars as dollars, without trailing zeros beyond cents.
    """
    usd = Decimal(nanousd).scaleb(-9)
    exponent = usd.normalize().as_tuple().exponent
    return usd.quantize(Decimal(1).scaleb(min(-2, int(exponent))))


def usd_text(nanousd: int) -> str:
    """
    Nano-dollars as `usd_from_nanousd` prints them, without making a `Decimal`.
    """
    digits = str(abs(nanousd)).zfill(10)  # a width in a format takes longer, within a call
    sign = "-" if nanousd < 0 else ""
    return f"{sign}{digits[:-9]}.{digits[-9:-7]}{digits[-7:].rstrip('0')}"


def nanousd_from_usd(usd: Decimal) -> int:
    """
    Dollars as whole nano-dollars, rounded down: a limit is never made larger.
    """
    return int(usd.scaleb(9))


def round_up(price_steps: int) -> int:
    """
    A sum in steps of 1e-16 USD as nano-dollars, rounded up.
    """
    return -(-price_steps // PRICE_STEPS_PER_NANOUSD)
