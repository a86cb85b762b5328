"""
`bedrock-guard status`: what is left, of budgets that settings name and of those that only programs do.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dynamodb_engine
import pytest
from journal import HOSTILE, made_entry, made_ledger
from typer.testing import CliRunner, Result

from bedrock_guard import Budget, Guard, scope
from bedrock_guard.cli import app, status
from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.reports.standings import read_standings

# 1,000 output tokens at 0.24 USD a million, and 10 of input at 0.06: 240,600 nano-dollars.
CALL = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 1000},
}
REPLY = {"usage": {"inputTokens": 10, "outputTokens": 1000, "totalTokens": 1010}, "stopReason": "end_turn"}
BUDGETS = [
    Budget("day", "0.0005 USD/day"),
    Budget("user", "1 USD/month", per="user", on_exceed="warn"),
    Budget("hourly", "10 requests/rolling 1 hour"),
    Budget("pace", "5 requests/second"),
    Budget("all", "20 USD"),
]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"


@pytest.fixture
def program(url: str) -> Iterator[Guard]:
    with Guard(budgets=BUDGETS, ledger=url, settings={}, sinks=[]) as guard:
        yield guard


@pytest.fixture
def config(tmp_path: Path, url: str) -> str:
    path = tmp_path / "settings.toml"
    path.write_text(
        f'ledger = "{url}"\n[budgets.day]\nlimit = "0.0005 USD/day"\n'
        '[budgets.user]\nlimit = "1 USD/month"\nper = "user"\non_exceed = "warn"\n'
    )
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments])


def told(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    balances: list[dict[str, Any]] = json.loads(done.stdout)["balances"]
    return balances


def spend(guard: Guard, **tags: str) -> None:
    with scope(**tags), guard.hold("Converse", CALL, region="us-east-1") as hold:
        hold.settle(REPLY)


def test_spent_and_pending_are_told_apart(program: Guard, config: str) -> None:
    """
    What is pending may come back; what is spent does not.
    """
    spend(program, user="ann")
    with scope(user="bob"), program.hold("Converse", CALL, region="us-east-1") as hold:
        rows = {(row["budget"], *row["per"].values()): row for row in told("--config", config)}
        text = run("--config", config).stdout
        hold.settle(REPLY)

    day, ann, bob = rows[("day",)], rows["user", "ann"], rows["user", "bob"]
    assert (day["spent"], day["limit"], ann["spent"], ann["pending"]) == (
        "0.0002406",
        "0.0005",
        "0.0002406",
        "0.00",
    )
    assert 0 < float(bob["pending"]) == float(day["pending"]) < 0.00026
    assert bob["spent"] == "0.00"
    assert (ann["enforced"], day["enforced"]) == (False, True)
    line = next(line for line in text.splitlines() if line.startswith("day "))
    # 0.0002406 of 0.0005 are 7.7 sixteenths, and with what is pending nearly all.
    assert line.split()[1].count("█") == 8
    assert line.split()[1].count("▒") == 8
    assert "only counts" in text
    as_of = PriceList.installed().as_of
    assert text.splitlines()[-1] == f"Prices of {as_of}."
    assert json.loads(run("--config", config, "--json").stdout)["prices_as_of"] == as_of.isoformat()


def test_balances_that_no_settings_name_are_shown(program: Guard, url: str) -> None:
    """
    The first budget of most people stands in their code.
    """
    spend(program, user="ann")

    rows = {row["budget"]: row for row in told("--ledger", url)}

    assert {name: row["spent"] for name, row in rows.items()} == {
        "all": "0.0002406",
        "day": "0.0002406",
        "hourly": 1,
        "user": "0.0002406",
    }
    assert {(row["limit"], row["named"]) for row in rows.values()} == {(None, False)}
    assert rows["user"]["per"] == {"user": "ann"}
    text = run("--ledger", url).stdout
    assert "in no settings here" in text
    assert "?/rolling hour" in text
    assert run("--ledger", url, "--fail-over", "0").exit_code == 0, "nobody knows the share"


@pytest.mark.parametrize(("share", "code"), [("0.4812", 3), ("0.4813", 0), ("0", 3), ("1", 0)])
def test_fail_over_is_for_pipelines(program: Guard, config: str, share: str, code: int) -> None:
    """
    A nightly job asks before it begins; the share is met to the digit.
    """
    spend(program, user="ann")

    for form in ([], ["--json"], ["--csv"]):
        done = run("--config", config, "--fail-over", share, *form)
        assert (done.exit_code, bool(done.stdout)) == (code, True)


def test_a_budget_of_nothing_is_full(tmp_path: Path, url: str) -> None:
    """
    It lets nobody through.
    """
    made_ledger(tmp_path, [])
    (tmp_path / "bedrock-guard.toml").write_text(f'ledger = "{url}"\nbudget = "none: 0 USD/day"\n')

    assert run("--fail-over", "1").exit_code == 3
    assert told()[0]["used_share"] == 1.0


@pytest.mark.parametrize("share", ["90", "inf", "nan", "-1"])
def test_a_share_that_is_none_is_bad_input(config: str, share: str) -> None:
    """
    90 is meant as 90 %, which no balance would reach: a gate that is never shut.
    """
    done = run("--config", config, "--fail-over", share)

    assert (done.exit_code, done.stdout) == (2, "")


def test_csv_has_a_line_for_each_balance(program: Guard, config: str) -> None:
    """
    For those who keep figures in spreadsheets.
    """
    spend(program, user="=1+1")

    rows = {
        row["budget"]: row for row in csv.DictReader(io.StringIO(run("--config", config, "--csv").stdout))
    }

    assert rows["user"]["per"] == '{"user": "=1+1"}'
    assert (rows["day"]["used_share"], rows["day"]["rule"]) == ("0.4812", "USD/day@UTC")


def test_stops_are_told_first(program: Guard, url: str) -> None:
    """
    Who wonders why nothing is spent must not have to look further.
    """
    program.stop(match={"team": "[bold]x"}, reason="loop [red]")

    assert run("--ledger", url).stdout.splitlines()[0] == ("Stopped: Calls with team=[bold]x: loop [red]")
    assert json.loads(run("--ledger", url, "--json").stdout)["stops"][0]["match"] == {"team": "[bold]x"}


def test_an_empty_ledger_says_so(tmp_path: Path, url: str) -> None:
    """
    And one that is not there is an error, and is not made.
    """
    made_ledger(tmp_path, [])
    assert run("--ledger", url).stdout == f"No budget is set, and nothing is counted in {url} yet.\n"

    missing = run("--ledger", "sqlite:///missing.db")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert not Path("missing.db").exists()


def test_what_others_wrote_is_shown_and_never_acted_on(program: Guard, url: str, config: str) -> None:
    """
    The value of a tag is a line of the table.
    """
    spend(program, user=HOSTILE)
    spend(program)

    for arguments in (["--ledger", url], ["--config", config], ["--config", config, "--csv"]):
        done = run(*arguments)
        assert done.exit_code == 0, done.stderr
        assert not {"\x1b", "\u202e", "\x00"} & set(done.stdout)
    text = run("--config", config).stdout
    assert "[user==cmd()[bold]x[/bold]\\x1b[2J\\u202eevil\\x0aline\\x00yyy" in text
    assert "[user=untagged]" in text
    assert max(map(len, text.splitlines())) < 400


def test_rules_of_a_newer_version_are_shown_as_they_are(tmp_path: Path, url: str) -> None:
    """
    It counts what this one does not know; breakers' own figures are no budgets.
    """
    ledger = open_ledger(url, clock=lambda: 0.0)
    keys = [
        LedgerKey("new", "smiles/fortnight@Mars", (), 7),
        LedgerKey("breaker:x (refuse)", "tokens", (), 0),
        LedgerKey("bad name\x1b", "USD/day@Mars", (("user", "a"),), 10**18),
    ]
    for number, key in enumerate(keys):
        held = ledger.reserve(
            [Line(key, None, 5)], entry=made_entry(f"e{number}"), hold_s=9e9, on_expiry="charge"
        )
        ledger.settle(held, {key: 3}, made_entry(f"e{number}"))  # type: ignore[arg-type]
    ledger.close()

    assert {row["budget"]: row["spent"] for row in told("--ledger", url)} == {
        "new": 3,
        "bad name\x1b": "0.000000003",
    }
    assert run("--ledger", url).exit_code == 0


def test_what_is_watched_is_shown_anew(program: Guard, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Until Ctrl-C.
    """
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        spend(program, user="ann")
        if looks == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    done = run("--config", config, "--watch")

    assert looks == 2
    assert "$0.0002406" in done.stdout
    assert run("--watch", "--json").exit_code == 2


