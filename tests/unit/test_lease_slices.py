"""
How much of a balance a process asks for.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.ledgers.leases.slices import HURRY_S, MOST_DOUBLINGS, Lease, Slice, doublings, kept, size


@pytest.mark.parametrize(
    ("before", "lasted_s", "times"),
    [
        (-1, 0.0, 0),
        (0, 0.0, 1),
        (3, 4.9, 4),
        (3, 5.0, 3),
        (3, 9.9, 3),
        (3, 10.0, 2),
        (3, 20.0, 1),
        (3, 1e9, 0),
        (MOST_DOUBLINGS, 0.0, MOST_DOUBLINGS),
    ],
)
def test_a_slice_comes_to_last_for_some_seconds(before: int, lasted_s: float, times: int) -> None:
    """
    More is kept from others, and charged when the process is killed; less asks the table too often.
    """
    known = Slice(Lease("me"))
    known.doublings, known.asked_at = before, 100.0

    assert doublings(known, 100.0 + lasted_s) == times


@pytest.mark.parametrize(
    ("free", "holders", "asked"),
    [(None, 1, 80), (1000, 1, 80), (100, 1, 50), (100, 4, 12), (10, 1, 10), (-5, 1, 10), (0, 0, 10)],
)
def test_slices_shrink_as_a_budget_ends(free: int | None, holders: int, asked: int) -> None:
    """
    Half of what is left, divided among those who lease; never less than the call needs.
    """
    assert size(10, 10, times=3, free=free, holders=holders) == asked


@given(
    missing=st.integers(0, 10**12),
    amount=st.integers(0, 10**12),
    times=st.integers(0, MOST_DOUBLINGS),
    free=st.none() | st.integers(-(10**12), 10**15),
    holders=st.integers(0, 1000),
)
def test_what_is_missing_is_always_asked_for(
    missing: int, amount: int, times: int, free: int | None, holders: int
) -> None:
    """
    Less would never admit the call, however often it is granted.
    """
    asked = size(missing, amount, times=times, free=free, holders=holders)

    assert asked >= missing
    assert asked == missing or free is None or asked <= free


def test_who_needs_less_than_before_keeps_less_each_time() -> None:
    """
    What a burst has left in the hands of a process that goes on slowly is nobody's otherwise.
    """
    slice_ = Slice(Lease("me"))
    slice_.asked_at = 100.0

    assert kept(slice_, 800, used=0, now=100.0 + HURRY_S) == 800
    assert kept(slice_, 800, used=10, now=101.0 + HURRY_S) == 400
    assert kept(slice_, 800, used=300, now=101.0 + HURRY_S) == 600
    assert kept(slice_, 800, used=900, now=101.0 + HURRY_S) == 800
    assert kept(slice_, 1, used=0, now=101.0 + HURRY_S) == 0
    assert kept(slice_, -5, used=9, now=101.0 + HURRY_S) == 0
