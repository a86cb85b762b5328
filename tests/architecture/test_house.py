"""
The rules of the house that no linter knows.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botocore_versions import needs_newer_model

import bedrock_guard
from bedrock_guard.domain.settings import Settings
from bedrock_guard.families import FAMILIES
from bedrock_guard.meters import METERS

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "bedrock_guard").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_public_names_are_these_and_nothing_else() -> None:
    """
    What is reachable at the top is a promise; a helper that slips in becomes one too.
    """
    code = "from bedrock_guard import *; import bedrock_guard, types; print(*sorted(n for n, v in vars(bedrock_guard).items() if n[0] != '_' and not isinstance(v, types.ModuleType)))"
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert seen == sorted(bedrock_guard.__all__) == bedrock_guard.__all__
    assert len(seen) == 11


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_small_and_says_what_it_is(path: Path) -> None:
    """
    Every model we learn from let one file grow past 800 lines.
    """
    text = path.read_text()
    tree = ast.parse(text)

    assert ast.get_docstring(tree)
    assert text.count("\n") <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize(
    "package", ["pydantic", "typer", "rich", "platformdirs", "sqlite3", "boto3", "botocore", "pytest"]
)
def test_heavy_packages_are_imported_on_use(package: str) -> None:
    """
    `import bedrock_guard` must not cost a program what it does not use.
    """
    code = f"import sys, bedrock_guard; sys.exit({package!r} in sys.modules)"

    # Coverage, where it measures children too, imports packages of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_every_setting_is_documented() -> None:
    """
    A setting nobody can find is a default.
    """
    page = (ROOT / "docs/reference/settings.md").read_text()

    assert [name for name in Settings.__dataclass_fields__ if f"`{name}`" not in page] == []


def test_every_meter_and_family_is_documented() -> None:
    """
    Entries and `[prices]` speak of them by name.
    """
    meters = (ROOT / "docs/reference/meters.md").read_text()
    families = (ROOT / "docs/reference/families.md").read_text()

    assert [name for name in METERS if f"`{name}`" not in meters] == []
    names = {family.name for family in FAMILIES.values()}
    assert [name for name in names if f"`{name}`" not in families] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_in_the_docs_is_python(path: Path) -> None:
    """
    A block that cannot be parsed cannot be copied.
    """
    for block in python_blocks(path):
        compile(block, str(path), "exec")


def test_the_page_on_ledgers_of_one_s_own_can_be_followed(tmp_path: Path) -> None:
    """
    The ledger it shows passes the contract, by the test that it shows, and is taken by a client.
    """
    ledger, test, use = python_blocks(ROOT / "docs" / "how-to" / "write-your-own-ledger.md")
    for block in (ledger, test):
        (tmp_path / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    (tmp_path / "use.py").write_text(use)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}

    for arguments in (["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_ledger.py"], ["use.py"]):
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["tutorial/first-budget.md", "how-to/test-your-code.md"])
def test_a_page_that_can_be_followed_runs(page: str, tmp_path: Path) -> None:
    """
    A newcomer copies these step by step.
    """
    program = tmp_path / "page.py"
    blocks = python_blocks(ROOT / "docs" / page)
    calls = re.findall(r"^def (test_\w+)\(\)", "\n".join(blocks), re.MULTILINE)
    program.write_text("\n".join([*blocks, *(f"{name}()" for name in calls)]))

    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr


EXAMPLES = [
    # Older service models have neither cache points nor CountTokens.
    pytest.param(
        path,
        id=path.name,
        marks=needs_newer_model if re.search("cachePoint|count_tokens", path.read_text()) else (),
    )
    for path in sorted((ROOT / "examples").glob("[0-9]*.py"))
]


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_runs(path: Path) -> None:
    """
    Each runs as it stands, against the loopback Bedrock, and asserts its own figures.
    """
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
