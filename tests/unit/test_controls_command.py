"""
`bedrock-guard stop | resume | top-up | controls`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bedrock_guard import Budget, Guard, scope
from bedrock_guard.cli import app
from bedrock_guard.domain.control import Controls

HELLO = {"modelId": "amazon.nova-lite-v1:0", "messages": [{"role": "user", "content": [{"text": "hello"}]}]}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"


@pytest.fixture
def program(url: str) -> Iterator[Guard]:
    with Guard(budgets=[Budget("search", "5 USD/month", per="user")], ledger=url, settings={}) as guard:
        yield guard


@pytest.fixture
def config(tmp_path: Path, url: str) -> str:
    path = tmp_path / "bedrock-guard.toml"
    path.write_text(f'ledger = "{url}"\n[budgets.search]\nlimit = "5 USD/month"\nper = "user"\n')
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_stop_is_made_listed_and_resumed(program: Guard, url: str) -> None:
    """
    The whole of an incident, from a shell.
    """
    made = run("stop", "--match", "team=search", "--match", "user=a*", "--reason", "loop", "--ledger", url)
    (stop,) = program.controls().stops
    assert (made.exit_code, stop.match) == (0, {"team": "search", "user": "a*"})
    assert made.stdout.startswith(f"{stop.id}  Calls with team=search, user=a* are stopped by ")
    assert made.stdout.endswith(f"until resumed: loop\nbedrock-guard resume {stop.id}\n")

    assert run("controls", "--ledger", url).stdout == made.stdout.splitlines()[0] + "\n"
    done = run("resume", stop.id, "--ledger", url)
    assert (done.exit_code, done.stdout) == (0, f"{stop.id} is resumed.\n")
    assert run("controls", "--ledger", url).stdout == "Nothing is stopped or topped up.\n"


def test_resume_takes_a_match_or_all(program: Guard, url: str) -> None:
    """
    Who does not know the id knows what was stopped.
    """
    first = program.stop(match={"team": "search"}, reason="x")
    second, third = program.stop(reason="x"), program.stop(match={"user": "a"}, reason="x")

    by_match = run("resume", "--match", "team=search", "--ledger", url, "--json")
    assert json.loads(by_match.stdout) == {"resumed": [first]}
    everything = run("resume", "--all", "--ledger", url, "--json")
    assert json.loads(everything.stdout) == {"resumed": [second, third]}
    assert run("resume", "--all", "--ledger", url).stdout == "Nothing is stopped.\n"


@pytest.mark.parametrize("arguments", [(), ("stop-1", "--all"), ("--all", "--match", "a=b")])
def test_resume_says_which(program: Guard, url: str, arguments: tuple[str, ...]) -> None:
    """
    None is no wish, and two are none.
    """
    done = run("resume", *arguments, "--ledger", url)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Say which: the id of a stop, --match TAG=GLOB, or --all.\n"


def test_all_are_resumed_whoever_else_does_so(
    program: Guard, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Two operators on one incident: what one has done must not end the other's work half-way.
    """
    for _ in range(3):
        program.stop(reason="x")
    resume = Guard.resume

    def meet(guard: Guard, id_: str, **options: Any) -> tuple[str, ...]:
        if len(program.controls().stops) == 3:
            resume(program, id_)
        return resume(guard, id_, **options)

    monkeypatch.setattr(Guard, "resume", meet)
    done = run("resume", "--all", "--ledger", url)

    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    assert program.controls().stops == ()


