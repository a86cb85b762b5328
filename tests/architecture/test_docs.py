"""
The pages: their programs run, and their commands are understood.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from bedrock_guard.cli import COMMANDS, app, load
from bedrock_guard.testing.bedrock_server import BedrockServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

HELLO = "dict(modelId='amazon.nova-lite-v1:0', messages=[{'role': 'user', 'content': [{'text': 'hello'}]}])"
# What a reader has already, or stands for what he has.
GIVEN = {
    "docs/how-to/attribute-costs.md": (
        "from bedrock_guard import Guard\n"
        "my_guard = Guard(budget='5 USD/day', ledger='memory://')\n"
        "client = my_guard.client('bedrock-runtime')\n"
        f"def answer(): return client.converse(**{HELLO})\n"
    ),
    "docs/how-to/keep-a-ledger.md": (
        "from bedrock_guard import Guard\nGuard(budgets=[], ledger='sqlite:////var/lib/app/ledger.db').close()\n"
    ),
    "docs/how-to/write-budgets.md": "from bedrock_guard import Budget\n",
}
STANDS_FOR = {"converse(...)": f"converse(**{HELLO})", "/var/lib/app/": "{folder}/"}
NOT_RUN = {
    "docs/how-to/guard-agents.md": "an agent of the reader's; tests/journeys/test_other_services.py",
    "docs/how-to/guard-other-clients.md": "packages of others; tests/journeys/test_httpx.py",
    "docs/how-to/litellm-proxy.md": "packages of others; tests/frameworks/test_litellm_proxy.py",
    "docs/how-to/use-with-frameworks.md": "packages of others; tests/frameworks/test_page_and_examples.py",
    "docs/how-to/run-batch-jobs.md": "a role and a bucket; tests/journeys/test_batches.py",
    "docs/how-to/see-spend-in-aws.md": "an inference profile; tests/journeys/test_tags_to_aws.py",
    "docs/how-to/share-a-budget-across-hosts.md": "a table in AWS; tests/journeys/test_dynamodb.py",
    "docs/how-to/write-your-own-ledger.md": "tests/architecture/test_house.py, file by file",
}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """
    The words of each `bedrock-guard` line of a page's blocks, without the shell's part of it.
    """
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\$ )?(?:\S+/)?bedrock-guard (.*)", line)
            if found and not line.startswith("bedrock-guard:"):
                words = shlex.split(found[1], comments=True)
                end = next(
                    (place for place, word in enumerate(words) if word in {">", "|", "&&"}), len(words)
                )
                yield words[:end]


WITH_PROGRAMS = [page for page in PAGES if python_blocks(page)]
COMMAND_LINES = [(named(page), words) for page in PAGES for words in commands(page)]


@pytest.fixture(scope="module")
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_PROGRAMS if named(page) not in NOT_RUN], ids=named)
def test_the_programs_of_a_page_run(page: Path, server: BedrockServer, tmp_path: Path) -> None:
    """
    One after the other, as they are read; what they assert holds.
    """
    program = "\n".join([GIVEN.get(named(page), ""), *python_blocks(page)])
    for shown, meant in STANDS_FOR.items():
        program = program.replace(shown, meant.format(folder=tmp_path) if "{folder}" in meant else meant)
    (tmp_path / "page.py").write_text(program)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": server.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "BEDROCK_GUARD_LEDGER": f"sqlite:///{tmp_path}/default.db",
    }

    done = subprocess.run(
        [sys.executable, "page.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
        env=environment,
    )

    assert done.returncode == 0, done.stderr


def test_a_page_that_is_not_run_says_where_the_same_is_tested() -> None:
    """
    A page that comes is run, unless it is named here; one that goes is not named any more.
    """
    assert set(NOT_RUN) | set(GIVEN) <= {named(page) for page in WITH_PROGRAMS}
    for reason in NOT_RUN.values():
        (path,) = re.findall(r"tests/\S+\.py", reason)
        assert (ROOT / path).exists()


def test_pages_of_each_kind_are_found() -> None:
    """
    A glob that finds nothing would let everything pass.
    """
    found = {named(page).split("/")[1] for page in WITH_PROGRAMS if "/" in named(page)}

    assert {"tutorial", "how-to", "reference", "explanation"} <= found
    assert len(COMMAND_LINES) > 30


@pytest.mark.parametrize(
    ("page", "words"), COMMAND_LINES, ids=lambda part: part if isinstance(part, str) else " ".join(part)[:50]
)
def test_a_command_that_is_shown_is_understood(page: str, words: list[str]) -> None:
    """
    With its arguments and options, as far as a command looks at them before it does anything.
    """
    if words and words[0].startswith("-"):
        context: Any = get_command(app).make_context("bedrock-guard", words, resilient_parsing=True)
        context.close()
        return
    name, *rest = words
    assert name in COMMANDS, page
    command = load(name)
    with typer.Context(command, info_name=name) as parent:
        while getattr(command, "commands", None):
            name, *rest = rest
            command = command.commands[name]
        command.make_context(name, list(rest), parent=parent).close()
