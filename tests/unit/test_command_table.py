"""
Every command of the command line, whoever wrote it: its help, its forms of output, its place in the reference.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard.cli import COMMANDS, load

DOCS = Path(__file__).resolve().parents[2] / "docs"

# Commands that programs read already, or have nothing to tell.
NO_JSON = {
    "schema": "prints JSON",
    "dashboard": "its pages have JSON at the same addresses",
    "aws backstop": "prints a template for CloudFormation",
    "aws dashboard": "prints a template for CloudFormation",
    "dynamodb template": "prints a template for CloudFormation",
    "dynamodb create-table": "tells of one table, by its exit code",
}
# Commands that print no rows of one kind, or print them for programs already.
NO_CSV = {
    **NO_JSON,
    "tail": "goes on for ever; --json is an object a line",
    "report chargeback": "prints CSV",
    "report focus": "prints CSV",
    "run": "prints what its program prints; the bill goes to --json FILE",
    "check": "a tree, and findings",
    "demo": "a story",
    "stop": "one stop",
    "resume": "ids",
    "top-up": "one top-up",
    "controls": "stops and top-ups, which have little in common",
    "sweep": "two counts",
    "batch estimate": "one bound",
    "batch settle": "one job",
    "ledger migrate": "one file",
    "ledger vacuum": "one file",
    "ledger check": "findings",
    "prices show": "one model, its prices nested",
    "prices list": "names, one a line",
    "prices check": "findings",
    "prices diff": "prices, nested",
    "prices sync": "findings",
}


def leaves() -> dict[str, Any]:
    """
    Every command that does something, by its words.
    """
    found = {}
    for name in COMMANDS:
        command = load(name)
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {each}": inner[each] for each in inner}
    return found


LEAVES = leaves()


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option[0] == "-"}


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_says_what_it_does_and_each_option_too(name: str) -> None:
    """
    The help is the reference: what it leaves out is written nowhere.
    """
    command = LEAVES[name]
    silent = [each.name for each in command.params if not getattr(each, "help", "") and each.name != "help"]

    assert re.match(r"[A-Z].+[.:]$", command.help.split("\n\n")[0], re.DOTALL)
    assert silent == []


@pytest.mark.parametrize(("option", "why_not"), [("--json", NO_JSON), ("--csv", NO_CSV)])
def test_what_commands_tell_can_be_read_by_programs(option: str, why_not: dict[str, str]) -> None:
    """
    A command without the option says why here; a reason that is none any more goes.
    """
    lacking = {name for name, command in LEAVES.items() if option not in options(command)}

    assert lacking == set(why_not)


def test_the_reference_has_every_command_with_its_options() -> None:
    """
    It is written from the commands as the pages are built.
    """
    spec = importlib.util.spec_from_file_location("command_reference", DOCS / "command_reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    written = reference.write_reference()
    sections = dict(
        re.findall(r"^##+ `bedrock-guard ([^`]+)`\n(.*?)(?=^##|\Z)", written, re.MULTILINE | re.DOTALL)
    )

    assert reference.MARK in (DOCS / "reference" / "commands.md").read_text()
    assert [name for name in LEAVES if name not in sections] == []
    for name, command in LEAVES.items():
        assert [each for each in options(command) if each not in sections[name]] == [], name


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("bedrock-guard st", ["status", "stop"]),
        ("bedrock-guard report c", ["cache", "chargeback"]),
        ("bedrock-guard status --fa", ["--fail-over"]),
        ("bedrock-guard ledger ", ["check", "migrate", "vacuum"]),
    ],
)
def test_bash_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    """
    By the protocol of what `bedrock-guard --install-completion` puts into a shell.
    """
    asked = {
        "_BEDROCK_GUARD_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }

    done = subprocess.run(
        [sys.executable, "-c", "from bedrock_guard.cli import app; app(prog_name='bedrock-guard')"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked,
    )

    assert sorted(done.stdout.split()) == offered, done.stderr


def test_bash_is_told_how_to_complete() -> None:
    """
    What is shown can be sourced, and asks the command that it completes.
    """
    code = "from bedrock_guard.cli import app; app(prog_name='bedrock-guard')"

    done = subprocess.run(
        [sys.executable, "-c", code, "--show-completion", "bash"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "_BEDROCK_GUARD_COMPLETE=complete_bash" in done.stdout
    assert done.stdout.rstrip().endswith("bedrock-guard")
