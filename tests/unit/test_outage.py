"""
A ledger that is gone: who is let through, up to where, and how it comes into the books once it is back.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest

from bedrock_guard import Guard
from bedrock_guard.calls import outage
from bedrock_guard.calls.outage import Outage
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.entry import Attempt
from bedrock_guard.errors import BudgetExceeded, LedgerUnavailable, ReservationClosed
from bedrock_guard.holding import Hold
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.open_call import OpenCall

NOON = 1_800_000_000.0
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO: dict[str, Any] = {
    "modelId": MODEL,
    "messages": [{"role": "user", "content": [{"text": "hello there"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
REPLY = {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 30}}
COST = Decimal("0.000363")  # 10 x 3.30 + 20 x 16.50 USD a million


class Reply:
    """
    Which can be referred to, weakly.
    """


Fault = Literal["none", "before", "after", "gone", "never"]


class Shaky:
    """
    A real ledger whose requests get lost: before they are carried out, after it, or for sure.
    """

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.faults: deque[Fault] = deque()
        self.is_gone = False
        self.wait_s = 0.0
        self.asked: list[str] = []
        self.askers: list[threading.Thread] = []
        self.lock = threading.Lock()

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("reserve", *args, **kwargs)

    def extend(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("extend", *args, **kwargs)

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("settle", *args, **kwargs)

    def release(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("release", *args, **kwargs)

    def sweep(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("sweep", *args, **kwargs)

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            fault: Fault = self.faults.popleft() if self.faults else "gone" if self.is_gone else "none"
            self.asked.append(method)
            self.askers.append(threading.current_thread())
        if fault != "none":
            time.sleep(self.wait_s)
        if fault == "gone":
            raise LedgerUnavailable("The ledger is gone.")
        if fault == "never":
            raise LedgerUnavailable("These are too many.", is_lasting=True)
        if fault == "before":
            raise LedgerUnavailable("The answer is lost.", outcome="unknown")
        try:
            answer = getattr(self._ledger, method)(*args, **kwargs)
        except ReservationClosed:
            if fault == "none":
                raise
            answer = None
        if fault == "after":
            raise LedgerUnavailable("The answer is lost.", outcome="unknown")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@pytest.fixture
def now() -> list[float]:
    return [NOON]


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, now: list[float]) -> Iterator[Shaky]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    real = open_ledger(url, clock=lambda: now[0])
    yield Shaky(real)
    real.close()


@pytest.fixture
def make_guard(ledger: Shaky, now: list[float]) -> Iterator[Callable[..., Guard]]:
    made: list[Guard] = []

    def make(allow_up_to: str | None = "1 USD", **settings: Any) -> Guard:
        allow = {} if allow_up_to is None else {"on_ledger_error": "allow", "allow_up_to": allow_up_to}
        given = {"budgets": [Budget("all", "5 USD"), Budget("calls", "9 requests/day")], "ledger": ledger}
        made.append(Guard(**{**given, "clock": lambda: now[0], **allow, **settings}))
        return made[-1]

    yield make
    ledger.faults.clear()
    ledger.is_gone = False
    for guard in made:
        guard.close()


def hold(guard: Guard) -> Hold:
    return guard.hold("Converse", HELLO, region="us-east-1")


def is_booked(guard: Guard, expected: dict[str, tuple[Any, Any]], calls: int) -> bool:
    """
    Writes what the background would write, which may have it in its own hands.
    """
    is_written = guard._pipeline.upkeep.write_ends()
    return is_written and figures(guard) == expected and len(list(guard.entries())) == calls


def figures(guard: Guard) -> dict[str, tuple[Any, Any]]:
    return {row.budget: (row.spent, row.pending) for row in guard.status()}


def eventually(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.001)
    return is_so()


FIRST: tuple[Fault, ...] = ("before", "after", "gone")
LATER: tuple[Fault, ...] = ("none", "before", "after", "gone")


@pytest.mark.parametrize("ends", ["answered", "rejected", "not_sent"])
def test_a_call_is_booked_once_whatever_answers_are_lost(
    make_guard: Callable[..., Guard], ledger: Shaky, ends: str
) -> None:
    """
    The request of the beginning may have arrived, and so may each of those that book.
    """
    guard = make_guard()
    cases = list(itertools.product(FIRST, LATER, LATER, LATER if ends == "answered" else ["none"]))
    for number, faults in enumerate(cases):
        now_faults = deque(faults)
        ledger.faults = deque([now_faults.popleft()])
        with hold(guard) as held:
            ledger.faults = now_faults
            if ends == "answered":
                entry = held.settle(REPLY)
            elif ends == "rejected":
                entry = held.rejected(429)
            else:
                entry = guard._pipeline.end(held._entered(), (), None)  # type: ignore[assignment]
                held._end = "test", entry
        assert entry.allowed_by == "on_ledger_error"
        # Nine requests a day are all: what was let through is counted all the same.
        sent = 0 if ends == "not_sent" else number + 1
        cost = COST * (number + 1) if ends == "answered" else Decimal(0)
        assert eventually(partial(is_booked, guard, {"all": (cost, 0), "calls": (sent, 0)}, number + 1)), (
            faults
        )

    kept = list(guard.entries())
    assert len(kept) == len({entry.id for entry in kept}) == len(cases)
    assert {(entry.outcome, entry.allowed_by) for entry in kept} == {(ends, "on_ledger_error")}
    assert sum(entry.cost or 0 for entry in kept) == figures(guard)["all"][0]


def test_a_call_that_ends_after_the_background_has_is_booked_at_once(
    make_guard: Callable[..., Guard], ledger: Shaky, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The interpreter is on its way out: there is no later, and what cannot be written is told.
    """
    guard = make_guard()
    ledger.is_gone = True
    with hold(guard) as first, hold(guard) as second:
        guard._pipeline.upkeep.leave()
        second.settle(REPLY)
        ledger.is_gone = False
        first.settle(REPLY)

    assert figures(guard) == {"all": (COST, 0), "calls": (1, 0)}
    assert f"could not be booked, as the process ended: {COST} USD are missing" in caplog.text


