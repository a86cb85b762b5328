"""
A file of facts about AWS's prices, taken apart into drafts of rows.

Part of `generate`, never of a running guard. What a fact leaves out and a bound
needs is worked out here where it takes another row to do so: long-context bands,
cache prices of a region, prices before a change. Such values have the source
`derived`. What depends on one row alone is left to `offers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from bedrock_guard.domain.usage import CACHE_READ, CACHE_WRITE_1H, CACHE_WRITE_5M, INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.model_names import SAME
from bedrock_guard.pricing.offers import VARIANTS, Ratio
from bedrock_guard.pricing.places import GLOBAL, IN_REGION, US_GOV, is_region, is_us_gov
from bedrock_guard.pricing.rows import DERIVED, OPTIMIZED, STANDARD, parse_price

IMAGES: Final = "images"

# To read a new kind of price: its key in the facts, and the meter it is the price of.
METERS: Final[dict[str, str]] = {
    "input": INPUT_TOKENS,
    "output": OUTPUT_TOKENS,
    "cache_read": CACHE_READ,
    "cache_write_5m": CACHE_WRITE_5M,
    "cache_write_1h": CACHE_WRITE_1H,
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "input_cost_per_image": "input_images",
    "input_cost_per_query": "queries",
    "input_cost_per_audio_per_second": "input_audio_seconds",
    "input_cost_per_video_per_second": "input_video_seconds",
    "output_cost_per_image": IMAGES,
    "per_audio_second": "input_audio_seconds",
    "per_document_image": "input_document_images",
    "per_image_standard": "input_images",
    "per_image_standard_1024": "images_standard_1024",
    "per_image_standard_2048": "images_standard_2048",
    "per_image_premium_1024": "images_premium_1024",
    "per_image_premium_2048": "images_premium_2048",
    "per_video_second": "input_video_seconds",
    "per_video_second_720p": "output_video_seconds",
}
_KEY: Final = re.compile(
    r"(?P<name>[a-z0-9_]+?)(?:_above_(?P<thousands>[0-9]+)k)?(?:_(?P<tier>batch|flex|priority|ultrafast))?"
)

# Ids that the sources list and Bedrock does not know, and why each is left out.
LEFT_OUT: Final = {
    "anthropic.claude-haiku-4-5@20251001": "spelt as on Vertex AI; the model is there by its Bedrock id",
    "claude-sonnet-4-5-20250929-v1:0": "has no maker; the same row is there with one",
}
# Where the study contradicts its table: AWS's page doubles every price of Claude 3.5 Sonnet from 2025-12-01,
# and the table has the first version's caches at the prices of before.
CORRECTED: Final[dict[tuple[str, str], str]] = {
    ("anthropic.claude-3-5-sonnet-20240620-v1:0", "cache_read"): "0.0000006",
    ("anthropic.claude-3-5-sonnet-20240620-v1:0", "cache_write_5m"): "0.0000075",
}
# Served latency-optimized (AWS's guide), without a price in the facts. Both prices known are 1.25 x standard.
OPTIMIZED_UNLISTED: Final = ("meta.llama3-1-405b-instruct-v1:0", "meta.llama3-1-70b-instruct-v1:0")
# A request can ask for it with the beta flag context-1m; the facts state the window without.
LONG_CONTEXT: Final = 1_000_000
# Limits of these modes count tokens of one whole request; others count one text of many.
_CHAT_MODES: Final = ("chat", "realtime", None)


@dataclass(frozen=True, slots=True)
class Price:
    """
    One value: steps of 1e-16 USD, and who says so.
    """

    steps: int
    source: str


@dataclass(frozen=True, slots=True)
class Slot:
    """
    Where and when a row holds.
    """

    place: str
    variant: str = STANDARD
    above_input_tokens: int = 0
    effective_from: str | None = None
    effective_to: str | None = None


@dataclass(slots=True)
class Draft:
    """
    One model, as far as it is known.
    """

    rows: dict[Slot, dict[str, Price]] = field(default_factory=dict)
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None

    def add(self, slot: Slot, prices: Mapping[str, Price]) -> None:
        """
        Put prices where they hold; of two for one meter the dearer stays.
        """
        row = self.rows.setdefault(slot, {})
        for meter, price in prices.items():
            row[meter] = max(row.get(meter, price), price, key=lambda each: each.steps)


def read_drafts(facts: Mapping[str, Any]) -> dict[str, Draft]:
    """
    Every model of a facts file, complete, by its base id.

    Raises:
        ConfigurationError: A key or a price cannot be understood.
    """
    drafts: dict[str, Draft] = {}
    for model_id, fact in facts["models"].items():
        if model_id not in LEFT_OUT:
            _add_model(drafts.setdefault(fact["base_id"], Draft()), model_id, fact)
    for region, models in facts["in_region_overrides"].items():
        for model_id, fact in models.items():
            if model_id not in LEFT_OUT:
                name = f"{region} {model_id}"
                _add_rows(drafts.setdefault(model_id, Draft()), name, region, fact["usd"], fact["source"])
    for key, fact in facts["extra_units"].items():
        model_id, _, variant = key.partition("#")
        if "." in model_id:
            _add_extra(drafts.setdefault(model_id, Draft()), key, variant, fact)
    _join(drafts)
    for model_id, draft in drafts.items():
        _complete(model_id, draft)
    return drafts


def name_source(source: str) -> str:
    """
    A source's name without version and date, which the index of the list holds.
    """
    return re.split(r"[=@: ]", source, maxsplit=1)[0]


def _add_model(draft: Draft, model_id: str, fact: Mapping[str, Any]) -> None:
    place = fact["scope"].removeprefix("geo:")
    history = fact.get("price_history", [])
    since = history[-1]["from"] if history else None
    for before, after in pairwise(history):
        source = before.get("source", "price-history")
        _add_rows(draft, model_id, place, before["usd"], source, start=before["from"], end=after["from"])
    corrected = {key: usd for (model, key), usd in CORRECTED.items() if model == fact["base_id"]}
    sources = fact["sources"] | {key: ["aws-pricing-page"] for key in corrected}
    _add_rows(draft, model_id, place, fact["usd"] | corrected, sources, start=since)
    if fact.get("mode") in _CHAT_MODES:
        window = _most(fact.get("max_input_tokens"), fact.get("context_window"))
        draft.max_input_tokens = _most(draft.max_input_tokens, window)
        draft.max_output_tokens = _most(draft.max_output_tokens, fact.get("max_output_tokens"))


def _add_rows(
    draft: Draft,
    name: str,
    place: str,
    usd: Mapping[str, Any],
    sources: str | Mapping[str, list[str]],
    *,
    start: str | None = None,
    end: str | None = None,
) -> None:
    for key, text in usd.items():
        found = _KEY.fullmatch(key)
        meter = METERS.get(found["name"]) if found else None
        if found is None or meter is None:
            raise ConfigurationError(
                f"{name}: {key!r} is no kind of price that is known. Known: {', '.join(METERS)}."
            )
        named = [sources] if isinstance(sources, str) else sources.get(key, [])
        if not named:
            raise ConfigurationError(f"{name}: {key!r} has no source.")
        source = " ".join(sorted({name_source(each) for each in named}))
        above = int(found["thousands"] or 0) * 1000
        slot = Slot(place, found["tier"] or STANDARD, above, start, end)
        draft.add(slot, {meter: Price(parse_price(f"{name}, {key}", text), source)})


def _add_extra(draft: Draft, name: str, variant: str, fact: Mapping[str, Any]) -> None:
    source = " ".join(sorted({name_source(each) for each in fact["sources"]}))
    variant = {"": STANDARD, "batch": "batch", "latency-optimized": OPTIMIZED}[variant]
    for key, text in fact["usd"].items():
        if key not in METERS:
            raise ConfigurationError(
                f"{name}: {key!r} is no kind of price that is known. Known: {', '.join(METERS)}."
            )
        draft.add(Slot(IN_REGION, variant), {METERS[key]: Price(parse_price(f"{name}, {key}", text), source)})


def _join(drafts: dict[str, Draft]) -> None:
    known = [drafts[name] for name in SAME if name in drafts]
    joined = Draft()
    for draft in known:
        for slot, prices in draft.rows.items():
            joined.add(slot, prices)
        joined.max_input_tokens = _most(joined.max_input_tokens, draft.max_input_tokens)
        joined.max_output_tokens = _most(joined.max_output_tokens, draft.max_output_tokens)
    if known:
        for name in SAME:
            drafts[name] = Draft(
                {slot: dict(prices) for slot, prices in joined.rows.items()},
                joined.max_input_tokens,
                joined.max_output_tokens,
            )


def _complete(model_id: str, draft: Draft) -> None:
    """
    Fill what other rows of the model tell about each row.
    """
    places = sorted({slot.place for slot in draft.rows})
    for place in places:
        if place != GLOBAL and not is_us_gov(place):
            _fill(draft, Slot(IN_REGION), Slot(place), meters=False)
    for place in places:
        if place not in (IN_REGION, GLOBAL):
            gov = is_region(place) and is_us_gov(place) and US_GOV in places
            _fill(draft, Slot(place), Slot(US_GOV if gov else IN_REGION))
    for region in filter(is_region, places):
        _copy_tiers(draft, region)
    for old in [slot for slot in draft.rows if slot.effective_to and not slot.above_input_tokens]:
        newest = max(
            (slot.effective_from or "" for slot in draft.rows if slot.place == old.place), default=""
        )
        _fill(draft, old, Slot(old.place, old.variant, effective_from=newest or None))
    _price_images(draft)
    _price_optimized(model_id, draft, places)
    thresholds = [slot.above_input_tokens for slot in draft.rows]
    if draft.max_input_tokens is not None and draft.max_input_tokens <= max(thresholds):
        draft.max_input_tokens = LONG_CONTEXT


def _fill(draft: Draft, target: Slot, template: Slot, *, meters: bool = True) -> None:
    """
    Give *target* the bands of *template*, and the meters, in proportion to its own prices.
    """
    own, other = draft.rows.get(target), draft.rows.get(template)
    if not own or not other:
        return
    own = dict(own)
    for slot, prices in list(draft.rows.items()):
        if not _is_band_of(slot, template) or not (meters or slot.above_input_tokens):
            continue
        filled = Slot(
            target.place, target.variant, slot.above_input_tokens, target.effective_from, target.effective_to
        )
        present = draft.rows.get(filled, {})
        for meter, price in prices.items():
            if meter not in present:
                ratio = _ratio(own, other, meter)
                draft.add(filled, {meter: Price(ratio.of(price.steps), DERIVED)})


def _copy_tiers(draft: Draft, region: str) -> None:
    """
    A region at the standard price of all others has their other tiers too.
    """
    own, other = draft.rows.get(Slot(region)), draft.rows.get(Slot(IN_REGION))
    if own is None or other is None or any(own[meter].steps != other[meter].steps for meter in other):
        return
    for slot, prices in list(draft.rows.items()):
        copied = Slot(region, slot.variant, slot.above_input_tokens)
        if slot.place == IN_REGION and slot.variant != STANDARD and copied not in draft.rows:
            draft.add(copied, prices)


def _is_band_of(slot: Slot, base: Slot) -> bool:
    return (slot.place, slot.variant, slot.effective_from) == (base.place, base.variant, base.effective_from)


def _ratio(own: Mapping[str, Price], other: Mapping[str, Price], meter: str) -> Ratio:
    shared = meter if meter in own and meter in other else INPUT_TOKENS
    if shared in own and shared in other:
        return Ratio(own[shared].steps, other[shared].steps)
    return Ratio(1)


def _price_images(draft: Draft) -> None:
    """
    An image of unknown size costs what the dearest size does.
    """
    for prices in draft.rows.values():
        sizes = [price for meter, price in prices.items() if meter.startswith(f"{IMAGES}_")]
        if sizes:
            dearest = max(sizes, key=lambda each: each.steps)
            prices[IMAGES] = max(prices.get(IMAGES, dearest), dearest, key=lambda each: each.steps)


def _price_optimized(model_id: str, draft: Draft, places: Iterable[str]) -> None:
    if model_id in OPTIMIZED_UNLISTED:
        for place in places:
            standard = draft.rows[Slot(place)]
            ratio = VARIANTS[OPTIMIZED]
            draft.add(
                Slot(place, OPTIMIZED),
                {meter: Price(ratio.of(price.steps), DERIVED) for meter, price in standard.items()},
            )
    listed = draft.rows.get(Slot(IN_REGION, OPTIMIZED))
    if listed:
        for place in [place for place in places if place != IN_REGION]:
            own, other = draft.rows[Slot(place)], draft.rows[Slot(IN_REGION)]
            for meter, price in listed.items():
                steps = _ratio(own, other, meter).of(price.steps)
                source = price.source if steps == price.steps else DERIVED
                draft.add(Slot(place, OPTIMIZED), {meter: Price(steps, source)})


def _most(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return max(known) if known else None
