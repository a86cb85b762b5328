"""
What stops and top-ups mean for tags and balances.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedrock_guard.budgets.steering import Steering, show_stop
from bedrock_guard.calls.steering import Helm
from bedrock_guard.domain.budget import MAX_LIMIT
from bedrock_guard.domain.control import CHANGED, MOST_BYTES, MOST_CONTROLS, Controls, Stop, TopUp
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import sqlite_schema
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import NOW, SetClock, open_entry
from bedrock_guard.testing.ledger_controls_contract import STOP, TOP_UP, reserve_by

TEAM = LedgerKey("teams", "USD/month@UTC", (("team", "search"),), 1_800_000_000)


def test_the_first_stop_in_force_that_matches_is_met() -> None:
    """
    One reason is enough, and an old one is none.
    """
    first = Stop(id="1", match={"team": "s*"}, reason="x", by="x", at_s=NOW, until_s=NOW + 1)
    second = Stop(id="2", match={"team": "search", "user": "a"}, reason="x", by="x", at_s=NOW)
    steering = Steering(Controls(1, (first, second)))

    assert steering.is_active
    assert steering.find_stop({"team": "search", "user": "a"}, NOW) is first
    assert steering.find_stop({"team": "search", "user": "a"}, NOW + 1) is second
    assert steering.find_stop({"team": "search"}, NOW + 1) is None
    assert steering.find_stop({}, NOW) is None
    assert not Steering(Controls(7)).is_active


@pytest.mark.parametrize(
    ("key", "now", "limit"),
    [
        (TEAM, NOW, 145),
        (TEAM, NOW + 59.9, 145),
        (TEAM, NOW + 60, 125),
        (TEAM._replace(window_start=1_799_999_999), NOW, 100),  # a call of the window before
        (
            TEAM._replace(window_start=1_800_000_001),
            NOW,
            100,
        ),  # of the next: the clock has been set back since
        (TEAM._replace(per=(("team", "ads"),)), NOW, 100),
        (TEAM._replace(rule="USD/day@UTC"), NOW, 100),
        (TEAM._replace(budget="other"), NOW, 100),
    ],
)
def test_top_ups_of_a_balance_add_up(key: LedgerKey, now: float, limit: int) -> None:
    """
    And of no other one, before they pass.
    """
    more = replace(TOP_UP, id="top-up-2", amount=25, until_s=None)
    steering = Steering(Controls(1, (), (TOP_UP, more)))

    assert steering.top_up([Line(key, 100, 10)], now) == [Line(key, limit, 10)]


def test_a_line_that_only_counts_stays_so_and_no_limit_is_uncountable() -> None:
    """
    A ledger counts to 2^63 - 1.
    """
    huge = replace(TOP_UP, amount=MAX_LIMIT)
    steering = Steering(Controls(1, (), (huge,)))

    assert steering.top_up([Line(TEAM, None, 1), Line(TEAM, 5, 1)], NOW) == [
        Line(TEAM, None, 1),
        Line(TEAM, MAX_LIMIT, 1),
    ]


def test_a_stop_is_shown_with_what_it_means() -> None:
    """
    As it was written, in one line.
    """
    assert show_stop(STOP) == "Calls with team=search | ads*"
    assert show_stop(replace(STOP, match={})) == "All calls"


def test_there_is_an_end_to_how_many() -> None:
    """
    Every process reads all of them; what has passed makes room.
    """
    many = tuple(replace(TOP_UP, id=f"{number}") for number in range(MOST_CONTROLS))
    full = Controls(1, (), many)

    with pytest.raises(LedgerUnavailable, match=f"{MOST_CONTROLS} stops and top-ups are in force"):
        full.with_(STOP, now=NOW)
    assert full.with_(replace(many[0], amount=9), now=NOW).version == 2
    assert full.with_(STOP, now=NOW + 60) == Controls(2, (STOP,), ())


def test_there_is_an_end_to_how_much_they_say() -> None:
    """
    All of it is one item of a table, which has 400 KB.
    """
    long = replace(STOP, reason="\N{GRINNING FACE}" * 500, by="\N{GRINNING FACE}" * 500)
    record = Controls()
    with pytest.raises(LedgerUnavailable, match="a ledger keeps no more: resume some"):
        for number in range(MOST_CONTROLS):
            record = record.with_(replace(long, id=f"{number}"), now=NOW)

    assert len(record.to_json().encode()) <= MOST_BYTES
    assert Controls.from_json(record.version, record.to_json()) == record
    assert len(record.stops) > 80


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"stops": 5}',
        '{"stops": [{"id": "x"}]}',
        '{"stops": [{"id": "x", "match": {"a": 3}, "reason": "r", "by": "b", "at_s": 1}]}',
        '{"top_ups": [{"id": "x"}]}',
    ],
)
def test_a_record_that_cannot_be_read_says_what_to_do(text: str) -> None:
    """
    Nobody knows who is stopped, so that nobody may call.
    """
    with pytest.raises(LedgerUnavailable, match=r"cannot be read .* is to be upgraded, or it is damaged"):
        Controls.from_json(1, text)


def test_a_record_of_a_newer_version_is_read() -> None:
    """
    In a rolling deploy somebody writes what we do not know yet.
    """
    text = Controls(1, (STOP,), (TOP_UP,)).to_json().replace('"reason"', '"colour":"red","reason"')

    assert isinstance(Controls.from_json(4, text).top_ups[0], TopUp)
    assert Controls.from_json(4, text) == Controls(4, (STOP,), (TOP_UP,))
    assert Controls.from_json(4, "{}") == Controls(4)


def test_a_thread_that_read_before_takes_nobody_s_version_away() -> None:
    """
    Who has just read a newer one decides by that, whatever is put in its place meanwhile.
    """

    class Overtaken(Helm):
        @property
        def known(self) -> Steering:  # type: ignore[override]
            return Steering(Controls())

        @known.setter
        def known(self, _: Steering) -> None:
            """
            Another thread puts the one before back at once.
            """

    ledger = MemoryLedger.open("memory://", clock=SetClock())
    helm = Overtaken(ledger, SetClock(), Settings())
    ledger.write_control(STOP, open_entry("told", outcome="stop"))

    helm.catch_up(Steering(Controls()))
    assert helm.read().version == 1


def test_a_file_that_was_put_back_has_no_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A copy of a schema before: what a program decided by is not there any more.
    """
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "SCHEMA", 2)
        ledger = SQLiteLedger(str(tmp_path / "ledger.db"), clock=SetClock())

        assert reserve_by(ledger, "one", 3) is CHANGED
        assert reserve_by(ledger, "one", 0) is not CHANGED
        ledger.close()
