"""
The first quarter of an hour of a newcomer: each step is copied from the README, on a machine that has Python.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.slow


def step(name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """
    A checkout and a home that nobody has used before, for `subprocess`.
    """
    checkout, home = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("home")
    for name in ("bedrock_guard", "examples", "tests"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    environment = {name: at for name, at in os.environ.items() if name in kept or name.startswith("PIP_")}
    pip = Path.home() / ".config" / "pip"
    if pip.is_dir():  # where packages come from is the machine's, not the newcomer's
        shutil.copytree(pip, home / ".config" / "pip")
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return {"cwd": checkout, "env": {**environment, "HOME": str(home), "PATH": path}, "text": True}


@pytest.fixture(scope="module")
def walk(place: dict[str, Any]) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """
    Runs a step there.
    """

    def run(script: str) -> subprocess.CompletedProcess[str]:
        shell = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(shell, capture_output=True, check=False, timeout=900, **place)

    return run


def test_install_and_demo(walk: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """
    The first command of the README; it makes the environment of the next.
    """
    done = walk(step("demo command"))

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "5 USD/day" in done.stdout + done.stderr


def test_a_program_is_limited_and_seen(walk: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """
    It is stopped after a few of a thousand calls; a refusal is the exit code 3, which ends a script.
    """
    limited, *looks = step("walk: guard").splitlines()
    done = walk(limited)
    assert done.returncode == 3, done.stderr
    assert "BudgetExceeded: agents" in done.stderr
    assert "bedrock-guard: stopped" in done.stderr

    status, entries = (walk(look) for look in looks)
    assert (status.returncode, entries.returncode) == (0, 0), status.stderr + entries.stderr
    assert re.search(r"^agents .*\$0\.0", status.stdout, re.MULTILINE)
    assert entries.stdout.count("answered") >= 2
    assert "refused" in entries.stdout
    assert (status.stderr, entries.stderr) == ("", "")


def test_a_budget_file_is_written_and_found(walk: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """
    The same balance, now with its limit: what was spent under `run` counts.
    """
    done = walk(step("walk: budget file"))

    assert done.returncode == 0, done.stderr
    assert "agents" in done.stdout
    assert re.search(r"^agents .*\$0\.02/day", done.stdout, re.MULTILINE)


def test_the_ledger_is_seen_in_a_browser(
    walk: Callable[[str], subprocess.CompletedProcess[str]], place: dict[str, Any]
) -> None:
    """
    On a port that is free, as others may run tests too; Ctrl-C ends it.
    """
    install, show = step("walk: dashboard").splitlines()
    installed = walk(install)
    assert installed.returncode == 0, installed.stderr

    with subprocess.Popen(
        ["bash", "-c", f"exec {show} --port 0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **place
    ) as shown:
        try:
            assert shown.stdout is not None
            first = shown.stdout.readline()
            with urlopen(first.split(": ")[-1].strip(), timeout=30) as page:
                text = page.read().decode()
        finally:
            shown.send_signal(signal.SIGINT)
            _, errors = shown.communicate(timeout=30)

    assert first.startswith("sqlite:///ledger.db: http://127.0.0.1:")
    assert "agents" in text
    assert (shown.returncode, "Traceback" in errors) == (0, False), errors


def test_the_tests_can_be_run(walk: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """
    As the README installs for them; one file stands for all, which `.ci/run test` runs.
    """
    install, _, _ = step("test command").partition(".venv/bin/coverage run")

    done = walk(f"{install}\n.venv/bin/python -m pytest -q tests/unit/test_limits.py")

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
