"""
The command line as a whole: what it lists, and what it costs to ask.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from journal import made_entry, made_ledger
from typer.testing import CliRunner

from bedrock_guard.cli import COMMANDS, app, load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
HEAVY = ("boto3", "botocore", "pydantic", "sqlite3", "bedrock_guard.wiring")


def test_help_lists_every_command_and_imports_none() -> None:
    """
    It is asked for all day long, and by every completion of a shell.
    """
    code = (
        "import sys; from typer.testing import CliRunner; from bedrock_guard.cli import app; "
        "print(CliRunner().invoke(app, ['--help']).stdout); "
        f"print('imported', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    *lines, imported = done.stdout.splitlines()

    assert imported == "imported"
    listed = [line.split()[1] for line in lines if line.startswith("│ ")]
    assert [name for name in COMMANDS if name not in listed] == []


def imported_by(code: str) -> set[str]:
    """
    The modules that a fresh interpreter has after *code*, whose output is thrown away.
    """
    whole = (
        "import contextlib, io, sys\n"
        f"with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    {code}\n"
        "print(*sys.modules, sep='\\n')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", whole],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",  # where no settings file lies
        env=environment | {"PYTHONPATH": str(PAGE.parents[2])},
    )
    return set(done.stdout.splitlines())


def test_status_of_a_file_imports_little(tmp_path: Path) -> None:
    """
    It is asked for in prompts of shells; each of these costs more than its own work.
    """
    url = made_ledger(tmp_path, [])

    found = imported_by(f"from bedrock_guard.cli import app; app(['status', '--ledger', {url!r}])")

    ours = {name for name in found if name.startswith("bedrock_guard")}
    heavy = {"boto3", "botocore", "rich.markdown", "rich.live", "pygments", "asyncio", "http.client"}
    assert heavy & found == set()
    assert {"bedrock_guard.wiring", "bedrock_guard.hooks", "bedrock_guard.families"} & ours == set()
    assert "bedrock_guard.ledgers.sqlite" in ours
    assert len(ours) <= 75


def test_status_itself_has_no_need_of_pydantic(tmp_path: Path) -> None:
    """
    Typer may import it for its own ends; where no settings file is, nobody else does.
    """
    url = made_ledger(tmp_path, [])

    assert "pydantic" not in imported_by(
        f"from bedrock_guard.cli.status import status; status(ledger={url!r})"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_words_of_its_own_help(name: str) -> None:
    """
    They are written twice, so that listing imports nothing.
    """
    own = load(name)

    assert " ".join(own.help.split("\n\n")[0].split()) == COMMANDS[name][1]
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_every_command_is_on_the_page() -> None:
    """
    What is not written down is not found.
    """
    page = PAGE.read_text()
    missing = []
    for name in COMMANDS:
        inner = getattr(load(name), "commands", None)
        names = [name] if inner is None else [f"{name} {each}" for each in inner]
        missing += [each for each in names if f"`bedrock-guard {each}" not in page]

    assert missing == []


def test_a_command_that_is_not_there_is_told_with_those_alike() -> None:
    """
    A typing mistake at three in the morning.
    """
    done = CliRunner().invoke(app, ["stpo"])

    assert done.exit_code == 2
    assert "No such command 'stpo'" in done.stderr
    assert "'stop'" in done.stderr


@pytest.mark.parametrize("command", [("entries",), ("report", "chargeback", "2026-11")])
def test_what_an_encoding_lacks_is_escaped(tmp_path: Path, command: tuple[str, ...]) -> None:
    """
    One name in another script would end a report half-way, where a pipe is not of UTF-8.
    """
    url = made_ledger(tmp_path, [made_entry("a", tags={"team": "\u5c0f\u6797"}), made_entry("b")])

    done = subprocess.run(
        [sys.executable, "-m", "bedrock_guard", *command, "--ledger", url],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    )

    assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)
    assert rb"\u5c0f\u6797" in done.stdout
    assert done.stdout.count(b"\n") == 3


@pytest.mark.parametrize(
    ("command", "name"),
    [(("status",), "default"), (("report", "by", "tag:team"), "ads"), (("report", "cache"), "2026-11-22")],
)
def test_a_narrow_screen_shows_whose_the_figures_are(
    tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    """
    A share without its budget helps nobody.
    """
    url = made_ledger(tmp_path, [made_entry("a", tags={"team": "ads"})])

    done = subprocess.run(
        [sys.executable, "-m", "bedrock_guard", *command, "--ledger", url],
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
        env=os.environ
        | {
            "BEDROCK_GUARD_BUDGET": "5 USD/day",
            "COLUMNS": "40",
            "FORCE_COLOR": "1",
            "TERM": "xterm",
            "PYTHONIOENCODING": "utf-8",
        },
    )

    assert name in done.stdout
