"""
Entries as ledgers store them.
"""

from __future__ import annotations

import pytest

from bedrock_guard.domain.entry import Entry
from bedrock_guard.testing.ledger_calls import open_entry


class Seconds(float):
    """
    As a number of NumPy's, which a clock of somebody's simulation may return.
    """

    def __repr__(self) -> str:
        return f"np.float64({float(self)!r})"


@pytest.mark.parametrize("at_s", [Seconds(1.5), 1.5, 1, float("inf")])
def test_a_time_of_any_kind_is_read_back(at_s: float) -> None:
    """
    One entry that is no JSON would keep all others from being read.
    """
    entry = open_entry("one").changed(at_s=at_s)

    assert Entry.from_json(entry.to_json()) == entry
