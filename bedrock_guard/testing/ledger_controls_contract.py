"""
What every ledger promises of stops and top-ups, as tests; `LedgerContract` has them.
"""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import pytest

from bedrock_guard.domain.control import Controls, ControlsChanged, RefreshesControls, Stop, TopUp
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.ledger import Ledger, LedgerKey, Line, LineKind, Reservation
from bedrock_guard.testing.ledger_calls import (
    DAY,
    HOLD_S,
    NOW,
    SetClock,
    books,
    ids,
    open_entry,
    settle,
    together,
)

STOP: Final = Stop(id="stop-1", match={"team": ["search", "ads*"]}, reason="a loop", by="anna@host", at_s=NOW)
TRIP: Final = Stop(
    id="stop-2", match={"team": "search"}, reason="a cache that does nothing", by="breaker:cache", at_s=NOW
)
TOP_UP: Final = TopUp(
    id="top-up-1",
    budget="teams",
    rule="USD/month@UTC",
    per=(("team", "search"),),
    window_start=1_800_000_000,
    amount=20,
    reason="",
    by="bob@host",
    at_s=NOW,
    until_s=NOW + 60,
)


def reserve_by(ledger: Ledger, name: str, controls: int | None) -> object:
    """
    Reserve, as who decided by that version.
    """
    return ledger.reserve(
        [Line(DAY, 100, 10)], entry=open_entry(name), hold_s=HOLD_S, on_expiry="charge", controls=controls
    )


