"""
`stream_cutoff`: a stream that is being read when its calls are stopped, over real sockets and on the books.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bedrock_guard import Guard, scope
from bedrock_guard.domain.control import as_mapping
from bedrock_guard.errors import LedgerUnavailable, Stopped
from bedrock_guard.hooks import cutoff
from bedrock_guard.hooks.drains import DRAINS
from bedrock_guard.ledgers.memory import MemoryLedger

from .conftest import Guarded
from .test_streams import BOTH, open_stream

MakeGuarded = Callable[..., Guarded]

# HELLO: 11 bytes of text, a role of 4, the template, and 100 tokens of output; 3.30 and 16.50 USD a million.
ESTIMATE_NANOUSD = (11 + 4 + 16 + 64) * 3_300 + 100 * 16_500
# A body's every string counts: its `anthropic_version` is 18 bytes.
ESTIMATES_NANOUSD = {
    "ConverseStream": ESTIMATE_NANOUSD,
    "InvokeModelWithResponseStream": ESTIMATE_NANOUSD + 18 * 3_300,
}


@pytest.fixture(autouse=True)
def _look_at_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutoff, "LOOK_EVERY_S", 0.0)


def read(events: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(events)


@BOTH
def test_a_stream_is_closed_when_its_calls_are_stopped(make_guarded: MakeGuarded, operation: str) -> None:
    """
    Who asks for it wants no more of an answer; AWS may bill the whole of it, and so do the books.
    """
    guarded = make_guarded(stream_cutoff="on_stop")
    stream = open_stream(guarded, operation)
    events = iter(stream)
    read(events, 3)
    stop_id = guarded.guard.stop(match={"operation": operation}, reason="it loops")

    with pytest.raises(Stopped, match="it loops") as raised:
        next(events)

    entry, estimate = next(guarded.guard.entries(outcome="abandoned")), ESTIMATES_NANOUSD[operation]
    assert (raised.value.id, raised.value.operation) == (stop_id, operation)
    assert (entry.reason, entry.basis, entry.cost_nanousd) == ("stopped", "estimated", estimate)
    assert entry.control == as_mapping(guarded.guard.controls().stops[0])
    assert entry.received_bytes
    assert (guarded.spent_nanousd, guarded.pending) == (estimate, [0])
    assert stream._raw_stream.closed
    with pytest.raises(AttributeError):  # as any stream that was closed
        list(stream)
    assert guarded.spent_nanousd == estimate
    assert list(guarded.guard.entries(outcome="refused")) == []


@BOTH
def test_by_default_a_stream_may_finish_and_knows_nothing_of_it(
    make_guarded: MakeGuarded, operation: str
) -> None:
    """
    It is paid for; and a stream where it is off pays nothing for the setting.
    """
    guarded = make_guarded()
    stream = open_stream(guarded, operation)
    events = iter(stream)
    read(events, 3)
    guarded.guard.stop(reason="enough")

    list(events)

    assert stream._bedrock_guard_watch.grow is None
    assert guarded.spent_nanousd == guarded.server.bill.nanousd > 0


def test_only_calls_that_are_meant_are_cut(make_guarded: MakeGuarded) -> None:
    """
    By the tags that the call had, whatever scope its reader is in.
    """
    guarded = make_guarded(stream_cutoff="on_stop")
    with scope(team="a"):
        stream = open_stream(guarded, "ConverseStream")
    guarded.guard.stop(match={"team": "b"}, reason="enough")

    with scope(team="b"):
        list(stream)

    assert next(guarded.guard.entries(outcome="answered")).reason is None


def test_a_stop_that_was_resumed_cuts_nothing(make_guarded: MakeGuarded) -> None:
    """
    What counts is the moment of the look.
    """
    guarded = make_guarded(stream_cutoff="on_stop")
    stream = open_stream(guarded, "ConverseStream")
    guarded.guard.resume(guarded.guard.stop(reason="a slip"))

    list(stream)

    assert next(guarded.guard.entries(outcome="answered"))


@BOTH
def test_a_stream_that_has_told_its_usage_is_complete(make_guarded: MakeGuarded, operation: str) -> None:
    """
    Its last event is the reader's, and its charge what AWS reports.
    """
    bare = len(list(open_stream(make_guarded(), operation)))
    guarded = make_guarded(stream_cutoff="on_stop")
    billed = guarded.server.bill.nanousd
    events = iter(open_stream(guarded, operation))
    read(events, bare - 1)
    guarded.guard.stop(reason="enough")

    assert len(list(events)) == 1

    assert next(guarded.guard.entries(outcome="answered")).basis == "reported"
    assert guarded.spent_nanousd == guarded.server.bill.nanousd - billed


def test_what_is_cut_is_not_read_on(make_guarded: MakeGuarded) -> None:
    """
    To drain it would be to go on with what is to stop.
    """
    guarded = make_guarded(stream_cutoff="on_stop", on_abandoned_stream="drain")
    stream = open_stream(guarded, "ConverseStream")
    guarded.guard.stop(reason="enough")

    with pytest.raises(Stopped):
        list(stream)
    stream.close()
    del stream

    assert len(DRAINS) == 0
    assert guarded.spent_nanousd == ESTIMATE_NANOUSD


def test_one_of_several_guards_that_asks_for_it_is_enough(make_guarded: MakeGuarded) -> None:
    """
    There is one stream; all of them charge it.
    """
    guarded = make_guarded(stream_cutoff="on_stop")
    with Guard(budget="other: 5 USD", ledger="memory://") as other:
        other.attach(guarded.client)
        stream = open_stream(guarded, "ConverseStream")
        other.stop(reason="of one that does not cut")
        events = iter(stream)
        read(events, 3)
        guarded.guard.stop(reason="of one that does")

        with pytest.raises(Stopped, match="of one that does\n"):
            list(events)

        assert next(other.entries(outcome="abandoned")).cost_nanousd == ESTIMATE_NANOUSD
        assert next(guarded.guard.entries(outcome="abandoned")).cost_nanousd == ESTIMATE_NANOUSD
        assert other.status()[0].pending == 0


def test_a_shadow_cuts_nothing(make_guarded: MakeGuarded) -> None:
    """
    It raises nothing.
    """
    guarded = make_guarded(stream_cutoff="on_stop", mode="shadow")
    stream = open_stream(guarded, "ConverseStream")
    guarded.guard.stop(reason="enough")

    list(stream)

    assert next(guarded.guard.entries(outcome="answered")).basis == "reported"


class Unread(MemoryLedger):
    """
    A ledger whose controls cannot be read for a while.
    """

    is_gone = False

    def controls(self) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("gone", "not_done")
        return super().controls()


def test_a_ledger_that_is_gone_cuts_nothing_that_was_not_known(make_guarded: MakeGuarded) -> None:
    """
    A stream is not broken by our own trouble.
    """
    ledger = Unread(clock=time.time)
    guarded = make_guarded(stream_cutoff="on_stop", ledger=ledger)
    stream = open_stream(guarded, "ConverseStream")
    guarded.guard.stop(reason="enough")
    ledger.is_gone = True
    events = iter(stream)

    read(events, 3)
    ledger.is_gone = False
    with pytest.raises(Stopped):
        next(events)


def test_a_stop_of_another_process_is_seen(make_guarded: MakeGuarded, tmp_path: Any) -> None:
    """
    The operator is at another machine.
    """
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    guarded = make_guarded(stream_cutoff="on_stop", ledger=url)
    events = iter(open_stream(guarded, "ConverseStream"))
    read(events, 3)
    with Guard(budgets=[], ledger=url) as operator:
        operator.stop(reason="enough")

    with pytest.raises(Stopped):
        next(events)

    assert next(guarded.guard.entries(outcome="abandoned")).reason == "stopped"


def test_stops_are_looked_at_once_a_second(
    make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A look is a read of the ledger, and a stream has hundreds of events.
    """
    now = [100.0]
    monkeypatch.setattr(cutoff, "LOOK_EVERY_S", 1.0)
    monkeypatch.setattr(cutoff, "monotonic", lambda: now[0])
    guarded = make_guarded(stream_cutoff="on_stop")
    events = iter(open_stream(guarded, "ConverseStream"))
    guarded.guard.stop(reason="enough")

    now[0] = 100.9
    read(events, 20)
    now[0] = 101.0
    with pytest.raises(Stopped):
        next(events)
