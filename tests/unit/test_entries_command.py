"""
`bedrock-guard entries`, and text of others in what commands print.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from journal import HAIKU, HOSTILE, NOON, lengthen, made_entry, made_ledger, rewrite
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.cli.safe_text import cell, plain, to_json
from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.entry_filter import EntryFilter

LOST = (Attempt("lost", 500, "ModelError", {"input_tokens": 9000}, 2_000_000_000, "estimated"),)
ENTRIES = [
    made_entry("plain", tags={"team": "ads"}),
    made_entry(
        "dear",
        at_s=NOON + 60,
        model=HAIKU,
        model_id=HAIKU,
        family="anthropic",
        region="eu-west-1",
        service_tier="flex",
        operation="InvokeModel",
        outcome="lost",
        basis="estimated",
        cost_nanousd=2_000_000_000,
        usage={"input_tokens": 9000},
        attempts=(LOST[0], LOST[0]),
        tags={"team": "search", "user": "ann"},
    ),
    made_entry(
        "refused",
        at_s=NOON + 120,
        outcome="refused",
        budget="day",
        count=7,
        cost_nanousd=0,
        usage={},
        attempts=(),
    ),
]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return made_ledger(tmp_path, ENTRIES)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["entries", *arguments])


def ids(*arguments: str) -> list[str]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


def test_it_shows_the_newest_first(url: str) -> None:
    """
    A person looks for what has just happened.
    """
    lines = run("--ledger", url).stdout.splitlines()

    assert lines[0].split() == [
        "at",
        "outcome",
        "operation",
        "model",
        "in",
        "cached",
        "out",
        "cost",
        "basis",
        "tags",
    ]
    assert lines[1].split() == [
        "2026-11-22",
        "12:02:00",
        "refused",
        "x",
        "7",
        "Converse",
        "amazon.nova-lite-v1:0",
        "day",
    ]
    assert lines[2].split()[2:] == [
        "lost",
        "InvokeModel",
        HAIKU,
        "9,000",
        "0",
        "%",
        "0",
        "$2.00",
        "estimated",
        "team=search",
        "user=ann",
    ]
    assert "\x1b" not in "".join(lines)


FILTERS = {
    "since": ("2026-11-22T12:01Z", ["refused", "dear"]),
    "until": ("2026-11-22T12:01Z", ["plain"]),
    "outcome": ("lost", ["dear"]),
    "operation": ("InvokeModel", ["dear"]),
    "model": (HAIKU, ["dear"]),
    "model_id": (HAIKU, ["dear"]),
    "family": ("anthropic", ["dear"]),
    "region": ("eu-west-1", ["dear"]),
    "service_tier": ("flex", ["dear"]),
    "basis": ("estimated", ["dear"]),
    "tags": ("team=search", ["dear"]),
    "cost_nanousd_min": ("0.01", ["dear"]),
    "cost_nanousd_max": ("0.01", ["refused", "plain"]),
    "tokens_min": ("1101", ["dear"]),
    "tokens_max": ("1100", ["refused", "plain"]),
    "attempts_min": ("2", ["dear"]),
    "status": ("500", ["dear"]),
    "error_code": ("ModelError", ["dear"]),
}
OPTIONS = {
    "tags": "tag",
    "service_tier": "tier",
    "cost_nanousd_min": "cost-min",
    "cost_nanousd_max": "cost-max",
}


@pytest.mark.parametrize("field", [field.name for field in fields(EntryFilter)])
def test_every_filter_of_the_journal_is_an_option(url: str, field: str) -> None:
    """
    A filter that is new in the journal fails here until it has one.
    """
    value, expected = FILTERS[field]
    option = OPTIONS.get(field, field.replace("_", "-"))

    assert ids("--ledger", url, f"--{option}", value) == expected


def test_moments_may_be_days_in_the_zone_of_the_budgets(url: str, tmp_path: Path) -> None:
    """
    Who writes a day means his own.
    """
    config = tmp_path / "zone.toml"
    config.write_text(f'ledger = "{url}"\ntime_zone = "Pacific/Kiritimati"\n')  # UTC+14

    assert ids("--config", str(config), "--since", "2026-11-24") == []
    assert len(ids("--config", str(config), "--since", "2026-11-23")) == 3
    assert "2026-11-23 02:00:00" in run("--config", str(config)).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "yesterday"], "--since 'yesterday' is no time; write 2h or 7d (ago)"),
        (["--since", "999999999999d"], "--since '999999999999d' is no time"),
        (["--cost-min", "much"], "--cost-min 'much' is no amount of USD; write 0.50."),
        (["--tag", "team"], "--tag 'team': write TAG=VALUE."),
        (["--tag", "a=1", "--tag", "a=2"], "--tag 'a=2': a is given twice"),
        (["--outcome", "sunny"], "outcome is 'sunny'"),
        (["--json", "--csv"], "--json or --csv, one of them."),
        (["--ledger", "memory://"], "'memory://' is in the memory of the program that uses it"),
        (["--ledger", "redis://x"], "No ledger is registered for 'redis://x'"),
    ],
)
def test_a_mistake_is_quoted_and_says_what_to_write(url: str, arguments: list[str], says: str) -> None:
    """
    Exit code 2, and nothing on stdout that a program would read.
    """
    done = run("--ledger", url, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_ledger_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    """
    Who mistypes a path must not read an empty journal, and think that nothing was spent.
    """
    path = tmp_path / "folder" / "other.db"

    done = run("--ledger", f"sqlite:///{path}?access=write")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "is not there: no program has used it yet." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written(url: str, tmp_path: Path) -> None:
    """
    Reports are run by those who may not write, beside programs that do.
    """
    path = tmp_path / "ledger.db"
    before = path.read_bytes()
    lock = tmp_path / "ledger.db.lock"  # which a writer makes
    lock.unlink()

    assert ids("--ledger", f"{url}?access=write") == ["refused", "dear", "plain"]
    assert path.read_bytes() == before
    assert not lock.exists()


def test_the_limit_is_told(url: str) -> None:
    """
    Fifty lines must not look like all there is; told on stderr, so that a pipe stays clean.
    """
    done = run("--ledger", url, "--limit", "2")

    assert (len(done.stdout.splitlines()), done.stderr) == (
        3,
        "These are the newest 2; --limit 0 shows all.\n",
    )
    assert run("--ledger", url, "--limit", "3").stderr == ""
    assert run("--ledger", url, "--family", "no").stdout == "No entry is like that.\n"


def test_json_has_all_of_an_entry_and_csv_its_figures(url: str) -> None:
    """
    Money is text: a float would not be what was charged.
    """
    told = json.loads(run("--ledger", url, "--outcome", "lost", "--json").stdout)
    (row,) = csv.DictReader(io.StringIO(run("--ledger", url, "--outcome", "lost", "--csv").stdout))

    assert (told["at"], told["cost"], told["list_cost"]) == ("2026-11-22T12:01:00+00:00", "2.00", "2.00")
    assert told["attempts"][0]["cost"] == "2.00"
    assert told["tags"] == json.loads(row["tags"]) == {"team": "search", "user": "ann"}
    assert (row["cost"], row["basis"], row["input_tokens"], row["attempts"]) == (
        "2.00",
        "estimated",
        "9000",
        "2",
    )


# --- text of others --------------------------------------------------------------------


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_text_of_others_is_shown_and_never_acted_on(tmp_path: Path, form: list[str]) -> None:
    """
    A tag may be an end user's name for himself.
    """
    url = made_ledger(tmp_path, [made_entry("x", tags={HOSTILE: HOSTILE, "=2+3": "@SUM(1)"}, model=HOSTILE)])

    done = run("--ledger", url, *form)

    assert done.exit_code == 0, done.stderr
    for character in "\x1b\u202e\x00":
        assert character not in done.stdout
    if form == ["--csv"]:
        (row,) = csv.DictReader(io.StringIO(done.stdout))
        assert row["model"].startswith("'=cmd()[bold]x[/bold]\\x1b[2J\\u202eevil\\x0aline\\x00y")
        assert len(row["model"]) > 10_000
    elif form:
        assert json.loads(done.stdout)["tags"][HOSTILE] == HOSTILE
    else:
        assert "[bold]x[/bold]" in done.stdout
        assert len(done.stdout) < 2000


def test_an_entry_of_a_newer_version_is_shown(tmp_path: Path) -> None:
    """
    Programs are updated one after the other.
    """
    url = made_ledger(tmp_path, [made_entry("x")])
    newer: dict[str, Any] = {
        "mood": {"deep": [1]},
        "outcome": "frozen",
        "basis": "guessed",
        "usage": {"new_meter": 5},
        "model": None,
        "at_s": 1e300,
        "attempts": [{"outcome": "odd", "extra": 1}],
    }
    rewrite(url, "x", **newer)

    for form in ([], ["--json"], ["--csv"]):
        done = run("--ledger", url, *form)
        assert done.exit_code == 0, done.stderr
        assert "frozen" in done.stdout
        assert "guessed" in done.stdout


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_text_in_csv_is_a_formula(start: str) -> None:
    """
    Spreadsheets run what begins so, on the desk of whoever does the chargeback.
    """
    assert cell(f"{start}1+1") == f"'{start}1+1"
    assert cell("\t=1") == "\\x09=1"
    assert cell("-1.5+1") == "'-1.5+1"
    assert cell(None) == ""


def test_a_figure_below_nothing_stays_a_figure() -> None:
    """
    As text it would be left out of every sum.
    """
    assert [cell(each) for each in (-5, "-5", "-0.001375")] == ["-5", "-5", "-0.001375"]


def test_plain_text_is_left_as_it_is_and_cut() -> None:
    """
    Names are in all the scripts of the world.
    """
    assert plain("Jürgen 小林") == "Jürgen 小林"
    assert plain("a" * 61) == f"{'a' * 59}…"
    assert plain("\ud800\U000e0001") == "\\ud800\\U000e0001"
    assert to_json("\u202e\ud800") == '"\\u202e\\ud800"'


def test_a_long_journal_is_read_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A million entries would not fit.
    """
    url = made_ledger(tmp_path, [made_entry("e0")])
    lengthen(url, 1500)
    seen = 0

    def count(where: EntryFilter, entry: Any) -> bool:
        nonlocal seen
        seen += 1
        return True

    monkeypatch.setattr(EntryFilter, "admits", count)
    done = run("--ledger", url, "--limit", "3", "--json")

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["e0", "e1", "e2"]
    assert seen == 1000, "the first page alone"
    assert len(run("--ledger", url, "--limit", "0").stdout.splitlines()) == 1501 + 4, "a head for each page"
