"""
InvokeGuardrailChecks: single checks on a conversation, without a guardrail and without a model.

Each check that is asked for bills by the text unit, at prices of its own; its reply states them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.domain.call import Call, ModelRef, RequestSize
from bedrock_guard.domain.usage import UsageReport
from bedrock_guard.families.limits import at
from bedrock_guard.meters.guardrail_bounds import text_units
from bedrock_guard.meters.guardrail_units import BY_CHECK
from bedrock_guard.operations.contract import Reply
from bedrock_guard.operations.guardrail_trace import read_units, report_of
from bedrock_guard.operations.plain import Plain, parse_object

_MOST_UNITS: Final = 1_000


class GuardrailChecks(Plain):
    """
    The operation.
    """

    __slots__ = ()

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for; never raises. Checks that cannot be told are all that there are.
        """
        checks, units = params.get("checks"), _measure(params.get("messages"))
        asked = checks if isinstance(checks, dict) and checks.keys() <= BY_CHECK.keys() else BY_CHECK
        return Call(
            self.name,
            model or ModelRef("guardrail-checks", "guardrail"),
            "guardrail",
            region,
            RequestSize(
                generates=False,
                beside_tokens={BY_CHECK[check].name: units for check in asked},
                reads_tokens=False,
            ),
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire.
        """
        return parse_object(body)

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:  # noqa: ARG002
        """
        The units that a reply states.
        """
        usage = parse_object(body).get("usage") or at(reply.parsed, ("usage",))
        if not isinstance(usage, dict):
            return None
        return report_of(
            read_units({check: at(part, ("textUnits",)) for check, part in usage.items()}, BY_CHECK)
        )


def _measure(messages: object) -> int:
    units = 0
    for message in messages if isinstance(messages, list) else [None]:
        content = at(message, ("content",))
        for block in content if isinstance(content, list) else [None]:
            text = at(block, ("text",))
            units += text_units(text) if isinstance(text, str) else _MOST_UNITS
    return units


GUARDRAIL_CHECKS: Final = GuardrailChecks("InvokeGuardrailChecks")
