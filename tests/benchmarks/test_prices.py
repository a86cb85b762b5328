"""
What the price list costs: to load, and to price a call.

    pytest -m benchmark -s tests/benchmarks/test_prices.py

Figures are printed, never asserted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import timeit
import tracemalloc
from pathlib import Path

import pytest

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.overlay import write_overlay
from bedrock_guard.pricing.price_list import PriceList

pytestmark = pytest.mark.benchmark

MODEL = "us.anthropic.claude-opus-4-6-v1"
USAGE = {
    "input_tokens": 1200,
    "output_tokens": 350,
    "cache_read_input_tokens": 9000,
    "cache_write_5m_input_tokens": 800,
}
LOAD = f"""
import time
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.pricing.price_list import PriceList
began = time.perf_counter()
PriceList.packaged().find(parse_model_id({MODEL!r}), region="us-east-1")
print(time.perf_counter() - began)
"""


def test_how_long_the_first_price_takes() -> None:
    """
    From nothing to a price, in a process of its own: the index and one maker are read.
    """
    times = [
        float(subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True).stdout)
        for _ in range(9)
    ]
    print(f"\n  the first price      {statistics.median(times) * 1e3:8.2f} ms")


def test_how_long_a_warm_price_takes(tmp_path: Path) -> None:
    """
    The look-up and the arithmetic, as a call does them; with an overlay, the same.
    """
    row = {
        "where": ["us-east-1", "us@us-east-1"],
        "usd": {"input_tokens": "0.0000056"},
        "source": "aws-price-list",
    }
    laid = {"as_of": "2026-11-22", "models": {"anthropic.claude-opus-4-6-v1": {"rows": [row]}}}
    write_overlay(tmp_path / "prices.json", laid)
    ref = parse_model_id(MODEL)
    for name, prices in (
        ("packaged", PriceList.packaged()),
        ("with an overlay", PriceList.installed(tmp_path / "prices.json")),
    ):
        find = min(
            timeit.repeat(lambda prices=prices: prices.find(ref, region="us-east-1"), number=20_000, repeat=7)
        )
        both = min(
            timeit.repeat(
                lambda prices=prices: nanousd(USAGE, prices.find(ref, region="us-east-1")),
                number=20_000,
                repeat=7,
            )
        )
        print(
            f"\n  {name:<16}  find {find / 20_000 * 1e6:6.2f} us   find and price {both / 20_000 * 1e6:6.2f} us"
        )


def test_how_much_the_list_holds() -> None:
    """
    One model, and all of them.
    """
    for name, count in (("one model", 1), ("every model", None)):
        tracemalloc.start()
        prices = PriceList.packaged()
        for model in [MODEL][:count] if count else list(prices.models()):
            prices.find(parse_model_id(model), region="us-east-1")
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"\n  {name:<12}  {held / 2**20:6.2f} MB")
