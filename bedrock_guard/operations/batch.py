"""
CreateModelInvocationJob: many requests in files in S3, answered within days, at the price of a batch.

The request names the files and does not hold them, so by itself it tells nothing: `batches` reads them
where that is allowed. Its reply is the name of a job; what that used is told in S3, when it is done. Nothing
is cached in a batch, by AWS's page on prompt caching.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedrock_guard.domain.call import BatchInput, Call, ModelRef, RequestSize
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.services import CONTROL_PLANE
from bedrock_guard.families import family_of
from bedrock_guard.families.limits import at
from bedrock_guard.operations.converse import CONVERSE
from bedrock_guard.operations.plain import Plain, parse_object

JOB_KEY: Final = "jobArn"
"""Where the reply names the job."""
TIER: Final = "batch"

_UNREAD: Final = RequestSize(generates=False)
_INPUT: Final = ("inputDataConfig", "s3InputDataConfig", "s3Uri")
# AWS's own, where a request does not say.
_HOURS: Final = 24
_MOST_HOURS: Final = 168
_CONVERSE: Final = "Converse"


@dataclass(frozen=True, slots=True)
class CreateModelInvocationJob(Plain):
    """
    The operation.

    Attributes:
        takes_flat_price: That a flat price may be set for it: the most that a job can cost.
        why: What it bills for, and what makes it told.
    """

    takes_flat_price: bool = True
    why: str = 'bills for all records of its input, which batch_input = "read" would have read from S3'

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for, its records aside; never raises.
        """
        model = model or parse_model_id(str(params.get("modelId")))
        uri, hours = at(params, _INPUT), params.get("timeoutDurationInHours")
        is_known = type(hours) is int and 0 < hours <= _MOST_HOURS
        batch = BatchInput(
            uri if isinstance(uri, str) else "",
            str(params.get("modelInvocationType") or "InvokeModel"),
            hours if isinstance(hours, int) and is_known else _HOURS if hours is None else _MOST_HOURS,
        )
        return Call(
            self.name,
            model,
            family_of(model).name,
            model.region or region,
            _UNREAD,
            service_tier=TIER,
            flat_key=f"{CONTROL_PLANE}:{self.name}",
            has_bound=False,
            is_silent=True,
            batch=batch,
        )

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:  # noqa: ARG002
        """
        The parameters of a request on the wire.
        """
        return parse_object(body)


def read_record(line: bytes, model: ModelRef, *, invocation: str) -> RequestSize:
    """
    How large one record is; never raises, what cannot be read is as large as its model takes.
    """
    family = family_of(model)
    body = parse_object(line).get("modelInput")
    if not isinstance(body, dict):
        return family.ceiling()
    if invocation != _CONVERSE:
        return family.read_request(body)
    sent = CONVERSE.read_wire(model_id=model.model_id, headers={}, body=json.dumps(body).encode())
    return CONVERSE.read_call(sent, region="", model=model).size


CREATE_MODEL_INVOCATION_JOB: Final = CreateModelInvocationJob("CreateModelInvocationJob")
