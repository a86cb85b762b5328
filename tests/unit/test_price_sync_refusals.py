"""
A price list that is malformed, from the future, or in words that nobody knows; and two syncs at once.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from price_records import marketplace, record, saved

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing import overlay
from bedrock_guard.pricing.model_names import MODEL_NAMES, find_model
from bedrock_guard.pricing.overlay import locked, read_content
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_records import read_file
from bedrock_guard.pricing.sync import SyncResult, sync
from bedrock_guard.pricing.usage_types import UsageType, read_usage_type

INPUT = "USE1-NovaLite-input-tokens"
NOVA = "amazon.nova-lite-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "prices.json"


@pytest.fixture
def sync_these(tmp_path: Path, path: Path) -> Callable[..., SyncResult]:
    def run(*records: dict[str, Any], **asked: Any) -> SyncResult:
        return sync(read_file(saved(tmp_path / "saved.json", *records)), path, **asked)

    return run


def with_terms(terms: Any) -> dict[str, Any]:
    made = record(INPUT, "0.00006")
    made["terms"]["OnDemand"] = terms
    return made


# --- Records that are refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (with_terms({"a": None}), "a term not in the shape"),
        (with_terms({"a": 5}), "a term not in the shape"),
        (
            with_terms({"a": {"priceDimensions": [], "effectiveDate": "2026-09-01"}}),
            "a term not in the shape",
        ),
        (
            with_terms({"a": {"priceDimensions": {"x": None}, "effectiveDate": "2026-09-01"}}),
            "a price not in",
        ),
        (with_terms({"a": {"priceDimensions": {"x": 5}, "effectiveDate": "2026-09-01"}}), "a price not in"),
        (
            record(INPUT, "0.00006", effective="9999-12-31"),
            "a price from 9999-12-31 on, in a list of 2026-09-01",
        ),
        (record(INPUT, "0.00006", published="2999-01-01"), "published on 2999-01-01, which is to come"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused_and_the_others_count(
    sync_these: Callable[..., SyncResult], made: dict[str, Any], says: str
) -> None:
    """
    One slip of AWS's must not end a sync of thousands of prices in a traceback, or look fresh for ever.
    """
    result = sync_these(made, record("USE1-NovaLite-output-tokens", "0.00024"))

    assert [each.reason for each in result.refused if says in each.reason]
    assert [move.key.meter for move in result.moves] == ["output_tokens"]
    assert result.as_of == date(2026, 9, 1)


def test_a_price_after_one_that_was_refused_counts(sync_these: Callable[..., SyncResult], path: Path) -> None:
    """
    A day at the end of time has no day after it.
    """
    sync_these(record(INPUT, "0.00007", effective="9999-12-31"), accept=True)
    sync_these(record(INPUT, "0.000072", published="2026-10-01"), accept=True)

    found = PriceList.installed(path).find(parse_model_id(NOVA), region="us-east-1")
    assert found.bands[0].prices["input_tokens"] == 720_000_000


@pytest.mark.parametrize("spoilt", [slice(12, 14), slice(-6, -4)])
def test_a_file_that_was_spoilt_on_its_way_says_so(tmp_path: Path, spoilt: slice) -> None:
    """
    The bulk files are large, and downloads are cut.
    """
    content = bytearray(gzip.compress(json.dumps({"PriceList": []}).encode()))
    content[spoilt] = b"\xff\xff"
    (tmp_path / "index.json.gz").write_bytes(content)

    with pytest.raises(ConfigurationError, match="cannot be read as JSON"):
        list(read_file(tmp_path / "index.json.gz"))


# --- Words in usage types ------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (marketplace("Claude Haiku 4.5", "input_tokens_web_search", "1.1"), "web, search: not known"),
        (marketplace("Claude Haiku 4.5", "SearchQueries", "1.1"), "search: not known"),
        (record("USE1-NovaLite-input-tokens-reasoning", "0.00006"), "reasoning: not known"),
        (record("USE1-NovaLite-tool-input-tokens", "0.00006", model="Nova Lite"), "tool: not known"),
        (record("USE1-NovaLite-batch-input-tokens", "0.00006"), "'novalite-batch'"),
        (record("USE1-NovaLite-video", "0.00006", model="Nova Lite", inferenceType="Input tokens"), "video"),
    ],
)
def test_a_word_that_is_not_known_may_make_it_another_price(
    sync_these: Callable[..., SyncResult], made: dict[str, Any], says: str
) -> None:
    """
    Tokens of a web search are not the price of input.
    """
    result = sync_these(made)

    (unmatched,) = result.unmatched
    assert says in unmatched.reason
    assert not result.moves


@pytest.mark.parametrize(
    ("made", "model", "scope", "variant"),
    [
        (marketplace("Claude Haiku 4.5", "Batch_InputTokenCount", "0.55"), HAIKU, "regional", "batch"),
        (marketplace("Claude Haiku 4.5", "Global_InputTokenCount", "1"), HAIKU, "global", "default"),
        (record("USE1-NovaLite-batch-input-tokens", "1", model="Nova Lite"), NOVA, "regional", "batch"),
        (record("USE1-NovaLite-global-input-tokens", "1", model="Nova Lite"), NOVA, "global", "default"),
    ],
)
def test_a_word_before_the_meter_counts_as_one_after_it(
    sync_these: Callable[..., SyncResult], made: dict[str, Any], model: str, scope: str, variant: str
) -> None:
    """
    A batch price that is taken for the standard one halves every bound.
    """
    (move,) = sync_these(made, dry_run=True).moves

    assert (move.key.model, move.key.scope, move.key.variant) == (model, scope, variant)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_name_is_read_from_a_usage_type(name: str) -> None:
    """
    The words of a model's own name are known, joined or not.
    """
    known = set(PriceList.packaged().models())
    makers = {model.partition(".")[0] for model in known}
    for spelling in (name.replace(" ", ""), name.replace(" ", "-"), MODEL_NAMES[name]):
        made = record(f"USE1-{spelling}-input-tokens-flex", "1", model=name)["product"]["attributes"]
        found = read_usage_type("AmazonBedrock", made, lambda each: find_model(each, known, makers))

        assert isinstance(found, UsageType), (spelling, found)
        assert (found.model, found.variant) == (MODEL_NAMES[name], "flex")


# --- Two at once ---------------------------------------------------------------------


def test_syncs_at_the_same_time_lose_nothing(tmp_path: Path, path: Path) -> None:
    """
    One job for each region is the natural way to write it.
    """
    regions = [f"eu-west-{number}" for number in range(1, 5)]
    files = [
        saved(tmp_path / f"{region}.json", record(INPUT, "0.00006", regionCode=region)) for region in regions
    ]
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from bedrock_guard.pricing.price_records import read_file\nfrom bedrock_guard.pricing.sync import sync\n"
        "sys.stdin.readline()\n"
        "assert sync(read_file(Path(sys.argv[1])), Path(sys.argv[2]), accept=True).is_written\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(file), str(path)], stdin=subprocess.PIPE)
        for file in files
    ]
    for each in running:
        each.communicate(b"go\n", timeout=60)

    content = read_content(path)
    assert content is not None
    assert [each.returncode for each in running] == [0] * len(regions)
    assert sorted(row["where"][0] for row in content["models"][NOVA]["rows"]) == regions


def test_a_sync_that_waits_too_long_says_so(
    sync_these: Callable[..., SyncResult], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A holder that is stopped must not stop all others for ever.
    """
    monkeypatch.setattr(overlay, "_LONGEST_WAIT_S", 0.01)

    with locked(path), pytest.raises(ConfigurationError, match="being written by another sync"):
        sync_these(record(INPUT, "0.00006"))
    assert sync_these(record(INPUT, "0.00006")).is_written


def test_where_there_can_be_no_lock_nothing_is_written(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    As where there can be no file: it is told as such.
    """
    (path.parent / ".prices.json.lock").mkdir(parents=True)

    with pytest.raises(OSError, match=r"prices\.json\.lock"):
        sync_these(record(INPUT, "0.00006"))
    assert not path.exists()
