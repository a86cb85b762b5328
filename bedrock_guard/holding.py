"""
Money held round a request that somebody else sends: a client that is not botocore's.

    made --enter--> held --settle----> what the reply reports
                         --rejected--> nothing
                         --lost------> the estimate; so does a block that is left without a word

It sends nothing and sees nothing: it believes what it is told, once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from bedrock_guard.budgets.loops import fingerprint
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.checks import check_model_id, check_region
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Attempt, AttemptOutcome, Entry
from bedrock_guard.domain.http_status import outcome_of_status
from bedrock_guard.domain.services import RUNTIME
from bedrock_guard.domain.usage import Untold, UsageReport
from bedrock_guard.errors import ConfigurationError, ReservationClosed
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations import METERED, Operation, Reply, StreamReader
from bedrock_guard.operations.other_clients import read_events, read_headers, read_params, read_reply
from bedrock_guard.operations.plain import Plain
from bedrock_guard.plan import Estimate, as_estimate
from bedrock_guard.planning import Planner
from bedrock_guard.resolving import read_call

# At a time; the hold of a call that lasts is renewed.
_HOLD_S: Final = 300.0
# Of a reply that is whole and tells no usage: it is charged at its estimate.
_UNTOLD: Final = UsageReport({}, untold=Untold({}, is_estimate=True))


class Hold:
    """
    The hold of one HTTP request. `Guard.hold` makes it, a `with` block enters it.

    Any thread may end it. Entering and ending wait for the ledger; where that has a disk, a
    coroutine may want `asyncio.to_thread` for both.
    """

    def __init__(
        self, pipeline: Pipeline, operation: Operation, call: Call, request: bytes | None = None
    ) -> None:
        self._request = request
        self._pipeline = pipeline
        self._operation = operation
        self._call = call
        self._opened: OpenCall | None = None
        self._process = 0
        # By which word it ended, and as what; one object, so that no thread sees half of it.
        self._end: tuple[str, Entry] | None = None

    @property
    def id(self) -> str:
        """
        Of the reservation, and of its entry.
        """
        return self._entered().entry.id

    @property
    def estimate(self) -> Estimate:
        """
        What is held.
        """
        return as_estimate(self._entered().plan)

    @property
    def entry(self) -> Entry | None:
        """
        The record of the call; None until it has ended.
        """
        return None if self._end is None else self._end[1]

    def __enter__(self) -> Self:
        """
        Hold the most that the request can cost, in every budget it counts towards.

        Raises:
            BudgetExceeded: It does not fit; nothing is held, and nothing may be sent.
            UnpricedModel: The model has no price.
            LedgerUnavailable: The ledger cannot tell whether it fits.
        """
        if self._opened is not None:
            raise ConfigurationError("A hold is entered once; Guard.hold() makes another.")
        opened = self._pipeline.open(self._call)
        self._opened, self._process = opened, os.getpid()
        try:
            if self._pipeline.loops is not None and self._request is not None:
                self._pipeline.loops.see_request(opened, self._request)
            self._pipeline.reserve(opened, hold_s=self._pipeline.settings.hold_s or _HOLD_S)
        except BaseException:
            # Interrupted, or the ledger's answer was lost: it may hold, and nothing will be sent.
            self._pipeline.end(opened, (), None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A fork leaves the block too, but what its parent holds is not its to end.
        if self._process == os.getpid() and not self._entered().is_ended:
            name = None if kind is None else kind.__name__
            self._finish("leaving its block", _attempt("lost", None, name), None)

    def settle(self, reply: object, *, headers: object = None, is_whole: bool = False) -> Entry:
        """
        The request was answered: charge what *reply* reports, or the estimate if that is nothing.

        *reply* is the JSON document, as a mapping, bytes or text. Of a streaming operation it is
        the iterable of events, as boto3 yields them or as documents, and is read to its end; or
        the one event that states all usage. *headers* are those of the HTTP reply. A stream that is known
        to be whole, though it tells no usage, *is_whole*: it is no lost reply, whatever `on_lost_reply` says.

        Nothing that a reply says raises. What an iterable raises goes on to the caller, and the
        call has ended then.

        Raises:
            ReservationClosed: The call had ended before.
        """
        self._check_process()
        if self._entered().is_ended:
            raise self._closed()
        reader: StreamReader | None = None
        try:
            lower = read_headers(headers)
            if self._operation.stream_key is None:
                report = read_reply(self._operation, reply, lower, self._call)
            else:
                reader = self._operation.open_stream_reader(self._call, Reply({}, lower))
                for event in read_events(self._operation, reply):
                    reader.feed(event, b"")
                report = reader.report or (_UNTOLD if is_whole else None)
        except BaseException as error:
            known = None if reader is None else reader.report
            self._finish("settle()", _answered(known, type(error).__name__), known)
            raise
        return self._tell("settle()", _answered(report, None), report)

    def rejected(self, status: int | None = None, error_code: str | None = None) -> Entry:
        """
        The request was turned away before a model ran, or never left: it costs nothing.

        An HTTP *status* knows better, as it does for boto3's clients: 408, 424 and every 5xx
        but 503 may have been billed, and make it `lost`.

        Raises:
            ReservationClosed: The call had ended before.
        """
        if status is not None and outcome_of_status(status) != "rejected":
            return self.lost(status, error_code)
        return self._tell("rejected()", _attempt("rejected", status, error_code), None)

    def lost(self, status: int | None = None, error_code: str | None = None) -> Entry:
        """
        The request may have been billed, and its answer is not known: it is charged at its
        estimate, unless `on_lost_reply` is `"release"`.

        Raises:
            ReservationClosed: The call had ended before.
        """
        return self._tell("lost()", _attempt("lost", status, error_code), None)

    def _tell(self, how: str, attempt: Attempt, report: UsageReport | None) -> Entry:
        self._check_process()
        entry = self._finish(how, attempt, report)
        if entry is None:
            raise self._closed()
        return entry

    def _finish(self, how: str, attempt: Attempt, report: UsageReport | None) -> Entry | None:
        entry = self._pipeline.end(self._entered(), (attempt,), report)
        if entry is not None:
            self._end = how, entry
        return entry

    def _entered(self) -> OpenCall:
        if self._opened is None:
            raise ConfigurationError("The hold is not entered: `with guard.hold(...) as hold:`.")
        return self._opened

    def _check_process(self) -> None:
        id_ = self._entered().entry.id
        if self._process != os.getpid():
            raise ReservationClosed(f"Process {self._process} holds call {id_}, and only it can end it.")

    def _closed(self) -> ReservationClosed:
        by, entry = self._end or ("another", None)
        what = "" if entry is None else f", as {entry.outcome!r}"
        return ReservationClosed(f"Call {self.id} was ended by {by}{what}; a hold ends once.")


def _answered(report: UsageReport | None, error_code: str | None) -> Attempt:
    return _attempt("lost" if report is None else "answered", 200, error_code)


def _attempt(outcome: AttemptOutcome, status: int | None, error_code: str | None) -> Attempt:
    # Of any client's own types, what a ledger can store.
    return Attempt(
        outcome,
        None if status is None else int(status),
        None if error_code is None else str(error_code),
    )


def fingerprint_of(params: Mapping[str, Any]) -> bytes:
    """
    Tells whether this process has held for the same request before.
    """
    return fingerprint(repr(read_params(params)).encode(errors="backslashreplace"))


def read_given(
    planner: Planner, operation: object, params: Mapping[str, Any], region: str
) -> tuple[Operation, Call]:
    """
    What a caller wants to know of, or hold for; it is not sent here.

    Raises:
        ConfigurationError: It is no metered operation, names no model, or cannot be sent.
    """
    known = {name: each for (service, name), each in METERED.items() if service == RUNTIME}
    if not isinstance(operation, str) or operation not in known:
        raise ConfigurationError(
            f"{operation!r} is no operation that is metered; these are: {', '.join(known)}."
        )
    if not isinstance(params, Mapping):
        raise ConfigurationError(f"The parameters are a {type(params).__name__}; they map names to values.")
    if not isinstance(known[operation], Plain):  # of these, no model runs
        check_model_id(params.get("modelId"))
    check_region(region)
    try:
        read = read_params(params)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"The body cannot be written as JSON, so it is not what is sent: {error}"
        ) from error
    return known[operation], read_call([planner], known[operation], read, region=region)
