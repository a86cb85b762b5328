"""
Stops and top-ups, from the person who gives them to the call that meets them.
"""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import dynamodb_engine
import pytest
from botocore.exceptions import ClientError

from bedrock_guard import Budget, BudgetExceeded, Guard, GuardError, scope
from bedrock_guard.domain.control import CHANGED
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, Stopped
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.testing.ledger_calls import NOW, SetClock

from .conftest import HELLO, NOVA, Guarded

CALLER = Path(__file__).parent / "controls_caller.py"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def make_guard(tmp_path: Path, clock: SetClock) -> Any:
    guards: list[Guard] = []

    def make(*budgets: Budget | str, ledger: str | None = None, **options: Any) -> Guard:
        url = ledger or f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
        guards.append(Guard(budgets=list(budgets), ledger=url, clock=clock, settings={}, **options))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def call(guard: Guard, **params: Any) -> None:
    with guard.hold("Converse", {**HELLO, **params}, region="us-east-1") as hold:
        hold.rejected()


def spend(guard: Guard, times: int) -> None:
    for _ in range(times):
        with guard.hold("Converse", HELLO, region="us-east-1") as hold:
            hold.lost()


def is_stopped(guard: Guard, **tags: str) -> bool:
    try:
        with scope(**tags):
            call(guard)
    except Stopped:
        return True
    return False


def test_a_stop_holds_for_whom_it_means_until_it_is_resumed(make_guard: Any) -> None:
    """
    One runaway workflow is ended, and the others go on; nobody deploys anything.
    """
    program, operator = make_guard("5 USD/day"), make_guard()
    assert not is_stopped(program, workflow="nightly-1")

    id_ = operator.stop(match={"workflow": "nightly*"}, reason="it loops", by="anna")

    assert is_stopped(program, workflow="nightly-1")
    assert not is_stopped(program, workflow="daily")
    assert not is_stopped(program)
    assert operator.resume(id_, by="bob") == (id_,)
    assert not is_stopped(program, workflow="nightly-1")


def test_what_the_caller_of_a_stopped_call_learns(make_guard: Any) -> None:
    """
    Who, why, since and until when, and how it ends; and an end user none of it.
    """
    guard = make_guard("5 USD/day")
    until = datetime.fromtimestamp(NOW + 3600, UTC)
    id_ = guard.stop(match={"team": "search"}, reason="it loops", until=until, by="anna")

    with scope(team="search"), pytest.raises(Stopped) as caught:
        call(guard)

    error = caught.value
    assert str(error) == (
        "Calls with team=search are stopped: it loops\n"
        "by anna since 2027-01-15 08:00:00 UTC, until 2027-01-15 09:00:00 UTC\n"
        f"bedrock-guard resume {id_}"
    )
    assert (error.id, error.reason, error.by, error.until) == (id_, "it loops", "anna", until)
    assert (error.operation, error.model_id, error.tags["team"]) == ("Converse", HELLO["modelId"], "search")
    assert error.retry_after_s == 3600
    assert error.public_message == "This service is stopped for now. Try again later."
    assert isinstance(error, GuardError)
    assert not isinstance(error, BudgetExceeded)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    wrapped = RuntimeError("of a framework")
    wrapped.__cause__ = error
    assert Stopped.find(wrapped) is error
    assert BudgetExceeded.find(wrapped) is None


def test_a_stop_without_a_match_stops_all_and_says_how_it_ends(make_guard: Any) -> None:
    """
    The emergency brake.
    """
    guard = make_guard()
    guard.stop(reason="now", by="anna")

    with pytest.raises(Stopped, match=r"All calls are stopped: now\nby anna .* until somebody resumes them"):
        call(guard)


def test_a_stop_passes_by_itself(make_guard: Any, clock: SetClock) -> None:
    """
    A pause for the night needs nobody in the morning.
    """
    guard = make_guard()
    guard.stop(reason="night", until=datetime.fromtimestamp(NOW + 60, UTC))

    clock.now = NOW + 59.9
    assert is_stopped(guard)
    assert len(guard.controls().stops) == 1
    clock.now = NOW + 60
    assert not is_stopped(guard)
    assert guard.controls().stops == ()


def test_a_stopped_call_sends_and_holds_nothing(guarded: Guarded) -> None:
    """
    Over real sockets: Bedrock has not heard of it.
    """
    here = guarded
    here.client.converse(**HELLO)
    sent = len(here.server.requests)
    here.guard.stop(match={"model": "anthropic.*"}, reason="too dear")

    with scope() as tally, pytest.raises(Stopped):
        here.client.converse(**HELLO)
    assert tally.calls == 0
    here.client.converse(**{**HELLO, "modelId": NOVA})

    assert len(here.server.requests) == sent + 1
    assert here.pending == [0]


