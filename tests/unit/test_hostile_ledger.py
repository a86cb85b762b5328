"""
Every view on one ledger whose tags and rows were made to do harm, or damaged by hand.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from journal import HOSTILE, made_entry, made_ledger, rewrite
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.domain.cost import usd_text
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.entry_fields import FIELDS
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers import open_ledger

# One moment for all, so that no midnight comes between what is written and what is asked for.
NOW = time.time()
MONTH = time.strftime("%Y-%m", time.gmtime(NOW))
ACTED_ON = {"\x1b", "\u202e", "\u2066", "\x00", "\x07", "\r", "\x9b"}
TRICKS = (
    HOSTILE,
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "\u2066x\u2069",
    "\x07\x9b31m\r+1",
    "[link=file:///x]y[/link]",
)

# What a hand, or a bug, can make of a row: fields, and which of them cannot be read.
DAMAGED: dict[str, dict[str, Any]] = {
    "cost": {"cost_nanousd": "abc"},
    "tags": {"tags": ["no", "tags"]},
    "tag": {"tags": {"team": 7}},
    "usage": {"usage": {"input_tokens": "many"}},
    "attempts": {"attempts": [{"status": 200}]},
    "attempt": {"attempts": [{"outcome": "answered", "usage": 5}]},
    "at": {"at_s": "noon"},
    "words": {"outcome": [], "basis": {}, "family": None},
    "huge": {"cost_nanousd": 10**40, "duration_ms": 10**400},
    "lists": {"anomalies": "x", "exceeded": [None]},
    "hold": {"held": {"lines": []}},
    "model": {"model": 5, "control": "x"},
}

VIEWS: list[list[str]] = [
    ["status"],
    ["entries"],
    ["entries", "--since", "1d", "--tokens-min", "0", "--attempts-min", "0"],
    ["tail"],
    ["top", "--last", "1h"],
    ["top", "--last", "1h", "--by", "tag:user"],
    ["report", "by", "model", "tag:user", "hour"],
    ["report", "by", f"tag:{HOSTILE}"],
    ["report", "cache"],
    ["report", "chargeback", MONTH, "--by", "user"],
    ["report", "focus"],
]
FORMS: dict[str, list[list[str]]] = {
    "tail": [[], ["--json"]],
    "chargeback": [[], ["--json"]],
    "focus": [[], ["--json"]],
}


def forms_of(view: list[str]) -> list[list[str]]:
    return next((FORMS[word] for word in view[:2] if word in FORMS), [[], ["--json"], ["--csv"]])


CASES = [(view, form) for view in VIEWS for form in forms_of(view)]


def named(part: list[str] | int) -> str:
    return (
        str(part) if isinstance(part, int) else " ".join(word for word in part if len(word) < 40) or "table"
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    Calls of just now; the tags of each are a trick, and so are its names.
    """
    entries = [
        made_entry(
            f"t{number}", at_s=NOW - number, tags={"user": trick, trick: "1"}, model=trick, operation=trick
        )
        for number, trick in enumerate(TRICKS)
    ]
    # A correction that somebody made by hand.
    entries.append(made_entry("less", at_s=NOW, cost_nanousd=-1_500_000_000, usage={"input_tokens": -5}))
    url = made_ledger(tmp_path_factory.mktemp("hostile"), entries)
    rewrite(url, "t1", mood={"new": 1}, outcome="frozen", basis="guessed", usage={"new_meter": 5})
    ledger = open_ledger(url, clock=time.time)
    for trick in TRICKS:
        key = LedgerKey("search", "USD", (("user", trick),), 0)  # a day's may end before it is looked at
        ledger.reserve(
            [Line(key, 10**9, 5)], entry=made_entry(f"o{trick[:3]}"), hold_s=60, on_expiry="charge"
        )
    ledger.close()
    return url


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("damaged")
    url = made_ledger(folder, [made_entry(name, at_s=NOW) for name in (*DAMAGED, "sound")])
    for name, values in DAMAGED.items():
        rewrite(url, name, **values)
    return url


