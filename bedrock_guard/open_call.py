"""
A call that may hold money, until it is ended, once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from bedrock_guard.domain.budget import REQUESTS, USD, amount_of
from bedrock_guard.domain.entry import Entry, new_entry
from bedrock_guard.domain.ledger import LedgerKey, Reservation, new_reservation
from bedrock_guard.domain.watching import Counts
from bedrock_guard.plan import Plan

# How many forks this process is away from the first, which is quicker to tell than its number.
_forks: Final = [0]


class OpenCall:
    """
    What is known of a call while it is under way.

    Attributes:
        plan: What it may come to.
        entry: As it is while the call is open.
        reservation: What is held; before `Pipeline.reserve`, what will be.
        hold_s: How long it is held at a time, in seconds.
        is_held: Whether the ledger has said that it holds it.
        retried_nanousd: What the ledger holds for attempts after the first.
        may_linger: Whether its opening may be kept waiting where it is.
        may_wait: Whether its ledger may be asked where it is; else what needs nobody to be asked is tried.
        leave: Ends it as if the consumer of its stream or body had left; None while it has none.
        tallies: Who is told how it ended.
    """

    # As every call begins: what has not changed is not written.
    hold_s = 0.0
    is_held = False
    retried_nanousd = 0
    may_linger = may_wait = True
    leave: Callable[[], None] | None = None

    def __init__(self, plan: Plan, entry: Entry, tallies: tuple[Counts, ...]) -> None:
        self.plan = plan
        self.entry = entry
        self.reservation = new_reservation(Reservation, (entry.id, (), entry.at_s, ()))
        self.tallies = tallies
        self._unended = [True]
        self._forks = _forks[0]

    @property
    def is_ended(self) -> bool:
        """
        Whether somebody has taken the end.
        """
        return not self._unended

    def take_end(self) -> bool:
        """
        True for the first of all who want to end this call, in whatever thread.

        Never in a fork: the call under way is its parent's.
        """
        if _forks[0] != self._forks:
            return False
        try:
            return self._unended.pop()  # atomic; a stream may end in the collector's thread
        except IndexError:
            return False

    def not_sent(self) -> Entry:
        """
        The entry of its end, if nothing of it has left.
        """
        return self.entry.changed(outcome="not_sent", cost_nanousd=0, usage={})

    def give_back_end(self) -> None:
        """
        Let another end it: who took the end was interrupted.
        """
        self._unended.append(True)

    def amounts(self, entry: Entry) -> dict[LedgerKey, int]:
        """
        What *entry*, with which this call ends, comes to in each balance.
        """
        amounts: dict[LedgerKey, int] = {}
        money, usage = entry.cost_nanousd or 0, entry.usage
        for match in self.plan.matches:
            unit = match.unit
            if unit == USD:
                amounts[match.key] = money
            elif unit == REQUESTS:
                amounts[match.key] = 1
            else:
                amounts[match.key] = amount_of(unit, nanousd=money, usage=usage)
        return amounts


def open_entry(entry_id: str, now: float, plan: Plan) -> Entry:
    """
    The entry of a call that is about to be made.
    """
    terms, money = plan.terms, plan.nanousd
    values = terms.blank.__dict__.copy()
    values["id"] = entry_id
    values["at_s"] = now
    values["tags"] = plan.tags
    values["usage"] = plan.worst
    values["cost_nanousd"] = values["estimated_cost_nanousd"] = money
    values["priced"] = plan.priced
    if terms.has_own_prices:
        values["list_cost_nanousd"] = plan.list_nanousd
    return new_entry(values)


def _note_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
