"""
`bedrock-guard tail`, `top` and `budgets`: what goes on now, and by which limits.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal import HOSTILE, NOON, made_entry, made_ledger
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.reports.following import LONGEST_S, SLACK_S, Follower


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


# --- what is new -----------------------------------------------------------------------


def follow(where: EntryFilter | None = None) -> tuple[MemoryLedger, Follower]:
    ledger = MemoryLedger(clock=lambda: NOON)
    ledger.record(made_entry("old"))
    return ledger, Follower(ledger, where or EntryFilter(), now=NOON + 1)


def ids(follower: Follower, after_s: float) -> list[str]:
    return [entry.id for entry in follower.look(NOON + after_s)]


def test_each_entry_is_told_once_and_the_oldest_first() -> None:
    """
    As the lines of a log.
    """
    ledger, follower = follow()
    ledger.record(made_entry("b", at_s=NOON + 3))
    ledger.record(made_entry("a", at_s=NOON + 2))

    assert ids(follower, 4) == ["a", "b"]
    assert ids(follower, 5) == []


def test_a_call_that_began_long_ago_is_told_when_it_ends() -> None:
    """
    Its entry lies far back in the journal, below all that have ended meanwhile.
    """
    ledger, follower = follow()
    ledger.record(made_entry("long", at_s=NOON - 3000, duration_ms=3_010_000))

    assert [ids(follower, after_s) for after_s in (10, 16, 17, 40)] == [[], ["long"], [], []]


def test_what_expired_is_told_however_late_a_sweep_writes_it() -> None:
    """
    It has no end of its own.
    """
    ledger, follower = follow()
    ledger.record(made_entry("x", at_s=NOON - 1000, outcome="lost", basis="expired", duration_ms=None))

    assert [ids(follower, after_s) for after_s in (16, 32, 48)] == [["x"], [], []]
    assert ids(follower, LONGEST_S) == []


def test_refusals_that_were_alike_are_told_as_they_come() -> None:
    """
    They share an entry, which counts them.
    """
    ledger, follower = follow()
    refused = made_entry("r", at_s=NOON + 1, outcome="refused", usage={}, cost_nanousd=0)
    counts = []
    for after_s in (2, 3, 4):
        for _ in range(after_s):
            ledger.record(refused)
        counts.append([entry.count for entry in follower.look(NOON + after_s)])

    assert counts == [[2], [3], [4]]


def test_what_was_told_is_forgotten_and_filters_hold() -> None:
    """
    It may run for weeks.
    """
    ledger, follower = follow(EntryFilter(tags={"team": "ads"}))
    for number in range(100):
        ledger.record(made_entry(f"e{number}", at_s=NOON + 2, tags={"team": "ads" if number % 2 else "seo"}))

    assert len(ids(follower, 3)) == 50
    assert ids(follower, 4 + SLACK_S) == []
    assert follower._told == {}


# --- tail ------------------------------------------------------------------------------


@pytest.fixture
def after_each(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """
    What happens while a command waits, and then Ctrl-C.
    """

    def arrange(*steps: Callable[[], object]) -> None:
        waiting = iter(steps)

        def sleep(_: float) -> None:
            step = next(waiting, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(time, "sleep", sleep)

    return arrange


def writing(url: str, *entries: Any) -> Callable[[], None]:
    def write() -> None:
        ledger = open_ledger(url, clock=time.time)
        for entry in entries:
            ledger.record(entry)
        ledger.close()

    return write


def test_tail_tells_what_was_and_what_comes(tmp_path: Path, after_each: Callable[..., None]) -> None:
    """
    Beside the program that is looked at; safe whatever it calls its users.
    """
    old = [made_entry(f"old{number}", at_s=NOON + number) for number in range(3)]
    url = made_ledger(tmp_path, old)
    now = time.time()
    refused = made_entry("r", at_s=now, outcome="refused", budget="day", usage={}, cost_nanousd=0, count=2)
    hostile = made_entry("h", at_s=now, tags={"user": HOSTILE}, model=HOSTILE)

    after_each(writing(url, refused), writing(url, hostile), lambda: None)
    done = run("tail", "--ledger", url, "-n", "2")
    lines = done.stdout.splitlines()

    assert (done.exit_code, done.stderr, len(lines)) == (0, "", 4)
    assert lines[0].startswith(
        "2026-11-22 12:00:01  answered      $0.0001  Converse  amazon.nova-lite-v1:0  1,000 in"
    )
    assert "refused x 2" in lines[2]
    assert "day" in lines[2]
    assert not {"\x1b", "\u202e", "\x00"} & set(done.stdout)

    after_each()
    assert [
        json.loads(line)["id"]
        for line in run("tail", "--ledger", url, "--json", "-n", "1").stdout.splitlines()
    ] == ["h"]
    assert run("tail", "--ledger", url, "--every", "31").exit_code == 2


# --- top -------------------------------------------------------------------------------


@pytest.fixture
def busy(tmp_path: Path) -> str:
    now = time.time()
    return made_ledger(
        tmp_path,
        [
            made_entry("a", at_s=now, tags={"user": "ann", "team": "ads"}, cost_nanousd=3_000_000),
            made_entry("b", at_s=now - 60, tags={"user": "bob", "team": "ads"}, cost_nanousd=1_000_000),
            made_entry("c", at_s=now - 2000, tags={"user": "old"}, cost_nanousd=9_000_000_000),
            made_entry("d", at_s=now, tags={"user": HOSTILE}, cost_nanousd=0),
        ],
    )


def test_top_shows_who_spends_now(busy: str) -> None:
    """
    By every tag, as nobody knows beforehand by which a loop will show.
    """
    done = run("top", "--ledger", busy)
    lines = [line.split() for line in done.stdout.splitlines()]

    assert done.stdout.startswith("Last 15m: 3 calls, 0 refused, $0.004; $0.016 an hour.")
    assert lines[1] == ["tag", "value", "an", "hour", "cost", "calls", "refused", "in", "cached", "out"]
    assert [line[:4] for line in lines[2:5]] == [
        ["team", "ads", "$0.016", "$0.004"],
        ["user", "ann", "$0.012", "$0.003"],
        ["user", "bob", "$0.004", "$0.001"],
    ]
    assert not {"\x1b", "\u202e", "\x00"} & set(done.stdout)
    assert "… 3 more" in run("top", "--ledger", busy, "--rows", "1").stdout


def test_top_by_other_words_and_for_programs(busy: str) -> None:
    """
    The same figures, as data.
    """
    done = run("top", "--ledger", busy, "--by", "tag:team", "--last", "1h", "--tag", "user=ann", "--json")
    told = json.loads(done.stdout)
    rows = list(csv.DictReader(io.StringIO(run("top", "--ledger", busy, "--csv").stdout)))

    assert (told["last_s"], told["groups"][0]["tag:team"], told["groups"][0]["cost_an_hour"]) == (
        3600,
        "ads",
        "0.003",
    )
    assert (rows[0]["value"], rows[0]["cost_an_hour"]) == ("ads", "0.016")
    assert rows[3]["value"].startswith("'=cmd()")


def test_top_is_watched_until_ctrl_c(busy: str, after_each: Callable[..., None]) -> None:
    """
    Quietly.
    """
    after_each(lambda: None)

    done = run("top", "--ledger", busy, "--watch")

    assert (done.exit_code, done.stderr) == (0, "")
    assert "ann" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--last", "soon"], "--last 'soon' is no span of time; write 90s, 5m or 1h."),
        (["--last", f"{'9' * 400}d"], "is no span of time; write 90s, 5m or 1h."),
        (["--by", "team"], "'team' is nothing to group by"),
        (["--watch", "--csv"], "--watch is for people"),
    ],
)
def test_a_mistake_is_told(busy: str, arguments: list[str], says: str) -> None:
    """
    With what to write.
    """
    done = run("top", "--ledger", busy, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


# --- budgets ---------------------------------------------------------------------------

SETTINGS = """
[budgets.team]
limit = "250 USD/month"
per = "team"
limits = { ads = "500 USD/month", "[red]\\u202e" = "1 USD/month" }
match = { workflow = ["!nightly*", "[red]x"] }
fallback = ["amazon.nova-lite-v1:0"]
wait_s = 5
[budgets.pace]
limit = "5 requests/second"
burst = 9
mode = "shadow"
on_exceed = "warn"
"""


def test_budgets_tells_limits_and_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without a ledger: there may be none yet.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bedrock-guard.toml").write_text(SETTINGS)

    text = run("budgets").stdout
    told = json.loads(run("budgets", "--json").stdout)
    rows = {row["budget"]: row for row in csv.DictReader(io.StringIO(run("budgets", "--csv").stdout))}

    assert text.startswith("Settings: ")
    for words in (
        "250 USD/month",
        "workflow=!nightly* | [red]x",
        "refuses; tries amazon.nova-lite-v1:0; waits 5 s",
        "ads has its own",
        "[red]\\u202e has its own",
        "5 requests/second, 9 requests at once",
        "warns; shadow: only counts",
        "50 %, 80 %, 100 %",
    ):
        assert words in text, words
    assert "\u202e" not in text
    assert [budget["budget"] for budget in told["budgets"]] == ["team", "pace"]
    assert told["file"].endswith("bedrock-guard.toml")
    assert (rows["team"]["per"], rows["pace"]["burst"]) == ('["team"]', "9 requests")
    assert not list(tmp_path.glob("*.db"))


def test_without_a_budget_it_says_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As a newcomer has none yet.
    """
    monkeypatch.chdir(tmp_path)

    done = run("budgets")

    assert done.exit_code == 0
    assert 'No budget is set. Write budget = "5 USD/day"' in done.stdout
    monkeypatch.setenv("BEDROCK_GUARD_BUDGET", "5 EUR")
    assert (run("budgets").exit_code, run("budgets").stdout) == (2, "")
