"""
Whether reported usage can be right, and what is charged where it cannot.

Too much may be true: a bound can be wrong, and AWS's word is what it bills. Too
little may not be: nothing that was used is charged below what it can have cost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bedrock_guard.domain.usage import OUTPUT_TOKENS, Usage, UsageReport, total_input

ANOMALIES: Final[dict[str, str]] = {
    "above_bound": "more than 1.5 times the most we held possible; charged as reported",
    "uncountable": "more than 10^12 of a meter, which no call uses; charged at the estimate",
    "negative": "a count below zero; charged at the estimate",
    "contradictory": "one count stated twice, and differently; the larger is charged",
    "no_output": "text, but no output tokens; the output is charged at the most it can be",
}
"""What can be wrong with a report, and the rule by which it is charged."""

# Beyond what an estimate can be off by.
_FACTOR: Final = 1.5
_MOST_BELIEVED: Final = 10**12


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
    is_above = output > _FACTOR * most_output or total_input(usage) > _FACTOR * total_input(worst)
    quantities = usage.values()
    is_odd = bool(usage) and (min(quantities) < 0 or max(quantities) > _MOST_BELIEVED)
    if not (is_above or is_odd or report.anomalies):
        return None
    anomalies = list(report.anomalies)
    charged: Usage | None = usage
    if is_above:
        anomalies.append("above_bound")
    if is_odd:
        anomalies.append("negative" if min(quantities) < 0 else "uncountable")
        charged = None
    elif "no_output" in anomalies:
        charged = {**usage, OUTPUT_TOKENS: most_output}
    return Judgement(tuple(anomalies), charged)
