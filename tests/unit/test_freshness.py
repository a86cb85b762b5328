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


def test_an_old_list_is_told_once_a_day_and_a_very_old_one_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    A month is worth a word, a quarter an alarm; a service of thousands of calls needs one of them.
    """
    watch = freshness.Watch()
    for days in (-5, 0, 29, 30, 30, 31, 90, 90):
        watch.look("a.model", AS_OF, AS_OF + timedelta(days))

    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING, logging.ERROR]
    assert "2026-11-21" in caplog.text


def test_a_guard_tells_how_old_its_prices_are(caplog: pytest.LogCaptureFixture) -> None:
    """
    With the first call of a day, by its own clock.
    """
    with Guard(budget="5 USD", ledger="memory://", clock=lambda: 86_400.0 * 365 * 100) as guard:
        assert guard.prices_as_of == guard.status()[0].prices_as_of == PriceList.packaged().as_of
        assert "very old" not in caplog.text
        for _ in range(3):
            guard.estimate("Converse", modelId="us.anthropic.claude-opus-4-6-v1", messages=[])
    assert caplog.text.count("very old") == 1


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

    def look_up() -> None:
        with Guard(budgets=[], ledger="memory://") as guard:
            guard.price("us.anthropic.claude-opus-4-6-v1", {"input_tokens": 1})

    monkeypatch.delenv("BEDROCK_GUARD_PRICES")
    look_up()
    assert "prices.json" not in caplog.text

    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "bedrock-guard" / "prices.json"))
    look_up()
    assert "prices.json" in caplog.text
