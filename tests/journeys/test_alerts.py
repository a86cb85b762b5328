"""
Who is told what of a budget: once, by one process of all, and never at a call's expense.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import bedrock_guard
from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.background import COURIER, Background
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.telling import delivering, noticing
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply
from bedrock_guard.testing.ledger_calls import open_entry

from .conftest import HELLO, NOVA, Guarded, eventually

PROCESS = Path(__file__).with_name("alert_process.py")
# The packaged prices are younger than a month then, or of later.
NOON = 1_795_305_600.0
DAY_S = 86_400
SMALL: dict[str, Any] = {**HELLO, "modelId": NOVA, "inferenceConfig": {"maxTokens": 10}}
DAY_KEY = LedgerKey("all", "requests/day@UTC", (), int(NOON // DAY_S) * DAY_S)


class Told(list[Alert]):
    """
    A sink that remembers, and can be told to fail or to hang.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.asked = 0
        self.hangs: threading.Event | None = None

    def send(self, alert: Alert) -> None:
        self.asked += 1
        if self.hangs is not None:
            self.hangs.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("The receiver is away.")
        self.append(alert)

    @property
    def names(self) -> list[tuple[str, float | None]]:
        return sorted((alert.kind, alert.threshold or 0.0) for alert in self)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def now() -> list[float]:
    return [NOON]


@pytest.fixture
def make(make_guarded: Callable[..., Guarded], told: Told, now: list[float]) -> Callable[..., Guarded]:
    def make(limit: str = "10 requests/day", **options: Any) -> Guarded:
        own = {name: options.pop(name) for name in ("per", "alerts") if name in options}
        return make_guarded(
            **{"budgets": [Budget("all", limit, **own)], "sinks": [told], "clock": lambda: now[0], **options}
        )

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was not delivered is tried again at once.
    """
    monkeypatch.setattr(delivering, "_WAITS_S", (0.01, 0.01))


def call(guarded: Guarded, times: int = 1) -> None:
    for _ in range(times):
        guarded.client.converse(**SMALL)


def flush(guarded: Guarded) -> None:
    assert guarded.guard.flush(30)


# What is told


def test_each_threshold_is_told_once(make: Callable[..., Guarded], told: Told) -> None:
    """
    Whoever is told everything hears nothing.
    """
    guarded = make()
    call(guarded, 4)
    flush(guarded)
    assert told == []

    seen = []
    for _ in range(6):
        call(guarded)
        flush(guarded)
        seen.append([alert.threshold for alert in told])

    assert seen == [[0.5], [0.5], [0.5], [0.5, 0.8], [0.5, 0.8], [0.5, 0.8, 1.0]]
    half = told[0]
    assert (half.kind, half.budget, half.per, half.spent, half.limit, half.unit) == (
        "threshold", "all", (), 5, 10, "requests",
    )  # fmt: skip
    assert half.text.startswith("all (10 requests/day): 50 % is reached · spent 5 requests of 10 requests")
    assert half.window_start.timestamp() == DAY_KEY.window_start


def test_money_is_told_to_the_nano_dollar(make: Callable[..., Guarded], told: Told) -> None:
    """
    20 input and 10 output tokens of Nova Lite: 20 x $0.00000006 + 10 x $0.00000024 = $0.0000036.
    """
    guarded = make("0.001 USD/day", alerts=(0.0036,))
    guarded.server.will_answer(converse_reply(input_tokens=20, output_tokens=10))
    call(guarded)
    flush(guarded)

    (alert,) = told
    assert alert.to_dict()["spent"] == "0.0000036"
    assert (alert.to_dict()["currency"], alert.to_dict()["limit"]) == ("USD", "0.001")


def test_each_balance_and_each_window_has_its_own(
    make: Callable[..., Guarded], told: Told, now: list[float]
) -> None:
    """
    One user's half is not another's, nor is today's tomorrow's.
    """
    guarded = make("2 requests/day", per="user", alerts=(0.5,))
    for user in ("ann", "bob", "ann"):
        with scope(user=user):
            call(guarded)
        flush(guarded)
    now[0] += DAY_S
    with scope(user="ann"):
        call(guarded)
    flush(guarded)

    assert [alert.per for alert in told] == [(("user", "ann"),), (("user", "bob"),), (("user", "ann"),)]
    assert len({alert.id for alert in told}) == 3


def test_the_first_refusal_is_told_and_that_the_whole_is_reached(
    make: Callable[..., Guarded], told: Told
) -> None:
    """
    With a call that costs more than what is left, no balance ever comes to its limit.
    """
    guarded = make("0.00001 USD/day", alerts=(1.0,))
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            guarded.client.converse(**HELLO)
        flush(guarded)

    assert told.names == [("refused", 0.0), ("threshold", 1.0)]
    refused = next(alert for alert in told if alert.kind == "refused")
    assert "a call was refused, it may come to $" in refused.text


def test_shares_are_told_as_they_were_reached(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Also where one look finds them all, and a refusal has said before that the whole is reached.
    """
    monkeypatch.setattr(noticing, "_LOOK_EVERY_S", 3600.0)
    guarded = make("2 requests/day")
    call(guarded, 2)
    with pytest.raises(BudgetExceeded):
        call(guarded)
    flush(guarded)

    assert [alert.threshold for alert in told] == [0.5, 0.8, 1.0, None]


