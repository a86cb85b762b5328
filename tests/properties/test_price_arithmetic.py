"""
Money adds up: the price arithmetic against exact fractions, for any usage and any prices.
"""

from __future__ import annotations

from decimal import localcontext
from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from bedrock_guard.domain.cost import PRICE_STEPS_PER_USD
from bedrock_guard.domain.usage import ALL_INPUT_METERS
from bedrock_guard.pricing.calculate import cost, nanousd
from bedrock_guard.pricing.rows import parse_price
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

METERS = (*ALL_INPUT_METERS, "output_tokens", "images", "guardrail_content_policy_units")
STEPS = st.integers(1, 10**16)
USAGES = st.dictionaries(st.sampled_from(METERS), st.integers(0, 10**10))
PRICES = st.fixed_dictionaries(dict.fromkeys(METERS, STEPS))


def unit_prices(*bands: tuple[int, dict[str, int]]) -> UnitPrices:
    return UnitPrices(
        "acme.one", "us", "us-east-1", "default", "standard", tuple(PriceBand(*band) for band in bands)
    )


def in_nanousd(usage: dict[str, int], prices: dict[str, int]) -> Fraction:
    return sum(
        (
            Fraction(quantity * prices[meter], PRICE_STEPS_PER_USD) * 10**9
            for meter, quantity in usage.items()
        ),
        Fraction(0),
    )


@given(USAGES, PRICES)
def test_a_cost_is_exact_and_rounded_up_once(usage: dict[str, int], prices: dict[str, int]) -> None:
    """
    Never under, and over by less than a billionth of a dollar a call.
    """
    exact = in_nanousd(usage, prices)

    charged, basis = nanousd(usage, unit_prices((0, prices)))

    assert exact <= charged < exact + 1
    assert basis == "list"


@given(USAGES, PRICES)
def test_the_lines_add_up_to_the_sum(usage: dict[str, int], prices: dict[str, int]) -> None:
    """
    A report by meter and the ledger must tell one story; the quick way and the long way as well.
    """
    charged = cost(usage, unit_prices((0, prices)))

    assert sum(Fraction(line.quantity * line.unit_price, 10**7) for line in charged.charges) == in_nanousd(
        usage, prices
    )
    assert (charged.nanousd, charged.priced) == nanousd(usage, unit_prices((0, prices)))


@given(USAGES, st.tuples(PRICES, PRICES, PRICES), st.integers(1, 10**6), st.integers(1, 10**6))
def test_one_band_prices_the_whole_call(
    usage: dict[str, int], each: tuple[dict[str, int], ...], first: int, more: int
) -> None:
    """
    The band is chosen by every token sent, and never mixed with another.
    """
    sent = sum(usage.get(meter, 0) for meter in ALL_INPUT_METERS)
    expected = each[(sent > first) + (sent > first + more)]

    found = nanousd(usage, unit_prices((0, each[0]), (first, each[1]), (first + more, each[2])))

    assert found == nanousd(usage, unit_prices((0, expected)))


@given(USAGES, PRICES, st.sets(st.sampled_from(METERS)))
def test_what_has_no_price_is_charged_at_the_bound_and_says_so(
    usage: dict[str, int], prices: dict[str, int], unpriced: set[str]
) -> None:
    """
    Marked if and only if a meter that was used had no price of its own.
    """
    own = {meter: price for meter, price in prices.items() if meter not in unpriced}
    bounds = {meter: 2 * price for meter, price in prices.items()}
    used = {meter for meter, quantity in usage.items() if quantity} & unpriced

    charged, basis = nanousd(usage, unit_prices((0, own)), dearest=unit_prices((0, bounds)))

    expected = in_nanousd(
        usage, {meter: (bounds if meter in unpriced else prices)[meter] for meter in METERS}
    )
    assert expected <= charged < expected + 1
    assert basis == ("upper_bound" if used else "list")


@given(USAGES, USAGES, PRICES)
def test_more_usage_never_costs_less(
    one: dict[str, int], other: dict[str, int], prices: dict[str, int]
) -> None:
    """
    A bound in quantities is a bound in money.
    """
    more = {meter: one.get(meter, 0) + other.get(meter, 0) for meter in METERS}

    assert nanousd(more, unit_prices((0, prices)))[0] >= nanousd(one, unit_prices((0, prices)))[0]


@given(st.integers(0, 10**5), st.integers(0, 10**16 - 1), st.integers(0, 4), st.integers(1, 9))
def test_a_price_is_read_exactly_whatever_the_program_rounds_to(
    whole: int, fraction: int, zeros: int, precision: int
) -> None:
    """
    A program may set the decimal context to 3 digits; prices must not notice.
    """
    assume(whole or fraction)
    with localcontext() as context:
        context.prec = precision
        steps = parse_price("x", f"{whole}.{fraction:016}" + "0" * zeros)

    assert steps == whole * 10**16 + fraction
