"""
The table of mutants speaks of the code as it is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants.mutants import AREAS, MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("area", "mutant"),
    [
        pytest.param(area, mutant, id=f"{area}: {mutant.name}")
        for area, mutants in MUTANTS.items()
        for mutant in mutants
    ],
)
def test_a_mutant_is_a_change_of_one_place(area: str, mutant: Mutant) -> None:
    text = (ROOT / "bedrock_guard" / mutant.path).read_text(encoding="utf-8")

    assert text.count(mutant.was) == 1
    assert mutant.becomes != mutant.was
    compile(text.replace(mutant.was, mutant.becomes), mutant.path, "exec")
    assert all((ROOT / test).exists() for test in AREAS[area].tests)


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    names = [f"{area}: {mutant.name}" for area, mutants in MUTANTS.items() for mutant in mutants]

    assert len(names) == len(set(names)) >= 40
