"""
Write the packaged price list from a file of facts:

    python -m bedrock_guard.pricing.generate FACTS.json [--out DIRECTORY]

The same facts give the same bytes. What is not understood ends it with nothing
written; what looks odd but can be true is a warning. Look at the diff before it
is committed: a price that is too high is safe, one that is too low is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from bedrock_guard.domain.usage import CACHE_READ, INPUT_TOKENS, OUTPUT_TOKENS
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import FREE
from bedrock_guard.pricing.facts import LEFT_OUT, Draft, Price, Slot, name_source, read_drafts
from bedrock_guard.pricing.places import GLOBAL, IN_REGION
from bedrock_guard.pricing.rows import DERIVED, INDEX, OPTIMIZED, STANDARD, parse_price, show_price

DATA: Final = Path(__file__).parent / "data"

# Prices that are the same with every model: keys in the facts, and meters.
ANY_MODEL: Final[dict[str, str]] = {
    "automatedReasoningPolicyUnits": "guardrail_automated_reasoning_policy_units",
    "contentPolicyImageUnits": "guardrail_content_policy_image_units",
    "contentPolicyUnits": "guardrail_content_policy_units",
    "contextualGroundingPolicyUnits": "guardrail_contextual_grounding_policy_units",
    "sensitiveInformationPolicyFreeUnits": "guardrail_sensitive_information_policy_free_units",
    "sensitiveInformationPolicyUnits": "guardrail_sensitive_information_policy_units",
    "topicPolicyUnits": "guardrail_topic_policy_units",
    "wordPolicyUnits": "guardrail_word_policy_units",
    "Guardrail-ContentPolicyUnitsConsumed": "guardrail_content_policy_units",
    "GuardrailChecks-ContentFilterCheckUnitsConsumed": "guardrail_checks_content_filter_units",
    "GuardrailChecks-SensitiveInformationCheckUnitsConsumed": "guardrail_checks_sensitive_information_units",
    "per_request": "web_grounding_requests",
}
# What no file of facts has: the meter, its price, and its source.
ADDED: Final[dict[str, tuple[str, str]]] = {"prompt_router_requests": ("0.001", "aws-router-fee")}
_OUR_SOURCES: Final = {
    "aws-router-fee": "1 USD for 1,000 requests of a prompt router, as AWS announced it; read nowhere since",
    DERIVED: "worked out from another row of the same model, in proportion, rounded up",
    "price-history": "what the sources said before the change",
}
# How far a source can be trusted; a new source needs its line here.
GRADES: Final = {
    "aws-price-list": "AWS-row",
    "aws-pricing-page": "AWS-page",
    "genai-prices": "3p",
    "litellm": "3p",
    "models.dev": "3p",
    "price-history": "3p",
    "aws-router-fee": "inferred",
    DERIVED: "inferred",
}
_SECTIONS_LEFT_OUT: Final = {
    "bedrock_mantle": "another endpoint, with HTTP of its own; boto3's bedrock-runtime cannot reach it",
}
# Asked for by name only, and six times as dear as the rest: no bound for a call that did not ask.
_NO_BOUND: Final = "ultrafast"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    The command.
    """
    parser = argparse.ArgumentParser(prog="python -m bedrock_guard.pricing.generate", description=__doc__)
    parser.add_argument("facts", type=Path, help="the file of facts, JSON")
    parser.add_argument(
        "--out", type=Path, default=DATA, help="where to write; the package's data by default"
    )
    options = parser.parse_args(arguments)
    try:
        files, warnings = generate(read_facts(options.facts))
    except ConfigurationError as error:
        sys.exit(str(error))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - a command's output
    write(files, options.out)


def read_facts(path: Path) -> Mapping[str, Any]:
    """
    The facts in *path*.

    Raises:
        ConfigurationError: There is no such file, or it is not JSON.
    """
    try:
        facts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from error
    return facts


