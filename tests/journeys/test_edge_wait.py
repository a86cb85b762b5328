"""
A call waits for money that is held, or for a window that is near: in order of arrival, and no longer than
it is worth.
"""

from __future__ import annotations

import _thread
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.calls import waiting
from bedrock_guard.domain.ledger import Reservation
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, Stopped
from bedrock_guard.ledgers.memory import MemoryLedger

from .conftest import HELLO, NOVA, Guarded, eventually

LONG = 3_600
MakeGuarded = Callable[..., Guarded]


def one_at_a_time(**fields: Any) -> Budget:
    """
    100 tokens of output are all there is, and all that a call may write.
    """
    return Budget("x", "100 output_tokens", **{"wait_s": LONG, **fields})


@contextmanager
def holding(guarded: Guarded) -> Iterator[Callable[[], None]]:
    """
    A call that holds all there is, until it is let go; it writes 10 tokens.
    """
    guarded.server.output_tokens = 10
    stream = guarded.client.converse_stream(**HELLO)["stream"]

    yield lambda: list(stream) and None

    stream.close()


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(call())
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


def queued(guarded: Guarded) -> int:
    return len(guarded.guard._pipeline.edge.queue.places)


def small(guarded: Guarded, **changes: Any) -> Any:
    return guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": 90}, **changes})


def test_a_call_waits_for_what_another_holds(
    make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    100 are held, 10 are used: 90 are free then, and whoever waits is told so, by no timer.
    """
    monkeypatch.setattr(waiting, "_FIRST_WAIT_S", float(LONG))
    guarded = make_guarded(budgets=[one_at_a_time()])
    with holding(guarded) as let_go:
        thread, got = in_thread(lambda: small(guarded))
        assert eventually(lambda: queued(guarded) == 1)

        let_go()
        thread.join(30)

    assert got[0]["usage"]["outputTokens"] == 10
    waited, _ = guarded.guard.entries()
    assert got[0]["ResponseMetadata"]["BedrockGuard"]["WaitedMs"] == waited.waited_ms > 0
    assert guarded.pending == [0]
    assert queued(guarded) == 0


class WitnessLedger(MemoryLedger):
    """
    Knows in which order its callers were let in, by their threads' names.
    """

    def __init__(self) -> None:
        super().__init__(clock=time.time)
        self.let_in: list[str] = []

    def reserve(self, *given: Any, **named: Any) -> Any:
        answer = super().reserve(*given, **named)
        if isinstance(answer, Reservation):
            self.let_in.append(threading.current_thread().name)
        return answer


def test_calls_are_served_as_they_came(make_guarded: MakeGuarded) -> None:
    """
    Also before one that comes later and would fit.
    """
    ledger = WitnessLedger()
    guarded = make_guarded(budgets=[Budget("x", "200 output_tokens", wait_s=LONG)], ledger=ledger)
    limits = {"first": 150, "second": 150, "small": 20}
    threads: list[threading.Thread] = []
    with holding(guarded) as let_go:  # 100 of 200
        for who, limit in limits.items():
            asked = {**HELLO, "inferenceConfig": {"maxTokens": limit}}
            threads.append(
                threading.Thread(target=guarded.client.converse, kwargs=asked, name=who, daemon=True)
            )
            threads[-1].start()
            assert eventually(lambda: queued(guarded) == len(threads))
        let_go()
        for thread in threads:
            thread.join(30)

    assert ledger.let_in[1:] == list(limits)


def test_what_others_hold_elsewhere_is_not_waited_for(make_guarded: MakeGuarded) -> None:
    """
    A user's queue is that user's.
    """
    guarded = make_guarded(budgets=[one_at_a_time(per="user")])
    with scope(user="ann"), holding(guarded) as let_go:
        thread, _ = in_thread(lambda: scoped("ann", guarded))
        assert eventually(lambda: queued(guarded) == 1)

        scoped("bob", guarded)

        let_go()
        thread.join(30)
    assert [entry.tags["user"] for entry in guarded.guard.entries(outcome="answered")].count("bob") == 1


def scoped(user: str, guarded: Guarded) -> Any:
    with scope(user=user):
        return small(guarded)


@pytest.mark.parametrize(
    ("budgets", "spends"),
    [
        ([one_at_a_time()], 20),  # spent, and nobody gives it back
        ([Budget("x", "50 output_tokens", wait_s=LONG)], 0),  # larger than the limit
        ([one_at_a_time(), Budget("y", "50 output_tokens")], 0),  # the other does not wait
        ([one_at_a_time(wait_s=0)], 20),
    ],
    ids=["spent", "larger", "another budget", "no wait"],
)
def test_what_will_not_fit_is_refused_at_once(
    make_guarded: MakeGuarded, budgets: list[Budget], spends: int
) -> None:
    """
    An hour would be waited for nothing.
    """
    guarded = make_guarded(budgets=budgets)
    if spends:
        guarded.server.output_tokens = spends
        small(guarded)

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**HELLO)
    assert queued(guarded) == 0


def test_the_wait_is_given_up_when_the_rest_will_not_fit(make_guarded: MakeGuarded) -> None:
    """
    What was pending was spent.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])
    with holding(guarded) as let_go:
        thread, got = in_thread(lambda: guarded.client.converse(**HELLO))
        assert eventually(lambda: queued(guarded) == 1)
        let_go()
        thread.join(30)

    assert isinstance(got[0], BudgetExceeded)
    assert got[0].spent == 10


