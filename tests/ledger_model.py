"""
A model of thirty lines, and the machine that compares a ledger with it, whatever the order of the calls.

    python ledger_model.py SCHEME EXAMPLES STEPS NUMBER

As a program, a ledger in DynamoDB is on one in its own process: a request to another takes most of the time.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import dynamodb_engine
import dynamodb_memory
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bedrock_guard.domain.ledger import LedgerKey, Line, Refusal, Reservation, Settled
from bedrock_guard.errors import ReservationClosed
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.testing.ledger_calls import HOLD_S, SetClock, answered, ids, open_entry

# An empty ledger of each scheme; a new line of LEDGERS needs one here.
URLS: dict[str, Callable[[str], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/ledger.db",
    "dynamodb": lambda _: dynamodb_engine.table_url(),
    "dynamodb, leased": lambda _: f"{dynamodb_engine.table_url()}&mode=lease",
}

URLS_IN_MEMORY: dict[str, Callable[[str], str]] = {
    **URLS,
    "dynamodb": lambda _: dynamodb_memory.table_url(),
    "dynamodb, leased": lambda _: f"{dynamodb_memory.table_url()}&mode=lease",
}

KEYS = [
    LedgerKey("default", "USD/day@UTC", (), 0),
    LedgerKey("default", "USD/day@UTC", (), 86_400),
    LedgerKey("teams", "USD", (("team", "search"),), 0),
]
LIMIT = 100


@dataclass
class Model:
    """
    What a ledger should say: each call by its id, and sums made afresh each time.
    """

    state: dict[str, str] = field(default_factory=dict)
    held: dict[str, dict[LedgerKey, int]] = field(default_factory=dict)
    booked: dict[str, dict[LedgerKey, int]] = field(default_factory=dict)
    expires: dict[str, float] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=dict)
    late: dict[LedgerKey, int] = field(default_factory=dict)

    def spent(self, key: LedgerKey) -> int:
        return sum(amounts.get(key, 0) for amounts in self.booked.values())

    def pending(self, key: LedgerKey) -> int:
        return sum(held.get(key, 0) for id_, held in self.held.items() if self.state[id_] == "pending")

    def unfit(self, lines: list[Line]) -> list[Line]:
        return [line for line in lines if self.spent(line.key) + self.pending(line.key) + line.amount > LIMIT]

    def hold(self, id_: str, lines: list[Line]) -> None:
        held = self.held.setdefault(id_, {})
        for line in lines:
            held[line.key] = held.get(line.key, 0) + line.amount

    def end(self, id_: str, state: str, amounts: dict[LedgerKey, int]) -> str | None:
        before = self.state[id_]
        amounts = {key: amount for key, amount in amounts.items() if amount}  # a key that is absent is 0
        if before in ("settled", "released"):
            return "replayed" if (before, self.booked[id_]) == (state, amounts) else None
        if before == "expired" and self.policy[id_] == "release":
            # Its money was given back, and others may have it by now: what "release" risks.
            for key, amount in amounts.items():
                self.late[key] = self.late.get(key, 0) + amount
        self.state[id_], self.booked[id_] = state, amounts
        return "corrected" if before == "expired" else state


lines_of_a_call = st.lists(
    st.tuples(st.sampled_from(KEYS), st.just(LIMIT), st.integers(0, 60)).map(lambda line: Line(*line)),
    min_size=1,
    max_size=3,
    unique_by=lambda line: line.key,
)


class LedgerMachine(RuleBasedStateMachine):
    reservations = Bundle("reservations")
    scheme = ""
    urls = URLS

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.clock = SetClock()
        self.url = self.urls[self.scheme](self.folder)
        self.ledger = open_ledger(self.url, clock=self.clock)
        self.model = Model()
        self.steps = 0

    def teardown(self) -> None:
        self.check_journal()
        self.ledger.close()
        shutil.rmtree(self.folder)

    @rule(target=reservations, lines=lines_of_a_call, on_expiry=st.sampled_from(["charge", "release"]))
    def reserve(self, lines, on_expiry):
        model, number = self.model, len(self.model.state)
        # As a guard makes ids, and as others do.
        id_ = f"{int(self.clock() * 1000):011x}-{number:x}" if number % 2 else f"call {number}"

        answer = self.ledger.reserve(lines, entry=open_entry(id_), hold_s=HOLD_S, on_expiry=on_expiry)

        if model.unfit(lines):
            self.check_refusal(answer, lines)
            return multiple()
        model.state[id_], model.expires[id_], model.policy[id_] = "pending", self.clock() + HOLD_S, on_expiry
        model.hold(id_, lines)
        return answer

    @rule(reservation=reservations)
    def reserve_again(self, reservation):
        again = self.ledger.reserve(
            reservation.lines, entry=open_entry(reservation.id), hold_s=1, on_expiry="charge"
        )

        assert again.id == reservation.id
        assert {key: amount for key, amount in self.model.held[again.id].items() if amount} == {
            line.key: line.amount for line in again.lines if line.amount
        }

    @rule(reservation=reservations, lines=lines_of_a_call, more_s=st.none() | st.floats(1, 900))
    def extend(self, reservation, lines, more_s):
        model = self.model
        if model.state[reservation.id] != "pending":
            with pytest.raises(ReservationClosed):
                self.ledger.extend(reservation, lines, hold_s=more_s)
            return

        answer = self.ledger.extend(reservation, lines, hold_s=more_s)

        if model.unfit(lines):
            self.check_refusal(answer, lines)
            return
        assert isinstance(answer, Reservation)
        model.hold(reservation.id, lines)
        if more_s is not None:
            model.expires[reservation.id] = max(model.expires[reservation.id], self.clock() + more_s)

    @rule(reservation=reservations, shares=st.lists(st.integers(0, 100), min_size=3, max_size=3))
    def settle(self, reservation, shares):
        """
        At most what is held, for estimates are upper bounds.
        """
        held = self.model.held[reservation.id]
        parts = zip(KEYS, shares, strict=True)
        amounts = {key: held.get(key, 0) * share // 100 for key, share in parts}

        self.end(
            reservation,
            "settled",
            {key: amount for key, amount in amounts.items() if amount},
            lambda: self.ledger.settle(reservation, amounts, answered(reservation.id)),
        )

    @rule(reservation=reservations)
    def settle_as_before(self, reservation):
        amounts = dict(self.model.booked.get(reservation.id, {}))
        self.end(
            reservation,
            "settled",
            amounts,
            lambda: self.ledger.settle(reservation, amounts, answered(reservation.id)),
        )

    @rule(reservation=reservations)
    def release(self, reservation):
        self.end(
            reservation,
            "released",
            {},
            lambda: self.ledger.release(reservation, open_entry(reservation.id, outcome="not_sent")),
        )

    @rule(seconds=st.floats(0, 400), limit=st.integers(1, 5))
    def sweep(self, seconds, limit):
        model = self.model
        self.clock.now += seconds
        open_calls = [id_ for id_, state in model.state.items() if state == "pending"]
        due = sorted((model.expires[id_], id_) for id_ in open_calls if model.expires[id_] <= self.clock())
        if len(due) > limit and due[limit - 1][0] == due[limit][0]:
            return  # of those that end in the same moment, any may be first

        report = self.ledger.sweep(now=self.clock(), limit=limit)

        for _, id_ in due[:limit]:
            is_charged = model.policy[id_] == "charge"
            model.end(id_, "expired", dict(model.held[id_]) if is_charged else {})
        policies = [model.policy[id_] for _, id_ in due[:limit]]
        assert (report.charged, report.released) == (policies.count("charge"), policies.count("release"))

    @precondition(lambda self: self.scheme not in {"memory", "dynamodb, leased"})
    @rule()
    def open_again(self):
        """
        A restart loses nothing.
        """
        self.ledger.close()
        self.ledger = open_ledger(self.url, clock=self.clock)

    @invariant()
    def the_books_are_the_model_s(self):
        for balance in self.ledger.balances(KEYS):
            assert balance.spent == self.model.spent(balance.key)
            assert balance.pending == self.model.pending(balance.key)

            assert balance.spent + balance.pending <= LIMIT + self.model.late.get(balance.key, 0)

    @invariant()
    def the_journal_is_the_model_s(self):
        self.steps += 1
        if not self.scheme.startswith("dynamodb") or self.steps % 8 == 0:
            self.check_journal()

    def check_journal(self):
        """
        Every call that ended has one entry, and every balance is listed.
        """
        listed = {balance.key for balance in self.ledger.balances()}
        assert listed >= {key for held in self.model.held.values() for key, amount in held.items() if amount}
        assert listed <= set(KEYS)
        ended = [id_ for id_, state in self.model.state.items() if state != "pending"]
        assert sorted(ids(self.ledger)) == sorted(ended)

    def check_refusal(self, answer, lines):
        assert isinstance(answer, Refusal)
        assert [refused.line for refused in answer.lines] == self.model.unfit(lines)
        for refused in answer.lines:
            key = refused.line.key
            assert (refused.spent, refused.pending) == (self.model.spent(key), self.model.pending(key))

    def end(self, reservation, state, amounts, do):
        how = self.model.end(reservation.id, state, amounts)
        if how is None:
            with pytest.raises(ReservationClosed):
                do()
        else:
            assert do() == Settled(how)


def run(scheme: str, examples: int, steps: int, *, number: int = 0, in_memory: bool = False) -> None:
    """
    Try *examples* orders of calls on the ledger of *scheme*; each *number* has its own, always the same.
    """
    urls = URLS_IN_MEMORY if in_memory else URLS
    machine = seed(number)(type("Machine", (LedgerMachine,), {"scheme": scheme, "urls": urls}))
    engine = dynamodb_memory.installed if in_memory else dynamodb_engine.quick
    with engine() if scheme.startswith("dynamodb") else nullcontext():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


if __name__ == "__main__":
    run(sys.argv[1], *map(int, sys.argv[2:4]), number=int(sys.argv[4]), in_memory=True)
