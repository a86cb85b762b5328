"""
Ids of entries.
"""

from __future__ import annotations

import re

from bedrock_guard.domain.entry_id import new_entry_id

NOW = 1_790_000_000.0


def test_ids_sort_as_calls_were_opened() -> None:
    """
    In the form that ids have had from the beginning, so that those of an older version sort among them.
    """
    times = [NOW, NOW + 0.001, NOW + 1, NOW + 86_400, NOW + 20 * 366 * 86_400]

    ids = [new_entry_id(at_s) for at_s in times]

    assert sorted(ids) == ids
    assert [int(each[:11], 16) for each in ids] == [int(at_s * 1000) for at_s in times]
    assert all(re.fullmatch(r"[0-9a-f]{11}-[0-9a-f]{16}", each) for each in ids)


def test_no_two_calls_of_one_moment_have_one_id() -> None:
    assert len({new_entry_id(NOW) for _ in range(10_000)}) == 10_000