def test_after_its_time_a_call_is_refused(make_guarded: MakeGuarded) -> None:
    """
    With the figures of then.
    """
    guarded = make_guarded(budgets=[one_at_a_time(wait_s=0.1)])
    with holding(guarded), pytest.raises(BudgetExceeded) as caught:
        small(guarded)

    assert caught.value.pending == 100
    assert queued(guarded) == 0


def test_who_comes_behind_others_is_tried_when_its_time_is_over(make_guarded: MakeGuarded) -> None:
    """
    Not refused unseen.
    """
    guarded = make_guarded(budgets=[one_at_a_time(wait_s=0.3)])
    with holding(guarded):
        results = [in_thread(lambda: small(guarded)) for _ in range(2)]
        for thread, _ in results:
            thread.join(30)

    assert [type(got[0]) for _, got in results] == [BudgetExceeded, BudgetExceeded]


def test_what_comes_with_the_last_of_its_time_is_not_missed(
    make_guarded: MakeGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A window that ends in time is worth the wait, whenever tries are due.
    """
    monkeypatch.setattr(waiting, "_FIRST_WAIT_S", float(LONG))
    made: list[Guarded] = []

    def clock() -> float:  # a minute ends as soon as somebody waits for that
        return 1_800_000_000.0 + (1 if made and queued(made[0]) else -0.1)

    guarded = make_guarded(budgets=[Budget("x", "100 output_tokens/minute", wait_s=0.2)], clock=clock)
    made.append(guarded)
    guarded.server.output_tokens = 90
    small(guarded)

    assert small(guarded)["usage"]["outputTokens"] == 90
    assert guarded.entry.waited_ms >= 200


def test_ctrl_c_ends_the_wait(make_guarded: MakeGuarded) -> None:
    """
    And nothing stays: no place, no hold.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])

    def interrupt() -> None:
        assert eventually(lambda: queued(guarded) == 1)
        _thread.interrupt_main()

    with holding(guarded):
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            small(guarded)
        thread.join(30)
        assert queued(guarded) == 0
        assert guarded.pending == [100]
    assert eventually(lambda: guarded.pending == [0])