class ControlsContract:
    """
    One record, its versions, and who must look at it again.
    """

    def test_there_are_none_at_first(self, ledger: Ledger) -> None:
        """
        A guard that never read them decides by version 0, and its first call needs no second look.
        """
        assert ledger.controls() == Controls()
        assert isinstance(reserve_by(ledger, "one", 0), Reservation)

    @pytest.mark.parametrize("kind", ["rolling", "rate"])
    def test_whoever_decided_by_another_version_holds_nothing_that_rolls_or_is_a_rate(
        self, ledger: Ledger, kind: LineKind
    ) -> None:
        """
        They are other statements and other items than a window's.
        """
        hour, rps = "USD/rolling hour", "requests/second rate"
        lines = {
            "rolling": Line(LedgerKey("hour", hour, (), 1_800_000_000), 100, 60, kind, span_s=3600),
            "rate": Line(LedgerKey("rps", rps, (), 0), 10, 10, kind, span_s=1, refill=5),
        }

        def ask(name: str, controls: int) -> object:
            entry = open_entry(name)
            line = lines[kind]
            return ledger.reserve([line], entry=entry, hold_s=HOLD_S, on_expiry="charge", controls=controls)

        version = ledger.write_control(STOP, open_entry("told", outcome="stop"))

        assert isinstance(ask("one", 0), ControlsChanged)
        assert isinstance(ask("two", version), Reservation), "it would not fit beside the first"

    def test_what_was_written_is_read(self, ledger: Ledger, clock: SetClock) -> None:
        """
        Word for word, and both kinds beside each other.
        """
        first = ledger.write_control(STOP, open_entry("told-1", outcome="stop"))
        second = ledger.write_control(TOP_UP, open_entry("told-2", outcome="top_up"))

        clock.now += 10
        assert second > first > 0
        assert ledger.controls() == Controls(second, (STOP,), (TOP_UP,))

    def test_the_journal_tells_of_a_control(self, ledger: Ledger) -> None:
        """
        Who stopped, and why, must be found when nobody remembers.
        """
        told = open_entry("told", outcome="stop", control={"id": "stop-1", "by": "anna@host"})
        ledger.write_control(STOP, told)

        assert ledger.entries(EntryFilter(outcome="stop"))[0] == [told]

    def test_a_call_that_was_admitted_by_an_older_version_is_not_held(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        It may be stopped by now; its guard looks, and decides again.
        """
        version = ledger.write_control(STOP, open_entry("told", outcome="stop"))

        clock.now += 10
        assert isinstance(reserve_by(ledger, "one", 0), ControlsChanged)
        assert books(ledger) == (0, 0)
        assert isinstance(reserve_by(ledger, "one", version), Reservation)
        assert books(ledger) == (0, 10)

    def test_who_names_no_version_is_not_asked(self, ledger: Ledger) -> None:
        """
        What was let through while the ledger was gone is booked, stopped or not.
        """
        ledger.write_control(STOP, open_entry("told", outcome="stop"))

        assert isinstance(reserve_by(ledger, "one", None), Reservation)

    def test_a_call_that_is_held_may_finish(self, ledger: Ledger) -> None:
        """
        Its money is held, and what it cost must be written.
        """
        held = reserve_by(ledger, "one", 0)
        assert isinstance(held, Reservation)
        ledger.write_control(STOP, open_entry("told", outcome="stop"))

        assert isinstance(ledger.extend(held, [Line(DAY, 100, 5)]), Reservation)
        assert settle(ledger, held._replace(lines=(Line(DAY, 100, 15),)), 12).how == "settled"
        assert books(ledger) == (12, 0)

    def test_a_control_replaces_the_one_of_its_id_and_takes_out_what_has_passed(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """
        A stop is resumed by being written with an end.
        """
        ledger.write_control(STOP, open_entry("told-1", outcome="stop"))
        ledger.write_control(TOP_UP, open_entry("told-2", outcome="top_up"))
        clock.now = NOW + 60
        other = Stop(id="stop-2", match={}, reason="all", by="anna@host", at_s=clock.now)
        version = ledger.write_control(other, open_entry("told-3", outcome="stop"))
        assert ledger.controls() == Controls(version, (STOP, other), ())

        ended = Stop(id="stop-1", match={}, reason="a loop", by="x", at_s=NOW, until_s=clock.now)
        version = ledger.write_control(ended, open_entry("told-4", outcome="resume"))

        assert ledger.controls() == Controls(version, (other,), ())

    def test_the_same_entry_again_is_the_same_write(self, ledger: Ledger) -> None:
        """
        Who got no answer asks again.
        """
        first = ledger.write_control(STOP, open_entry("told", outcome="stop"))

        assert ledger.write_control(STOP, open_entry("told", outcome="stop")) == first
        assert ledger.controls() == Controls(first, (STOP,), ())
        assert ids(ledger) == ["told"]

    def test_writers_who_meet_lose_nothing(self, ledger: Ledger) -> None:
        """
        Two people may act at the same moment.
        """

        def write(number: int) -> int:
            stop = Stop(id=f"stop-{number}", match={}, reason="x", by="x", at_s=NOW)
            return ledger.write_control(stop, open_entry(f"told-{number}", outcome="stop"))

        versions = together(write, threads=4, times=12)

        assert sorted(versions) == list(range(1, 13))
        assert len(ledger.controls().stops) == 12

    def test_a_breaker_stops_beside_operators_and_they_resume_it(self, ledger: Ledger) -> None:
        """
        Where programs may not write what operators do, theirs is kept elsewhere, and nobody need know.
        """
        versions = [
            ledger.write_control(STOP, open_entry("told-1", outcome="stop")),
            ledger.write_control(TRIP, open_entry("told-2", outcome="stop")),
            ledger.write_control(TRIP, open_entry("told-2", outcome="stop")),
        ]
        assert ledger.controls() == Controls(versions[1], (STOP, TRIP))
        assert isinstance(reserve_by(ledger, "one", versions[0]), ControlsChanged)

        ended = Stop(**{**asdict(TRIP), "until_s": NOW})
        versions.append(ledger.write_control(ended, open_entry("told-3", outcome="resume")))

        assert ledger.controls() == Controls(versions[-1], (STOP,))
        assert len({0, *versions}) == 4
        assert versions[1] == versions[2]

    def test_another_guard_of_the_ledger_knows_within_the_wished_time(
        self, ledger: Ledger, clock: SetClock, reopen: Callable[[Ledger], Ledger]
    ) -> None:
        """
        Also one that has had no call since: its first one finds out.
        """
        other = reopen(ledger)
        if isinstance(other, RefreshesControls):
            other.refresh_controls(2.0)
        assert isinstance(reserve_by(other, "one", 0), Reservation)
        ledger.write_control(STOP, open_entry("told", outcome="stop"))

        clock.now += 2.0 if isinstance(other, RefreshesControls) else 0.0

        assert isinstance(reserve_by(other, "two", 0), ControlsChanged)
        assert other.controls().stops == (STOP,)
        if other is not ledger:
            other.close()

    @pytest.fixture
    def reopen(self) -> Callable[[Ledger], Ledger]:
        """
        The same books as another process has them; override it for a ledger that processes share.
        """
        return lambda ledger: ledger