def run(url: str, view: list[str], *more: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(app, [*view, "--ledger", url, *more])


@pytest.fixture(autouse=True)
def _tail_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As by Ctrl-C at its first pause.
    """

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    # Of `tail` alone: others wait for locks by the same module.
    monkeypatch.setattr("bedrock_guard.cli.tail.time", SimpleNamespace(time=time.time, sleep=interrupt))


@pytest.mark.parametrize(("view", "form"), CASES, ids=named)
def test_no_view_acts_on_what_callers_wrote(hostile: str, view: list[str], form: list[str]) -> None:
    """
    A tag may be an end user's; who looks on is an operator, with a terminal and a spreadsheet.
    """
    done = run(hostile, view, *form)

    assert done.exit_code == 0, done.stderr
    assert not ACTED_ON & set(done.stdout)
    assert "[/bold]" in done.stdout or view[:2] == ["report", "cache"]  # markup is text
    if form == ["--json"]:
        for line in done.stdout.splitlines():
            json.loads(line)
    elif form == ["--csv"] or {"chargeback", "focus"} & {*view}:
        cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
        assert [cell for cell in cells if cell.lstrip()[:1] in {"=", "+", "@"}] == []
    else:
        assert max(map(len, done.stdout.splitlines())) <= 1000


@pytest.mark.parametrize("width", [60, 40], ids=named)
@pytest.mark.parametrize("view", VIEWS[:9], ids=named)
def test_a_narrow_screen_keeps_its_lines(hostile: str, view: list[str], width: int) -> None:
    """
    A line that is longer than the screen breaks every table below it.
    """
    screen = {"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "xterm"}

    done = run(hostile, view, **screen)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()

    assert done.exit_code == 0, done.stderr
    if view != ["tail"]:  # a log: its lines are the terminal's to wrap
        assert [line for line in lines if cell_len(line) > width] == []


@pytest.mark.parametrize(("view", "form"), CASES, ids=named)
def test_no_view_stops_at_a_row_that_is_damaged(damaged: str, view: list[str], form: list[str]) -> None:
    """
    It is shown as far as it can be read, and told at the end: a month's report must neither lack it in
    silence nor be lacking.
    """
    done = run(damaged, view, *form)

    assert (done.exit_code, done.exception) == (0, None)
    if view == ["status"]:
        assert done.stderr == ""
        return
    assert f"Entries of the ledger that are damaged: {len(DAMAGED)}." in done.stderr
    assert "and 7 more; `bedrock-guard entries --json` has `unread`." in done.stderr


def test_each_damaged_row_says_what_of_it_is_unread(damaged: str) -> None:
    """
    So that it can be mended; what is sound of it is shown.
    """
    done = run(damaged, ["entries"], "--json", "--limit", "0")
    found = {entry["id"]: entry for entry in map(json.loads, done.stdout.splitlines())}

    assert {id_: set(entry["unread"]) for id_, entry in found.items()} == {
        **{id_: set(values) for id_, values in DAMAGED.items()},
        "sound": set(),
    }
    assert (found["cost"]["cost"], found["cost"]["usage"]) == (
        None,
        {"input_tokens": 1000, "output_tokens": 100},
    )
    assert (found["words"]["outcome"], found["words"]["basis"]) == ("", "estimated")
    assert found["at"]["at"][:10] == time.strftime("%Y-%m-%d", time.gmtime(NOW))


def test_an_unread_cost_is_none_and_in_no_sum(damaged: str) -> None:
    """
    0 would be a claim.
    """
    told = json.loads(run(damaged, ["report", "by", "operation"], "--json").stdout)["total"]

    assert (told["calls"], told["unpriced_calls"]) == (len(DAMAGED) + 1, 2)
    assert told["cost"] == usd_text(84_000 * (len(DAMAGED) - 1))


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{", "[" * 100_000, '{"at_s": 1' + "0" * 5000 + "}", "{}"])
def test_text_that_is_no_entry_is_one_that_says_so(text: str) -> None:
    """
    Its place in the journal is all that is known of it.
    """
    entry = Entry.from_json(text, at_s=5.0)

    assert (entry.id, entry.at_s, entry.tags) == ("", 5.0, {})
    assert {"id", "at_s", "model_id", "tags"} <= {*entry.unread}
    assert Entry.from_json(entry.to_json()) == entry


def test_a_moment_that_is_no_number_is_that_of_the_row() -> None:
    """
    NaN is neither before nor after anything.
    """
    text = made_entry("a").to_json()

    assert Entry.from_json(text.replace('"at_s":', '"at_s":NaN,"x":'), at_s=7.0).at_s == 7.0


def test_every_field_of_an_entry_can_be_told_from_damage() -> None:
    """
    One that is added, and not here, would be left unread.
    """
    usage = {"input_tokens": 1}
    entry = made_entry(
        "a",
        attempts=(Attempt("lost", None, "X", usage, None, "estimated"),),
        held={"expires_at_s": 5, "lines": []},
        control={"id": "x"},
        exceeded=("a",),
        anomalies=("b",),
        narrowed_usage=usage,
        cost_nanousd=None,
    )

    assert set(FIELDS) == set(Entry.__dataclass_fields__)
    assert set(Attempt._fields) == {"outcome", "status", "error_code", "usage", "cost_nanousd", "basis"}
    assert Entry.from_json(entry.to_json()) == entry


def test_a_balance_that_is_damaged_is_named(tmp_path: Path) -> None:
    """
    Whose it is, nobody can tell: figures without it would be wrong.
    """
    url = made_ledger(tmp_path, [])
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("INSERT INTO balance (budget, rule, per, window_start) VALUES ('all', 'USD', '[[1', 0)")
    db.close()

    done = run(url, ["status"])

    assert done.exit_code == 1
    assert done.stderr.startswith("A balance of the budget 'all' (USD) cannot be read: its per is '[[1'.")


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [(-1, "-0.000000001"), (-1_500_000_000, "-1.50"), (-(10**9), "-1.00"), (0, "0.00"), (5, "0.000000005")],
)
def test_money_below_nothing_is_written_as_such(nanousd: int, text: str) -> None:
    """
    `divmod` makes -1.50 of it otherwise -2.50.
    """
    assert usd_text(nanousd) == text