def test_a_window_that_is_near_is_waited_for(make_guarded: MakeGuarded) -> None:
    """
    The call counts in the window in which it is let through.
    """
    now = [1_800_000_000.0 - 5]  # a minute ends in 5 s
    budget = Budget("x", "100 output_tokens/minute", wait_s=10)
    guarded = make_guarded(budgets=[budget], clock=lambda: now[0])
    guarded.server.output_tokens = 90
    small(guarded)

    thread, got = in_thread(lambda: small(guarded))
    assert eventually(lambda: queued(guarded) == 1)
    now[0] += 6
    thread.join(30)

    assert got[0]["usage"]["outputTokens"] == 90
    starts = [balance.key.window_start for balance in guarded.guard.ledger.balances() if balance.spent]
    assert sorted(starts) == [1_800_000_000 - 60, 1_800_000_000]


def test_a_rate_is_waited_for(make_guarded: MakeGuarded) -> None:
    """
    It says itself when the call will fit.
    """
    guarded = make_guarded(budgets=[Budget("x", "20 requests/second", burst=1, wait_s=LONG)])

    for _ in range(3):
        guarded.client.converse(**HELLO)

    assert guarded.server.bill.requests == 3


@pytest.mark.parametrize(
    "budget",
    [
        Budget("x", "60000 output_tokens/minute", burst=300, wait_s=LONG),
        Budget("x", "300 output_tokens/rolling minute", wait_s=LONG),
    ],
    ids=str,
)
def test_the_least_that_a_call_can_be_lowered_to_is_waited_for(
    make_guarded: MakeGuarded, budget: Budget
) -> None:
    """
    All that the model may write never fits, and 256 tokens will in a moment.
    """
    now = [1_800_000_000.0]
    guarded = make_guarded(budgets=[budget], clock=lambda: now[0])
    unset = {key: value for key, value in HELLO.items() if key != "inferenceConfig"}
    guarded.server.output_tokens = 300
    guarded.client.converse(**unset)

    thread, got = in_thread(lambda: guarded.client.converse(**unset))
    assert eventually(lambda: queued(guarded) == 1 or bool(got))
    now[0] += 70
    thread.join(30)

    assert got[0]["ResponseMetadata"]["BedrockGuard"]["ClampedMaxTokens"] == 300
    assert guarded.server.bill.requests == 2


def test_what_the_least_will_not_fit_in_is_refused_at_once(make_guarded: MakeGuarded) -> None:
    """
    An hour ends later than the ten seconds that may be waited.
    """
    guarded = make_guarded(
        budgets=[Budget("x", "300 output_tokens/rolling hour", wait_s=10)], clock=lambda: 1_800_000_000.0
    )
    unset = {key: value for key, value in HELLO.items() if key != "inferenceConfig"}
    guarded.server.output_tokens = 300
    guarded.client.converse(**unset)
    began = time.monotonic()

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**unset)

    assert time.monotonic() - began < 5
    assert caught.value.requested == 64_000


def test_a_stop_reaches_those_who_wait(make_guarded: MakeGuarded) -> None:
    """
    Nobody waits past an incident.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])
    with holding(guarded):
        thread, got = in_thread(lambda: small(guarded))
        assert eventually(lambda: queued(guarded) == 1)
        guarded.guard.stop(reason="incident")
        thread.join(30)

    assert isinstance(got[0], Stopped)
    assert queued(guarded) == 0


def test_a_top_up_reaches_those_who_wait(make_guarded: MakeGuarded) -> None:
    """
    So does more money.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])
    with holding(guarded):
        thread, got = in_thread(lambda: small(guarded))
        assert eventually(lambda: queued(guarded) == 1)
        guarded.guard.top_up("x", "100 output_tokens")
        thread.join(30)

    assert got[0]["usage"]["outputTokens"] == 10


