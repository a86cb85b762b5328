"""
Operations of Bedrock's other services: what each charges, line by line, and how it answers.

To add one: write a `run`, and add its line to `OTHER_OPERATIONS`. Their paths name no model, so each
is found by a pattern; what it charges is up to `run`, for an agent runs several models.
"""

from __future__ import annotations

import re
from typing import Final

from bedrock_guard.testing.loopback.agents import AGENTS
from bedrock_guard.testing.loopback.content import Content
from bedrock_guard.testing.loopback.guardrails import text_units
from bedrock_guard.testing.loopback.other_operation import OtherOperation, Ran
from bedrock_guard.testing.loopback.prompt import Body, at, read_parts


def find_other(
    method: str, path: str, beside: tuple[OtherOperation, ...] = ()
) -> tuple[str, OtherOperation] | None:
    """
    The operation that a path is of, and whom it is addressed to, percent-encoded; of those in the table, or
    *beside* it.
    """
    for operation in (*OTHER_OPERATIONS, *beside):
        matched = operation.path.fullmatch(path.partition("?")[0])
        if matched is not None and method == operation.method:
            return matched.groupdict().get("id") or operation.name, operation
    return None


def _run_runtime(_id: str, _body: Body, _output_tokens: int) -> Ran:
    return Ran(Content(document={"result": "done"}), (("InvokeAgentRuntime", {"calls": 1}),))


_RERANKING: Final = ("rerankingConfiguration", "bedrockRerankingConfiguration")
_CHECK_METERS: Final = {
    "contentFilter": "guardrail_checks_content_filter_units",
    "promptAttack": "guardrail_checks_prompt_attack_units",
    "sensitiveInformation": "guardrail_checks_sensitive_information_units",
}


def _run_checks(_id: str, body: Body, _output_tokens: int) -> Ran:
    units = text_units(sum(part.text_bytes for part in read_parts(body, (("messages",),))))
    checks = body.get("checks")
    asked = list(checks) if isinstance(checks, dict) else []
    usage = {check: {"textUnits": units} for check in asked}
    charges = {_CHECK_METERS[check]: units for check in asked}
    return Ran(Content(document={"results": {}, "usage": usage}), (("guardrail-checks", charges),))


def _run_rerank(_id: str, body: Body, _output_tokens: int) -> Ran:
    model_id = str(at(body, (*_RERANKING, "modelConfiguration", "modelArn")))
    sources = body.get("sources")
    queries = -(-len(sources) // 100) if isinstance(sources, list) else 1
    return Ran(Content(document={"results": []}), ((model_id, {"queries": queries}),))


def _create_session(_id: str, _body: Body, _output_tokens: int) -> Ran:
    document = {"sessionId": "s", "sessionArn": "arn:s", "sessionStatus": "ACTIVE", "createdAt": 0}
    return Ran(Content(document=document))


def _list_models(_id: str, _body: Body, _output_tokens: int) -> Ran:
    return Ran(Content(document={"modelSummaries": []}))


OTHER_OPERATIONS: Final = (
    OtherOperation(
        "InvokeAgentRuntime", "POST", re.compile("/runtimes/(?P<id>[^/]+)/invocations"), _run_runtime
    ),
    OtherOperation("InvokeGuardrailChecks", "POST", re.compile("/guardrail-checks/invoke"), _run_checks),
    OtherOperation("Rerank", "POST", re.compile("/rerank"), _run_rerank),
    *AGENTS,
    OtherOperation("CreateSession", "PUT", re.compile("/sessions/"), _create_session, billed=False),
    OtherOperation(
        "ListFoundationModels", "GET", re.compile("/foundation-models"), _list_models, billed=False
    ),
)
