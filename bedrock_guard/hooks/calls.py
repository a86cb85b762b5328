"""
The state of one client call while botocore works on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from bedrock_guard.budgets.loops import fingerprint
from bedrock_guard.calls.jobs import begin_job
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.usage import Learned, UsageReport
from bedrock_guard.hooks.attempts import AttemptLog
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations import Operation

CONTEXT_KEY: Final = "bedrock_guard"
"""Where botocore's own request context carries our state from event to event."""

CURRENT: Final[ContextVar[CallState | None]] = ContextVar("bedrock_guard.call", default=None)
"""The call that this thread or task is inside of: `before-send` gets no context."""

# What comes before an id in paths that have no model.
_SUBJECTS: Final = ("guardrail", "agents", "flows", "knowledgebases")
_BEDROCK_HEADERS: Final = "x-amzn-bedrock-"


class CallState:
    """
    One call of one client, from `_make_api_call` to its end.

    Attributes:
        params: The parameters that botocore made the request of, a reference; None before they are known,
            and again once they are read, so that no prompt is kept.
        has_begun: Whether its request has been made.
        operation: How to read it; None until it is known to be a billed one.
        call: What was read of the request.
        opened: The call as each guard holds it; empty before `before-call` and when nothing is billed.
        attempts: Its HTTP attempts so far.
        wire: The request that was bounded; before that, as botocore made it.
        draft: The request as a guard would have it, while one decides; None where none has to.
        changes: What was changed of the request, as the reply tells it; None where nothing was.
        is_over: True once the method has returned or raised, or was dropped.
        is_handed_over: True once a stream or body owns the end of the call.
    """

    __slots__ = (
        "attempts",
        "call",
        "changes",
        "draft",
        "has_begun",
        "is_handed_over",
        "is_over",
        "opened",
        "operation",
        "params",
        "wire",
    )

    def __init__(self) -> None:
        self.has_begun = False
        self.params: Mapping[str, Any] | None = None
        self.operation: Operation | None = None
        self.call: Call | None = None
        self.opened: list[tuple[Pipeline, OpenCall]] = []
        self.attempts = AttemptLog()
        self.wire: Wire | None = None
        self.draft: Any = None
        self.changes: Mapping[str, object] | None = None
        self.is_handed_over = False
        self.is_over = False

    @property
    def is_open(self) -> bool:
        """
        Whether money is held that nobody has ended, or will.
        """
        return bool(self.opened) and not self.is_handed_over

    @property
    def blocks(self) -> bool:
        """
        Whether ending it may wait for a disk or a network.
        """
        return any(pipeline.ledger.blocking for pipeline, _ in self.opened)

    def begin(self, request: Mapping[str, Any], made_of: Mapping[str, Any]) -> None:
        """
        Keep *request* as botocore made it, for handlers may change it before ours sees it, and what
        botocore has *made* it *of*. Nothing is reserved yet: presigned URLs come this far.
        """
        self.has_begun = True
        self.wire = Wire(request["url"], request["headers"], request["body"])
        context = made_of.get("context")
        if context is not None:
            self.params = made_of.get("api_params")
            context[CONTEXT_KEY] = self

    def hand_over(self, leave: Callable[[], None]) -> None:
        """
        A stream or body owns the end now, and must not keep the prompt alive.

        *leave* ends it as its consumer would that leaves early.
        """
        self.is_handed_over = True
        for _, opened in self.opened:
            opened.leave = leave
        self.params = self.wire = None
        self.attempts.forget_errors()

    def end(
        self,
        report: UsageReport | None,
        error: BaseException | None = None,
        *,
        learned: Learned | None = None,
        is_answered: bool = False,
    ) -> list[Entry]:
        """
        End the call with every guard that holds it; those that have ended it before do nothing.

        *learned* is what a stream had said that ended without a report; *is_answered* tells that it was
        whole all the same.
        """
        log = self.attempts
        attempts = log.close(error) if log.is_open else log.ended
        if report is None and not (is_answered or (self.call is not None and self.call.is_silent)):
            attempts = _without_usage(attempts)
        entries: list[Entry] = []
        for pipeline, opened in self.opened:
            entry = pipeline.end(opened, attempts, report, learned)
            if entry is not None:
                entries.append(entry)
        self.opened = []
        return entries

    def begin_job(self, job: object) -> bool:
        """
        Leave what is held to *job*, which goes on; False where the reply names none.
        """
        if not isinstance(job, str) or not job:
            return False
        attempts = self.attempts.close(None)
        for pipeline, opened in self.opened:
            begin_job(pipeline, opened, attempts, job)
        self.opened = []
        return True


class Wire:
    """
    The request that was bounded, to tell whether it is the one that leaves.

    Attributes:
        given: Its headers, as they were then; None where they decide nothing.
    """

    __slots__ = ("body", "given", "url")

    def __init__(self, url: str, headers: Mapping[str, str] | None, body: Any) -> None:
        self.url = url
        self.body = body
        self.given = None if headers is None else dict(headers)

    @property
    def headers(self) -> Mapping[str, str]:
        """
        Those of its headers that Bedrock reads.
        """
        return {} if self.given is None else bedrock_headers(self.given)

    @property
    def fingerprint(self) -> bytes:
        """
        Tells whether this process has made the same request before.
        """
        return fingerprint(self.url.encode(), bytes(self.body or b""))

    def is_same(self, url: str, headers: Mapping[str, str], body: Any) -> bool:
        """
        Whether nothing that decides the price has changed.
        """
        if url != self.url or not (body is self.body or body == self.body):
            return False
        # Before botocore makes a request of them, headers are a plain dictionary, which is quick to compare.
        if self.given is None or (type(headers) is dict and headers == self.given):
            return True
        return bedrock_headers(headers) == self.headers

    def read(self, operation: Operation) -> Mapping[str, Any]:
        """
        The parameters that the request stands for.
        """
        body = self.body if isinstance(self.body, bytes) else bytes(self.body or b"")
        return operation.read_wire(model_id=model_id_in(self.url), headers=self.headers, body=body)


def bedrock_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """
    The headers that Bedrock reads, names in lower case: tier, latency, guardrail.
    """
    found: dict[str, str] = {}
    # By names first: botocore's headers parse each value that is asked for.
    for name in headers:
        lower = name.lower()
        if lower.startswith(_BEDROCK_HEADERS):
            found[lower] = _text(headers[name])
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def model_id_in(url: str) -> str:
    """
    The id in a request's URL, a model's (`…/model/{id}/converse`) or an agent's, percent-encoded.
    """
    parts = urlsplit(url).path.split("/")
    for subject in _SUBJECTS:
        if subject in parts[1:-2]:
            return unquote(parts[parts.index(subject) + 1])
    return unquote(parts[-2]) if len(parts) > 2 else ""


def _without_usage(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """
    A 200 whose usage never arrived may have been billed in full: it is lost money, not free.
    """
    return tuple(
        Attempt("lost", attempt.status, attempt.error_code) if attempt.outcome == "answered" else attempt
        for attempt in attempts
    )
