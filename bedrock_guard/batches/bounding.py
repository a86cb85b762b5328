"""
What the records of a batch can use at most, added up as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bedrock_guard.batches.files import MakeClient, Told, open_files
from bedrock_guard.domain.call import Call, RequestSize
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.usage import add, total_input
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.estimators.bound import bound, room_of
from bedrock_guard.operations.batch import CREATE_MODEL_INVOCATION_JOB, read_record
from bedrock_guard.planning import Planner
from bedrock_guard.resolving import read_call

INVOCATIONS: Final = ("InvokeModel", "Converse")


@dataclass(frozen=True, slots=True)
class BatchEstimate:
    """
    The most that a batch can use and cost.

    Attributes:
        records: How many it has.
        usage: Quantities by meter, of all of them.
        cost: In USD, at the price of a batch; None without a price, where `on_unpriced` is `"allow"`.
        files: What was read; of an object in S3 with its ETag, and its version where it has one.
    """

    records: int
    usage: Mapping[str, int]
    cost: Decimal | None
    files: tuple[str, ...]


class Sum:
    """
    What the records so far come to, each by itself; AWS caches nothing in a batch.

    Attributes:
        records: How many there were.
        largest_input_tokens: The most that one of them can send.
        usage: The most of all, by meter.
    """

    def __init__(self, planner: Planner, call: Call) -> None:
        self._room = room_of(call.model, planner.prices.limits(call.model))
        self._call = call
        self.records = 0
        self.largest_input_tokens = 0
        self.usage: dict[str, int] = {}

    def add(self, line: bytes) -> None:
        """
        Read one record; an empty line is none.
        """
        if not line.strip():
            return
        call, batch = self._call, self._call.batch
        size = read_record(line, call.model, invocation=batch.invocation if batch else INVOCATIONS[0])
        # Of the ways that it can fall, the one without a cache.
        most = bound(call._replace(size=size, batch=None), self._room)[0]
        self.records += 1
        self.largest_input_tokens = max(self.largest_input_tokens, total_input(most))
        self.usage = add([self.usage, most])


def read_input(
    planner: Planner, call: Call, make_client: MakeClient, tell: Callable[[int], None] = lambda _: None
) -> Call:
    """
    *call* of a batch, bounded by what its records are read to be; *tell* hears of bytes that were read.

    Raises:
        ConfigurationError: They cannot be read.
    """
    if call.batch is None:
        return call
    if call.routes or call.model.model is None:
        raise ConfigurationError(
            f"{call.model.model_id!r} does not tell its model; [models] names what is behind it"
        )
    found, files = Sum(planner, call), []
    for file in open_files(call.batch.uri, make_client):
        files.append(file.name)
        with Told(file.name):
            for line in file.lines:
                found.add(line)
                tell(len(line))
    size = RequestSize(generates=False, reads_tokens=False, beside_tokens=found.usage)
    batch = call.batch._replace(
        is_read=True,
        records=found.records,
        largest_input_tokens=found.largest_input_tokens,
        files=tuple(files),
    )
    return call._replace(size=size, has_bound=True, batch=batch)


def estimate(
    planner: Planner,
    place: str,
    model_id: str,
    *,
    region: str,
    invocation: str,
    make_client: MakeClient,
    now: float,
    tell: Callable[[int], None],
) -> BatchEstimate:
    """
    The most that a batch of the records at *place* can use and cost.

    Raises:
        ConfigurationError: They cannot be read, or *invocation* is unknown.
        UnpricedModel: The model has no price.
    """
    if invocation not in INVOCATIONS:
        raise ConfigurationError(f"The invocation type is {invocation!r}; it is one of {INVOCATIONS}.")
    params: dict[str, Any] = {
        "modelId": model_id,
        "modelInvocationType": invocation,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": place}},
    }
    call = read_call([planner], CREATE_MODEL_INVOCATION_JOB, params, region=region)
    planner.plan(call, now)  # whether it has a price at all, before hours of reading
    call = read_input(planner, call, make_client, tell)
    plan = planner.plan(call, now)
    cost = None if plan.nanousd is None else usd_from_nanousd(plan.nanousd)
    batch = call.batch
    return BatchEstimate(batch.records if batch else 0, plan.worst, cost, batch.files if batch else ())
