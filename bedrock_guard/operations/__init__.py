"""
Operations: parameters -> `Call`, reply -> usage; one API operation (or pair) a file.

All operations of the guarded services are here, each metered, free or unmeterable. To add a metered
one: write an object that keeps the contract of `Operation`, and add its line to `METERED`; the others
are a name in `free` or `unmeterable`. One that has no line is treated as unmeterable.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.services import SERVICES
from bedrock_guard.operations.agents import INVOKE_AGENT, INVOKE_FLOW, INVOKE_INLINE_AGENT
from bedrock_guard.operations.apply_guardrail import APPLY_GUARDRAIL
from bedrock_guard.operations.async_invoke import START_ASYNC_INVOKE
from bedrock_guard.operations.batch import CREATE_MODEL_INVOCATION_JOB
from bedrock_guard.operations.contract import Operation, Reply, StreamReader, new_reply
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.free import FREE, Free
from bedrock_guard.operations.guardrail_checks import GUARDRAIL_CHECKS
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM
from bedrock_guard.operations.retrieval import (
    RERANK,
    RETRIEVE,
    RETRIEVE_AND_GENERATE,
    RETRIEVE_AND_GENERATE_STREAM,
)
from bedrock_guard.operations.unmeterable import UNMETERABLE, Unmeterable, unknown

__all__ = [
    "METERED",
    "OPERATIONS",
    "SERVICES",
    "Free",
    "Operation",
    "Reply",
    "StreamReader",
    "Unmeterable",
    "new_reply",
    "unknown",
]

# (service, operation) as botocore names them.
METERED: Final[dict[tuple[str, str], Operation]] = {
    ("bedrock", "CreateModelInvocationJob"): CREATE_MODEL_INVOCATION_JOB,
    ("bedrock-agent-runtime", "InvokeAgent"): INVOKE_AGENT,
    ("bedrock-agent-runtime", "InvokeFlow"): INVOKE_FLOW,
    ("bedrock-agent-runtime", "InvokeInlineAgent"): INVOKE_INLINE_AGENT,
    ("bedrock-agent-runtime", "Rerank"): RERANK,
    ("bedrock-agent-runtime", "Retrieve"): RETRIEVE,
    ("bedrock-agent-runtime", "RetrieveAndGenerate"): RETRIEVE_AND_GENERATE,
    ("bedrock-agent-runtime", "RetrieveAndGenerateStream"): RETRIEVE_AND_GENERATE_STREAM,
    ("bedrock-runtime", "ApplyGuardrail"): APPLY_GUARDRAIL,
    ("bedrock-runtime", "Converse"): CONVERSE,
    ("bedrock-runtime", "ConverseStream"): CONVERSE_STREAM,
    ("bedrock-runtime", "InvokeGuardrailChecks"): GUARDRAIL_CHECKS,
    ("bedrock-runtime", "InvokeModel"): INVOKE_MODEL,
    ("bedrock-runtime", "InvokeModelWithResponseStream"): INVOKE_MODEL_WITH_RESPONSE_STREAM,
    ("bedrock-runtime", "StartAsyncInvoke"): START_ASYNC_INVOKE,
}

OPERATIONS: Final[dict[tuple[str, str], Operation | Free]] = {
    **{(service, name): Free(name) for service, names in FREE.items() for name in names.split()},
    **{
        (service, name): Unmeterable(name, service=service, why=why)
        for service, names in UNMETERABLE.items()
        for name, why in names.items()
    },
    **METERED,
}
