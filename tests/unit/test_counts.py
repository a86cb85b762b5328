"""
Counts: what replies state, in whatever words, as usage by meter.
"""

from __future__ import annotations

from typing import Any

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import Family, family_of
from bedrock_guard.families.counts import (
    CACHE_WRITE,
    Counts,
    merge,
    read_counts,
    read_lives,
    usage_of,
    with_negatives,
)

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "meta.llama3-70b-instruct-v1:0"
GPT = "openai.gpt-6-sol"
OPAQUE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
IMAGE = "iVBORw0KGgo" * 1_000


def family(model_id: str) -> Family:
    return family_of(parse_model_id(model_id))


# --- counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.5, "x", "", "-", "--3", "-x", True, None, [], "9" * 5_000])
def test_what_is_no_count_is_not_reported(value: object) -> None:
    """
    Half a token is nothing that AWS bills.
    """
    counts = family(CLAUDE).read_counts({"usage": {"input_tokens": value, "output_tokens": 1}})

    assert counts == {"output_tokens": 1}


def told(counts: Counts) -> tuple[Any, Any]:
    """
    What counts amount to, and what was reported.
    """
    usage = usage_of(counts, generates=True, marks_1h=False)
    assert usage is not None
    return usage, with_negatives(usage, counts)


@pytest.mark.parametrize("value", [-1, -1.0, "-1"])
@pytest.mark.parametrize(
    "other",
    [
        {},
        {"amazon-bedrock-invocationMetrics": {"outputTokenCount": 1}},
        {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 0}},
    ],
)
def test_a_count_below_zero_is_reported_as_it_is(value: object, other: dict[str, object]) -> None:
    """
    It says that the report cannot be believed, and must not be lost when two reports are merged.
    """
    counts = family(CLAUDE).read_counts({"usage": {"input_tokens": value, "output_tokens": 1}, **other})

    assert told(counts) == ({"output_tokens": 1}, {"input_tokens": -1, "output_tokens": 1})


def test_a_count_below_zero_does_not_hide_what_else_is_told_of_its_meter() -> None:
    """
    Nor the other way round: the largest of both would be the one that looks right.
    """
    reports = [{"usage": {"input_tokens": 7, "output_tokens": n}} for n in (1, -5, -3, 0)]

    counts = merge(family(CLAUDE).read_counts(report) for report in reports)

    usage, reported = told(counts)
    assert usage == {"input_tokens": 7, "output_tokens": 1}
    assert reported["output_tokens"] < 0


def test_one_life_below_zero_is_not_evened_out_by_another() -> None:
    """
    A sum would hide it.
    """
    details = [{"ttl": "1h", "inputTokens": 9}, {"ttl": "1h", "inputTokens": -2}]

    usage, reported = told({"input_tokens": 1, "output_tokens": 1, CACHE_WRITE: 10, **read_lives(details)})

    assert usage["cache_write_1h_input_tokens"] == 10
    assert reported["cache_write_1h_input_tokens"] == -2


@pytest.mark.parametrize("usage", [{CACHE_WRITE: -4}, {"cache_creation_input_tokens": "-4"}])
def test_cache_writes_below_zero_are_told_as_those_of_five_minutes(usage: dict[str, Any]) -> None:
    """
    The count of all writes is no meter.
    """
    table = ((("usage",), {CACHE_WRITE: CACHE_WRITE, "cache_creation_input_tokens": CACHE_WRITE}),)
    counts = {**read_counts({"usage": usage}, table), "input_tokens": 1, "output_tokens": 1}

    assert told(counts)[1]["cache_write_5m_input_tokens"] == -4


def test_a_prompt_below_zero_is_told_as_input() -> None:
    """
    As a prompt it is no meter either.
    """
    counts = family(GPT).read_counts({"usage": {"prompt_tokens": -100, "completion_tokens": 9}})

    assert told(counts)[1] == {"input_tokens": -100, "output_tokens": 9}


def test_one_result_below_zero_is_not_evened_out_by_another() -> None:
    """
    Titan counts each of its results.
    """
    body = {"inputTextTokenCount": 3, "results": [{"tokenCount": 4}, {"tokenCount": -5}]}

    usage, reported = told(family("amazon.titan-text-lite-v1").read_counts(body))

    assert usage == {"input_tokens": 3, "output_tokens": 4}
    assert reported["output_tokens"] == -5


