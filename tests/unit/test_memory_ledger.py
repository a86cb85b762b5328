"""
What only the ledger in memory promises; the rest is in the contract.
"""

from __future__ import annotations

from bedrock_guard.domain.ledger import EntryFilter, Settled
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import SetClock, answered, books, hold, ids, open_entry, settle


def test_it_keeps_the_newest_entries_and_every_open_call() -> None:
    """
    A worker that runs for months must not grow with every call.
    """
    ledger = MemoryLedger.open("memory://?keep_entries=2", clock=SetClock())
    slow = hold(ledger, "slow", 10)
    for number in range(5):
        settle(ledger, hold(ledger, f"{number}", 10), 1)
    ledger.record(open_entry("refused", outcome="refused"))

    assert ids(ledger) == ["refused", "4"]
    assert books(ledger) == (5, 10), "balances forget nothing"
    assert ledger.settle(slow, {}, answered("slow")) == Settled("settled")


def test_the_same_url_twice_is_two_ledgers() -> None:
    """
    Tests that run side by side must not share a budget by accident.
    """
    first, second = (MemoryLedger.open("memory://", clock=SetClock()) for _ in range(2))
    hold(first, "one", 60)

    assert books(second) == (0, 0)
    assert second.entries(EntryFilter()) == ([], None)
