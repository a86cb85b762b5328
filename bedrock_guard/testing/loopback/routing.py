"""
Which operation a request asks for, and of whom.
"""

from __future__ import annotations

from urllib.parse import unquote

from bedrock_guard.testing.loopback.http_wire import Head
from bedrock_guard.testing.loopback.operations import OPERATIONS, Operation, find_bare
from bedrock_guard.testing.loopback.other_operation import OtherOperation
from bedrock_guard.testing.loopback.services import find_other


def route(
    head: Head, body: bytes, beside: tuple[OtherOperation, ...]
) -> tuple[str, Operation | OtherOperation | None]:
    """
    The model, or whoever else is addressed, and the operation: of those in the tables, or *beside* them;
    None where there is none.
    """
    bare = find_bare(head.method, head.path, body)
    if bare is not None:
        return bare
    subject, _, end = head.path.rpartition("/")
    kind, _, name = subject.removeprefix("/").partition("/")
    operation = OPERATIONS.get(end)
    if head.method != "POST" or operation is None or kind != operation.resource or not name:
        other = find_other(head.method, head.path, beside)
        return ("", None) if other is None else (unquote(other[0]), other[1])
    return unquote(name.partition("/version/")[0]), operation
