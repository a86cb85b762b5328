"""
AWS's price list into the overlay: the shapes it comes in, the traps in it, and what is not believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from price_records import MARKETPLACE, bulk, marketplace, record, saved

from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.model_names import MODEL_NAMES, find_model, words_of
from bedrock_guard.pricing.overlay import read_content
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_records import ListedPrice, Record, fetch, read_file, read_price
from bedrock_guard.pricing.sync import SyncResult, sync
from bedrock_guard.pricing.usage_types import Unread, UsageType, read_usage_type

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts" / "price_list_samples.json"
HAIKU, SONNET = "anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS, NOVA = "anthropic.claude-opus-4-6-v1", "amazon.nova-2-lite-v1:0"
US, WORLD = ["us-east-1", "us@us-east-1"], ["global@us-east-1"]
TOKENS = st.sampled_from([("1K tokens", 10**3), ("1M tokens", 10**6), ("Tokens", 1)])

# The ten records that the study rebuilt from public sources, as shapes, and the row of each, by hand.
SAMPLES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (
        record(
            "USE1-MistralLarge-input-tokens",
            "0.0040000000",
            model="Mistral Large",
            provider="Mistral",
            feature="On-demand Inference",
            inferenceType="Input tokens",
            sku="4JGB54U6JUKURPCS",
        ),
        "mistral.mistral-large-2402-v1:0",
        {"where": US, "usd": {"input_tokens": "0.000004"}},
    ),
    (
        record(
            "USE1-Nova2.0Lite-input-tokens-cross-region-global-batch",
            "0.0001500000",
            model="Nova 2.0 Lite",
            feature="On-demand Inference",
            inferenceType="Input tokens",
            sku="83U3G5RSJJF89KY7",
        ),
        NOVA,
        {"where": WORLD, "service_tier": "batch", "usd": {"input_tokens": "0.00000015"}},
    ),
    (
        record(
            "USE1-Nova2.0Lite-input-tokens-priority",
            "0.0005775000",
            model="Nova 2.0 Lite",
            feature="On-demand Inference",
            inferenceType="Input tokens priority",
            sku="5ATX9W7RD5XA8J66",
        ),
        NOVA,
        {"where": US, "service_tier": "priority", "usd": {"input_tokens": "0.0000005775"}},
    ),
    (
        record(
            "USE1-xai.grok-4.6-mantle-input-tokens-global-standard",
            "0.0020000000",
            model="xai.grok-4.6",
            service_tier="global-standard",
            tokenType="input_tokens_mantle",
            sku="52N8MSMVG6VCJNYC",
        ),
        "xai.grok-4.6",
        {"where": WORLD, "usd": {"input_tokens": "0.000002"}},
    ),
    (
        record(
            "USE1-xai.grok-4.3-mantle-input-tokens-flex", "0.6250000000", "1M tokens", sku="92VA9VXMDHMBNGF4"
        ),
        "xai.grok-4.3",
        {"where": US, "service_tier": "flex", "usd": {"input_tokens": "0.000000625"}},
    ),
    (
        marketplace(
            "Claude Haiku 4.5", "InputTokenCount", "1.1000000000", "1M tokens", sku="JQDUC8Q4K8C6GSGH"
        ),
        HAIKU,
        {"where": US, "usd": {"input_tokens": "0.0000011"}},
    ),
    (
        marketplace(
            "Claude Haiku 4.5", "InputTokenCount_Global", "1.0000000000", "1M tokens", sku="DY4B4Q3TRTAY8V6G"
        ),
        HAIKU,
        {"where": WORLD, "usd": {"input_tokens": "0.000001"}},
    ),
    (
        marketplace(
            "Claude Haiku 4.5",
            "OutputTokenCount_Global_Batch",
            "2.5000000000",
            "1M tokens",
            sku="P8DMZHZDTNRHAPMZ",
        ),
        HAIKU,
        {"where": WORLD, "service_tier": "batch", "usd": {"output_tokens": "0.0000025"}},
    ),
    (
        marketplace(
            "Claude Sonnet 4.5",
            "CacheReadInputTokenCount",
            "0.33",
            description="AWS Marketplace software usage|us-east-1|thousand Cache Read Input Tokens Regional",
            sku="TRAPDESC00000001",
        ),
        SONNET,
        {"where": US, "usd": {"cache_read_input_tokens": "0.00000033"}},
    ),
    (
        record(
            "USE1-Guardrail-ContentPolicyUnitsConsumed",
            "0.0001500000",
            "TextUnit",
            description="$0.15 per 1K text units for ContentPolicyUnitsConsumed",
            sku="8Z4D5YJ9KP2G3SFM",
        ),
        "any model",
        {"where": ["us-east-1"], "usd": {"guardrail_content_policy_units": "0.00015"}},
    ),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "prices.json"


@pytest.fixture
def sync_these(tmp_path: Path, path: Path) -> Callable[..., SyncResult]:
    def run(*records: dict[str, Any], **asked: Any) -> SyncResult:
        return sync(read_file(saved(tmp_path / "saved.json", *records)), path, **asked)

    return run


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = read_content(path)
    assert content is not None
    models = {model: entry["rows"] for model, entry in content["models"].items()}
    return models | ({"any model": content["any_model"]["rows"]} if content["any_model"]["rows"] else {})


def read_one(made: dict[str, Any]) -> Record:
    product = made["product"]
    terms = list(made["terms"]["OnDemand"].values())
    attributes = product["attributes"]
    return Record(
        attributes["servicecode"], product["sku"], attributes, made["version"], date(2026, 9, 1), terms
    )


def read(made: dict[str, Any]) -> UsageType | Unread:
    known = set(PriceList.packaged().models())
    makers = {model.partition(".")[0] for model in known}
    one = read_one(made)
    return read_usage_type(one.service, one.attributes, lambda name: find_model(name, known, makers))


# --- The ten samples -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "model", "row"), SAMPLES, ids=[made["product"]["sku"] for made, _, _ in SAMPLES]
)
def test_a_sample_becomes_the_row_that_was_worked_out_by_hand(
    sync_these: Callable[..., SyncResult], path: Path, made: dict[str, Any], model: str, row: dict[str, Any]
) -> None:
    """
    Each is a shape of AWS's that a reader somewhere got wrong.
    """
    result = sync_these(made, accept=True)
    sku = made["product"]["sku"]

    assert rows_of(path) == {
        model: [
            {
                **row,
                "effective_from": "2026-09-01",
                "source": "aws-price-list",
                "sku": sku,
                "rate_code": f"{sku}.TERM.0",
                "version": "20260901183649",
                "published": "2026-09-01",
            }
        ]
    }
    assert (result.refused, result.unmatched, result.doubled, result.skipped) == ((), (), (), 0)


@pytest.mark.skipif(not FACTS.exists(), reason="the sample records are not beside the repository")
def test_the_studys_own_samples_read_as_the_shapes_here(tmp_path: Path, path: Path) -> None:
    """
    The builders of these tests must not be kinder than the records they stand for.
    """
    records = [each["record"] for each in json.loads(FACTS.read_text())["records"]]
    result = sync(read_file(saved(tmp_path / "samples.json", *records)), path)
    read = {
        row["sku"]: (model, {name: row[name] for name in ("where", "usd", "service_tier") if name in row})
        for model, rows in rows_of(path).items()
        for row in rows
    }

    assert result.is_written
    assert result.held == ()
    assert read == {made["product"]["sku"]: (model, row) for made, model, row in SAMPLES}
    # All but one were in the packaged list, at the same price.
    assert sorted(move.change for move in result.moves) == ["new", *["unchanged"] * 9]


def test_bulk_files_and_saved_output_read_alike(tmp_path: Path) -> None:
    """
    Who has no credentials has the bulk files, gzipped as often as not.
    """
    native = [made for made, _, _ in SAMPLES if made["serviceCode"] != MARKETPLACE]
    as_saved = list(read_file(saved(tmp_path / "saved.json", *native)))

    assert list(read_file(bulk(tmp_path / "index.json", *native))) == as_saved
    assert list(read_file(bulk(tmp_path / "index.json.gz", *native))) == as_saved
    assert list(read_file(tmp_path / "index.json", ["eu-west-1"])) == []


def test_all_services_are_asked_page_by_page() -> None:
    """
    Claude is in another service than Nova, and pages hold a hundred records.
    """
    asked: list[tuple[str, str, int]] = []
    heard: list[tuple[str, str, int]] = []

    class Pages:
        def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
            (only,) = request["Filters"]
            assert (only["Type"], only["Field"]) == ("TERM_MATCH", "regionCode")
            asked.append((request["ServiceCode"], only["Value"], request["PaginationConfig"]["PageSize"]))
            yield {"PriceList": [json.dumps(SAMPLES[0][0]), json.dumps(SAMPLES[1][0])]}
            yield {"PriceList": []}

    class Pricing:
        def get_paginator(self, name: str) -> Pages:
            assert name == "get_products"
            return Pages()

    def hear(service: str, region: str, records: int) -> None:
        heard.append((service, region, records))

    records = list(fetch(["us-east-1", "eu-west-1"], client=Pricing(), on_page=hear))

    assert len(records) == 12
    assert asked == [
        (service, region, 100)
        for service in ("AmazonBedrock", "AmazonBedrockService", "AmazonBedrockFoundationModels")
        for region in ("us-east-1", "eu-west-1")
    ]
    assert sum(count for _, _, count in heard) == 12


# --- The grammar ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("InputTokenCount", ("regional", "default", "input_tokens", False)),
        ("input_tokens_standard", ("regional", "default", "input_tokens", False)),
        ("input_tokens_global_standard", ("global", "default", "input_tokens", False)),
        ("OutputTokenCount_Batch", ("regional", "batch", "output_tokens", False)),
        ("output_tokens_global_batch", ("global", "batch", "output_tokens", False)),
        ("CacheReadInputTokenCount_Global", ("global", "default", "cache_read_input_tokens", False)),
        ("cache_read_tokens_standard", ("regional", "default", "cache_read_input_tokens", False)),
        ("CacheWriteInputTokenCount", ("regional", "default", "cache_write_5m_input_tokens", False)),
        ("CacheWrite1hInputTokenCount", ("regional", "default", "cache_write_1h_input_tokens", False)),
        ("CacheWrite1hInputTokenCount_Global", ("global", "default", "cache_write_1h_input_tokens", False)),
        (
            "cache_write_tokens_1h_global_standard",
            ("global", "default", "cache_write_1h_input_tokens", False),
        ),
        ("cache_write_tokens_30m_standard", ("regional", "default", "cache_write_5m_input_tokens", False)),
        ("cache_write_tokens_standard", ("regional", "default", "cache_write_5m_input_tokens", False)),
        ("InputTokenCount_LCtx_Global", ("global", "default", "input_tokens", True)),
        ("output_tokens_long_ctx_standard", ("regional", "default", "output_tokens", True)),
        ("input_tokens_flex", ("regional", "flex", "input_tokens", False)),
    ],
)
def test_both_generations_of_marketplace_names_are_read(component: str, expected: tuple[object, ...]) -> None:
    """
    One model has the old names and the next the new; a reader of one of them drops half of the list.
    """
    found = read(marketplace("Claude Sonnet 4.5", component, "1"))

    assert isinstance(found, UsageType)
    assert (found.scope, found.variant, found.meter, found.is_long_context) == expected
    assert found.model == SONNET


@pytest.mark.parametrize(
    ("usage_type", "attributes", "expected"),
    [
        (
            "USE1-NovaPro-output-tokens_LatencyOptimized",
            {"model": "Nova Pro"},
            ("amazon.nova-pro-v1:0", "regional", "optimized", "output_tokens"),
        ),
        (
            "USE1-NovaPro-input-tokens",
            {"model": "Nova Pro Latency Optimized"},
            ("amazon.nova-pro-v1:0", "regional", "optimized", "input_tokens"),
        ),
        (
            "EU-NovaLite-input-tokens",
            {"feature": "Batch Inference"},
            ("amazon.nova-lite-v1:0", "regional", "batch", "input_tokens"),
        ),
        (
            "USE1-NovaLite-cache-read-input-token-count",
            {"model": "Nova Lite"},
            ("amazon.nova-lite-v1:0", "regional", "default", "cache_read_input_tokens"),
        ),
        (
            "USE1-Nova2.0Lite-output-tokens-cross-region-geo",
            {"model": "Nova 2.0 Lite"},
            (NOVA, "regional", "default", "output_tokens"),
        ),
        (
            "USE1-Llama3.1-70B",
            {"model": "Llama 3.1 70B Instruct", "inferenceType": "Output tokens flex"},
            ("meta.llama3-1-70b-instruct-v1:0", "regional", "flex", "output_tokens"),
        ),
        (
            "USE1-TitanEmbedV2-Text-mantle",
            {"titanModel": "Titan Text Embeddings V2", "inferenceType": "Input tokens"},
            ("amazon.titan-embed-text-v2:0", "regional", "default", "input_tokens"),
        ),
        (
            "APN1-gpt-oss-120b-output-tokens-priority",
            {},
            ("openai.gpt-oss-120b-1:0", "regional", "priority", "output_tokens"),
        ),
        (
            "USE1-NovaCanvas-T2I-1024-Premium",
            {"model": "Nova Canvas"},
            ("amazon.nova-canvas-v1:0", "regional", "default", "images_premium_1024"),
        ),
        (
            "USE1-NovaReel-T2V-720p",
            {"model": "Nova Reel"},
            ("amazon.nova-reel-v1:0", "regional", "default", "output_video_seconds"),
        ),
        (
            "USE1-Rerank-search-units",
            {"model": "Rerank 1.0"},
            ("amazon.rerank-v1:0", "regional", "default", "queries"),
        ),
    ],
)
def test_native_names_are_read(
    usage_type: str, attributes: dict[str, str], expected: tuple[object, ...]
) -> None:
    """
    Tier and scope stand in any of four attributes, and sometimes only in the usage type.
    """
    found = read(record(usage_type, "1", **attributes))

    assert isinstance(found, UsageType)
    assert (found.model, found.scope, found.variant, found.meter) == expected


@pytest.mark.parametrize(
    ("usage_type", "attributes"),
    [
        ("USE1-NovaPro-ProvisionedThroughput-ModelUnits", {"model": "Nova Pro"}),
        ("USE1-MP:USE1_Reserved_1Month_InputTPM_Geo-Units", {}),
        ("USE1-NovaPro-input-tokens", {"model": "Nova Pro", "service_tier": "reserved"}),
        ("USE1-TitanText-Customization-Training", {}),
        ("USE1-CustomModelImport-storage", {}),
        ("USE1-MP:USE1_InputTokenCount-Units", {"servicename": "Claude (100K) (Amazon Bedrock Edition)"}),
    ],
)
def test_what_is_not_bought_by_the_call_is_skipped(usage_type: str, attributes: dict[str, str]) -> None:
    """
    A price an hour would be read as one a token.
    """
    found = read(record(usage_type, "1", **attributes))

    assert isinstance(found, Unread)
    assert found.verdict == "skipped"


@pytest.mark.parametrize(
    ("made", "verdict", "says"),
    [
        (record("USE1-NovaNext-input-tokens", "1", model="Nova Next"), "unmatched", "'Nova Next'"),
        (record("USE1-NovaPro-holograms", "1", model="Nova Pro"), "unmatched", "no meter"),
        (record("USE1-evil.nova-lite-v1-input-tokens", "1"), "unmatched", "no model"),
        (marketplace("Claude Opus 9", "InputTokenCount", "1"), "unmatched", "'Claude Opus 9'"),
        (
            record(
                "USE1-NovaPro-input-tokens-flex",
                "1",
                model="Nova Pro",
                service_tier="priority",
            ),
            "refused",
            "two tiers: flex, priority",
        ),
        (
            record("USE1-NovaPro-input-tokens-LatencyOptimized-batch", "1", model="Nova Pro"),
            "refused",
            "optimized latency in tier batch",
        ),
    ],
)
def test_what_is_not_understood_is_reported_and_never_guessed(
    made: dict[str, Any], verdict: str, says: str
) -> None:
    """
    A row that is dropped in silence is a price that stays old.
    """
    found = read(made)

    assert isinstance(found, Unread)
    assert found.verdict == verdict
    assert says in found.reason


def test_every_name_in_the_table_is_of_a_model_in_the_list_and_no_two_read_alike() -> None:
    """
    The table is ours to own; a typing error in it is a model without its price.
    """
    known = set(PriceList.packaged().models())

    assert set(MODEL_NAMES.values()) <= known
    assert len({words_of(name) for name in MODEL_NAMES}) == len(MODEL_NAMES)
    # What only this list has: names of before, and second spellings.
    assert known - set(MODEL_NAMES.values()) == {
        "amazon.titan-image-generator-v2",
        "anthropic.claude-3-7-sonnet-20240620-v1:0",
        "anthropic.claude-v1",
        "anthropic.claude-v2:1",
        "moonshotai.kimi-k2-thinking",
        "stability.stable-image-core-v1:0",
        "stability.stable-image-ultra-v1:0",
    }


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Claude Opus 4.6", OPUS),
        ("Claude 4.6 Opus", OPUS),
        ("OpenAI GPT-5.6 Sol", "openai.gpt-5.6-sol"),
        ("Nova2.0Lite", NOVA),
        ("Claude 3.5 Sonnet", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("Claude 3.5 Sonnet v2", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("amazon.nova-lite", "amazon.nova-lite-v1:0"),
        ("xai.grok-9", "xai.grok-9"),
        ("anthropic.claude-haiku-4-5", HAIKU),
        ("qwen.qwen3-coder-30b-a3b-instruct", "qwen.qwen3-coder-30b-a3b-v1:0"),
        ("amazon.nova-lite-v9:0", "amazon.nova-lite-v9:0"),
        ("xai.gpt-6-sol", "xai.gpt-6-sol"),
        ("Claude", None),
        ("Claude Opus", None),
        ("Claude Opus 4.6 Turbo", None),
        ("evil.grok-9", None),
        ("", None),
    ],
)
def test_a_name_is_matched_whole_or_not_at_all(name: str, model: str | None) -> None:
    """
    "Opus" is a part of seven models' names, at prices a factor of four apart.
    """
    known = set(PriceList.packaged().models())

    assert find_model(name, known, {model.partition(".")[0] for model in known}) == model


# --- Prices --------------------------------------------------------------------------


@given(st.integers(1, 10**9 - 1), st.integers(0, 10), TOKENS)
def test_scaling_is_exact_or_refused(digits: int, decimals: int, unit: tuple[str, int]) -> None:
    """
    Steps of 1e-16 USD hold ten decimals a million tokens; what does not fit is never rounded.
    """
    text = f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals or 1}d}"
    exact = Fraction(digits, 10**decimals) * 10**16 / unit[1]

    found = read_price(read_one(record("x", text, unit[0])), "tokens")

    if exact.denominator == 1:
        assert isinstance(found, ListedPrice)
        assert found.steps == exact
    else:
        assert isinstance(found, str)


@pytest.mark.parametrize(
    ("made", "kind", "steps"),
    [
        (record("x", "0.002", "Tokens"), "tokens", 2 * 10**13),
        (record("x", "1.5E-7", "tokens"), "tokens", 15 * 10**8),
        (record("x", "0.04", "Image"), "images", 4 * 10**14),
        (record("x", "0.08", "Second"), "seconds", 8 * 10**14),
        (record("x", "0.00015", "TextUnit"), "text units", 15 * 10**11),
        (record("x", "0.08", "Units", servicecode=MARKETPLACE), "images", 8 * 10**14),
        (record("x", "0.002", "Units", servicecode=MARKETPLACE), "queries", 2 * 10**13),
        (record("x", "3.3", "Units", servicecode=MARKETPLACE), "tokens", 33 * 10**9),
    ],
)
def test_a_unit_says_how_many_a_price_is_for(made: dict[str, Any], kind: Any, steps: int) -> None:
    """
    "Units" in the Marketplace are a million tokens, but one image.
    """
    found = read_price(read_one(made), kind)

    assert isinstance(found, ListedPrice)
    assert found.steps == steps


NOVA_INPUT = {"usage_type": "USE1-NovaLite-input-tokens", "model": "Nova Lite"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"usd": "0.0000000000"}, "a price of 0"),
        ({"usd": "NaN"}, "a price of 'NaN'"),
        ({"usd": ""}, "a price of ''"),
        ({"usd": "-0.1"}, "a price of '-0.1'"),
        ({"usd": None}, "a price of None"),
        ({"usd": "1", "per_unit": {"EUR": "0.1"}}, "in EUR, not in USD"),
        ({"usd": "1", "per_unit": {"CNY": "0.1"}}, "in CNY, not in USD"),
        ({"usd": "1", "per_unit": {}}, "no currency"),
        ({"usd": "1", "unit": "1K things"}, "unknown unit, '1K things'"),
        ({"usd": "1", "unit": "Units"}, "unknown unit, 'Units'"),
        ({"usd": "1", "unit": "Image"}, "'Image' for what counts tokens"),
        ({"usd": "0.00000000000001"}, "not whole at 1e-16 USD"),
        ({"usd": "1", "prices": []}, "no on-demand price"),
        ({"usd": "1", "effective": "soon"}, "an effective date"),
        ({"usd": "0.00006", "regionCode": ""}, "a region of ''"),
        ({"usd": "0.00006", "regionCode": "cn-north-1"}, "not billed in USD"),
    ],
)
def test_a_price_that_cannot_be_true_is_refused(
    sync_these: Callable[..., SyncResult], path: Path, change: dict[str, Any], says: str
) -> None:
    """
    And what is in force stays in force.
    """
    result = sync_these(record(**{**NOVA_INPUT, **change}))

    (refused,) = result.refused
    assert says in refused.reason
    assert not result.is_written
    assert not path.exists()


def test_what_aws_gives_for_free_is_free(sync_these: Callable[..., SyncResult], path: Path) -> None:
    """
    Two units are; a 0 anywhere else is a gap.
    """
    result = sync_these(record("USE1-Guardrail-WordPolicyUnitsConsumed", "0.0000000000", "TextUnit"))

    assert result.refused == ()
    assert rows_of(path)["any model"][0]["usd"] == {"guardrail_word_policy_units": "free"}


def test_of_two_prices_for_one_thing_the_dearer_counts_and_it_is_said(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    Two products, or two bands of one: which of them a call pays is not in the list.
    """
    one = record("USE1-NovaLite-input-tokens", "0.00006", model="Nova Lite", sku="A")
    other = record("USE1-NovaLite-input-tokens-cross-region-geo", "0.000061", model="Nova Lite", sku="B")
    banded = record(
        "USE1-NovaLite-output-tokens",
        None,
        model="Nova Lite",
        sku="C",
        prices=[{"USD": "0.00024"}, {"USD": "0.00023"}],
    )
    result = sync_these(one, other, banded)

    assert [(each.sku, "the dearer counts" in each.reason) for each in result.doubled] == [
        ("B", True),
        ("C", True),
    ]
    assert {
        meter: usd for row in rows_of(path)["amazon.nova-lite-v1:0"] for meter, usd in row["usd"].items()
    } == {
        "input_tokens": "0.000000061",
        "output_tokens": "0.00000024",
    }


