"""
ApplyGuardrail: text and images shown to a guardrail by themselves, without a model.

Its reply states the units of each policy; the request bounds them by its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.domain.call import Call, ModelRef, RequestSize
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.families.limits import at
from bedrock_guard.meters.guardrail_bounds import text_units, units_of
from bedrock_guard.meters.guardrail_units import BY_FIELD
from bedrock_guard.operations.contract import Reply
from bedrock_guard.operations.guardrail_trace import read_units, report_of
from bedrock_guard.operations.plain import Plain, parse_object

# AWS takes no longer text; what cannot be read is taken for one.
_MOST_UNITS: Final = 1_000


class ApplyGuardrail(Plain):
    """
    The operation.
    """

    __slots__ = ()

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises.
        """
        texts, images = _measure(params.get("content"))
        guardrail = ModelRef(f"guardrail/{params.get('guardrailIdentifier')}", "guardrail")
        units = units_of(texts, images)
        size = RequestSize(images=images, generates=False, beside_tokens=units, reads_tokens=False)
        return Call(self.name, model or guardrail, "guardrail", region, size)

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire, whose URL names the guardrail.
        """
        return {**parse_object(body), "guardrailIdentifier": model_id}

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:  # noqa: ARG002
        """
        The units that a reply states.
        """
        usage = parse_object(body).get("usage") or at(reply.parsed, ("usage",))
        return report_of(read_units(usage, BY_FIELD)) if isinstance(usage, dict) else None


def _measure(content: object) -> tuple[int, int]:
    """
    Text units and images of a request.
    """
    if not isinstance(content, list):
        return _MOST_UNITS, 0
    texts = images = 0
    for block in content:
        if not isinstance(block, dict) or not ("text" in block or "image" in block):
            texts += _MOST_UNITS
            continue
        images += "image" in block
        if "text" in block:
            text = at(block, ("text", "text"))
            texts += text_units(text) if isinstance(text, str) else _MOST_UNITS
    return texts, images


APPLY_GUARDRAIL: Final = ApplyGuardrail("ApplyGuardrail")
