"""
The page on frameworks and the examples run as they stand, where their packages are installed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "use-with-frameworks.md").read_text()
# By heading; a section is one program.
SECTIONS = {
    section.partition("\n")[0]: "\n".join(
        re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    )
    for section in PAGE.split("\n## ")[1:]
}
PROGRAMS = {heading: program for heading, program in SECTIONS.items() if program}
EXAMPLES = sorted((ROOT / "examples" / "frameworks").glob("*.py"))
# Those that call no model; instructor's ask() would need an answer of its own.
SILENT = ("Refusals", "instructor")


def need_packages(program: str) -> None:
    """
    Skip where something that the program imports is not installed; what it imports in a `try` it can do without.
    """
    for node in ast.parse(program).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            pytest.importorskip(name, reason=f"{name}: `.ci/run test-frameworks`")


def run(arguments: list[str], **more: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("heading", PROGRAMS)
def test_a_section_of_the_page_runs_and_is_charged_for(heading: str, loopback: Any, tmp_path: Path) -> None:
    """
    To a ledger in which its budget is found again with the server's bill.
    """
    need_packages(PROGRAMS[heading])
    if heading == "LlamaIndex" and find_spec("aioboto3"):
        pytest.skip("the section is about LlamaIndex without aioboto3")
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"

    run(["-c", PROGRAMS[heading]], BEDROCK_GUARD_LEDGER=ledger)

    with Guard(budget="agents: 5 USD/day", ledger=ledger, settings={}) as guard:
        (status,) = guard.status()
    assert int(status.spent * 10**9) == loopback.server.bill.nanousd
    assert (loopback.server.bill.requests == 0) == (heading in SILENT)
    assert status.pending == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path) -> None:
    """
    Each against a loopback Bedrock of its own, and asserts its own figures.
    """
    need_packages(path.read_text())

    assert "is free" in run([str(path)])
