"""
StartAsyncInvoke: a model's own body under `modelInput`, and an answer in S3, later.

What the job uses is told nowhere (GetAsyncInvoke has only times), so a call is settled
when its job is accepted, at its estimate: for a video to be made, the seconds that the
request asks for. A job that fails afterwards stays charged, for whether AWS bills it is
not documented; the entry keeps its ARN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bedrock_guard.domain.call import Call, ModelRef
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import Learned, Untold, UsageReport
from bedrock_guard.families import family_of
from bedrock_guard.operations.contract import Reply


@dataclass(frozen=True, slots=True)
class StartAsyncInvoke:
    """
    The operation; its reply is the name of a job.
    """

    name: str = "StartAsyncInvoke"
    stream_key: str | None = None
    body_key: str | None = None
    reads_headers: ClassVar[bool] = False

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for, and how large it is; never raises.
        """
        model = model or parse_model_id(str(params.get("modelId")))
        family = family_of(model)
        body = params.get("modelInput")
        size = family.read_request(body) if isinstance(body, dict) else family.ceiling()
        return Call(self.name, model, family.name, model.region or region, size)

    def read_wire(
        self,
        *,
        model_id: str,  # noqa: ARG002 - it is in the body, as all else
        headers: Mapping[str, str],  # noqa: ARG002
        body: bytes,
    ) -> Mapping[str, Any]:
        """
        The parameters of a request on the wire.
        """
        try:
            params = json.loads(body)
        except (ValueError, RecursionError):
            params = None
        return params if isinstance(params, dict) else {}

    def read_usage(self, reply: Reply, call: Call) -> UsageReport:
        """
        What a job that was accepted is charged: nothing of it is stated.
        """
        job = reply.parsed.get("invocationArn")
        # What else it reads by the token, only the estimate knows.
        usage = {} if call.size.reads_tokens else call.size.beside_tokens
        arn = job if isinstance(job, str) else None
        return UsageReport(usage, untold=Untold(usage, is_estimate=True, job=arn))

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport:  # noqa: ARG002 - as parsed
        """
        The same.
        """
        return self.read_usage(reply, call)

    def open_stream_reader(self, call: Call, reply: Reply | None = None) -> NoEvents:  # noqa: ARG002
        """
        A reader of nothing, as the operation has no stream.
        """
        return NoEvents()


class NoEvents:
    """
    Reads the events of an operation that has none.
    """

    __slots__ = ()
    report: UsageReport | None = None
    is_last_word = False
    learned = Learned(0)

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:
        """
        Learn nothing.
        """


START_ASYNC_INVOKE: Final = StartAsyncInvoke()
