"""
What rolls and what is a rate, against a model that remembers every call and adds up anew each time.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import dynamodb_engine
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from ledger_model import URLS

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.ledger import Line, Reservation
from bedrock_guard.domain.settings import Settings
from bedrock_guard.ledgers import LEDGERS, open_ledger
from bedrock_guard.testing.ledger_calls import HOLD_S, SetClock, answered, open_entry

# Examples of every run; on DynamoDB a step is a few requests.
EXAMPLES = {"memory": 50, "sqlite": 20, "dynamodb": 4}
LIMIT, SPAN_S, SUB_S = 100, 60, 2
RATE, BURST = 5, 10


@dataclass
class Admitted:
    """
    A call that was let through: when, and the most that it may cost, or what it did.
    """

    at: float
    amount: int
    reservation: Reservation
    is_open: bool = True


# What happens, and how much time goes by before: to the fraction, so that edges are met from both sides.
seconds = st.sampled_from(
    [0.0, 0.1, 0.5, 1.0, 1.999, 2.0, 7.0, 29.5, 58.0, 59.0, 59.999, 60.0, 61.0, 62.0, 90.0]
)
steps = st.lists(
    st.tuples(
        seconds,
        st.sampled_from(["reserve", "reserve", "reserve", "settle", "release", "extend"]),
        st.integers(0, 60),
        st.integers(0, 100),
    ),
    max_size=25,
)


class Story:
    """
    Random calls on one budget of an empty ledger.
    """

    def __init__(self, scheme: str, folder: str, budget: Budget) -> None:
        self.clock = SetClock(now=1_800_000_000.0)
        self.ledger = open_ledger(URLS[scheme](folder), clock=self.clock)
        self.matcher = Matcher([budget], Settings())
        self.calls: list[Admitted] = []
        self.number = 0

    def line(self, amount: int) -> Line:
        (match,) = self.matcher.match({}, self.clock())
        return match.line(amount)

    def step(self, what: str, amount: int, share: int) -> None:
        open_calls = [call for call in self.calls if call.is_open]
        if what == "reserve":
            self.reserve(amount)
        elif open_calls:
            call = open_calls[share % len(open_calls)]
            if what == "extend":
                self.extend(call, amount)
            else:
                self.end(call, what, call.amount * share // 100)

    def reserve(self, amount: int) -> None:
        self.number += 1
        id_ = f"{int(self.clock() * 1000):011x}-{self.number:x}"
        entry = open_entry(id_, at_s=self.clock())
        answer = self.ledger.reserve([self.line(amount)], entry=entry, hold_s=HOLD_S, on_expiry="charge")
        if isinstance(answer, Reservation):
            self.calls.append(Admitted(self.clock(), amount, answer))

    def extend(self, call: Admitted, amount: int) -> None:
        """
        As a retry does: the whole call counts from now on, where its sub-window is over.
        """
        line = self.line(amount)
        is_later = all(line.key != held.key for held in call.reservation.lines)
        wanted = line._replace(amount=amount + (call.amount if is_later else 0))
        answer = self.ledger.extend(call.reservation, [wanted])
        if isinstance(answer, Reservation):
            # Money of the first attempt is counted when it was let through, the rest now.
            call.reservation = answer
            self.calls.append(Admitted(self.clock(), amount, answer, is_open=False))
            call.is_open = False  # it stays held, and is the most that it can be

    def end(self, call: Admitted, what: str, spent: int) -> None:
        call.is_open = False
        entry = answered(call.reservation.id, at_s=call.at)
        if what == "release":
            self.ledger.release(call.reservation, entry)
            call.amount = 0
        else:
            self.ledger.settle(call.reservation, {call.reservation.lines[0].key: spent}, entry)
            call.amount = spent

    def total(self, after: float, until: float) -> int:
        return sum(call.amount for call in self.calls if after < call.at <= until)


def check(scheme: str, work: object) -> None:
    with dynamodb_engine.quick() if scheme == "dynamodb" else nullcontext():
        seed(0)(
            settings(
                max_examples=EXAMPLES[scheme],
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            )(given(steps)(work))
        )()


@pytest.mark.parametrize("scheme", sorted(LEDGERS))
def test_no_run_of_the_span_ever_holds_more_than_the_limit(scheme: str, tmp_path_factory) -> None:
    """
    "10 USD in any 24 hours" is what people mean, and what a calendar day does not give.
    """
    budget = Budget("roll", f"{LIMIT} tokens/rolling minute")

    def work(story_steps) -> None:
        story = Story(scheme, str(tmp_path_factory.mktemp("rolling")), budget)
        for wait_s, what, amount, share in story_steps:
            story.clock.now += wait_s
            story.step(what, amount, share)
            # It suffices to look at the runs that end with a call: between two, nothing is added.
            for call in story.calls:
                assert story.total(call.at - SPAN_S, call.at) <= LIMIT
        story.ledger.close()

    check(scheme, work)


@pytest.mark.parametrize("scheme", sorted(LEDGERS))
def test_what_fits_beside_all_that_touches_the_span_is_let_through(scheme: str, tmp_path_factory) -> None:
    """
    Conservative means one sub-window at the old end, and not more: the last dollar is usable.
    """
    budget = Budget("roll", f"{LIMIT} tokens/rolling minute")

    def work(story_steps) -> None:
        story = Story(scheme, str(tmp_path_factory.mktemp("rolling")), budget)
        for wait_s, what, amount, share in story_steps:
            if what == "extend":
                continue
            story.clock.now += wait_s
            before = len(story.calls)
            sub_window = story.clock() // SUB_S * SUB_S
            used = sum(call.amount for call in story.calls if call.at // SUB_S * SUB_S >= sub_window - SPAN_S)
            story.step(what, amount, share)
            if what == "reserve":
                assert (len(story.calls) > before) == (used + amount <= LIMIT)
        story.ledger.close()

    check(scheme, work)


@pytest.mark.parametrize("scheme", sorted(LEDGERS))
def test_no_run_of_time_holds_more_than_a_burst_and_its_refill(scheme: str, tmp_path_factory) -> None:
    """
    Whatever is given back late, and however long: at most the burst, and what the time refills.
    """
    budget = Budget("rate", f"{RATE} tokens/second", burst=BURST)

    def work(story_steps) -> None:
        story = Story(scheme, str(tmp_path_factory.mktemp("rate")), budget)
        for wait_s, what, amount, share in story_steps:
            if what == "extend":
                continue
            story.clock.now += wait_s / 10
            story.step(what, amount % 12, share)
            for first in story.calls:
                for last in story.calls:
                    run_s = last.at - first.at
                    if run_s >= 0:
                        held = sum(call.amount for call in story.calls if first.at <= call.at <= last.at)
                        assert held <= BURST + RATE * run_s + 1e-3
        story.ledger.close()

    check(scheme, work)
