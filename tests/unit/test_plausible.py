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
    "no call uses that": ({"output_tokens": 10**12 + 1}, ("above_bound", "uncountable"), None),
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


def test_a_contradiction_is_charged_as_read() -> None:
    """
    The reader has taken the larger count already.
    """
    usage: dict[str, Any] = {"input_tokens": 7, "output_tokens": 5}

    judgement = judge(UsageReport(usage, anomalies=("contradictory",)), WORST)

    assert judgement == (("contradictory",), usage)
