"""
What operations share whose reply is a JSON document, and no stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.usage import Learned, UsageReport
from bedrock_guard.operations.contract import Reply, StreamReader


@dataclass(frozen=True, slots=True)
class Plain:
    """
    An operation whose reply is read at once; it tells nothing unless `read_body` is written.
    """

    name: str
    stream_key: str | None = None
    body_key: str | None = None
    reads_headers: ClassVar[bool] = False

    def read_usage(self, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that a reply states.
        """
        return self.read_body(reply.content or b"", reply, call)

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:  # noqa: ARG002
        """
        None: the reply does not tell.
        """
        return None

    def open_stream_reader(self, call: Call, reply: Reply | None = None) -> StreamReader:  # noqa: ARG002
        """
        A reader that learns nothing.
        """
        return SilentReader()


class SilentReader:
    """
    Reads a stream whose events tell no usage.
    """

    __slots__ = ()
    report: UsageReport | None = None
    is_last_word = False
    learned = Learned(0)

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:
        """
        Nothing to read.
        """


def parse_object(body: bytes) -> dict[str, Any]:
    """
    A JSON object, or an empty one where *body* is none.
    """
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
