"""
Requests of Converse and ConverseStream: which model is asked, and how large they are.

Most are of text alone, and go a short way; whatever else there is goes the long one, which comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from bedrock_guard.domain.call import (
    USUAL_CALL,
    USUAL_SIZE,
    Call,
    ModelRef,
    RequestSize,
    new_call,
    new_size,
)
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import Family, family_of, limits
from bedrock_guard.families.converse_blocks import read_content, read_messages, read_tool_config
from bedrock_guard.families.limits import at
from bedrock_guard.families.measure import Measure, Reader
from bedrock_guard.families.typed_blocks import read_tools
from bedrock_guard.operations.parameters import choice, dearer_tier, string_pairs

_FIELDS_KEY: Final = "additionalModelRequestFields"
# What most requests have, and no more.
_USUAL_PARTS: Final = frozenset(["modelId", "messages", "system", "inferenceConfig"])


def read_request(operation: str, params: Mapping[str, Any], region: str, model: ModelRef | None) -> Call:
    """
    What a request of *operation* asks for; *model* is asked where it is given, whatever *params* name.
    """
    if model is None:
        model, family = _named(str(params.get("modelId")))
    else:
        family = family_of(model)
    return Call(
        operation,
        model,
        family.name,
        model.region or region,
        _read_size(params, model, family),
        _tier(params) if "serviceTier" in params or _FIELDS_KEY in params else "default",
        choice(params.get("performanceConfig"), "latency", "standard")
        if "performanceConfig" in params
        else "standard",
        string_pairs(params["requestMetadata"]) if "requestMetadata" in params else {},
        times=limits.rounds(params[_FIELDS_KEY]) if _FIELDS_KEY in params else 1,
    )


def read_usual_request(operation: str, params: Mapping[str, Any], region: str) -> Call | None:
    """
    What `read_request` makes of a request as most are, in one step; None of any other.

    It has text alone, of ASCII characters, in the shapes that AWS documents; and at most a limit on output.
    """
    if not params.keys() <= _USUAL_PARTS:
        return None
    try:
        model, family = _named(str(params["modelId"]))
        messages, limit = params["messages"], None
        contents = [params["system"]] if "system" in params else []
        text_bytes, count, is_usual = 0, 0, family.generates and model.kind != "prompt"
        for message in messages:
            role = message["role"]
            is_usual = is_usual and type(message) is dict and len(message) == 2
            is_usual = is_usual and type(role) is str and role.isascii()
            text_bytes += len(role)
            contents.append(message["content"])
        for content in contents:
            for block in content:
                text = block["text"]
                is_usual = is_usual and type(block) is dict and len(block) == 1
                is_usual = is_usual and type(text) is str and text.isascii()
                text_bytes += len(text)
            is_usual = is_usual and type(content) is list
            count += len(content)
        if "inferenceConfig" in params:
            config = params["inferenceConfig"]
            is_usual, limit = is_usual and type(config) is dict, config.get("maxTokens")
    except (AttributeError, KeyError, TypeError):  # whatever shape it has
        return None
    is_limit = limit is None or (type(limit) is int and 0 < limit < limits.NO_LIMIT)
    if not (is_usual and is_limit and count and type(messages) is list):
        return None
    size = text_bytes, count, family.image_tokens, False, limit, None, *USUAL_SIZE
    place, said = model.region or region, new_size(RequestSize, size)
    return new_call(Call, (operation, model, family.name, place, said, "default", "standard", *USUAL_CALL))


@lru_cache(maxsize=1024)
def _named(model_id: str) -> tuple[ModelRef, Family]:
    model = parse_model_id(model_id)
    return model, family_of(model)


def _tier(params: Mapping[str, Any]) -> str:
    return dearer_tier(
        choice(params.get("serviceTier"), "type", None), at(params, (_FIELDS_KEY, "service_tier"))
    )


def _read_size(params: Mapping[str, Any], model: ModelRef, family: Family) -> RequestSize:
    seen = Measure()
    try:
        for key, value in params.items():
            reader = _PARTS.get(key, Measure.json)
            if reader:
                reader(seen, value)
    except RecursionError:
        seen.has_unseen = True
    inference = params.get("inferenceConfig")
    stated = inference.get("maxTokens") if isinstance(inference, dict) else inference
    more = params.get(_FIELDS_KEY)
    fields = more if isinstance(more, dict) else {}
    size = RequestSize(
        seen.text_bytes,
        seen.messages or 1,
        family.image_tokens,
        seen.has_tools,
        limits.output_limit(fields, stated=stated, heeded=family.heeded_limits)
        if fields
        else limits.stated_limit(stated),
        seen.writes_cache,
        seen.images,
        # What a prompt resource says, and how much it may answer, is not in the request.
        seen.has_unseen or model.kind == "prompt",
        limits.candidates(fields) if fields else 1,
        family.generates,
        limits.widened_input(fields) if fields else None,
        "guardrailConfig" in params,
    )
    if seen.may_search:
        size = size._replace(may_search=True)
    if seen.pixels and family.image_rule is not None:
        return size.with_sizes([family.image_rule(*pixels) for pixels in seen.pixels])
    return size


def _read_output_config(seen: Measure, config: Any) -> None:
    has_format = not isinstance(config, dict) or "textFormat" in config
    (Measure.answer_format if has_format else Measure.json)(seen, config)


def _read_fields(seen: Measure, fields: Any) -> None:
    for key, value in fields.items() if isinstance(fields, dict) else [("", fields)]:
        reader = None if value is None else _FIELDS.get(key)
        if reader:
            reader(seen, value)
        else:
            seen.json({key: value})


# What a maker's own fields bring that is more than the JSON it is written in.
_FIELDS: Final[dict[str, Reader]] = {
    "tools": read_tools,
    "output_format": Measure.answer_format,
    "output_config": Measure.answer_format,
    "response_format": Measure.answer_format,
}

# None: the model is not shown it. A parameter without a line counts as text.
_PARTS: Final[dict[str, Reader | None]] = {
    "modelId": None,
    "messages": read_messages,
    "system": read_content,
    "toolConfig": read_tool_config,
    _FIELDS_KEY: _read_fields,
    "promptVariables": Measure.unseen,
    "outputConfig": _read_output_config,
    "inferenceConfig": None,
    "guardrailConfig": None,
    "additionalModelResponseFieldPaths": None,
    "requestMetadata": None,
    "performanceConfig": None,
    "serviceTier": None,
}
