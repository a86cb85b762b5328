"""
Operations: parameters -> `Call`, reply -> usage; one API operation (or pair) a file.

To add one: write an object that keeps the contract of `Operation`, and add its
line to `OPERATIONS`. An operation of a guarded service that has no line is
refused with `UnmeteredOperation`.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.operations.async_invoke import START_ASYNC_INVOKE
from bedrock_guard.operations.contract import Operation, Reply, StreamReader
from bedrock_guard.operations.converse import CONVERSE, CONVERSE_STREAM
from bedrock_guard.operations.free import Free
from bedrock_guard.operations.invoke_model import INVOKE_MODEL, INVOKE_MODEL_WITH_RESPONSE_STREAM

__all__ = ["OPERATIONS", "SERVICES", "Free", "Operation", "Reply", "StreamReader"]

# (service, operation) as botocore names them.
OPERATIONS: Final[dict[tuple[str, str], Operation | Free]] = {
    ("bedrock-runtime", "Converse"): CONVERSE,
    ("bedrock-runtime", "ConverseStream"): CONVERSE_STREAM,
    ("bedrock-runtime", "InvokeModel"): INVOKE_MODEL,
    ("bedrock-runtime", "InvokeModelWithResponseStream"): INVOKE_MODEL_WITH_RESPONSE_STREAM,
    ("bedrock-runtime", "StartAsyncInvoke"): START_ASYNC_INVOKE,
    ("bedrock-runtime", "CountTokens"): Free("CountTokens"),
    ("bedrock-runtime", "GetAsyncInvoke"): Free("GetAsyncInvoke"),
    ("bedrock-runtime", "ListAsyncInvokes"): Free("ListAsyncInvokes"),
}

SERVICES: Final = tuple(sorted({service for service, _ in OPERATIONS}))
