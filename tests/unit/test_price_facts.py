"""
The packaged price list against the study that it was made from, where that is at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.pricing.facts import LEFT_OUT
from bedrock_guard.pricing.generate import generate, read_facts
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.rows import read_packaged

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts" / "prices.json"

pytestmark = pytest.mark.skipif(not FACTS.exists(), reason="the file of facts is not beside the repository")

TOKEN_KEYS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write_5m": "cache_write_5m_input_tokens",
    "cache_write_1h": "cache_write_1h_input_tokens",
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "input_cost_per_image": "input_images",
    "input_cost_per_query": "queries",
    "input_cost_per_audio_per_second": "input_audio_seconds",
    "input_cost_per_video_per_second": "input_video_seconds",
    "output_cost_per_image": "images",
}

# Where the list says more than the facts' row, and why.
DEARER = {
    # Flat in one source; the pricing page has four sizes, of which 0.08 is the dearest.
    ("amazon.nova-canvas-v1:0", "output_cost_per_image"): "0.08",
    ("us.amazon.nova-canvas-v1:0", "output_cost_per_image"): "0.08",
    # Doubled from 2025-12-01 with everything else of the model; the table kept the caches of before.
    **{
        (f"{prefix}anthropic.claude-3-5-sonnet-20240620-v1:0", key): usd
        for prefix in ("", "us.", "eu.")
        for key, usd in (("cache_read", "0.0000006"), ("cache_write_5m", "0.0000075"))
    },
}


def stated() -> Iterator[tuple[str, str, str, str]]:
    known = read_facts(FACTS)
    for model_id, fact in known["models"].items():
        yield from (
            (model_id, "us-east-1", key, usd) for key, usd in fact["usd"].items() if model_id not in LEFT_OUT
        )
    for region, models in known["in_region_overrides"].items():
        for model_id, fact in models.items():
            yield from (
                (model_id, region, key, usd) for key, usd in fact["usd"].items() if model_id not in LEFT_OUT
            )


def test_every_fact_prices_to_its_value() -> None:
    """
    Nothing is lost or bent between the study of the prices and the charge.
    """
    prices = PriceList.packaged()
    wrong, count = [], 0
    for model_id, region, key, usd in stated():
        name, _, tier = key.rpartition("_")
        if tier not in ("batch", "flex", "priority", "ultrafast"):
            name, tier = key, "default"
        name, _, above = name.partition("_above_")
        tokens = int(above.rstrip("k") or 0) * 1000
        found = prices.find(parse_model_id(model_id), region=region, service_tier=tier)
        band = next(band for band in found.bands if band.above_input_tokens == tokens)
        expected = Fraction(DEARER.get((model_id, key), usd)) * 10**16
        count += 1
        if band.prices[TOKEN_KEYS[name]] != expected:
            wrong.append((model_id, region, key, usd, band.prices[TOKEN_KEYS[name]]))

    assert wrong == []
    assert count > 2000


def test_the_packaged_list_is_what_the_facts_generate() -> None:
    """
    Nobody edits a generated file by hand and keeps it.
    """
    files, _ = generate(read_facts(FACTS))

    assert {name: json.loads(text) for name, text in files.items()} == {
        name: read_packaged(name) for name in ("index", *read_packaged("index")["makers"])
    }
