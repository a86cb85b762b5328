"""
What one product of AWS's price list is the price of: a grammar of its attributes.

    AmazonBedrock                 USE1-Nova2.0Lite-input-tokens-cross-region-global-batch
    AmazonBedrockFoundationModels USE1-MP:USE1_InputTokenCount_Global-Units
                                  USE1-MP:USE1_input_tokens_global_standard-Units

A usage type is `<region>-<model>-<meter>-<modifiers>`; attributes repeat some of
it, any of them may be absent. The region in it is not reliable and not read. A word
in it that is not known may be one that makes it another price: then it is unmatched.
Nor is the description: it says "thousand" on a price for a million.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.usage import CACHE_READ, CACHE_WRITE_1H, CACHE_WRITE_5M, INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.pricing.rows import OPTIMIZED, STANDARD

Scope: TypeAlias = Literal["global", "regional"]
Kind: TypeAlias = Literal["tokens", "images", "seconds", "queries", "text units", "requests"]
Verdict: TypeAlias = Literal["skipped", "refused", "unmatched"]

MARKETPLACE: Final = "AmazonBedrockFoundationModels"


@dataclass(frozen=True, slots=True)
class UsageType:
    """
    What a product is the price of.

    Attributes:
        model: Base id, or None for what costs the same with every model.
        variant: A service tier, or `OPTIMIZED`.
        is_long_context: Whether it is the price of the model's higher band. Its
            threshold is not in the price list.
        kind: What the meter counts, which the price's unit must agree with.
    """

    model: str | None
    scope: Scope
    variant: str
    meter: str
    kind: Kind
    is_long_context: bool = False


class Unread(NamedTuple):
    """
    A product that gives no price, and why.
    """

    verdict: Verdict
    reason: str


class _Meter(NamedTuple):
    meter: str
    kind: Kind
    pattern: str


_COUNT: Final = r"-?tokens?(?:-?count)?"
_END: Final = r"(?![a-z0-9])"
_TTL: Final = r"-?(?P<ttl{}>1h|1-hour|30m|5m)?"
# To read a new meter: a line here. The first that fits counts, so the longer names are first.
_METERS: Final[tuple[_Meter, ...]] = (
    _Meter(CACHE_READ, "tokens", rf"cache-?read(?:-?input)?{_COUNT}"),
    _Meter(
        CACHE_WRITE_5M,
        "tokens",
        rf"cache-?write{_TTL.format(1)}(?:-?input)?{_COUNT}{_TTL.format(2)}(?![a-z0-9])",
    ),
    _Meter("input_audio_tokens", "tokens", rf"(?:(?:audio|speech)-?input|input-?(?:audio|speech)){_COUNT}"),
    _Meter(
        "output_audio_tokens", "tokens", rf"(?:(?:audio|speech)-?output|output-?(?:audio|speech)){_COUNT}"
    ),
    _Meter("input_image_tokens", "tokens", rf"(?:image-?input|input-?image){_COUNT}"),
    _Meter(INPUT_TOKENS, "tokens", rf"(?:(?:text|prompt)-?)?input(?:-?text)?{_COUNT}"),
    _Meter(OUTPUT_TOKENS, "tokens", rf"(?:(?:text)-?)?(?:output|response)(?:-?text)?{_COUNT}"),
    _Meter("images_standard_1024", "images", r"t2i-1024-standard"),
    _Meter("images_standard_2048", "images", r"t2i-2048-standard"),
    _Meter("images_premium_1024", "images", r"t2i-1024-premium"),
    _Meter("images_premium_2048", "images", r"t2i-2048-premium"),
    _Meter("images", "images", r"(?:created|generated|output)-?images?(?:-?count)?"),
    _Meter("input_images", "images", r"input-?images?(?:-?count)?"),
    _Meter("input_video_seconds", "seconds", r"input-?video-?seconds?"),
    _Meter("input_audio_seconds", "seconds", r"input-?audio-?seconds?"),
    _Meter("output_video_seconds", "seconds", r"(?:output|generated)-?video-?seconds?|t2v-720p"),
    _Meter("queries", "queries", r"search-?units?|quer(?:y|ies)"),
)
_GUARDRAILS: Final[Mapping[str, str]] = {
    "guardrail-automatedreasoningpolicyunitsconsumed": "guardrail_automated_reasoning_policy_units",
    "guardrail-contentpolicyimageunitsconsumed": "guardrail_content_policy_image_units",
    "guardrail-contentpolicyunitsconsumed": "guardrail_content_policy_units",
    "guardrail-contextualgroundingpolicyunitsconsumed": "guardrail_contextual_grounding_policy_units",
    "guardrail-sensitiveinformationpolicyfreeunitsconsumed": (
        "guardrail_sensitive_information_policy_free_units"
    ),
    "guardrail-sensitiveinformationpolicyunitsconsumed": "guardrail_sensitive_information_policy_units",
    "guardrail-topicpolicyunitsconsumed": "guardrail_topic_policy_units",
    "guardrail-wordpolicyunitsconsumed": "guardrail_word_policy_units",
    "guardrailchecks-contentfiltercheckunitsconsumed": "guardrail_checks_content_filter_units",
    "guardrailchecks-sensitiveinformationcheckunitsconsumed": "guardrail_checks_sensitive_information_units",
}
# What is not bought by the call.
_SKIPPED: Final = re.compile(
    r"provisioned|reserved|customi[sz]ation|custom-?model|fine-?tun|storage|training|commit|model-?unit|"
    r"-tp[mh]\b|inputtpm|outputtpm|\(100k\)"
)
_TIERS: Final[Mapping[str, str]] = {
    "standard": STANDARD,
    "default": STANDARD,
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
    "ultrafast": "ultrafast",
}
_TIER: Final = re.compile(r"(?<![a-z])(standard|default|batch|flex|priority|ultrafast)(?![a-z])")
_LONG: Final = re.compile(r"l-?ctx|long-?ctx|long-?context")
_OPTIMIZED: Final = re.compile(r"latency-?optimized")
_REGION: Final = re.compile(r"[a-z]{2,4}[0-9]?-")
_REGION_PREFIX: Final = re.compile(r"^[a-z]{2,4}[0-9]?-")
# Shorter words of a name are taken out of a usage type only where they stand alone.
_JOINED_LETTERS: Final = 2
_MARKETPLACE_PREFIX: Final = re.compile(r"^[a-z0-9]+-mp:(?:[a-z]{2,4}[0-9]?-)?")
# Every word that may stand round a model's name and its meter; most of them are read above.
_MODIFIERS: Final = re.compile(
    r"cross-?region|global|geo|in-?region|regional|standard|default|on-?demand|batch(?:-?inference)?|flex|"
    r"priority|ultrafast|l-?ctx|long-?ctx|long-?context|latency-?optimized|mantle|1-hour|1h|30m|5m|units?"
)
_EDITION: Final = re.compile(r"\s*\(amazon bedrock(?: edition)?\)\s*$", re.IGNORECASE)


def read_usage_type(
    service: str, attributes: Mapping[str, str], find_model: Callable[[str], str | None]
) -> UsageType | Unread:
    """
    What a product is the price of, or why it is not one that a call pays.
    """
    usage_type = _plain(attributes.get("usagetype", ""))
    if _SKIPPED.search(" ".join(_plain(value) for value in attributes.values())):
        return Unread("skipped", "not bought by the call")
    guardrail = next((name for name in _GUARDRAILS if usage_type.endswith(name)), None)
    if guardrail is not None:
        return UsageType(None, "regional", STANDARD, _GUARDRAILS[guardrail], "text units")
    found = _find_meter(usage_type, attributes)
    if found is None:
        return Unread("unmatched", "no meter that is known")
    meter, match = found
    is_told = match.string == usage_type
    # What follows the meter modifies it; what stands before is the model's name.
    names = _names(service, attributes, usage_type[: match.start()] if is_told else "")
    found_by = next((name for name in names if find_model(name) is not None), "")
    model = find_model(found_by)
    if model is None:
        return Unread("unmatched", f"no model that is known by {' or '.join(map(repr, names)) or 'no name'}")
    before, after = (usage_type[: match.start()], usage_type[match.end() :]) if is_told else (usage_type, "")
    prefix = _MARKETPLACE_PREFIX if service == MARKETPLACE else _REGION_PREFIX
    before = prefix.sub("", before, count=1)
    is_name = find_model(_MODIFIERS.sub("", before).strip("-")) == model
    beside = " ".join(_MODIFIERS.findall(before)) if is_name else _without_name(before, (model, found_by))
    modifiers = f"{beside} {after}"
    unknown = re.findall(r"[a-z]+", _MODIFIERS.sub(" ", modifiers))
    if unknown:
        return Unread("unmatched", f"{', '.join(unknown)}: not known in a usage type")
    return _read_modifiers(model, meter, match, modifiers, attributes)


def _without_name(text: str, names: Sequence[str]) -> str:
    """
    *text* without the words of a model's names, the longest first: some spellings join them.
    """
    words = {word for name in names for word in re.findall(r"[a-z]+", name.lower())}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        bounds = ("", "") if len(word) > _JOINED_LETTERS else (r"(?<![a-z])", r"(?![a-z])")
        text = re.sub(f"{bounds[0]}{re.escape(word)}{bounds[1]}", "-", text)
    return text


def _read_modifiers(
    model: str, meter: _Meter, match: re.Match[str], rest: str, attributes: Mapping[str, str]
) -> UsageType | Unread:
    said = [_plain(attributes.get(name, "")) for name in ("model", "inferenceType", "usagetype")]
    tier = _find_tier(attributes, rest)
    if isinstance(tier, Unread):
        return tier
    is_optimized = any(_OPTIMIZED.search(text) for text in said)
    if is_optimized and tier != STANDARD:
        return Unread("refused", f"optimized latency in tier {tier}")
    is_global = any("global" in text for text in (rest, _plain(attributes.get("service_tier", "")), said[1]))
    ttl = next((value for value in match.groupdict().values() if value), None) or _ttl(rest)
    is_hourly = meter.meter == CACHE_WRITE_5M and ttl in ("1h", "1-hour")
    return UsageType(
        model,
        "global" if is_global else "regional",
        OPTIMIZED if is_optimized else tier,
        CACHE_WRITE_1H if is_hourly else meter.meter,
        meter.kind,
        any(_LONG.search(text) for text in said),
    )


def _plain(text: str) -> str:
    """
    Lower case, with one mark between words; dots and colons are part of names.
    """
    return re.sub(r"[\s_-]+", "-", text.strip().lower())


def _find_meter(usage_type: str, attributes: Mapping[str, str]) -> tuple[_Meter, re.Match[str]] | None:
    texts = (usage_type, _plain(attributes.get("inferenceType", "")), _plain(attributes.get("tokenType", "")))
    for text in texts:
        for meter in _METERS:
            match = re.search(meter.pattern, text)
            if match is not None:
                return meter, match
    return None


def _find_tier(attributes: Mapping[str, str], rest: str) -> str | Unread:
    """
    The attribute first, the usage type last; two that differ are a reason to refuse.
    """
    said = (
        attributes.get("service_tier", ""),
        attributes.get("inferenceType", ""),
        re.sub(r"batch-?inference", "batch", _plain(attributes.get("feature", ""))),
        # Quality is spelt as a tier is: "T2I-1024-Standard".
        rest,
    )
    tiers = {_TIERS[tier] for text in said for tier in _TIER.findall(_plain(text))}
    if len(tiers - {STANDARD}) > 1 or (attributes.get("service_tier") and len(tiers) > 1):
        return Unread("refused", f"says two tiers: {', '.join(sorted(tiers))}")
    return next(iter(tiers - {STANDARD}), STANDARD)


def _names(service: str, attributes: Mapping[str, str], before: str) -> list[str]:
    """
    What could be the model's name, the surest first.
    """
    names = [attributes.get("model", ""), attributes.get("titanModel", "")]
    if service == MARKETPLACE:
        names.append(_EDITION.sub("", attributes.get("servicename", "")))
    else:
        before = before.strip("-").removesuffix("-mantle")
        names += [_REGION.sub("", before, count=1) if _REGION.match(before) else "", before]
    plain = (
        re.sub(r"[\s_-]*latency[\s_-]*optimized", "", name, flags=re.IGNORECASE).strip() for name in names
    )
    return [name for name in plain if name]


def _ttl(rest: str) -> str | None:
    found = re.search(r"(?<![a-z0-9])(1h|1-hour|30m|5m)(?![a-z0-9])", rest)
    return found[0] if found else None