def test_a_long_context_price_takes_the_threshold_that_is_known(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    AWS's list has the price of the band and not the number it begins at.
    """
    result = sync_these(
        marketplace("Claude Sonnet 4.5", "InputTokenCount_LCtx", "6.6"),
        marketplace("Claude Haiku 4.5", "InputTokenCount_LCtx", "2.2"),
    )

    assert [row["above_input_tokens"] for row in rows_of(path)[SONNET]] == [200_000]
    assert [each.reason for each in result.unmatched] == ["no threshold is known"]


def test_a_model_with_two_ids_gets_the_price_under_both(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    Whichever of them a caller writes.
    """
    sync_these(record("USE1-KimiK2Thinking-input-tokens", "0.0006", model="Kimi K2 Thinking"))

    assert set(rows_of(path)) == {"moonshot.kimi-k2-thinking", "moonshotai.kimi-k2-thinking"}


# --- What is not believed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (record(usd="0.00004", **NOVA_INPUT), "falls by more than 20 %, from 0.00000006 to 0.00000004"),
        (record(usd="0.00013", **NOVA_INPUT), "more than doubles, from 0.00000006 to 0.00000013"),
        (
            record("USE1-NovaLite-cache-read-input-tokens", "0.00007", model="Nova Lite"),
            "more than doubles",
        ),
        (marketplace("Claude Haiku 4.5", "InputTokenCount_Global", "1.11"), "global is dearer than regional"),
        (
            record("USE1-Llama3-8B-output-tokens", "0.00025", model="Llama 3 8B"),
            "output is cheaper than input",
        ),
        (
            record("USE1-R1-cache-read-tokens", "0.0015", model="DeepSeek-R1"),
            "cached input is dearer than input",
        ),
    ],
)
def test_what_moves_too_far_or_contradicts_itself_waits_for_someone_who_says_it_is_true(
    sync_these: Callable[..., SyncResult], path: Path, made: dict[str, Any], says: str
) -> None:
    """
    A stale price that is high is safe, one that is low is not; and a slip of AWS's is a slip.
    """
    held = sync_these(made)
    assert any(says in line for line in held.held), held.held
    assert not held.is_written
    assert not path.exists()

    accepted = sync_these(made, accept=True)
    assert accepted.held == held.held
    assert accepted.is_written
    assert path.exists()


