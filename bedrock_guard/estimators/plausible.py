"""
Whether reported usage can be right, and what is charged where it cannot.

Too much may be true: a bound can be wrong, and AWS's word is what it bills. Too
little may not be: nothing that was used is charged below what it can have cost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bedrock_guard.domain.usage import (
    ALL_INPUT_METERS,
    CACHE_READ,
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Usage,
    UsageReport,
    larger,
    total_input,
)

ANOMALIES: Final[dict[str, str]] = {
    "above_bound": "more than 1.5 times the most we held possible; charged as reported",
    "uncountable": "more than 10^9 of a meter, which no call uses; charged as a count below zero is",
    "negative": "a count below zero; charged at the estimate, or at the other counts where those are more",
    "contradictory": "one count stated twice, and differently; the larger is charged",
    "no_output": "text, but no output tokens; the output is charged at the most it can be",
    "no_input": "text, but no input tokens, cached or not; the input is charged at the most it can be",
}
"""What can be wrong with a report, and the rule by which it is charged."""

# Beyond what an estimate can be off by.
_FACTOR: Final = 1.5
# No window is above 10^7 tokens, and no answer above 10^6, of 128 candidates at most. What a broken
# counter says is above it: 2^31 - 1, or 2^32 - 1.
MOST_BELIEVED: Final = 10**9

# By price, whatever the model: what is read of a cache costs least, what is written for an hour most.
_BY_PRICE: Final = (CACHE_READ, INPUT_TOKENS, CACHE_WRITE_5M, CACHE_WRITE_1H)


class Judgement(NamedTuple):
    """
    What is wrong with a report, and what to charge for it: None is the estimate.
    """

    anomalies: tuple[str, ...]
    charged: Usage | None


def judge(report: UsageReport, worst: Usage) -> Judgement | None:
    """
    What is wrong with *report*, beside *worst*, the most that the call could use; None when it may be right.

    Tokens are compared, input whatever its meter.
    """
    usage = report.usage
    output, most_output = usage.get(OUTPUT_TOKENS, 0), worst.get(OUTPUT_TOKENS, 0)
    quantities = usage.values()
    # As good as always: within what was held, whatever the meters, and nothing below zero.
    rest = sum(quantities) - output
    if (
        0 <= output <= most_output
        and rest <= sum(worst.values()) - most_output
        and most_output + rest <= MOST_BELIEVED
        and min(quantities, default=0) >= 0
        and not report.anomalies
    ):
        return None
    # Nothing bounds how often an agent calls its models.
    is_above = not report.parts and (
        output > _FACTOR * most_output or total_input(usage) > _FACTOR * total_input(worst)
    )
    is_odd = bool(usage) and (min(quantities) < 0 or max(quantities) > MOST_BELIEVED)
    if not (is_above or is_odd or report.anomalies):
        return None
    anomalies = [*report.anomalies, *["above_bound"] * is_above]
    if is_odd:
        anomalies += ["negative"] * (min(quantities) < 0) + ["uncountable"] * (
            max(quantities) > MOST_BELIEVED
        )
        believable = usage if report.believable is None else report.believable
        return Judgement(tuple(anomalies), _at_least(worst, believable))
    if "no_output" in anomalies:
        usage = {**usage, OUTPUT_TOKENS: max(output, most_output)}
    if "no_input" in anomalies:
        usage = {**usage, **{meter: most for meter, most in worst.items() if meter in ALL_INPUT_METERS}}
    return Judgement(tuple(anomalies), usage)


def _at_least(worst: Usage, stated: Usage) -> Usage | None:
    """
    Meter by meter the larger of *worst* and of what can be true of *stated*; None where that is *worst*.

    Input that fits into the estimate's, and costs no more there, is not added to it under another name.
    """
    stated = {meter: quantity for meter, quantity in stated.items() if 0 < quantity <= MOST_BELIEVED}
    dearest = max([_BY_PRICE.index(meter) for meter in stated if meter in _BY_PRICE], default=-1)
    held = min([_BY_PRICE.index(meter) for meter in worst if meter in _BY_PRICE], default=-1)
    if dearest <= held and total_input(stated) <= total_input(worst):
        stated = {meter: quantity for meter, quantity in stated.items() if meter not in _BY_PRICE}
    charged = larger(worst, stated)
    return None if charged == worst else charged