@pytest.mark.parametrize("on_lost_reply", ["charge", "release"])
def test_a_call_under_way_may_finish_but_is_not_sent_again(
    make_guarded: Callable[..., Guarded], on_lost_reply: str
) -> None:
    """
    The answer to its first attempt was lost, and the second is a new request, which may be billed beside it.
    """
    here = make_guarded(on_lost_reply=on_lost_reply)

    def stop_then_lose(*_: Any) -> None:
        here.guard.stop(reason="now")

    here.client.meta.events.register_first(
        "response-received.bedrock-runtime",
        lambda **_: stop_then_lose() if not here.guard.controls().stops else None,
    )
    here.server.will_answer(500)

    with pytest.raises(Stopped) as caught:
        here.client.converse(**HELLO)

    assert len(here.server.requests) == 1
    assert isinstance(caught.value.__cause__, ClientError)
    ended = next(entry for entry in here.guard.entries() if entry.outcome == "lost")
    assert [attempt.outcome for attempt in ended.attempts] == ["lost"]
    assert here.pending == [0]


def test_the_journal_says_who_and_why(make_guard: Any) -> None:
    """
    In a month nobody remembers why Tuesday was quiet.
    """
    guard = make_guard(Budget("search", "5 USD/day", per="user"))
    id_ = guard.stop(match={"team": "search"}, reason="it loops", by="anna")
    assert is_stopped(guard, team="search", user="x")
    assert is_stopped(guard, team="search", user="x")
    guard.resume(match={"team": "search"}, by="bob")
    guard.top_up("search", "2.50 USD", per={"user": "x"}, reason="a demo", by="carol")

    (stop,) = guard.entries(outcome="stop")
    (resume,) = guard.entries(outcome="resume")
    (top_up,) = guard.entries(outcome="top_up")
    (refused,) = guard.entries(outcome="refused")
    assert (stop.control["id"], stop.control["by"], stop.control["reason"]) == (id_, "anna", "it loops")
    assert stop.control["match"] == {"team": "search"}
    assert (resume.control["id"], resume.control["by"], resume.cost) == (id_, "bob", 0)
    assert (top_up.budget, top_up.control["by"], top_up.control["reason"]) == ("search", "carol", "a demo")
    assert top_up.control["amount"] == 2_500_000_000
    assert (refused.count, refused.budget, refused.control["id"]) == (2, None, id_)
    assert refused.cost == 0


def test_who_is_found_out_when_nobody_says(make_guard: Any) -> None:
    """
    A shell's user and host are better than nothing.
    """
    guard = make_guard()
    guard.stop(reason="x")

    (stop,) = guard.controls().stops
    assert "@" in stop.by


def test_a_top_up_raises_one_balance_in_its_window(make_guard: Any, clock: SetClock) -> None:
    """
    Alice needs more today; Bob does not, and tomorrow is as ever.
    """
    guard = make_guard(Budget("users", "1 requests/day", per="user"))
    for user in ("alice", "bob"):
        with scope(user=user), guard.hold("Converse", HELLO, region="us-east-1") as hold:
            hold.lost()

    guard.top_up("users", "2 requests", per={"user": "alice"})

    with scope(user="bob"), pytest.raises(BudgetExceeded):
        call(guard)
    for _ in range(2):
        with scope(user="alice"), guard.hold("Converse", HELLO, region="us-east-1") as hold:
            hold.lost()
    with scope(user="alice"), pytest.raises(BudgetExceeded) as caught:
        call(guard)
    assert (caught.value.limit, caught.value.spent) == (3, 3)
    assert caught.value.refusals[0].limit_text == "1 requests/day + 2 requests"
    rows = {dict(row.per)["user"]: row for row in guard.status()}
    assert (rows["alice"].limit, rows["alice"].topped_up, rows["alice"].remaining) == (3, 2, 0)
    assert (rows["bob"].limit, rows["bob"].topped_up) == (1, 0)
    clock.now = NOW - NOW % 86400 + 86400
    assert guard.controls().top_ups == ()
    with scope(user="alice"), guard.hold("Converse", HELLO, region="us-east-1") as hold:
        hold.lost()
    with scope(user="alice"), pytest.raises(BudgetExceeded):
        call(guard)


