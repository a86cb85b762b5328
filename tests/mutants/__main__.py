"""
Puts each mutant into a copy of the package, and runs the tests of its area until one fails.

    python tests/mutants                     all of them, with a table at the end
    python tests/mutants --only rate         those whose name or area has this in it
    python tests/mutants --list              their names

Ends with 1 when a mutant survives or cannot be tried. First the copy as it is must pass the same
tests: nothing is caught by a test that fails anyway.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from mutants import AREAS, MUTANTS, Area, Mutant  # noqa: E402

# What takes longer goes on for ever: a mutant may make a loop endless.
_MOST_S = 300
# pytest's own: all passed, and some failed.
_PASSED, _FAILED = 0, 1


class Tried(NamedTuple):
    """
    What became of a mutant: "killed", "survived", or "broken" where nothing could be tried.
    """

    area: str
    mutant: Mutant
    fate: str
    by: str
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """
    Try the mutants that are asked for; 1 when one is not killed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name or area has this in it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time (2)")
    parser.add_argument("--list", action="store_true", help="show their names")
    asked = parser.parse_args(arguments)
    chosen = [
        (area, mutant)
        for area, mutants in MUTANTS.items()
        for mutant in mutants
        if asked.only in f"{area}: {mutant.name}"
    ]
    if asked.list:
        print("\n".join(f"{area}: {mutant.name}" for area, mutant in chosen))
        return 0
    if not chosen:
        parser.error(f"no mutant has {asked.only!r} in its name; --list shows them")
    with engine():
        for area in dict.fromkeys(area for area, _ in chosen):
            if not is_sound(area):
                return 1
        with ThreadPoolExecutor(asked.jobs) as pool:
            tried = []
            for each in pool.map(lambda one: attempt(*one), chosen):
                tried.append(each)
                print(show(each, f"{len(tried):>3}/{len(chosen)}"), flush=True)
    return report(tried)


def is_sound(area: str) -> bool:
    """
    Whether the package as it is passes the tests of *area*, in a copy.
    """
    began = time.monotonic()
    with copied() as folder:
        code, said = run(folder, AREAS[area])
    print(
        f"        {area}: unchanged, {'passes' if code == _PASSED else said} ({time.monotonic() - began:.0f} s)"
    )
    return code == _PASSED


def attempt(area: str, mutant: Mutant) -> Tried:
    """
    Put *mutant* into a copy, and see whether a test fails.
    """
    began = time.monotonic()
    with copied() as folder:
        module = folder / "bedrock_guard" / mutant.path
        text = module.read_text(encoding="utf-8")
        if text.count(mutant.was) != 1:
            fate, by = "broken", f"{mutant.path} has its text {text.count(mutant.was)} times"
        else:
            module.write_text(text.replace(mutant.was, mutant.becomes), encoding="utf-8")
            code, by = run(folder, AREAS[area])
            fate = {_PASSED: "survived", _FAILED: "killed"}.get(code, "broken")
    return Tried(area, mutant, fate, by, time.monotonic() - began)


def run(folder: Path, area: Area) -> tuple[int, str]:
    """
    Run the tests of *area* on the package in *folder*: pytest's exit code, and the test that failed.
    """
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    selection = ["-k", area.only] if area.only else []
    try:
        done = subprocess.run(
            [*command, *selection, *area.tests],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_MOST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _FAILED, f"no end after {_MOST_S} s"
    failed = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode == _FAILED and not failed:
        return _FAILED + 1, "no test failed, but its setting up: " + done.stdout.strip()[-200:]
    return done.returncode, failed[0].split(" - ")[0] if failed else done.stdout.strip()[-200:]


@contextmanager
def copied() -> Iterator[Path]:
    """
    A folder with a copy of the package, which is what is imported there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "bedrock_guard", folder / "bedrock_guard", ignore=ignored)
        yield folder


@contextmanager
def engine() -> Iterator[None]:
    """
    One DynamoDB for all of them, unless the environment names one.
    """
    import dynamodb_engine

    if dynamodb_engine.ENDPOINT in os.environ:
        yield
        return
    ours = dynamodb_engine.Engine()
    ours.start()
    os.environ[dynamodb_engine.ENDPOINT] = ours.url
    try:
        yield
    finally:
        ours.stop()


def show(tried: Tried, number: str) -> str:
    return (
        f"{number} {tried.fate:<8} {tried.seconds:>4.0f} s  {tried.area}: {tried.mutant.name}  [{tried.by}]"
    )


def report(tried: list[Tried]) -> int:
    """
    Say how many were killed, and name the others.
    """
    left = [each for each in tried if each.fate != "killed"]
    print(f"\n{len(tried)} mutants, {len(tried) - len(left)} killed")
    for each in left:
        print(f"  {each.fate}: {each.area}: {each.mutant.name}  [{each.by}]")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