def test_a_budget_without_thresholds_tells_its_refusals(make: Callable[..., Guarded], told: Told) -> None:
    """
    Somebody must hear of calls that fail.
    """
    guarded = make("1 requests/day", alerts=())
    call(guarded)
    with pytest.raises(BudgetExceeded):
        call(guarded)
    flush(guarded)

    assert told.names == [("refused", 0.0)]


def test_an_overrun_and_what_cannot_be_right_are_told(make: Callable[..., Guarded], told: Told) -> None:
    """
    AWS has billed more than a bound could know, and what follows is blocked by it.
    """
    guarded = make("500 output_tokens/day", alerts=())
    for _ in range(2):
        guarded.server.will_answer(converse_reply(input_tokens=20, output_tokens=100))
        call(guarded)
        flush(guarded)

    assert told.names == [("anomaly", 0.0), ("overrun", 0.0)]
    by_kind = {alert.kind: alert for alert in told}
    assert "a call came to 100 output_tokens, and 10 output_tokens was held for it" in by_kind["overrun"].text
    assert (by_kind["overrun"].spent, by_kind["overrun"].limit) == (100, 500)
    assert "above_bound" in by_kind["anomaly"].text
    assert by_kind["anomaly"].per == (("model", NOVA),)


def test_old_prices_are_told_once_a_day(make: Callable[..., Guarded], told: Told, now: list[float]) -> None:
    """
    A budget in USD is only as true as its prices.
    """
    now[0] = NOON + 400 * DAY_S
    guarded = make(alerts=())
    call(guarded, 2)
    flush(guarded)

    assert told.names == [("price_age", 0.0)]
    assert "bedrock-guard prices sync" in told[0].text


def test_a_ledger_that_is_gone_is_told_without_it(make: Callable[..., Guarded], told: Told) -> None:
    """
    It cannot be claimed there, so that each process says so, once.
    """
    ledger = Watched()
    guarded = make(ledger=ledger)
    ledger.is_gone = True
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            call(guarded)
    assert eventually(lambda: len(told) == 1)
    ledger.is_gone = False
    call(guarded)
    flush(guarded)

    assert told.names == [("ledger", 0.0)]
    assert "The ledger could not take a call: The disk is away." in told[0].text


def test_no_word_of_a_prompt_or_reply_is_told(make: Callable[..., Guarded], told: Told) -> None:
    """
    Alerts go to chats and mail boxes.
    """
    guarded = make("1 requests/day")
    guarded.server.will_answer(converse_reply(text="the reply's words", input_tokens=20, output_tokens=100))
    call(guarded)
    with pytest.raises(BudgetExceeded):
        call(guarded)
    flush(guarded)

    everything = " ".join(alert.to_json() for alert in told)
    assert {alert.kind for alert in told} == {"threshold", "refused", "anomaly"}
    assert "hello there" not in everything
    assert "words" not in everything