def test_a_top_up_holds_for_every_guard_and_ends_when_it_was_told_to(
    make_guard: Any, clock: SetClock
) -> None:
    """
    Also one whose first call comes after it.
    """
    guard, other = make_guard("day: 0 USD/day"), make_guard("day: 0 USD/day")
    with pytest.raises(BudgetExceeded):
        call(other)
    guard.top_up("day", "20 USD", until=datetime.fromtimestamp(NOW + 60, UTC))

    call(other)
    (row,) = other.status()
    assert (row.limit, row.topped_up) == (Decimal(20), Decimal(20))
    clock.now = NOW + 60
    with pytest.raises(BudgetExceeded):
        call(other)
    assert other.status()[0].limit == 0


def test_a_top_up_of_what_rolls_holds_for_as_long_as_that_is(make_guard: Any, clock: SetClock) -> None:
    """
    It has no end of a window to end at: what is spent now counts for a period, and so does the top-up.
    """
    guard = make_guard(Budget("hour", "2 requests/rolling hour"), Budget("rps", "9 requests/second"))
    spend(guard, 2)
    with pytest.raises(BudgetExceeded):
        call(guard)

    guard.top_up("hour", "1 requests")

    status = {row.budget: row for row in guard.status()}
    assert (status["hour"].limit, status["hour"].topped_up, status["hour"].remaining) == (3, 1, 1)
    assert status["rps"].topped_up == 0
    clock.now += 1800  # another sub-window
    spend(guard, 1)
    with pytest.raises(BudgetExceeded, match=r"hour \(2 requests/rolling hour \+ 1 requests\)"):
        call(guard)
    clock.now += 1799
    assert guard.controls().top_ups
    clock.now += 1
    assert not guard.controls().top_ups
    with pytest.raises(ConfigurationError, match="until is later than"):
        guard.top_up("hour", "1 requests", until=datetime.fromtimestamp(clock.now + 3601, UTC))
    with pytest.raises(
        ConfigurationError, match=r"rps .* is a rate, which time refills, and cannot be topped"
    ):
        guard.top_up("rps", "1 requests")


def test_a_retry_in_a_later_sub_window_may_use_a_top_up(make_guard: Any, clock: SetClock) -> None:
    """
    Its line is another than that of the attempt before.
    """
    guard = make_guard(Budget("hour", "100 output_tokens/rolling hour"))
    with guard.hold("Converse", HELLO, region="us-east-1") as hold:
        opened = hold._opened
        clock.now += 120
        with pytest.raises(BudgetExceeded):
            guard._pipeline.retry(opened)
        guard.top_up("hour", "200 output_tokens")
        guard._pipeline.retry(opened)
        assert len({line.key for line in opened.reservation.lines}) == 2
        hold.rejected()


def test_named_limits_are_topped_up_each_from_its_own(make_guard: Any) -> None:
    """
    The refusal shows the limit of the balance, not the one that others have.
    """
    limits = {"alice": "2 requests/day", "*": "1 requests/day"}
    guard = make_guard(Budget("users", limits=limits, per="user"))
    guard.top_up("users", "1 requests", per={"user": "alice"})

    with scope(user="alice"):
        spend(guard, 3)
        with pytest.raises(BudgetExceeded, match=r"users \(2 requests/day \+ 1 requests\)"):
            call(guard)

    (row,) = guard.status()
    assert (row.per, row.limit, row.topped_up) == ((("user", "alice"),), 3, 1)


def test_a_shadow_goes_on_while_it_is_stopped_and_tells(make_guard: Any) -> None:
    """
    It raises nothing; the journal has what would have been refused, and by which stop.
    """
    shadow, operator = make_guard("5 USD/day", mode="shadow"), make_guard()
    id_ = operator.stop(match={"workflow": ["nightly*", "!nightly-2"]}, reason="it loops", by="anna")

    for workflow in ("nightly-1", "nightly-1", "nightly-2", "daily"):
        assert not is_stopped(shadow, workflow=workflow)

    (would,) = shadow.entries(outcome="would_refuse")
    assert (would.reason, would.count, would.control["id"]) == ("stopped", 2, id_)
    assert would.tags["workflow"] == "nightly-1"
    assert not list(shadow.entries(outcome="refused"))
    assert operator.resume(match={"workflow": ("nightly*", "!nightly-2")}) == (id_,)


def test_a_balance_that_has_no_call_yet_shows_its_top_up(make_guard: Any) -> None:
    """
    Whoever gave it looks whether it is there.
    """
    guard = make_guard(Budget("users", "5 USD/day", per="user"))
    guard.top_up("users", "1 USD", per={"user": "alice"})

    (row,) = guard.status()
    assert (row.per, row.limit, row.spent) == ((("user", "alice"),), Decimal(6), Decimal(0))