@pytest.mark.parametrize("usd", ["0.000048", "0.00006", "0.00012"])
def test_a_move_within_bounds_is_written(sync_these: Callable[..., SyncResult], path: Path, usd: str) -> None:
    """
    Down by a fifth, or doubled, and no more.
    """
    result = sync_these(record(usd=usd, **NOVA_INPUT))

    assert result.held == ()
    assert result.is_written
    (move,) = result.moves
    assert move.change == ("unchanged" if usd == "0.00006" else "changed")
    assert move.before == 6 * 10**8


def test_a_dry_run_writes_nothing(sync_these: Callable[..., SyncResult], path: Path) -> None:
    """
    It is the way to see a report first.
    """
    result = sync_these(record(usd="0.00006", **NOVA_INPUT), dry_run=True)

    assert (result.is_written, result.as_of, path.exists()) == (False, None, False)


# --- History -------------------------------------------------------------------------


def test_a_new_price_is_a_new_row_and_the_old_one_ends(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    A call of September is priced as in September after the sync of November.
    """
    sync_these(record(usd="0.00006", **NOVA_INPUT))
    sync_these(record(usd="0.000066", published="2026-11-20", effective="2026-11-01", **NOVA_INPUT))
    rows = rows_of(path)["amazon.nova-lite-v1:0"]

    assert [(row["effective_from"], row.get("effective_to"), row["usd"]["input_tokens"]) for row in rows] == [
        ("2026-09-01", "2026-11-01", "0.00000006"),
        ("2026-11-01", None, "0.000000066"),
    ]
    prices = PriceList.installed(path)
    for day, usd in (("2026-10-31", "0.06"), ("2026-11-01", "0.066")):
        found = prices.find(
            parse_model_id("us.amazon.nova-lite-v1:0"),
            region="us-east-1",
            at=datetime.fromisoformat(day).replace(tzinfo=UTC),
        )
        assert Decimal(found.bands[0].prices["input_tokens"]) / 10**10 == Decimal(usd)


def test_the_same_list_again_changes_nothing_but_when_it_was_seen(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    A price that AWS confirmed yesterday is not an old one.
    """
    sync_these(record(usd="0.00006", **NOVA_INPUT))
    again = sync_these(record(usd="0.00006", published="2026-11-20", **NOVA_INPUT))
    (row,) = rows_of(path)["amazon.nova-lite-v1:0"]

    assert [move.change for move in again.moves] == ["unchanged"]
    assert (row["effective_from"], row["published"]) == ("2026-09-01", "2026-11-20")
    assert again.as_of == date(2026, 11, 20)


def test_a_correction_without_a_date_of_its_own_counts_from_the_day_it_was_published(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    AWS says when a term began, not when its price was put right.
    """
    sync_these(record(usd="0.00006", **NOVA_INPUT))
    sync_these(record(usd="0.000066", published="2026-11-20", effective="2026-09-01", **NOVA_INPUT))

    assert [row["effective_from"] for row in rows_of(path)["amazon.nova-lite-v1:0"]] == [
        "2026-09-01",
        "2026-11-20",
    ]


def test_an_older_list_does_not_put_older_prices_back(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    Files lie about for months.
    """
    sync_these(record(usd="0.000066", published="2026-11-20", **NOVA_INPUT))
    result = sync_these(record(usd="0.00006", published="2026-09-01", **NOVA_INPUT))

    assert ["older than what the overlay has" in each.reason for each in result.refused] == [True]
    assert (result.moves, result.is_written) == ((), False)
    assert [row["usd"] for row in rows_of(path)["amazon.nova-lite-v1:0"]] == [{"input_tokens": "0.000000066"}]


def test_what_was_synced_for_one_region_stays_when_another_is(
    sync_these: Callable[..., SyncResult], path: Path
) -> None:
    """
    Who adds a region does not lose the first.
    """
    sync_these(record(usd="0.00006", **NOVA_INPUT))
    sync_these(record(usd="0.00007", **NOVA_INPUT, regionCode="eu-west-1"))

    assert [row["where"] for row in rows_of(path)["amazon.nova-lite-v1:0"]] == [
        US,
        ["eu-west-1", "eu@eu-west-1"],
    ]


# --- Files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\x1f\x8bnot really", "cannot be read as JSON"),
        (b"[]", "is no price list"),
        (b'{"products": {"A": {}}, "publicationDate": "2026-09-01T00:00:00Z"}', "not in the shape"),
        (b'{"PriceList": ["{"]}', "not in the shape"),
        (b'{"PriceList": [7]}', "not in the shape"),
    ],
)
def test_a_file_that_is_no_price_list_says_so(tmp_path: Path, content: bytes, says: str) -> None:
    """
    With its name: several are given at once.
    """
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(content)

    with pytest.raises(ConfigurationError, match=says) as refused:
        list(read_file(wrong))
    assert "wrong.json" in str(refused.value)


def test_a_broken_overlay_is_not_written_over(sync_these: Callable[..., SyncResult], path: Path) -> None:
    """
    It has a history that nobody else has.
    """
    path.parent.mkdir()
    path.write_text("{")

    with pytest.raises(ConfigurationError, match="is not JSON"):
        sync_these(record(usd="0.00006", **NOVA_INPUT))
    assert path.read_text() == "{"