def generate(facts: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """
    The files of the price list by name without `.json`, and what looks odd in them.

    Raises:
        ConfigurationError: A fact cannot be understood; the text names it.
    """
    try:
        as_of = date.fromisoformat(facts["_meta"]["generated"]).isoformat()
        drafts, any_model = read_drafts(facts), read_any_model(facts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"The facts are not in the shape that is known: {error!r}.") from error
    makers: dict[str, dict[str, Draft]] = {}
    for model in sorted(drafts):
        makers.setdefault(model.partition(".")[0], {})[model] = drafts[model]
    index = {
        "as_of": as_of,
        "unit": "USD per unit of the meter",
        "makers": sorted(makers),
        "any_model": _show_prices(any_model),
        "dearest": {meter: show_price(price) for meter, price in sorted(_dearest(drafts, any_model).items())},
        "sources": _sources(facts, as_of),
        "grades": GRADES,
        "left_out": {**_SECTIONS_LEFT_OUT, **LEFT_OUT},
    }
    files = {maker: _show_maker(models) for maker, models in makers.items()}
    return {INDEX: json.dumps(index, indent=1) + "\n", **files}, list(find_oddities(drafts))


def write(files: Mapping[str, str], directory: Path) -> None:
    """
    Put the files in *directory*, and take away those of makers that an older list had there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    index = directory / f"{INDEX}.json"
    before = json.loads(index.read_text(encoding="utf-8"))["makers"] if index.exists() else []
    for maker in set(before) - set(files):
        (directory / f"{maker}.json").unlink(missing_ok=True)
    for name, text in files.items():
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


def read_any_model(facts: Mapping[str, Any]) -> dict[str, Price]:
    """
    The meters that have nothing to do with a model; of two prices for one the dearer counts.
    """
    guardrails, searches = facts["guardrails_per_text_unit"], facts["extra_units"]["web-grounding"]
    measured = {key: value for key, value in guardrails.items() if key.startswith("aws_measured")}
    parts = [
        (guardrails["usd"], guardrails["source"]),
        *((usd, "aws-price-list") for usd in measured.values()),
        (searches["usd"], searches["sources"][0]),
    ]
    prices: dict[str, Price] = {}
    for usd, source in parts:
        for key, text in usd.items():
            meter = ANY_MODEL.get(key)
            if meter is None:
                raise ConfigurationError(f"{key!r} is no unit that is known. Known: {', '.join(ANY_MODEL)}.")
            free = text == "0" and meter in FREE
            price = Price(0 if free else parse_price(key, text), name_source(source))
            prices[meter] = max(prices.get(meter, price), price, key=lambda each: each.steps)
    prices |= {meter: Price(parse_price(meter, text), source) for meter, (text, source) in ADDED.items()}
    return prices


def find_oddities(drafts: Mapping[str, Draft]) -> Iterator[str]:
    """
    What is rarely so: each line is worth a look, none is wrong for sure.
    """
    for model, draft in drafts.items():
        for slot, prices in draft.rows.items():
            name = f"{model} {slot.place} {slot.variant} above {slot.above_input_tokens}"
            spent = {meter: price.steps for meter, price in prices.items()}
            price = spent.get(INPUT_TOKENS)
            if price is None:
                continue
            if spent.get(OUTPUT_TOKENS, price) < price:
                yield f"{name}: output is cheaper than input"
            if spent.get(CACHE_READ, price) > price:
                yield f"{name}: cached input is dearer than input"
            if any(steps < price for meter, steps in spent.items() if meter.startswith("cache_write")):
                yield f"{name}: writing to the cache is cheaper than input"
            home = draft.rows.get(Slot(IN_REGION), {}).get(INPUT_TOKENS)
            if slot == Slot(GLOBAL) and home is not None and home.steps < price:
                yield f"{name}: global is dearer than in-region"


def _dearest(drafts: Mapping[str, Draft], any_model: Mapping[str, Price]) -> dict[str, int]:
    dearest = {meter: price.steps for meter, price in any_model.items()}
    for draft in drafts.values():
        for slot, prices in draft.rows.items():
            for meter, price in prices.items() if slot.variant != _NO_BOUND else ():
                dearest[meter] = max(dearest.get(meter, 0), price.steps)
    return dearest


def _sources(facts: Mapping[str, Any], as_of: str) -> dict[str, str]:
    named = {
        name_source(name): f"{name}: {what}; read {as_of}" for name, what in facts["_meta"]["sources"].items()
    }
    ungraded = sorted(set(named) - set(GRADES))
    if ungraded:
        raise ConfigurationError(f"{ungraded[0]!r} has no grade. Graded: {', '.join(GRADES)}.")
    return dict(sorted({**named, **_OUR_SOURCES}.items()))


def _show_maker(models: Mapping[str, Draft]) -> str:
    """
    One line a row, so that a diff shows which prices moved.
    """
    shown = []
    for model, draft in models.items():
        limits = {
            name: limit
            for name in ("max_input_tokens", "max_output_tokens")
            if (limit := getattr(draft, name)) is not None
        }
        head = json.dumps(limits)[1:-1] + ", " if limits else ""
        rows = ",\n  ".join(json.dumps(row) for row in _show_rows(draft))
        shown.append(f' {json.dumps(model)}: {{{head}"rows": [\n  {rows}\n ]}}')
    return '{"models": {\n' + ",\n".join(shown) + "\n}}\n"


def _show_rows(draft: Draft) -> Iterator[dict[str, Any]]:
    """
    The rows in a fixed order; places that agree in everything share one.
    """
    shared: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for slot in sorted(draft.rows, key=_order):
        prices = _show_prices(draft.rows[slot])
        conditions = {
            "service_tier": None if slot.variant in (STANDARD, OPTIMIZED) else slot.variant,
            "latency": OPTIMIZED if slot.variant == OPTIMIZED else None,
            "above_input_tokens": slot.above_input_tokens or None,
            "effective_from": slot.effective_from,
            "effective_to": slot.effective_to,
        }
        row = {key: value for key, value in conditions.items() if value is not None} | prices
        shared.setdefault(json.dumps(row), (row, []))[1].append(slot.place)
    for row, places in shared.values():
        yield {"where": places, **row}


def _order(slot: Slot) -> tuple[object, ...]:
    return slot.variant, slot.above_input_tokens, slot.effective_from or "", slot.place


def _show_prices(prices: Mapping[str, Price]) -> dict[str, Any]:
    ordered = dict(sorted(prices.items()))
    sources: Iterable[str] = {price.source for price in ordered.values()}
    return {
        "usd": {meter: show_price(price.steps) for meter, price in ordered.items()},
        "source": next(iter(sources))
        if len(set(sources)) == 1
        else {meter: price.source for meter, price in ordered.items()},
    }


if __name__ == "__main__":
    main()
