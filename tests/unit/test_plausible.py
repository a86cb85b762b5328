"""
Usage that cannot be right, and what it is charged.
"""

from __future__ import annotations

from typing import Any

import pytest

from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.estimators.plausible import ANOMALIES, judge

WORST = {"cache_write_5m_input_tokens": 100, "output_tokens": 50}

# What is reported, how that is called, and what is charged; None is the estimate.
REPORTS: dict[str, tuple[dict[str, int], tuple[str, ...], dict[str, int] | None]] = {
    "as bounded": (
        {"input_tokens": 100, "output_tokens": 50},
        (),
        {"input_tokens": 100, "output_tokens": 50},
    ),
    "1.5 times": ({"input_tokens": 150, "output_tokens": 75}, (), {"input_tokens": 150, "output_tokens": 75}),
    "input above": ({"input_tokens": 151}, ("above_bound",), {"input_tokens": 151}),
    "input above in parts": (
        {"input_tokens": 80, "cache_read_input_tokens": 71},
        ("above_bound",),
        {"input_tokens": 80, "cache_read_input_tokens": 71},
    ),
    "output above": ({"output_tokens": 76}, ("above_bound",), {"output_tokens": 76}),
    "no call uses that": ({"output_tokens": 10**9 + 1}, ("above_bound", "uncountable"), None),
    "a broken counter, beside what can be": (
        {"input_tokens": 7, "output_tokens": 2**31 - 1},
        ("above_bound", "uncountable"),
        None,
    ),
    "a broken counter, beside more than was held": (
        {"input_tokens": 300, "output_tokens": 2**31 - 1},
        ("above_bound", "uncountable"),
        {"cache_write_5m_input_tokens": 100, "input_tokens": 300, "output_tokens": 50},
    ),
    "below zero, beside more than was held": (
        {"input_tokens": -1, "output_tokens": 900},
        ("above_bound", "negative"),
        {"cache_write_5m_input_tokens": 100, "output_tokens": 900},
    ),
    "below zero, beside what costs more than was held": (
        {"cache_write_1h_input_tokens": 9, "output_tokens": -1},
        ("negative",),
        {"cache_write_5m_input_tokens": 100, "cache_write_1h_input_tokens": 9, "output_tokens": 50},
    ),
    "below zero, beside another meter": (
        {"output_tokens": -1, "guardrail_word_policy_units": 3},
        ("negative",),
        {"cache_write_5m_input_tokens": 100, "output_tokens": 50, "guardrail_word_policy_units": 3},
    ),
    "below zero": ({"input_tokens": -1, "output_tokens": 3}, ("negative",), None),
    "below zero in another meter": ({"guardrail_word_policy_units": -1}, ("negative",), None),
    "nothing": ({}, (), {}),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_cannot_be_right_is_named_and_charged_by_its_rule(name: str) -> None:
    """
    Too much is AWS's word; too little must not make a call free.
    """
    usage, anomalies, charged = REPORTS[name]

    judgement = judge(UsageReport(usage), WORST)

    if not anomalies:
        assert judgement is None
    else:
        assert judgement == (anomalies, charged)
    assert set(anomalies) <= set(ANOMALIES)


def test_text_without_output_tokens_is_charged_the_most_it_can_be() -> None:
    """
    Its input is believed.
    """
    judgement = judge(UsageReport({"input_tokens": 7}, anomalies=("no_output",)), WORST)

    assert judgement == (("no_output",), {"input_tokens": 7, "output_tokens": 50})


def test_an_output_told_too_late_is_charged_no_less_than_it_was() -> None:
    """
    The last word says none, an earlier one more than was held possible.
    """
    judgement = judge(UsageReport({"input_tokens": 7, "output_tokens": 60}, anomalies=("no_output",)), WORST)

    assert judgement == (("no_output",), {"input_tokens": 7, "output_tokens": 60})


def test_text_without_input_tokens_is_charged_the_most_it_can_be() -> None:
    """
    No model answers what it has not read.
    """
    judgement = judge(UsageReport({"output_tokens": 7}, anomalies=("no_input",)), WORST)

    assert judgement == (("no_input",), {"cache_write_5m_input_tokens": 100, "output_tokens": 7})


def test_a_count_below_zero_is_charged_at_what_else_was_told_of_its_meter() -> None:
    """
    Two reports of one call, one of them broken: the other is never charged below.
    """
    report = UsageReport({"output_tokens": -5}, believable={"output_tokens": 80})

    assert judge(report, WORST) == (("negative",), {"cache_write_5m_input_tokens": 100, "output_tokens": 80})


def test_a_contradiction_is_charged_as_read() -> None:
    """
    The reader has taken the larger count already.
    """
    usage: dict[str, Any] = {"input_tokens": 7, "output_tokens": 5}

    judgement = judge(UsageReport(usage, anomalies=("contradictory",)), WORST)

    assert judgement == (("contradictory",), usage)
