"""
The short way of a usual call on slices: what it must not take for usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from bedrock_guard.domain.ledger import LedgerKey, Line, RefusedLine
from bedrock_guard.ledgers.leases import local as module
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.purses import Call
from bedrock_guard.ledgers.leases.slices import Others
from bedrock_guard.testing.ledger_calls import DAY, NOW, TEAM, SetClock, answered, open_entry

KEYS: Final = (DAY, TEAM)


@pytest.fixture
def local() -> Local:
    """
    Two slices of 100, of which a call has just held and spent 10 each.
    """
    local = Local(SetClock())
    for key in KEYS:
        local.grant(key, 100, 0)
    assert hold(local, "first", 10, 10) is not None
    assert local.end("first", "settled", dict.fromkeys(KEYS, 10), answered("first")) == ("settled", False)
    return local


def hold(local: Local, id_: str, *amounts: int) -> Call | None:
    """
    A call of that id, which holds so much of each slice.
    """
    lines = tuple(Line(key, 1000, amount) for key, amount in zip(KEYS, amounts, strict=False))
    return local.hold(open_entry(id_), lines, NOW + 60, "charge", [])


def test_a_slice_that_is_forgotten_is_not_held_from(local: Local) -> None:
    """
    Even nothing of it: its end would go where nobody looks.
    """
    local.give_up(TEAM)
    assert local.forget(TEAM)

    assert hold(local, "second", 10, 0) is None
    assert local.sums(DAY) == (10, 0)


def test_fewer_balances_are_not_those_of_the_call_before(local: Local) -> None:
    """
    A call holds what it names, and its end touches that alone.
    """
    held = hold(local, "second", 20)
    assert held is not None
    assert [purse.key for purse in held.purses] == [DAY]

    assert local.end("second", "settled", {DAY: 5}, answered("second")) == ("settled", False)
    assert [local.sums(key) for key in KEYS] == [(15, 0), (10, 0)]


def test_the_same_balances_in_another_order_are_held_each_by_its_own(local: Local) -> None:
    """
    A purse goes by its key, not by its place.
    """
    lines = (Line(TEAM, 1000, 3), Line(DAY, 1000, 20))
    assert local.hold(open_entry("second"), lines, NOW + 60, "charge", []) is not None

    assert [local.sums(key) for key in KEYS] == [(10, 20), (10, 3)]


def test_a_usual_call_is_told_what_it_is_over(local: Local) -> None:
    """
    A budget that only warns may be over its limit by what others use.
    """
    local.soft[TEAM] = Others(990, 950, 2, 0.0)
    over: list[RefusedLine] = []
    lines = (Line(DAY, 1000, 20), Line(TEAM, 1000, 20, enforce=False))

    assert local.hold(open_entry("second"), lines, NOW + 60, "charge", over) is not None
    assert [(each.line.key, each.spent) for each in over] == [(TEAM, 960)]


@pytest.mark.parametrize("amounts", [{DAY: 5}, {DAY: 5, TEAM: 7, DAY._replace(budget="other"): 0}])
def test_an_end_in_other_balances_comes_to_the_same(local: Local, amounts: Mapping[LedgerKey, int]) -> None:
    """
    What is missing is nothing, and a nothing too many is no line.
    """
    hold(local, "second", 20, 20)

    assert local.end("second", "settled", amounts, answered("second")) == ("settled", False)
    assert [local.sums(key) for key in KEYS] == [(15, 0), (10 + amounts.get(TEAM, 0), 0)]


def test_ended_calls_are_remembered_up_to_a_number(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The oldest go first.
    """
    monkeypatch.setattr(module, "KEEP_ENDED", 2)
    for id_ in ("second", "third"):
        hold(local, id_, 1, 1)
        local.end(id_, "settled", dict.fromkeys(KEYS, 1), answered(id_))

    assert local.find("first") is None
    assert [local.find(id_) is not None for id_ in ("second", "third")] == [True, True]