# Who notices


class Watched:
    """
    A real ledger that counts what is read of it, and is gone when it is told to be.
    """

    def __init__(self) -> None:
        self.ledger: Any = open_ledger("memory://", clock=lambda: NOON)
        self.reads = 0
        self.is_gone = False

    def balances(self, keys: Any = None) -> Any:
        self.reads += 1
        return self.ledger.balances(keys)

    def __getattr__(self, name: str) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("The disk is away.")
        return getattr(self.ledger, name)


def test_a_balance_is_read_once_for_many_calls(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    On a network that is a request; and the process that crosses a threshold notices it all the same.
    """
    monkeypatch.setattr(noticing, "_LOOK_EVERY_S", 3600.0)
    ledger = Watched()
    guarded = make("20 requests/day", alerts=(0.5,), ledger=ledger)
    call(guarded)
    flush(guarded)
    call(guarded, 9)
    assert ledger.reads == 1
    flush(guarded)
    assert (ledger.reads, told.names) == (2, [("threshold", 0.5)])

    call(guarded, 9)
    flush(guarded)
    assert ledger.reads == 2, "what is told is not looked for"


def test_what_a_dead_process_crossed_the_next_call_of_any_other_tells(
    make: Callable[..., Guarded], told: Told
) -> None:
    """
    It was killed between its settle and its look.
    """
    guarded = make(alerts=(0.5,))
    ledger = guarded.guard.ledger
    held = ledger.reserve([Line(DAY_KEY, 10, 7)], entry=open_entry("dead"), hold_s=300, on_expiry="charge")
    ledger.settle(held, {DAY_KEY: 7}, open_entry("dead", outcome="answered"))

    call(guarded)
    flush(guarded)

    assert told.names == [("threshold", 0.5)]
    assert told[0].spent == 8


def test_what_a_sweep_charges_is_told_by_who_sweeps(
    make: Callable[..., Guarded], told: Told, now: list[float]
) -> None:
    """
    No call ends when a dead process's hold does.
    """
    guarded = make(alerts=(0.5,))
    ledger = guarded.guard.ledger
    ledger.reserve([Line(DAY_KEY, 10, 7)], entry=open_entry("dead"), hold_s=300, on_expiry="charge")
    now[0] += 300

    guarded.guard.sweep()
    flush(guarded)

    assert told.names == [("threshold", 0.5)]
    assert told[0].spent == 7


def test_what_was_let_through_and_is_booked_later_is_told(make: Callable[..., Guarded], told: Told) -> None:
    """
    No call ends in the ledger when these do.
    """
    ledger = Watched()
    guarded = make(
        "2 requests/day", alerts=(0.5,), ledger=ledger, on_ledger_error="allow", allow_up_to="1 USD/hour"
    )
    ledger.is_gone = True
    call(guarded)
    ledger.is_gone = False
    flush(guarded)

    assert told.names == [("ledger", 0.0), ("threshold", 0.5)]


# Who tells


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"


@pytest.fixture
def start(server: BedrockServer, ledger_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start(command: str, calls: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), command, server.url, ledger_url, str(calls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(bedrock_guard.__file__).parents[1])},
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_of_eight_processes_that_cross_a_threshold_together_one_tells(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """
    20 of 25 calls are 80 %: every process comes to it, and none alone. None waits for it but at its exit.
    """
    process = start("eight", 3)
    lines = process.communicate("go\n", timeout=120)[0].splitlines()

    assert process.returncode == 0
    assert lines.count("called") == 8
    assert [line.split()[:3] for line in lines if line != "called"] == [["told", "threshold", "0.8"]]


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_who_is_killed_between_claim_and_delivery_is_stood_in_for(
    start: Callable[..., subprocess.Popen[str]],
    make_guarded: Callable[..., Guarded],
    told: Told,
    ledger_url: str,
) -> None:
    """
    At least once: the next process tells it as it was, after a minute and not before.
    """
    process = start("wait", 20)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    hanging = [process.stdout.readline().split() for _ in range(2)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    (id_,) = [words[3] for words in hanging if words[0] == "hangs"]

    with Guard(budget="other: 9 requests/day", ledger=ledger_url, sinks=[told]) as early:
        assert early.ledger.unconfirmed_alerts()[0].id == id_
        hello(early, make_guarded)
        assert early.flush(30)
    assert told == []
    later = Guard(
        budget="other: 9 requests/day", ledger=ledger_url, sinks=[told], clock=lambda: time.time() + 60
    )
    hello(later, make_guarded)
    assert eventually(lambda: len(told) == 1)
    assert eventually(lambda: not later.ledger.unconfirmed_alerts())
    later.close()

    assert (told[0].id, told[0].kind, told[0].threshold, told[0].spent) == (id_, "threshold", 0.8, 20)


def hello(guard: Guard, make_guarded: Callable[..., Guarded]) -> None:
    """
    A call of another budget.
    """
    client = make_guarded().client
    guard.attach(client).converse(**SMALL)


def test_a_process_without_sinks_leaves_what_it_notices_to_others(
    make: Callable[..., Guarded], told: Told
) -> None:
    """
    What it claimed nobody would hear.
    """
    silent = make("4 requests/day", alerts=(0.5,), sinks=[])
    call(silent, 3)
    flush(silent)
    guarded = make("4 requests/day", alerts=(0.5,), ledger=silent.guard.ledger)
    call(guarded)
    flush(guarded)

    assert [(alert.threshold, alert.spent) for alert in told] == [(0.5, 4)]


def test_an_alert_is_told_at_exit_by_a_process_that_only_crosses_the_threshold(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """
    A script that ends with its last call has no next second.
    """
    process = start("exit", 20)
    output, _ = process.communicate("go\n", timeout=120)

    assert output.splitlines()[1].startswith("told threshold 0.8") or output.startswith("told threshold 0.8")
    assert process.returncode == 0


def test_a_sink_that_hangs_keeps_no_process_from_its_exit(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """
    Two seconds, and then the next process tells it.
    """
    process = start("hang", 20)
    output, _ = process.communicate("go\n", timeout=120)

    assert "hangs threshold 0.8" in output
    assert process.returncode == 0


# Sinks that are bad


@pytest.mark.usefixtures("quick")
def test_a_sink_that_fails_is_asked_again_and_the_others_are_not(
    make: Callable[..., Guarded], told: Told
) -> None:
    """
    A receiver that restarts misses nothing.
    """
    told.failures = 2
    other = Told()
    guarded = make("2 requests/day", alerts=(0.5,), sinks=[told, other])
    call(guarded)
    flush(guarded)

    assert (told.asked, told.names) == (3, [("threshold", 0.5)])
    assert (other.asked, other.names) == (1, [("threshold", 0.5)])
    assert guarded.guard.ledger.unconfirmed_alerts() == []


@pytest.mark.parametrize("raised", [SystemExit("x"), asyncio.CancelledError("x"), KeyboardInterrupt("x")])
@pytest.mark.usefixtures("quick")
def test_a_sink_fails_by_whatever_it_raises(make: Callable[..., Guarded], raised: BaseException) -> None:
    """
    A task that was cancelled has told nobody, and is no `Exception`.
    """
    asked: list[Alert] = []

    def send(alert: Alert) -> None:
        asked.append(alert)
        if len(asked) == 1:
            raise raised

    guarded = make("2 requests/day", alerts=(0.5,), sinks=[send])
    call(guarded)
    flush(guarded)

    assert len(asked) == 2


def test_a_guard_that_is_closed_while_a_sink_is_slow_logs_no_traceback(
    make: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    """
    What the sink does then nobody waits for.
    """
    told, goes_on = Told(), threading.Event()
    told.hangs = goes_on
    ledger = Watched()
    guarded = make(ledger=ledger, sinks=[told])
    ledger.is_gone = True
    with pytest.raises(LedgerUnavailable):
        call(guarded)
    assert eventually(lambda: told.asked == 1)
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    alerts.close(0.05)
    goes_on.set()

    assert eventually(lambda: len(told) == 1)
    done = threading.Event()
    COURIER.soon(done.set)
    assert done.wait(30)
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.usefixtures("quick")
def test_a_sink_that_always_fails_is_named_and_the_alert_is_left_to_another_process(
    make: Callable[..., Guarded], told: Told, caplog: pytest.LogCaptureFixture, now: list[float]
) -> None:
    """
    The log has it, whatever becomes of it; and another process may be luckier.
    """
    told.failures = 1000
    guarded = make("4 requests/day", alerts=(0.25,))
    call(guarded)
    flush(guarded)

    assert told.asked == 3
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "could not be delivered by Told" in record.getMessage()
    assert "25 % is reached" in record.getMessage()

    now[0] += 60
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    alerts._claims._takes_over_at = 0.0  # a minute of its clock, too
    call(guarded)
    flush(guarded)
    assert told.asked == 3, "who could not deliver it leaves it to others"
    luckier = Told()
    other = make("4 requests/day", alerts=(0.25,), sinks=[luckier], ledger=guarded.guard.ledger)
    call(other)
    assert eventually(lambda: luckier.names == [("threshold", 0.25)])
    flush(other)


def test_what_only_a_later_version_can_read_is_left_to_it(
    make: Callable[..., Guarded], told: Told, now: list[float]
) -> None:
    """
    Two versions share a ledger while one is deployed.
    """
    guarded = make()
    later = AlertClaim("later", '{"version":2,"what":"half"}')
    guarded.guard.ledger.claim_alert(later)
    now[0] += 60
    call(guarded)
    flush(guarded)

    assert told == []
    assert guarded.guard.ledger.unconfirmed_alerts() == [later]


def test_after_an_hour_without_its_ledger_nothing_is_kept_for_it(
    make: Callable[..., Guarded],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    One that was closed behind the guard's back never answers again; and what comes later is told anew.
    """
    monkeypatch.setattr(noticing, "_GIVE_UP_S", -1.0)
    ledger = Watched()
    guarded = make(ledger=ledger, alerts=(0.5,))
    call(guarded)
    flush(guarded)
    ledger.is_gone = True
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    alerts.see_old_prices(NOVA, date(2020, 1, 1))
    assert alerts.flush(30)
    assert "Alerts are not told any more, as the ledger has been gone for an hour." in caplog.text
    ledger.is_gone = False
    call(guarded, 4)
    flush(guarded)

    assert told.names == [("threshold", 0.5)]


@pytest.mark.usefixtures("quick")
def test_a_program_alone_tries_again_later_and_tells_nobody_twice(
    make: Callable[..., Guarded], told: Told, now: list[float]
) -> None:
    """
    A receiver that is away for a minute is no rare thing, and most ledgers have one process.
    """
    told.failures, other = 3 * 2, Told()
    guarded = make("9 requests/day", alerts=(0.1,), sinks=[told, other])
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    asked = []
    for rest_s in (0, 600, 600, 600):
        now[0] += rest_s
        alerts._claims._takes_over_at = 0.0  # by its own clock, too
        call(guarded)
        flush(guarded)
        asked.append(told.asked)

    assert asked == [3, 6, 6, 7], "after ten minutes, and after twenty"
    assert (told.names, other.names) == ([("threshold", 0.1)], [("threshold", 0.1)])
    assert guarded.guard.ledger.unconfirmed_alerts() == []


@pytest.mark.usefixtures("quick")
def test_what_nobody_could_deliver_for_a_day_is_dropped_by_who_failed(
    make: Callable[..., Guarded], told: Told, caplog: pytest.LogCaptureFixture, now: list[float]
) -> None:
    """
    A program may be the only one of its ledger, and run for years: a list of failures has an end.
    """
    told.failures = 3
    guarded = make("4 requests/day", alerts=(0.25,))
    call(guarded)
    flush(guarded)
    assert len(guarded.guard.ledger.unconfirmed_alerts()) == 1
    now[0] += DAY_S
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    alerts._claims._takes_over_at = 0.0  # a minute of its clock, too
    call(guarded)
    flush(guarded)

    assert guarded.guard.ledger.unconfirmed_alerts() == []
    assert "for a day is dropped" in caplog.text
    assert [alert.window_start.timestamp() for alert in told] == [DAY_KEY.window_start + DAY_S]


def test_a_sink_that_hangs_hurts_no_call_and_no_other_sink(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is somebody else's code; the budget goes on.
    """
    monkeypatch.setattr(delivering, "SEND_S", 0.05)
    monkeypatch.setattr(noticing, "_LOOK_EVERY_S", 0.01)
    told.hangs = threading.Event()
    other = Told()
    guarded = make("4 requests/day", alerts=(0.25, 0.5), sinks=[told, other])
    try:
        call(guarded, 4)
        assert eventually(lambda: len(other) == 2)
        assert not guarded.guard.flush(0.1)
        assert [row.spent for row in guarded.guard.status()] == [4]
        assert told.asked == 1, "who has not returned is not called again"
    finally:
        told.hangs.set()


class Observer(Told):
    """
    A sink that is told of every call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []

    def observe(self, entry: Entry) -> None:
        self.entries.append(entry)


def test_what_hears_of_every_call_hears_of_refusals_too(make: Callable[..., Guarded]) -> None:
    """
    Metrics count calls, beside the calls.
    """
    observer = Observer()
    guarded = make("2 requests/day", sinks=[observer])
    call(guarded, 2)
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            call(guarded)
    flush(guarded)

    assert [entry.outcome for entry in observer.entries] == ["answered", "answered", "refused", "refused"]
    assert observer.entries[-1].budget == "all"


def test_an_observer_that_raises_hurts_nobody(
    make: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    """
    It misses calls, and is told of alerts all the same.
    """

    class Broken(Told):
        def observe(self, entry: Entry) -> None:
            raise ValueError("No more room.")

    broken = Broken()
    guarded = make("2 requests/day", alerts=(0.5,), sinks=[broken])
    call(guarded, 2)
    flush(guarded)

    assert broken.names == [("threshold", 0.5)]
    assert "Broken could not look at" in caplog.text


def test_what_hears_of_every_call_hears_of_those_that_are_booked_later(make: Callable[..., Guarded]) -> None:
    """
    They have cost money, too, once each.
    """
    ledger, observer = Watched(), Observer()
    guarded = make(
        "9 requests/day", ledger=ledger, sinks=[observer], on_ledger_error="allow", allow_up_to="1 USD/hour"
    )
    ledger.is_gone = True
    call(guarded)
    ledger.is_gone = False
    flush(guarded)
    call(guarded)
    flush(guarded)

    assert [entry.allowed_by is None for entry in observer.entries] == [False, True]


# Where there is no thread to wait for


def test_where_no_thread_can_be_started_alerts_are_told_all_the_same(
    make: Callable[..., Guarded], told: Told, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    From Python 3.12 on that is so at exit; and a program that only swept has none.
    """
    guarded = make(alerts=(0.5,))
    ledger = guarded.guard.ledger
    ledger.reserve([Line(DAY_KEY, 10, 7)], entry=open_entry("dead"), hold_s=300, on_expiry="charge")
    now[0] += 300

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(noticing, "COURIER", Background())
    guarded.guard.sweep()

    assert guarded.guard.flush(30)
    assert told.names == [("threshold", 0.5)]


def test_who_leaves_asks_a_ledger_that_is_gone_once(
    make: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    """
    It may be an hour until it is back; so long a process that ends would not wait, and its tests neither.
    """
    ledger = Watched()
    guarded = make("9 requests/day", alerts=(), ledger=ledger)
    alerts = guarded.guard._pipeline.alerts
    assert alerts is not None
    call(guarded)
    flush(guarded)
    ledger.is_gone = True
    alerts.see_old_prices(NOVA, date(2020, 1, 1))
    alerts.leave(3600)

    assert "Alerts are left to be told by the next process." in caplog.text
    ledger.is_gone = False
    flush(guarded)


def test_who_waits_in_the_thread_itself_does_not(
    make: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The collector may end a stream there, and in Lambda the end of a call waits for its alerts.
    """
    monkeypatch.setattr(noticing, "_LOOK_EVERY_S", 0.01)
    waiting, goes_on, done = threading.Event(), threading.Event(), threading.Event()

    def send(alert: Alert) -> None:
        waiting.set()
        goes_on.wait(30)

    guarded = make("2 requests/day", alerts=(0.5,), sinks=[send])
    call(guarded)
    assert waiting.wait(30)
    COURIER.soon(lambda: (guarded.guard.flush(3600), done.set()))
    goes_on.set()

    assert done.wait(30)
    flush(guarded)


# Lambda


class Context:
    """
    Of an invocation with a minute to go.
    """

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def test_a_decorated_handler_tells_before_it_returns(make: Callable[..., Guarded], told: Told) -> None:
    """
    With its reply the environment freezes, perhaps for ever.
    """
    guarded = make("2 requests/day", alerts=(0.5,))

    @guarded.guard.lambda_handler
    def handler(event: object, context: object) -> str:
        call(guarded)
        return "done"

    assert handler({}, Context()) == "done"
    assert told.names == [("threshold", 0.5)]


def test_in_lambda_a_call_outside_of_a_decorated_handler_waits_for_its_alert(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody else will say when the environment freezes.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    guarded = make("2 requests/day", alerts=(0.5,))
    call(guarded)
    assert told.names == [("threshold", 0.5)]

    call(guarded)
    with pytest.raises(BudgetExceeded):
        call(guarded)
    assert told.names == [("refused", 0.0), ("threshold", 0.5)]


@pytest.mark.parametrize("how", [{}, {"on_ledger_error": "allow", "allow_up_to": "1 USD/hour"}])
def test_in_lambda_a_ledger_that_is_gone_is_told_by_the_first_call_and_waited_for_by_no_other(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch, how: dict[str, str]
) -> None:
    """
    Each call would be a second longer, for what cannot be read.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    waits, flush = [], noticing.Alerts.flush

    def watched(self: noticing.Alerts, timeout_s: float, **options: bool) -> bool:
        waits.append(timeout_s)
        return flush(self, timeout_s, **options)

    monkeypatch.setattr(noticing.Alerts, "flush", watched)
    ledger = Watched()
    guarded = make("9 requests/day", alerts=(), ledger=ledger, **how)
    call(guarded)
    ledger.is_gone = True
    for _ in range(3):
        with suppress(LedgerUnavailable):
            call(guarded)

    assert told.names == [("ledger", 0.0)]
    assert waits == [1.0, 1.0], "of the call before, and of the first that found it gone"
    ledger.is_gone = False
    assert guarded.guard.flush(30)


def test_a_handler_does_not_wait_for_a_sink_that_hangs(
    make: Callable[..., Guarded], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The reply is paid for; the rest is told with the next request.
    """
    monkeypatch.setattr("bedrock_guard.flushing.PROMPT_S", 0.1)
    told.hangs = threading.Event()
    guarded = make("2 requests/day", alerts=(0.5,))
    handler = guarded.guard.lambda_handler(lambda event, context: call(guarded))
    handler({}, Context())
    assert told == []

    told.hangs.set()
    flush(guarded)
    assert told.names == [("threshold", 0.5)]


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_fork_tells_its_own_alerts_and_not_its_parent_s(
    make: Callable[..., Guarded], told: Told, tmp_path: Path, ledger_url: str
) -> None:
    """
    The parent is there to tell them.
    """
    path, parent, is_away = tmp_path / "told", os.getpid(), [True]

    def write(alert: Alert) -> None:
        if is_away[0] and os.getpid() == parent:
            raise OSError("The receiver is away.")
        with path.open("a") as file:
            file.write(f"{os.getpid()} {alert.threshold}\n")

    guarded = make("4 requests/day", alerts=(0.5, 1.0), ledger=ledger_url, sinks=[write])
    call(guarded, 2)
    assert not guarded.guard.flush(0.1), "it is tried again, in a second"
    child = os.fork()
    if child == 0:
        try:
            guarded.guard.flush(30)
            call(guarded, 2)
            guarded.guard.flush(30)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    is_away[0] = False
    flush(guarded)

    assert path.read_text().split() == [str(child), "1.0", str(parent), "0.5"]