def test_the_rows_are_those_of_the_guard(program: Guard) -> None:
    """
    A shell and a program must not tell two things.
    """
    spend(program, user="ann")
    resolved = program.resolved
    rows = read_standings(
        program.ledger,
        program._matcher,
        resolved.settings,
        now=datetime.now(UTC).timestamp(),
        prices_as_of=PriceList.installed().as_of,
    )

    own = {(row.budget, row.per): (row.spent, row.pending, row.limit) for row in program.status()}
    assert {
        (row.status.budget, row.status.per): (row.status.spent, row.status.pending, row.status.limit)
        for row in rows
        if row.status.budget != "pace"
    } == {key: figures for key, figures in own.items() if key[0] != "pace"}


def test_a_table_is_read_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The ledger of a fleet: looked at from anywhere, with what the settings say.
    """
    endpoint, table = dynamodb_engine.endpoint(), f"read-{time.time_ns()}"
    made = ["dynamodb", "create-table", table, "--region", "us-east-1", "--endpoint-url", endpoint]
    url = CliRunner().invoke(app, made).output.split("'")[1]
    monkeypatch.chdir(tmp_path)
    with Guard(
        budgets=[Budget("search", "1 USD/day", per="user")], ledger=url, settings={}, sinks=[]
    ) as guard:
        spend(guard, user="ann")

    (row,) = told("--ledger", url)
    entries = CliRunner().invoke(app, ["entries", "--ledger", url, "--json"])
    assert (row["budget"], row["per"], row["spent"]) == ("search", {"user": "ann"}, "0.0002406")
    assert json.loads(entries.stdout)["tags"]["user"] == "ann"


def test_what_is_leased_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Another process may spend it without asking: it is neither spent nor held for a call.
    """
    endpoint, table = dynamodb_engine.endpoint(), f"lease-{time.time_ns()}"
    made = ["dynamodb", "create-table", table, "--region", "us-east-1", "--endpoint-url", endpoint]
    url = CliRunner().invoke(app, made).output.split("'")[1]
    monkeypatch.chdir(tmp_path)
    with (
        Guard(budget="search: 1 USD/day", ledger=f"{url}&mode=lease", settings={}, sinks=[]) as guard,
        guard.hold("Converse", CALL, region="us-east-1") as hold,
    ):
        (row,) = told("--ledger", url)
        text = run("--ledger", url).stdout
        hold.settle(REPLY)

    assert (row["spent"], row["pending"]) == ("0.00", "0.00")
    assert float(row["leased"]) > 0
    assert "leased" in text
    assert "leased" not in run("--ledger", url).stdout
    assert told("--ledger", url)[0]["leased"] == "0.00"