def test_an_end_that_is_written_hurries_the_others(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    They have waited ever longer; one that gets through says that the ledger is back.
    """
    guard = make_guard()
    upkeep = guard._pipeline.upkeep
    upkeep.is_kept = True  # nobody else looks after it
    ledger.is_gone = True
    for _ in range(2):
        with hold(guard) as held:
            held.settle(REPLY)
    upkeep._wait_s = 30.0
    ledger.is_gone = False
    ledger.faults = deque(["gone"])

    assert upkeep.look() < 0.101  # a tenth, as far as the clock tells
    assert eventually(lambda: upkeep.look() > 0.101)
    assert figures(guard) == {"all": (2 * COST, 0), "calls": (2, 0)}


def test_a_process_that_dies_while_it_books_leaves_what_the_call_did_cost(
    make_guard: Callable[..., Guard], ledger: Shaky, now: list[float]
) -> None:
    """
    Whoever sweeps after it must not take the call for one that may have cost its estimate.
    """
    guard = make_guard(on_expiry="release", hold_s=60)
    ledger.is_gone = True
    with hold(guard) as held:
        held.settle(REPLY)
    ledger.is_gone = False
    ledger.faults = deque(["none", "none", *["gone"] * 1000])  # not known, held; and there it ends
    assert eventually(lambda: ledger.asked.count("settle") > 2)

    now[0] += 61
    assert ledger._ledger.sweep(now=now[0]).charged == 1

    assert figures(guard) == {"all": (COST, 0), "calls": (1, 0)}
    assert [(entry.cost, entry.basis) for entry in guard.entries()] == [(COST, "expired")]
    ledger.faults.clear()
    assert eventually(lambda: [entry.basis for entry in guard.entries()] == ["reported"])
    assert figures(guard) == {"all": (COST, 0), "calls": (1, 0)}


# How far calls are let through


def test_what_is_let_through_stays_within_allow_up_to_and_says_when_that_is_used_up(
    make_guard: Callable[..., Guard], ledger: Shaky, now: list[float]
) -> None:
    """
    It is a limit like any other: it counts what is pending, and what was not used is free again.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    assert estimate is not None
    guard = make_guard(f"{3 * estimate} USD/hour")
    ledger.is_gone = True
    open_holds = [hold(guard) for _ in range(3)]
    for held in open_holds:
        held.__enter__()

    with pytest.raises(LedgerUnavailable) as caught:
        hold(guard).__enter__()

    text = str(caught.value)
    assert text.startswith(
        "The ledger is gone. Calls are let through meanwhile, but this one does not fit:\n"
    )
    assert f"allow_up_to ({3 * estimate} USD/hour): the call may cost up to $0.00" in text
    assert "$0.00 is free\nspent $0.00 · pending $0.00" in text
    assert "(3 calls) · resets" in text
    assert caught.value.outcome == "not_done"

    for held in open_holds:
        held.rejected(429)
    rest = 3 * estimate
    while rest >= estimate:
        with hold(guard) as held:
            held.settle(REPLY)
        rest -= COST
    with pytest.raises(LedgerUnavailable, match=r"spent \$0\.00"):
        hold(guard).__enter__()
    now[0] += 3600
    with hold(guard) as held:
        held.settle(REPLY)
    ledger.is_gone = False
    calls = 1 + int((3 * estimate - rest) / COST)
    assert eventually(
        partial(is_booked, guard, {"all": (calls * COST, 0), "calls": (calls + 3, 0)}, calls + 3)
    )


def test_threads_share_allow_up_to(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    However many come at once, it is spent to its end and not beyond.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    assert estimate is not None
    guard = make_guard(f"{10 * estimate} USD")
    ledger.is_gone = True
    through: list[Hold] = []
    refused: list[str] = []

    def work() -> None:
        for _ in range(5):
            held = hold(guard)
            try:
                held.__enter__()
            except LedgerUnavailable as error:
                refused.append(str(error))
            else:
                through.append(held)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert (len(through), len(refused)) == (10, 30)
    for held in through:
        held.settle(REPLY)


def test_an_end_inside_of_the_book_is_settled_when_it_is_next_used(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    The collector drops a stream wherever it comes, half-way through a sum as well.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    assert estimate is not None
    guard = make_guard(f"{estimate + COST} USD")
    ledger.is_gone = True
    with hold(guard) as held, guard._pipeline.stand_in._book._lock:
        held.settle(REPLY)

    with hold(guard) as held:
        held.settle(REPLY)


def test_an_interrupt_wherever_it_comes_leaves_nothing_held_in_the_book(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    Nothing ever expires there: what is left would be missing in `allow_up_to` for the rest of its window.
    """
    guard = make_guard("1000 USD")
    pipeline = guard._pipeline
    ledger.is_gone = True
    has_struck, nth = True, 0
    while has_struck:
        nth += 1
        opened = pipeline.open(hold(guard)._call)
        has_struck = interrupt(nth, partial(go_through, pipeline, opened))
        pipeline.end(opened, [Attempt("lost")], None)

        with hold(guard) as held:
            held.settle(REPLY)
        assert [row.pending for row in pipeline.stand_in._book.balances()] == [0], nth
        assert not pipeline.stand_in._held, nth


def go_through(pipeline: Pipeline, opened: OpenCall) -> None:
    pipeline.reserve(opened, hold_s=60)
    pipeline.end(opened, [Attempt("lost")], None)


def interrupt(nth: int, work: Callable[[], object]) -> bool:
    """
    Run *work*, and raise `KeyboardInterrupt` before its *nth* line in `outage`; False when it has fewer.
    """
    lines = itertools.count(1)
    has_struck = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal has_struck
        if frame.f_code.co_filename == outage.__file__ and event == "line" and next(lines) == nth:
            has_struck = True
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()  # who measures coverage goes on afterwards
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return has_struck


def test_no_room_in_a_budget_is_no_trouble_of_the_ledger(make_guard: Callable[..., Guard]) -> None:
    """
    `allow_up_to` is for a ledger that cannot tell, not for one that says no.
    """
    with pytest.raises(BudgetExceeded):
        hold(make_guard(budgets=["0.000001 USD"])).__enter__()


@pytest.mark.parametrize("fault", ["before", "after", "gone"])
def test_a_call_that_was_refused_is_not_let_through_by_a_ledger_that_goes_then(
    make_guard: Callable[..., Guard], ledger: Shaky, now: list[float], fault: Fault
) -> None:
    """
    Before it is refused, holds of dead processes are ended, and the ledger is asked once more.
    """
    guard = make_guard()
    estimate = guard.estimate("Converse", **HELLO).cost
    tight = make_guard(budgets=[Budget("all", f"{estimate} USD")])
    dead = guard._pipeline.open(hold(guard)._call)
    guard._pipeline.ledger.reserve(dead.plan.lines(), entry=dead.entry, hold_s=60, on_expiry="release")
    now[0] += 61
    ledger.faults.extend(["none", "none", fault])

    with pytest.raises(BudgetExceeded):
        hold(tight).__enter__()

    assert ledger.asked[:4] == ["reserve", "reserve", "sweep", "reserve"]
    assert eventually(lambda: tight._pipeline.upkeep.write_ends() and figures(tight) == {"all": (0, 0)})


def test_what_a_ledger_will_never_take_is_not_let_through(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    It could never be booked, and the ledger is well.
    """
    guard = make_guard()
    ledger.faults.append("never")

    with pytest.raises(LedgerUnavailable, match="too many"), hold(guard):
        pass

    assert not guard._pipeline.outage.is_on
    with hold(guard) as held:
        ledger.faults.append("never")
        with pytest.raises(LedgerUnavailable, match="too many"):
            guard._pipeline.retry(held._opened)
        held.settle(REPLY)
    assert figures(guard) == {"all": (COST, 0), "calls": (1, 0)}


def test_refuse_lets_nothing_through_and_keeps_no_hold(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    A request that arrived after all is released, and not by the caller, who has waited already.
    """
    guard = make_guard(allow_up_to=None)
    ledger.faults = deque(["after", "gone", "before"])

    with pytest.raises(LedgerUnavailable, match=r"^The answer is lost\.$"):
        hold(guard).__enter__()

    assert eventually(lambda: figures(guard) == {"all": (0, 0), "calls": (0, 0)})
    assert ledger.asked == ["reserve", "release", "release", "release"]
    assert threading.current_thread() not in ledger.askers[1:]


def test_nobody_waits_for_the_end_of_a_call_that_was_let_through(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    The ledger was gone a moment ago, and the reply is there.
    """
    guard = make_guard()
    ledger.is_gone = True
    with hold(guard) as held:
        held.settle(REPLY)
    assert held.id in guard._pipeline.upkeep._open  # who waits for all that has ended waits for it, too
    ledger.is_gone = False

    assert eventually(lambda: figures(guard) == {"all": (COST, 0), "calls": (1, 0)})
    assert eventually(lambda: held.id not in guard._pipeline.upkeep._open)
    assert not guard._pipeline.stand_in.holds(held._entered())
    assert ledger.asked[0] == "reserve"
    assert threading.current_thread() not in ledger.askers[1:]


def test_a_call_without_a_price_is_not_let_through(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    Nobody could say what it spends of `allow_up_to`.
    """
    guard = make_guard(on_unpriced="allow")
    ledger.is_gone = True

    with pytest.raises(LedgerUnavailable, match=r"up to allow_up_to \(1 USD\), but this one has no price"):
        guard.hold("Converse", {**HELLO, "modelId": "nobody.knows-v1:0"}, region="us-east-1").__enter__()


def test_a_closed_guard_lets_nothing_through(make_guard: Callable[..., Guard], tmp_path: Path) -> None:
    """
    To close it is no trouble of its ledger.
    """
    guard = make_guard(ledger=f"sqlite:///{tmp_path / 'own.db'}")
    with hold(guard) as open_hold:
        guard.close()
        with pytest.raises(LedgerUnavailable, match="closed"):
            hold(guard).__enter__()
        with pytest.raises(LedgerUnavailable, match="closed"):
            guard._pipeline.retry(open_hold._entered())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_has_allow_up_to_to_itself(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    It cannot know what its parent goes on to spend.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    guard = make_guard(f"{estimate} USD")
    ledger.is_gone = True
    with hold(guard) as held:
        child = os.fork()
        if child == 0:
            with hold(guard) as own:
                own.settle(REPLY)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with pytest.raises(LedgerUnavailable, match="does not fit"):
            hold(guard).__enter__()
        held.settle(REPLY)


# More for a call that is under way


@pytest.mark.parametrize("is_let_through", [True, False], ids=["let through", "held by the ledger"])
def test_another_attempt_is_held_within_allow_up_to(
    make_guard: Callable[..., Guard], ledger: Shaky, is_let_through: bool
) -> None:
    """
    What the ledger holds of a call is none of its business.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    assert estimate is not None
    guard = make_guard(f"{estimate * (2 if is_let_through else 1)} USD")
    ledger.is_gone = is_let_through
    with hold(guard) as held:
        opened = held._entered()
        ledger.is_gone = True
        guard._pipeline.retry(opened)
        ledger.is_gone = not is_let_through  # what is let through once asks no ledger again
        with pytest.raises(LedgerUnavailable, match="sending it again may cost up to"):
            guard._pipeline.retry(opened)
        ledger.is_gone = False
        guard._pipeline.rebound(opened, opened.plan.call)
        assert opened.entry.allowed_by == "on_ledger_error"
        entry = held.settle(REPLY)

    assert entry.allowed_by == "on_ledger_error"
    assert eventually(lambda: figures(guard) == {"all": (COST, 0), "calls": (1, 0)})
    spent = sum(balance.spent for balance in guard._pipeline.stand_in._book.balances())
    assert spent == (COST * 10**9 if is_let_through else 0)


@pytest.mark.parametrize("step", ["reserve", "retry"])
def test_what_is_let_through_outlives_no_reply(
    make_guard: Callable[..., Guard], ledger: Shaky, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """
    The ledger's error has the frames of the call, and those have its stream: a dropped one must end at once.
    """
    pipeline = make_guard()._pipeline
    opened = pipeline.open(hold(make_guard())._call)

    def call() -> weakref.ref[Reply]:
        reply = Reply()
        ledger.is_gone = step == "reserve"
        pipeline.reserve(opened, hold_s=60)
        ledger.is_gone = True
        pipeline.retry(opened)
        return weakref.ref(reply)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()
    assert opened.entry.allowed_by is not None
    assert ("could not take a call" in caplog.text) == (step == "reserve")  # and the log keeps no error
    pipeline.end(opened, [Attempt("lost")], None)


def test_what_the_ledger_holds_for_attempts_before_is_not_spent_here_too(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    Of three attempts that were lost, only the last was let through.
    """
    estimate = Guard(budget="1 USD", ledger="memory://").estimate("Converse", **HELLO).cost
    assert estimate is not None
    guard = make_guard(f"{2 * estimate} USD")
    pipeline = guard._pipeline
    opened = pipeline.open(hold(guard)._call)
    pipeline.reserve(opened, hold_s=60)
    pipeline.retry(opened)
    ledger.is_gone = True
    pipeline.retry(opened)
    pipeline.end(opened, [Attempt("lost")] * 3, None)

    with hold(guard) as held:
        held.settle(REPLY)


def test_another_attempt_counts_in_the_window_of_its_call(
    make_guard: Callable[..., Guard], ledger: Shaky, now: list[float]
) -> None:
    """
    A call settles where it was held, here as in any ledger.
    """
    guard = make_guard("1 USD/hour")
    ledger.is_gone = True
    with hold(guard) as held:
        now[0] += 3600
        guard._pipeline.retry(held._entered())
        held.settle(REPLY)

    assert [
        (balance.key.window_start, balance.spent, balance.pending)
        for balance in guard._pipeline.stand_in._book.balances()
    ] == [(NOON, COST * 10**9, 0)]


def test_a_larger_request_is_held_within_allow_up_to(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    Another tool may change what is sent while the ledger is gone.
    """
    guard = make_guard()
    planner = guard._pipeline.planner
    with hold(guard) as held:
        opened = held._entered()
        small = opened.plan.nanousd
        larger = {**HELLO, "inferenceConfig": {"maxTokens": 1000}}
        call = guard.hold("Converse", larger, region="us-east-1")._call
        ledger.is_gone = True
        guard._pipeline.rebound(opened, call)
        (balance,) = guard._pipeline.stand_in._book.balances()
        assert balance.pending == planner.plan(call, NOON).nanousd - small  # type: ignore[operator]
        assert list(opened.reservation.lines) == planner.plan(call, NOON).lines()
        ledger.is_gone = False
        held.settle(REPLY)

    assert eventually(lambda: figures(guard) == {"all": (COST, 0), "calls": (1, 0)})


def test_refuse_sends_no_attempt_that_nobody_holds(make_guard: Callable[..., Guard], ledger: Shaky) -> None:
    """
    The attempt before may have been billed, and this one would be.
    """
    guard = make_guard(allow_up_to=None)
    with hold(guard) as held:
        ledger.is_gone = True
        with pytest.raises(LedgerUnavailable, match=r"^The ledger is gone\.$"):
            guard._pipeline.retry(held._entered())
        ledger.is_gone = False
        held.settle(REPLY)

    assert figures(guard) == {"all": (COST, 0), "calls": (1, 0)}


# Who waits


@pytest.fixture
def slow(make_guard: Callable[..., Guard], ledger: Shaky) -> Guard:
    """
    A guard on a ledger that keeps everybody waiting when it is gone.
    """
    ledger.wait_s = 0.3
    return make_guard(allow_up_to=None, clock=time.time, budgets=["5 USD"])


def test_of_many_that_come_while_the_ledger_is_gone_few_wait(
    slow: Guard, ledger: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A pool of threads must not stand still at two seconds a call.
    """
    monkeypatch.setattr("bedrock_guard.calls.outage.monotonic", lambda: 1000.0)
    ledger.is_gone = True
    with pytest.raises(LedgerUnavailable):
        hold(slow).__enter__()
    asked = len(ledger.asked)

    for _ in range(50):
        with pytest.raises(LedgerUnavailable, match=r"The ledger is gone\. That was a moment ago"):
            hold(slow).__enter__()

    assert len(ledger.asked) == asked


def test_nobody_is_turned_away_for_longer_than_a_second(
    slow: Guard, ledger: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A ledger that is back serves, without a restart, and what it missed is written at once.
    """
    now = [1000.0]
    outage = slow._pipeline.outage
    monkeypatch.setattr("bedrock_guard.calls.outage.monotonic", lambda: now[0])
    outage.begin(LedgerUnavailable("gone"), is_slow=True)
    now[0] += 0.99
    with pytest.raises(LedgerUnavailable, match="a moment ago"):
        hold(slow).__enter__()
    now[0] += 0.02
    ledger.is_gone = True
    with pytest.raises(LedgerUnavailable, match=r"^The ledger is gone\.$"):
        hold(slow).__enter__()
    ledger.is_gone = False
    now[0] += 1.01

    with hold(slow) as held:
        held.settle(REPLY)

    assert not outage.is_on
    assert figures(slow)["default"] == (COST, 0)


def test_while_one_asks_the_others_do_not_wait_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One a second, for an answer that was lost must not keep all of them waiting for as long.
    """
    now = [1000.0]
    monkeypatch.setattr("bedrock_guard.calls.outage.monotonic", lambda: now[0])
    outage = Outage()
    outage.begin(LedgerUnavailable("gone"), is_slow=True)
    now[0] += 1.0
    outage.check()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            outage.check()
    now[0] += 1.0
    outage.check()
    outage.begin(LedgerUnavailable("at once"), is_slow=False)
    outage.check()
    outage.begin(LedgerUnavailable("gone"), is_slow=True)
    outage.end()
    outage.check()
    outage.check()


def test_a_ledger_that_fails_at_once_is_asked_by_everybody(
    make_guard: Callable[..., Guard], ledger: Shaky
) -> None:
    """
    It costs nobody time, and is noticed to be back with the very next call.
    """
    guard = make_guard(allow_up_to=None, clock=time.time)
    ledger.is_gone = True
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match=r"^The ledger is gone\.$"):
            hold(guard).__enter__()
    ledger.is_gone = False

    with hold(guard) as held:
        held.settle(REPLY)
    assert figures(guard)["all"] == (COST, 0)


def test_one_balance_in_trouble_turns_away_no_call_of_another(slow: Guard, ledger: Shaky) -> None:
    """
    DynamoDB throttles one partition, and serves all the others meanwhile.
    """
    with hold(slow) as first:
        pipeline = slow._pipeline
        stuck = pipeline.open(hold(slow)._call)
        with hold(slow) as meanwhile:
            ledger.faults = deque(["gone"])
            with pytest.raises(LedgerUnavailable):
                pipeline.reserve(stuck, hold_s=60)
            with hold(slow) as next_one:
                next_one.settle(REPLY)
            meanwhile.settle(REPLY)
        first.settle(REPLY)

    assert figures(slow)["default"] == (3 * COST, 0)


def test_a_call_waits_for_a_gone_ledger_once_not_for_its_sweep_too(slow: Guard, ledger: Shaky) -> None:
    """
    The deadline is that of the call, and once a minute a call sweeps.
    """
    ledger.is_gone = True

    with pytest.raises(LedgerUnavailable):
        hold(slow).__enter__()

    assert ledger.asked == ["reserve"]