def test_a_retry_may_use_a_top_up(make_guard: Any) -> None:
    """
    Limits are those that hold at the moment, for every hold.
    """
    guard = make_guard("all: 0 USD")
    guard.top_up("all", "20 USD")
    with guard.hold("Converse", HELLO, region="us-east-1") as hold:
        guard._pipeline.retry(hold._opened)
        hold.lost()

    assert guard.status()[0].spent > 0


@pytest.mark.parametrize(
    ("do", "text"),
    [
        (lambda guard: guard.stop(reason=""), "a stop says why"),
        (lambda guard: guard.stop(reason="x" * 501), "one line of 500 characters at most"),
        (lambda guard: guard.stop(reason="two\nlines"), "one line of"),
        (lambda guard: guard.stop(reason="no text \udcff"), "one line of"),
        (lambda guard: guard.stop(reason="x", match={"team": "\udcff"}), "one line of"),
        (lambda guard: guard.stop(reason="x", match={"team": 1}), "a glob is a string|it is a glob"),
        (lambda guard: guard.stop(reason="x", match="team"), "it maps tags to globs"),
        (lambda guard: guard.stop(reason="x", until=datetime(2000, 1, 1, tzinfo=UTC)), "has passed"),
        (
            lambda guard: guard.stop(reason="x", until=datetime(2030, 1, 1)),  # noqa: DTZ001
            "a datetime with a zone",
        ),
        (lambda guard: guard.stop(reason="x", until=datetime.max.replace(tzinfo=UTC)), "it is before 9999"),
        (lambda guard: guard.stop(reason="x", by=""), "it names who does this"),
        (lambda guard: guard.resume(), "the id of a stop, or the match"),
        (lambda guard: guard.resume("a", match={}), "the id of a stop, or the match"),
        (lambda guard: guard.resume("stop-0"), "There is no stop 'stop-0'. In force: none"),
        (lambda guard: guard.resume(match={"a": "b"}), "There is no stop with match {'a': 'b'}"),
        (lambda guard: guard.top_up("x", "1 USD"), "There is no budget 'x'; there are: users"),
        (lambda guard: guard.top_up("users", "1 requests", per={"user": "a"}), "cannot top up users"),
        (lambda guard: guard.top_up("users", "1 USD/day", per={"user": "a"}), "without a period: '5 USD'"),
        (lambda guard: guard.top_up("users", "0 USD", per={"user": "a"}), "cannot top up"),
        (lambda guard: guard.top_up("users", "-5 USD", per={"user": "a"}), "an amount above 0 in its unit"),
        (
            lambda guard: guard.top_up("none", "0 requests"),
            "above 0 in its unit, without a period: '1 requests'",
        ),
        (lambda guard: guard.top_up("users", "5 USD", per={"user": "a" * 501}), "per.'user'. is 'aaa"),
        (lambda guard: guard.top_up("users", "1 USD"), "keeps a balance for each user: say whose"),
        (lambda guard: guard.top_up("all", "1 USD", per={"user": "a"}), "keeps one balance"),
        (
            lambda guard: guard.top_up(
                "all", "1 USD", until=datetime.fromtimestamp(NOW, UTC) + timedelta(days=9)
            ),
            "raise the limit",
        ),
    ],
)
def test_a_mistake_is_quoted(make_guard: Any, do: Any, text: str) -> None:
    """
    Nothing is written by it.
    """
    guard = make_guard(Budget("users", "5 USD/day", per="user"), "all: 5 USD/day", "none: 0 requests/day")

    with pytest.raises(ConfigurationError, match=text):
        do(guard)

    assert guard.controls().version == 0