def test_another_process_s_end_is_seen(make_guarded: MakeGuarded, tmp_path: Any) -> None:
    """
    It does not say so; the first in the queue looks.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    first, second = (make_guarded(budgets=[one_at_a_time()], ledger=url) for _ in range(2))
    with holding(first) as let_go:
        thread, got = in_thread(lambda: small(second))
        assert eventually(lambda: queued(second) == 1)
        let_go()
        thread.join(30)

    assert got[0]["usage"]["outputTokens"] == 10


def test_a_hold_for_another_client_waits_too(make_guarded: MakeGuarded) -> None:
    """
    Whoever sends the request.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])

    def hold() -> Any:
        asked = {**HELLO, "inferenceConfig": {"maxTokens": 90}}
        with guarded.guard.hold("Converse", asked, region="us-east-1") as held:
            return held.settle({"usage": {"inputTokens": 5, "outputTokens": 5}})

    with holding(guarded) as let_go:
        thread, got = in_thread(hold)
        assert eventually(lambda: queued(guarded) == 1)
        let_go()
        thread.join(30)

    assert got[0].usage == {"input_tokens": 5, "output_tokens": 5}


def test_a_clamp_comes_before_a_wait(make_guarded: MakeGuarded) -> None:
    """
    The order of the steps.
    """
    guarded = make_guarded(budgets=[Budget("x", "400 output_tokens", wait_s=LONG)], clamp="always")
    with holding(guarded):
        reply = guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": 1_000}})

    assert reply["ResponseMetadata"]["BedrockGuard"]["ClampedMaxTokens"] == 300
    assert guarded.guard.status()[0].budget == "x"


def test_no_call_waits_longer_than_its_lambda_invocation_lasts(make_guarded: MakeGuarded) -> None:
    """
    A refusal can be answered; a time-out cannot.
    """
    guarded = make_guarded(budgets=[one_at_a_time()])

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 200

    @guarded.guard.lambda_handler
    def handler(event: Any, context: Any) -> Any:
        with holding(guarded), pytest.raises(BudgetExceeded):
            small(guarded)
        return "answered"

    assert handler({}, Context()) == "answered"


def test_a_guard_that_waited_does_not_undo_what_another_lowered(make_guarded: MakeGuarded) -> None:
    """
    The first holds 500; when the second has room for 600, no more than that may leave.
    """
    guarded = make_guarded("2000 output_tokens")
    unset = {key: value for key, value in HELLO.items() if key != "inferenceConfig"}
    with Guard(budgets=[Budget("x", "600 output_tokens", wait_s=LONG)], ledger="memory://") as second:
        other = Guarded(second.attach(guarded.client), second, guarded.server)
        with second.hold(
            "Converse", HELLO | {"inferenceConfig": {"maxTokens": 500}}, region="us-east-1"
        ) as held:
            thread, got = in_thread(lambda: guarded.client.converse(**unset))
            assert eventually(lambda: queued(other) == 1)
            held.rejected()
            thread.join(30)

    assert got[0]["ResponseMetadata"]["BedrockGuard"]["ClampedMaxTokens"] == 500
    assert json.loads(guarded.server.requests[-1].body)["inferenceConfig"] == {"maxTokens": 500}


def test_a_guard_decides_by_its_own_time_after_one_that_waited(make_guarded: MakeGuarded) -> None:
    """
    A window may begin between the two; it is the second's that refuses.
    """
    guarded = make_guarded(budgets=[Budget("x", "200 output_tokens", wait_s=LONG)])
    minute = Budget("minute", "100 output_tokens/minute", fallback=[NOVA])
    second = Guard(budgets=[minute], ledger="memory://", clock=lambda: time.time() + 600)
    with second, holding(guarded) as let_go:
        second.attach(guarded.client)
        thread, got = in_thread(lambda: small(guarded, inferenceConfig={"maxTokens": 150}))
        assert eventually(lambda: queued(guarded) == 1)
        let_go()
        thread.join(30)

    assert isinstance(got[0], BudgetExceeded)
    assert got[0].budget == "minute"
    assert guarded.pending == [0]


