"""
A fleet on a virtual clock and network: the real ledgers, everything that can go wrong, and books that must be right.

A few seeds here, 500 of each ledger with `-m slow`, and as many as one likes by
`python tests/simulation/fleet/runs.py --seeds 10000`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from simulation.fleet import breaks, runs, scenario, seams, shrinking, sqlite
from simulation.fleet.fleet import Fleet, Result
from simulation.fleet.oracle import Double
from simulation.fleet.shrinking import shrink, story
from simulation.fleet.stores import STORES

ROOT = Path(__file__).resolve().parents[2]
QUICK_SEEDS = 2
SEEDS = 500
# Of which so many are one test: several processes may share them.
PART = 100
# Within how many seeds a broken ledger is found; most are in the first ones.
FOUND_WITHIN = 150


def play(ledger: str, seed: int) -> Result:
    return Fleet(scenario.make(seed, ledger, STORES[ledger].faults)).play()


def check(ledger: str, seeds: range, *, twice_every: int) -> runs.Sums:
    sums, failed = runs.run(ledger, seeds, twice_every=twice_every)
    if isinstance(failed, Result):
        smallest = shrink(failed)
        pytest.fail(f"{story(smallest)}\n\nseed {smallest.scenario.seed} of {ledger}: {smallest.failure}")
    return sums


@pytest.mark.parametrize("ledger", STORES)
def test_a_fleet_s_books_are_right_whatever_happens(ledger: str) -> None:
    sums = check(ledger, range(QUICK_SEEDS), twice_every=QUICK_SEEDS)

    assert sums.counts["settled"] > 20 * QUICK_SEEDS
    assert sums.counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, PART))
@pytest.mark.parametrize("ledger", STORES)
def test_a_fleet_s_books_are_right_in_hundreds_of_histories(ledger: str, first: int) -> None:
    """
    Both what nearly always happens and what hardly ever does has happened, or it would prove little.
    """
    sums = check(ledger, range(first, first + PART), twice_every=PART)

    print(f"\n{runs.HEADER}\n{sums.row()}")
    for what in (
        "calls",
        "kill",
        "freeze",
        "deploy",
        "swept",
        "corrected",
        "stopped",
        "top_up",
        "refused",
        "released",
        "policy",
        "interrupt",
        "overrun",
        "unexpected",
        *(["fork"] if STORES[ledger].can_fork else []),
    ):
        assert sums.counts[what] > 0, what


def test_another_process_sees_the_same_history() -> None:
    """
    A seed that fails in CI fails here: nothing hangs on the machine, its clock, or the order of its sets.
    """
    program = (
        "from simulation.fleet import scenario\nfrom simulation.fleet.fleet import Fleet\n"
        "from simulation.fleet.stores import STORES\n"
        "print(Fleet(scenario.make(4, 'dynamodb', STORES['dynamodb'].faults)).play().digest)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([runs.TESTS, *sys.path]),
        "PYTHONHASHSEED": "7",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert ran.stdout.strip() == play("dynamodb", 4).digest


def test_the_ledgers_see_the_machine_through_seams_alone() -> None:
    """
    `from time import monotonic` would go past them, and make histories that differ from run to run.
    """
    assert seams.leaks() == []


@pytest.mark.slow
def test_what_is_wrong_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The oracle can fail, and what it prints is short enough to be read.
    """
    from bedrock_guard.ledgers.dynamodb import actions

    monkeypatch.setattr(actions, "HAS_ROOM", "attribute_exists(#used) OR #used <= :room")
    failed = next(result for seed in range(50) if (result := play("dynamodb", seed)).failure)
    smallest = shrink(replace(failed), within_s=30)

    assert len(smallest.scenario.calls) <= len(failed.scenario.calls) // 2
    assert "is used on" in str(smallest.failure)
    assert "FAILED" in story(smallest)


@pytest.mark.slow
@pytest.mark.parametrize("name", breaks.BREAKS)
def test_the_simulation_finds_what_is_broken(name: str) -> None:
    program = Path(runs.__file__)
    found = breaks.BREAKS[name]
    command = [
        sys.executable,
        program,
        "--break",
        name,
        "--ledger",
        found.ledger,
        "--seeds",
        str(FOUND_WITHIN),
        "--jobs",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)

    assert ran.returncode == 1, ran.stdout + ran.stderr
    # By the oracle: what the simulation itself stumbles over finds nothing.
    assert re.search("FAILED (Wrong|Breach|Lost|Double):", ran.stdout), ran.stdout + ran.stderr


@pytest.mark.parametrize("name", breaks.BREAKS)
def test_a_break_is_a_change_of_one_place(name: str) -> None:
    found = breaks.BREAKS[name]
    module = ROOT / "bedrock_guard" / "ledgers" / f"{found.module.replace('.', '/')}.py"
    text = module.read_text(encoding="utf-8")

    assert text.count(found.before) == 1
    compile(text.replace(found.before, found.after), str(module), "exec")


def test_a_ledger_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runs.main(["--ledger", "leases"])

    assert ended.value.code == 2
    assert "no ledger 'leases'; there are dynamodb, lease, sqlite" in capsys.readouterr().err


def test_whoever_stops_the_runs_is_told_how_all_of_them_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pieces(ledger: str, seeds: range, _: int) -> Iterator[runs.Sums]:
        yield runs.Sums(ledger, seeds=len(seeds) if ledger == "sqlite" else runs.PIECE)
        if ledger != "sqlite":
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_pieces", pieces)
    asked = ["--ledger", "sqlite", "--ledger", "lease", "--ledger", "dynamodb"]

    assert runs.main([*asked, "--from", "7", "--seeds", "100"]) == 130
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in said[2:4]] == [["sqlite", "100"], ["lease", "20"]]
    assert [line.strip() for line in said[5:]] == [
        "--ledger lease --from 27 --seeds 80",
        "--ledger dynamodb --from 7 --seeds 100",
    ]


@pytest.mark.parametrize(("error", "column"), [(Double("twice"), "double"), (ValueError("no"), "other")])
def test_what_failed_is_counted_by_what_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, column: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(STORES["sqlite"], "check", fail)

    sums, failed = runs.run("sqlite", range(3, 9))

    assert (sums.seeds, sums.failed, failed.failure) == (1, 3, error)
    assert {name: sums.counts[name] for name in runs.WRONGS if sums.counts[name]} == {column: 1}
    monkeypatch.setattr(shrinking, "WITHIN_S", 0.0)
    assert runs.main(["--ledger", "sqlite", "--from", "3", "--seeds", "9", "--jobs", "1"]) == 1
    assert f"FAILED {type(error).__name__}: {error}" in capsys.readouterr().out


def test_what_fails_once_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "_pieces", lambda ledger, *_: [runs.Sums(ledger, seeds=1, failed=0)])

    assert runs.main(["--ledger", "sqlite", "--seeds", "1"]) == 1
    assert "seed 0: it failed, and does not when it is run again" in capsys.readouterr().out


def _where(*_: object) -> Path | None:
    return sqlite.IN


def test_who_is_stopped_leaves_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_piece", _where)
    pieces = runs._pieces("sqlite", range(2), 2)
    found: object = next(pieces)

    assert isinstance(found, Path)
    assert found.is_dir()
    pieces.close()
    assert not found.exists()