def test_prompt_tokens_are_told_without_what_was_cached() -> None:
    """
    OpenAI's count includes them; both meters would charge them twice.
    """
    usage = {"prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 80}}

    counts = family(GPT).read_counts({"usage": usage})

    assert counts == {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 9}


def test_one_sum_told_twice_is_not_added() -> None:
    """
    Headers may tell a prompt in one sum that the body splits.
    """
    headers = {"input_tokens": 100, "output_tokens": 9}
    body = {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 9}

    assert merge([headers, body]) == body
    assert merge([body, headers]) == body


def test_two_spellings_of_a_count_are_one() -> None:
    """
    In 203 recordings both stand side by side; their sum would be double.
    """
    usage = {"inputTokens": 1, "outputTokens": 1, "cacheReadInputTokens": 7, "cacheReadInputTokenCount": 7}

    assert family(NOVA).read_counts({"usage": usage})["cache_read_input_tokens"] == 7


@pytest.mark.parametrize(
    ("writes", "marks_1h", "usage"),
    [
        ({CACHE_WRITE: 10}, False, {"cache_write_5m_input_tokens": 10}),
        ({CACHE_WRITE: 10}, True, {"cache_write_1h_input_tokens": 10}),
        (
            {CACHE_WRITE: 10, "cache_write_5m_input_tokens": 4},
            False,
            {"cache_write_5m_input_tokens": 4, "cache_write_1h_input_tokens": 6},
        ),
        ({CACHE_WRITE: 4, "cache_write_5m_input_tokens": 4}, True, {"cache_write_5m_input_tokens": 4}),
        ({"cache_write_1h_input_tokens": 3}, False, {"cache_write_1h_input_tokens": 3}),
        ({CACHE_WRITE: 0}, True, {}),
    ],
)
def test_writes_that_no_life_explains_are_the_dearer_ones(
    writes: dict[str, int], marks_1h: bool, usage: dict[str, int]
) -> None:
    """
    A peer priced one-hour writes as five-minute ones, 37 % too low.
    """
    counts = {"input_tokens": 0, "output_tokens": 0, **writes}

    assert usage_of(counts, generates=True, marks_1h=marks_1h) == usage


def test_an_unknown_life_is_the_longest() -> None:
    """
    The day AWS sells another one, it must not be charged as the cheapest.
    """
    details = [{"ttl": "5m", "inputTokens": 1}, {"ttl": "9h", "inputTokens": 2}, "junk", {"inputTokens": 0.5}]

    assert read_lives(details) == {"cache_write_5m_input_tokens": 1, "cache_write_1h_input_tokens": 2}


def test_usage_needs_input_and_output() -> None:
    """
    Half a report charged as a whole one would be too low; an explicit zero is a report.
    """
    assert usage_of({"input_tokens": 1}, generates=True, marks_1h=False) is None
    assert usage_of({"output_tokens": 1}, generates=True, marks_1h=False) is None
    assert usage_of({"input_tokens": 1}, generates=False, marks_1h=False) == {"input_tokens": 1}
    assert usage_of({"input_tokens": 0, "output_tokens": 0}, generates=True, marks_1h=False) == {}


def test_a_list_of_results_is_their_sum() -> None:
    """
    Titan counts each of its results.
    """
    body = {"inputTextTokenCount": 3, "results": [{"tokenCount": 4}, {"tokenCount": 5}, {}, None]}

    assert family("amazon.titan-text-lite-v1").read_counts(body) == {"input_tokens": 3, "output_tokens": 9}


def test_an_embedding_behind_an_opaque_arn_has_no_output() -> None:
    """
    Nobody said that the model makes embeddings, but its reply does.
    """
    body = {"embedding": [0.5], "inputTextTokenCount": 3}

    assert family(OPAQUE).read_counts(body) == {"input_tokens": 3, "output_tokens": 0}


@pytest.mark.parametrize(
    "document", [None, [], "x", {"usage": []}, {"usage": None}, {"usage": {"input_tokens": {}}}]
)
def test_a_reply_that_says_nothing_counts_nothing(document: Any) -> None:
    """
    Nothing said is not zero.
    """
    assert read_counts(document, ((("usage",), {"input_tokens": "input_tokens"}),)) == {}
