"""
What a guard changes of a request before it is signed, where its bound does not fit: the limit on output
tokens, and the model.

The caller's parameters stay as they are. What is changed is what botocore made of them: the body, in which
nothing else is touched, and the model in the URL. It is the request that was bounded from then on, so that
a later look at it finds no other's hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from bedrock_guard.domain.call import Call
from bedrock_guard.hooks.calls import CallState, Wire
from bedrock_guard.operations import Operation
from bedrock_guard.operations.output_limit import OutputLimit, read_output_limit

# Whose requests any model understands.
_ANY_MODEL: Final = ("Converse", "ConverseStream")
# As botocore writes a model id in a path.
_UNQUOTED: Final = "-._~"


class Reader(Protocol):
    """
    The hooks of a client, as far as requests are read again.
    """

    def read_call(self, operation: Operation, params: Mapping[str, Any]) -> Call:
        """
        What a request asks for.
        """
        ...

    def count_input(self, call: Call, body: bytes) -> int | None:
        """
        The exact input of *call*, whose body this is; None where that is not to be had.
        """
        ...


class _Draft(NamedTuple):
    """
    A request as it would be sent.

    Attributes:
        limit: The limit on output that was put in, or None.
        model_id: The model that is asked instead, or None.
    """

    call: Call
    body: Any
    limit: int | None = None
    model_id: str | None = None


def draft_of(reader: Reader, state: CallState, call: Call, request: dict[str, Any]) -> Draft:
    """
    The draft of *call*, made when a guard first needs it: most calls need none.
    """
    draft: Draft | None = state.draft
    if draft is None:
        draft = state.draft = Draft(reader, state, call, request)
    return draft


class Draft:
    """
    The request of one call; `drafting.Request` says what its parts mean.
    """

    __slots__ = ("_made", "_reader", "_request", "_state", "at_s", "base", "draft")

    def __init__(self, reader: Reader, state: CallState, call: Call, request: dict[str, Any]) -> None:
        self.draft: _Draft = _Draft(call, request["body"])
        self.base: _Draft = self.draft
        self.at_s: float | None = None
        self._made = self.draft
        self._reader = reader
        self._state = state
        self._request = request

    @property
    def call(self) -> Call:
        """
        What the draft asks for.
        """
        return self.draft.call

    @property
    def notes(self) -> dict[str, Any]:
        """
        What an entry says of the draft's changes.
        """
        draft = self.draft
        return {
            "clamped_max_tokens": draft.limit,
            "counted_input_tokens": draft.call.size.counted_tokens,
            "fallback_from": None if draft.model_id is None else self._made.call.model.model_id,
        }

    @property
    def is_dropped(self) -> bool:
        """
        Whether nobody waits for the answer any more.
        """
        return self._state.is_over

    def read_limit(self, answer: int, *, keeps_thinking: bool = False) -> OutputLimit | None:
        """
        How the caller's request limits its output.
        """
        return read_output_limit(
            self.draft.call, self._made.body, answer=answer, keeps_thinking=keeps_thinking
        )

    def limit(self, how: OutputLimit, tokens: int) -> bool:
        """
        Let it ask for *tokens* at most.
        """
        body = how.lowered(tokens)
        if body is not None:
            self.draft = self.draft._replace(call=self.draft.call.limited(tokens), body=body, limit=tokens)
        return body is not None

    def ask(self, model_id: str) -> bool:
        """
        Let it ask another model, where the request is the same for every model.
        """
        operation, made = self._state.operation, self._made.call
        if operation is None or made.operation not in _ANY_MODEL or made.model.kind == "prompt":
            return False
        params = Wire(self._request["url"], self._request["headers"], self.draft.body).read(operation)
        call = self._reader.read_call(operation, {**params, "modelId": model_id})
        # Such fields are of one maker's models.
        if "additionalModelRequestFields" in params and call.family != made.family:
            return False
        self.draft = self.draft._replace(call=call, model_id=model_id)
        return True

    def count(self) -> bool:
        """
        Have its input counted.
        """
        counted = self._reader.count_input(self.draft.call, self._made.body)
        if counted is not None:
            self.draft = self.draft._replace(call=self.draft.call.counted(counted))
        return counted is not None

    def admit(self) -> None:
        """
        One guard has admitted the draft: others have to admit this, each in its own time.
        """
        self.base, self.at_s = self.draft, None

    def put_in(self) -> None:
        """
        Let botocore send the draft.
        """
        request, draft, state = self._request, self.draft, self._state
        self._tell()
        if draft is self._made:
            return
        request["body"] = draft.body
        if draft.model_id is not None:
            for part in ("url", "url_path"):
                request[part] = _with_model(request[part], draft.model_id)
        state.wire = Wire(request["url"], request["headers"], draft.body)
        state.call = draft.call

    def _tell(self) -> None:
        notes = self.notes
        waited_ms = max(opened.entry.waited_ms for _, opened in self._state.opened)
        steps = {
            "ClampedMaxTokens": notes["clamped_max_tokens"],
            "CountedInputTokens": notes["counted_input_tokens"],
            "FallbackFrom": notes["fallback_from"],
            "WaitedMs": waited_ms or None,
        }
        self._state.changes = {name: value for name, value in steps.items() if value is not None}


def _with_model(url: str, model_id: str) -> str:
    """
    *url*, or its path, `…/model/{id}/converse`, with another model in it.
    """
    parts = urlsplit(url)
    path = parts.path.split("/")
    path[-2] = quote(model_id, safe=_UNQUOTED)
    return urlunsplit(parts._replace(path="/".join(path)))
