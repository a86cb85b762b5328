"""
How old a price list may be before that is said.
"""

from __future__ import annotations

import logging
from datetime import date, timedelta
from pathlib import Path

import pytest

from bedrock_guard import Guard
from bedrock_guard.pricing import freshness
from bedrock_guard.pricing.price_list import PriceList

AS_OF = date(2026, 11, 21)


@pytest.fixture(autouse=True)
def _fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "_WARNED", set())


def levels_after(days: int, times: int, caplog: pytest.LogCaptureFixture) -> list[int]:
    caplog.clear()
    for _ in range(times):
        freshness.warn_if_old(AS_OF, AS_OF + timedelta(days))
    return [record.levelno for record in caplog.records]


def test_an_old_list_is_told_once_and_a_very_old_one_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """
    A month is worth a word, a quarter an alarm.
    """
    assert levels_after(-5, 2, caplog) == []
    assert levels_after(29, 2, caplog) == []
    assert levels_after(30, 3, caplog) == [logging.WARNING]
    assert levels_after(90, 2, caplog) == [logging.ERROR, logging.ERROR]
    assert "2026-11-21" in caplog.text


def test_a_guard_tells_how_old_its_list_is(caplog: pytest.LogCaptureFixture) -> None:
    """
    When it is made, by its own clock.
    """
    as_of = PriceList.packaged().as_of
    with Guard(budgets=[], ledger="memory://", clock=lambda: 86_400.0 * 365 * 100) as guard:
        assert guard.prices_as_of == as_of
    assert "very old" in caplog.text


def test_in_a_container_only_an_overlay_that_is_named_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What lies there may be the program's own doing.
    """
    (tmp_path / "bedrock-guard").mkdir()
    (tmp_path / "bedrock-guard" / "prices.json").write_text("no list")
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "bedrock-guard")
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2")

    monkeypatch.delenv("BEDROCK_GUARD_PRICES")
    Guard(budgets=[], ledger="memory://").close()
    assert "prices.json" not in caplog.text

    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "bedrock-guard" / "prices.json"))
    Guard(budgets=[], ledger="memory://").close()
    assert "prices.json" in caplog.text