def test_a_mistake_ends_a_resume_of_all(program: Guard, url: str) -> None:
    """
    It is not taken for a stop that is gone.
    """
    program.stop(reason="x")

    done = run("resume", "--all", "--by", "x" * 501, "--ledger", url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "by is 'xxx" in done.stderr


@pytest.mark.parametrize(
    ("option", "told"), [([], "is not in force any more.\n"), (["--json"], '{"id": "stop-')]
)
def test_what_has_passed_when_it_is_told_was_made(
    program: Guard, url: str, monkeypatch: pytest.MonkeyPatch, option: list[str], told: str
) -> None:
    """
    A stop of a second on a slow network, or one that somebody has resumed.
    """
    monkeypatch.setattr(Guard, "controls", lambda _: Controls())
    done = run("stop", "--reason", "x", "--ledger", url, *option)

    assert done.exit_code == 0
    assert told in done.stdout
    assert len(program.ledger.controls().stops) == 1


def test_an_operator_needs_no_sinks(program: Guard, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What the program tells by is installed where the program is.
    """
    with Path(config).open("a") as file:
        file.write('[[sinks]]\nuse = "powertools-metrics"\n')
    monkeypatch.setitem(sys.modules, "aws_lambda_powertools.metrics", None)

    assert run("stop", "--reason", "x", "--config", config).exit_code == 0
    assert len(program.controls().stops) == 1


def test_a_top_up_by_the_settings_file(program: Guard, config: str) -> None:
    """
    It knows the budgets, as the program does.
    """
    done = run(
        "top-up", "search", "2.50 USD", "--per", "user=alice", "--config", config, "--by", "bob", "--json"
    )

    made = json.loads(done.stdout)
    assert (made["budget"], made["per"], made["amount"], made["unit"]) == (
        "search",
        {"user": "alice"},
        "2.50",
        "USD",
    )
    assert (made["by"], made["rule"]) == ("bob", "USD/month@UTC")
    assert made["until"].endswith("-01T00:00:00+00:00")
    (row,) = program.status()
    assert (row.per, row.limit, row.topped_up) == ((("user", "alice"),), Decimal("7.5"), Decimal("2.5"))


def test_who_stops_calls_needs_no_secret_of_those_who_tell_alerts(program: Guard, config: str) -> None:
    """
    An operator's shell has the program's settings file, and not its environment.
    """
    sink = '[[sinks]]\nuse = "webhook"\nurl = "https://x"\nsecret_env = "NOWHERE"\n'
    Path(config).write_text(Path(config).read_text() + sink)
    made = run("stop", "--reason", "loop", "--config", config)

    assert (made.exit_code, len(program.controls().stops)) == (0, 1)


def test_a_top_up_of_a_budget_that_is_only_in_code(program: Guard, url: str) -> None:
    """
    Its limit names unit and period, which are part of whose balance it is.
    """
    command = ("top-up", "search", "1 USD", "--per", "user=", "--limit", "9 USD/month", "--ledger", url)
    done = run(*command, "--until", "1m", "--reason", "demo")

    assert done.exit_code == 0
    assert "  search [user=untagged] + 1 USD by " in done.stdout
    assert done.stdout.endswith(" UTC: demo\n")
    (top_up,) = program.controls().top_ups
    assert top_up.until_s is not None
    assert 59 < top_up.until_s - top_up.at_s <= 60


def test_a_top_up_says_what_to_write_where_no_settings_name_the_budget(
    program: Guard, config: str, tmp_path: Path, url: str
) -> None:
    """
    Whoever tops up is no programmer, and has no use for what a program is told.
    """
    done = run("top-up", "serach", "1 USD", "--config", config)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "There is no budget 'serach' in the settings; there are: search (5 USD/month)." in done.stderr
    assert "--limit '250 USD/month'" in done.stderr

    (tmp_path / "empty.toml").write_text("")
    done = run("top-up", "search", "1 USD", "--config", str(tmp_path / "empty.toml"), "--ledger", url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("Where no settings name it, say unit and period: --limit '250 USD/month'.\n")


@pytest.mark.parametrize(
    ("name", "limit", "per", "is_known"),
    [
        ("search", "9 USD/month", ["--per", "user=bob"], True),
        ("serach", "9 USD/month", ["--per", "user=bob"], False),
        ("search", "9 USD/day", ["--per", "user=bob"], False),
        ("search", "9 USD/month", [], False),
    ],
)
def test_a_top_up_that_meets_no_balance_is_told(
    program: Guard, url: str, name: str, limit: str, per: list[str], is_known: bool
) -> None:
    """
    With a limit on the command line, a slip is a balance that nobody looks at.
    """
    with scope(user="alice"), program.hold("Converse", HELLO, region="us-east-1") as hold:
        hold.rejected()

    done = run("top-up", name, "1 USD", "--limit", limit, *per, "--ledger", url)
    assert done.exit_code == 0
    assert ("compare name, unit, period, time zone and --per" in done.stderr) is not is_known


def test_a_lifetime_top_up_and_everything_as_json(program: Guard, url: str) -> None:
    """
    For scripts: times as ISO 8601, money as a string.
    """
    run("top-up", "calls", "5 requests", "--limit", "9 requests", "--ledger", url)
    run("stop", "--reason", "x", "--until", "2999-01-01T00:00Z", "--ledger", url, "--json")

    found = json.loads(run("controls", "--ledger", url, "--json").stdout)
    assert found["version"] == 2
    (stop,), (top_up,) = found["stops"], found["top_ups"]
    assert (stop["until"], stop["match"]) == ("2999-01-01T00:00:00+00:00", {})
    assert (top_up["amount"], top_up["unit"], top_up["until"]) == ("5", "requests", None)
    assert "for all time" in run("controls", "--ledger", url).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("stop", "--reason", "x", "--match", "team"), 2, "--match 'team': write TAG=VALUE."),
        (
            ("stop", "--reason", "x", "--until", "tomorrow"),
            2,
            "--until 'tomorrow': write a time with its zone",
        ),
        (("stop", "--reason", "x", "--until", "2030-01-01"), 2, "--until '2030-01-01'"),
        (("stop", "--reason", "x", "--until", "9999999d"), 2, "--until '9999999d': write a time"),
        (("stop", "--reason", "x", "--until", "99999999999d"), 2, "--until '99999999999d': write a time"),
        (("stop", "--reason", "x", "--match", "a=1", "--match", "a=2"), 2, "a is given twice"),
        (("resume", "--match", "a=1", "--match", "a=2"), 2, "a is given twice"),
        (("stop", "--reason", " "), 2, "a stop says why"),
        (("resume", "stop-9"), 2, "There is no stop 'stop-9'"),
        (("top-up", "search", "1 USD", "--limit", "nonsense"), 2, "'nonsense' is not a limit"),
        (("top-up", "search", "1 requests", "--limit", "1 USD"), 2, "cannot top up search (1 USD)"),
    ],
)
def test_a_mistake_is_told_on_stderr(
    program: Guard, url: str, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """
    And nothing is written.
    """
    done = run(*arguments, "--ledger", url)

    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr
    assert program.controls().version == 0


def test_a_ledger_that_nobody_uses_is_not_stopped(url: str, tmp_path: Path) -> None:
    """
    Whoever mistypes its name must not believe that calls are stopped.
    """
    done = run("stop", "--reason", "x", "--ledger", url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is not there: no program has used it yet." in done.stderr
    assert list(tmp_path.iterdir()) == []

    done = run("stop", "--reason", "x", "--ledger", "memory://")
    assert done.exit_code == 2
    assert "is in the memory of a program" in done.stderr
