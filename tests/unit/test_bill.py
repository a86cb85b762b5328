"""
The bill of a run, from its entries.
"""

from __future__ import annotations

from typing import Any

from bedrock_guard.bill import bill_notes, bill_rows, cache_hit, read_bill
from bedrock_guard.domain.entry import Entry

SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"


def entry(model: str | None, cost_nanousd: int | None = 0, **fields: Any) -> Entry:
    return Entry(
        id="any",
        at_s=0.0,
        operation="Converse",
        model_id=f"us.{model}",
        model=model,
        family="any",
        region="us-east-1",
        service_tier="default",
        latency="standard",
        tags={},
        cost_nanousd=cost_nanousd,
        **{"outcome": "answered", **fields},
    )


ENTRIES = [
    entry(NOVA, 1_000, usage={"input_tokens": 10, "output_tokens": 5}),
    entry(SONNET, 2_000_000, usage={"input_tokens": 100, "cache_read_input_tokens": 300}),
    entry(SONNET, 1_000_000, usage={"output_tokens": 7}, outcome="lost", basis="estimated"),
    entry(SONNET, 0, outcome="rejected"),
    entry(SONNET, 0, outcome="refused", budget="run", count=3),
    entry(SONNET, 0, outcome="refused", control={"reason": "loop"}),
    entry(SONNET, 9, outcome="would_refuse"),
    entry(None, None, outcome="stop"),
    entry(NOVA, 5, outcome="pending"),
]


def test_calls_are_added_up_by_model_the_dearest_first() -> None:
    """
    Refusals, what shadows would have refused, stops and open calls are no calls that cost something.
    """
    bill = read_bill(iter(ENTRIES))

    assert [(line.model, line.calls, line.nanousd) for line in bill.lines] == [
        (SONNET, 3, 3_000_000),
        (NOVA, 1, 1_000),
    ]
    assert bill.lines[0].usage == {"input_tokens": 100, "cache_read_input_tokens": 300, "output_tokens": 7}
    assert (bill.calls, bill.nanousd) == (4, 3_001_000)
    assert bill.by_basis == {"reported": 2_001_000, "estimated": 1_000_000}
    assert bill.refused == {"run": 3, "": 1}


def test_the_cache_hit_is_what_was_read_of_all_input() -> None:
    """
    300 of 400 tokens; nothing is said of calls without input.
    """
    bill = read_bill(ENTRIES)

    assert [line.cache_hit for line in bill.lines] == [0.75, 0.0]
    assert cache_hit({"output_tokens": 7}) is None


def test_the_table_has_a_column_for_each_meter_and_a_sum() -> None:
    """
    What a person reads at the end of a run.
    """
    assert bill_rows(read_bill(ENTRIES)) == [
        ("model", "calls", "input", "cache read input", "output", "cache hit", "cost"),
        (SONNET, "3", "100", "300", "7", "75 %", "$0.003"),
        (NOVA, "1", "10", "0", "5", "0 %", "$0.000001"),
        ("all", "4", "110", "300", "12", "73.1 %", "$0.003001"),
    ]


def test_what_aws_did_not_report_and_who_was_refused_is_said() -> None:
    """
    An estimate must not pass for what AWS said.
    """
    assert bill_notes(read_bill(ENTRIES)) == [
        "$0.001 of it is estimated: AWS reported no usage of those calls",
        "3 calls were refused by run",
        "1 call was refused by a stop",
    ]


def test_calls_without_a_price_are_counted_and_told_of() -> None:
    """
    Nothing is silently 0.
    """
    bill = read_bill([entry(None, None, usage={"input_tokens": 1})])

    assert bill_rows(bill)[1] == ("us.None", "1", "1", "0 %", "$0.00 + 1 unpriced")
    assert bill.to_dict()["models"][0]["unpriced_calls"] == 1