def test_a_stop_is_known_while_the_ledger_is_gone(make_guard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What may go without the ledger may not go against its last word.
    """
    guard = make_guard("5 USD/day", on_ledger_error="allow", allow_up_to="5 USD")
    guard.stop(match={"team": "search"}, reason="x")
    assert is_stopped(guard, team="search")

    def fail(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("The disk is gone.")

    with monkeypatch.context() as patch:
        for method in ("reserve", "controls", "record"):
            patch.setattr(guard.ledger, method, fail)
        assert not is_stopped(guard, team="ads")
        assert is_stopped(guard, team="search")
        assert is_stopped(guard, team="search")
    assert guard.flush()


def test_a_request_that_is_changed_on_its_way_meets_the_stops_too(make_guard: Any) -> None:
    """
    Another tool may swap the model after the call was admitted.
    """
    guard = make_guard("5 USD/day")
    guard.stop(match={"model": "amazon.*"}, reason="x")
    swapped = guard.hold("Converse", {**HELLO, "modelId": NOVA}, region="us-east-1")

    with guard.hold("Converse", HELLO, region="us-east-1") as hold:
        with pytest.raises(Stopped):
            guard._pipeline.rebound(hold._opened, swapped._call)
        hold.rejected()

    assert guard.status()[0].pending == 0


def test_a_ledger_that_never_agrees_is_not_asked_for_ever(
    make_guard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A fault in a ledger of somebody's own must not hang a program.
    """
    guard = make_guard("5 USD/day")
    monkeypatch.setattr(guard.ledger, "reserve", lambda *_, **__: CHANGED)

    with pytest.raises(LedgerUnavailable, match="have changed, and gives the same version, 0"):
        call(guard)


def test_a_file_of_the_schema_before_says_what_to_do(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its programs go on; whoever wants to stop them migrates it first, and they notice.
    """
    from bedrock_guard.ledgers import sqlite_care, sqlite_schema

    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "SCHEMA", 2)
        open_ledger(url, clock=clock).close()
    with Guard(budgets=["5 USD/day"], ledger=url, clock=clock, settings={}) as guard:
        assert not is_stopped(guard)
        assert guard.controls().version == 0
        with pytest.raises(LedgerUnavailable, match="bedrock-guard ledger migrate sqlite:///"):
            guard.stop(reason="x")

        sqlite_care.migrate(url)
        with Guard(budgets=[], ledger=url, clock=clock, settings={}) as operator:
            operator.stop(reason="x")
        assert is_stopped(guard)


@pytest.mark.parametrize(
    "damage",
    ['UPDATE controls SET version = 7, record = \'{"stops": [{"id": "x"}]}\'', "DELETE FROM controls"],
)
def test_a_record_that_cannot_be_read_lets_nobody_through_but_a_shadow(
    make_guard: Any, tmp_path: Path, damage: str
) -> None:
    """
    It may say that the call is stopped. Whoever calls is told what is wrong, and by an error that they know.
    """
    program, shadow = make_guard("5 USD/day"), make_guard("5 USD/day", mode="shadow")
    call(program)
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute(damage)
    db.close()

    for do in (partial(call, program), program.controls, program.status, partial(program.stop, reason="x")):
        with pytest.raises(LedgerUnavailable, match="record of stops and top-ups cannot be read"):
            do()
    call(shadow)


def test_a_stop_reaches_eight_processes_within_their_next_call_on_sqlite(tmp_path: Path) -> None:
    """
    Each has made a call before, so it has something to forget.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    assert in_eight_processes(url, lambda operator: operator.stop(reason="now")) == [("held", "Stopped")] * 8


def test_a_stop_reaches_eight_processes_on_dynamodb_once_their_copy_is_too_old() -> None:
    """
    Their clock stands still until it has gone on by two seconds: no machine is too slow for that.
    """
    url = dynamodb_engine.table_url()
    seen = in_eight_processes(url, lambda operator: operator.stop(reason="now"), later_s=2.0)

    assert seen == [("held", "Stopped")] * 8


def in_eight_processes(url: str, act: Callable[[Guard], object], *, later_s: float = 0.0) -> list[Any]:
    """
    What a call of each came to before *act*, and *later_s* after it.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, str(CALLER), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    try:
        before = [ask(process, 0.0) for process in processes]
        with Guard(budgets=[], ledger=url, settings={}) as operator:
            act(operator)
        return list(zip(before, [ask(process, later_s) for process in processes], strict=True))
    finally:
        for process in processes:
            process.communicate(timeout=60)


def ask(process: subprocess.Popen[str], at_s: float) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{at_s}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_copy_on_dynamodb_is_not_read_for_every_call(clock: SetClock) -> None:
    """
    A stop costs a request every two seconds, not one a call.
    """
    from dynamodb_faults import Watched

    ledger = DynamoDBLedger.open(dynamodb_engine.table_url(), clock=clock)
    watched = Watched(ledger)
    with Guard(budgets=["day: 5 USD/day"], ledger=ledger, clock=clock, settings={}) as guard:
        guard._pipeline.sweeper.due_at = float("inf")
        ledger.refresh_controls(0.5)
        for _ in range(5):
            call(guard)
        assert watched.partitions.count("C#controls") == 1
        clock.now += 0.5
        call(guard)
        clock.now -= 3600  # a clock that was set back must not make the copy young
        call(guard)
        assert watched.partitions.count("C#controls") == 3
    ledger.close()
