"""
What a `modelId` names: `parse_model_id`, a strict grammar over the whole string.

    [<geography>.]<maker>.<model>[:<revision>][:<context>]     us.amazon.nova-lite-v1:0
    arn:<partition>:bedrock:<region>:[<account>]:<type>/<id>

Nothing is looked for inside an id: a name that only resembles a known one is
another model, and has no price until the list has one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from bedrock_guard.domain.call import ModelKind, ModelRef

# A new geography needs no line here: two letters, with or without a suffix, is one.
_ID: Final = re.compile(
    r"(?:(?P<geography>[a-z]{2}(?:-[a-z]{2,5})?|apac|global)\.)?"
    r"(?P<model>(?P<maker>[a-z0-9]+(?:-[a-z0-9]+)*)"
    # Beginning with a letter: else "openai.gpt-5.4" could be model "4" of a maker "gpt-5".
    r"\.[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*"
    r"(?::[0-9]+)?)"
    # How much context a provisioned or fine-tunable variant takes; the price is the model's.
    r"(?::(?:[0-9]+[km]?|mm))?"
)
_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z]+)*:(?P<service>bedrock|sagemaker):(?P<region>[a-z0-9-]{1,20}):(?:[0-9]{12}|aws)?:"
    r"(?P<type>[a-z-]+(?:/model-endpoint/all-access)?)/(?P<id>[A-Za-z0-9][A-Za-z0-9._:/+-]*)"
)

# To add a kind: a line here, and its name in `ModelKind`.
_KINDS: Final[dict[tuple[str, str], ModelKind]] = {
    ("bedrock", "foundation-model"): "foundation-model",
    ("bedrock", "inference-profile"): "inference-profile",
    ("bedrock", "application-inference-profile"): "application-inference-profile",
    ("bedrock", "provisioned-model"): "provisioned-model",
    ("bedrock", "custom-model"): "custom-model",
    ("bedrock", "custom-model-deployment"): "custom-model-deployment",
    ("bedrock", "imported-model"): "imported-model",
    ("bedrock", "prompt"): "prompt",
    ("bedrock", "prompt-router"): "prompt-router",
    ("bedrock", "default-prompt-router"): "prompt-router",
    ("bedrock", "marketplace/model-endpoint/all-access"): "endpoint",
    ("sagemaker", "endpoint"): "endpoint",
}


@lru_cache(maxsize=1024)
def parse_model_id(model_id: str) -> ModelRef:
    """
    Take *model_id* apart; never raises.

    What is in no known shape comes back as kind `"unknown"` without a model, as
    do the short names of provisioned models. ARNs that do not say which model
    is behind them keep their kind and have no model either.
    """
    named = _ID.fullmatch(model_id)
    if named is not None:
        kind: ModelKind = "inference-profile" if named["geography"] else "foundation-model"
        return _named(model_id, kind, named)
    arn = _ARN.fullmatch(model_id)
    if arn is None:
        return ModelRef(model_id, "unknown")
    return _from_arn(model_id, arn)


def _from_arn(model_id: str, arn: re.Match[str]) -> ModelRef:
    region = arn["region"]
    kind = _KINDS.get((arn["service"], arn["type"]), "unknown")
    named = _ID.fullmatch(arn["id"])
    if kind == "foundation-model":
        if named is None or named["geography"]:
            return ModelRef(model_id, "unknown", region=region)
        return _named(model_id, kind, named, region)
    if kind == "inference-profile" and named is not None:
        return _named(model_id, kind, named, region)
    return ModelRef(model_id, kind, region=region)


def _named(model_id: str, kind: ModelKind, named: re.Match[str], region: str | None = None) -> ModelRef:
    return ModelRef(
        model_id,
        kind,
        model=named["model"],
        maker=named["maker"],
        geography=named["geography"] or "in-region",
        region=region,
    )