def test_room_for_another_model_is_waited_for(make_guarded: MakeGuarded) -> None:
    """
    Sonnet's 1,000 tokens, 0.0165 USD, will not fit whatever others give back; Nova's will, once they do.
    """
    guarded = make_guarded(budgets=[Budget("x", "0.01 USD", fallback=[NOVA], wait_s=LONG)])
    asked = {**HELLO, "inferenceConfig": {"maxTokens": 1_000}}
    with holding_money(guarded, 100_000):  # what is left is less than Nova's 0.00025 USD
        thread, got = in_thread(lambda: guarded.client.converse(**asked))
        assert eventually(lambda: queued(guarded) == 1 or bool(got))
    thread.join(30)

    assert got[0]["ResponseMetadata"]["BedrockGuard"]["FallbackFrom"] == HELLO["modelId"]


@contextmanager
def holding_money(guarded: Guarded, leaves_nanousd: int) -> Iterator[None]:
    """
    Somebody holds all but so much, and gives it back unspent.
    """
    tokens = (10_000_000 - leaves_nanousd) // 16_500 - 20
    asked = {**HELLO, "messages": [], "inferenceConfig": {"maxTokens": tokens}}
    with guarded.guard.hold("Converse", asked, region="us-east-1") as held:
        yield
        held.rejected()
    guarded.guard._pipeline.edge.queue.wake()


class LeavingLedger(MemoryLedger):
    """
    Is gone from the moment that somebody waits.
    """

    is_gone = False

    def reserve(self, *given: Any, **named: Any) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("gone", "not_done")
        return super().reserve(*given, **named)


@pytest.mark.parametrize("is_hold", [False, True], ids=["client", "hold"])
def test_a_ledger_that_goes_while_a_call_waits_has_refused(make_guarded: MakeGuarded, is_hold: bool) -> None:
    """
    In the window that it was asked about, though another has begun since.
    """
    now = [1_800_000_000.0 - 5]  # a minute ends in 5 s
    ledger = LeavingLedger(clock=lambda: now[0])
    guarded = make_guarded(
        budgets=[Budget("x", "100 output_tokens/minute", wait_s=10)], ledger=ledger, clock=lambda: now[0]
    )
    guarded.server.output_tokens = 90
    small(guarded)
    asked = {**HELLO, "inferenceConfig": {"maxTokens": 90}}
    hold = guarded.guard.hold("Converse", asked, region="us-east-1")

    thread, got = in_thread(hold.__enter__ if is_hold else lambda: small(guarded))
    assert eventually(lambda: queued(guarded) == 1)
    ledger.is_gone = True
    now[0] += 6
    thread.join(30)

    assert isinstance(got[0], BudgetExceeded)
    assert got[0].spent == 90
    assert queued(guarded) == 0


def test_many_at_once_are_all_served(make_guarded: MakeGuarded) -> None:
    """
    Twenty threads, room for one: nobody is refused, nobody is forgotten, and no limit is passed.
    """
    guarded = make_guarded(
        budgets=[Budget("x", "1000 output_tokens", wait_s=LONG)], config={"max_pool_connections": 20}
    )
    guarded.server.output_tokens = 10
    asked = {**HELLO, "inferenceConfig": {"maxTokens": 600}}

    results = [in_thread(lambda: guarded.client.converse(**asked)) for _ in range(20)]
    for thread, _ in results:
        thread.join(60)

    assert [got[0]["usage"]["outputTokens"] for _, got in results] == [10] * 20
    assert guarded.guard.status()[0].spent == 200
    assert guarded.pending == [0]


@pytest.mark.parametrize("wait_s", [-1, float("nan"), float("inf"), "5", True, None, 3_601])
def test_what_is_no_time_is_refused(wait_s: Any) -> None:
    """
    At the door.
    """
    with pytest.raises(ConfigurationError, match="it is seconds, from 0 to 3600"):
        Budget("x", "1 USD", wait_s=wait_s)
